"""Many samples and seeds at once on a small machine: all finish, and none takes another's files.

It takes long on two cores: run it with SCMODAL_MANY=24 (samples); without, it is skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import mudata
import pytest

from scmodal.simulate import simulate
from tests.pipeline.conftest import pipeline

N_SAMPLES = int(os.environ.get("SCMODAL_MANY", "0"))

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.slow,
    pytest.mark.skipif(N_SAMPLES == 0, reason="takes long: set SCMODAL_MANY=24 to run it"),
]


def test_many_samples_and_seeds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # what one report's figures compile the others take from there (docs/usage.md)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "numba"))
    rows = ["sample,modality,path,label_key"]
    for i in range(N_SAMPLES):
        mdata = simulate(n_cells=100 + i, n_genes=80, n_proteins=20, n_cell_types=3, seed=i)  # sizes tell them apart
        for modality in ("rna", "protein"):
            mdata[modality].write_h5ad(tmp_path / f"s{i}.{modality}.h5ad")
            rows.append(f"s{i},{modality},s{i}.{modality}.h5ad,cell_type")
    (tmp_path / "sheet.csv").write_text("\n".join(rows) + "\n")
    given = ("--seeds", "3", "--steps", "5", "--batch_size", "50", "--impute", "false", "--transfer", "false")
    run = pipeline(tmp_path, "--input", "sheet.csv", *given, timeout=2 * 3600)  # minutes, unless the machine is busy
    assert run.code == 0, run.text
    assert set(run.trace.values()) == {"COMPLETED"}
    assert sum("INTEGRATE" in name for name in run.trace) == 3 * N_SAMPLES
    for i in range(N_SAMPLES):
        for seed in range(3):
            folder = tmp_path / "out" / f"s{i}" / "integrate" / f"seed_{seed}"
            summary = json.loads((folder / "metrics.json").read_text())
            assert summary["seed"] == seed
            assert summary["n_cells"]["rna"] == mudata.read_h5mu(folder / "integrated.h5mu")["rna"].n_obs == 100 + i
        assert (tmp_path / "out" / "report" / f"s{i}.html").is_file()
