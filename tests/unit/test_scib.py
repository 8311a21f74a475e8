"""Mixing and conservation by scib-metrics."""

from __future__ import annotations

import importlib.util
import json

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

from scmodal import cli, scib
from scmodal.contracts import InputError

N = 400


def blobs(shift: float = 0.0) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Four separate populations in two modalities, the second one shifted."""
    rng = np.random.default_rng(0)
    codes = rng.integers(4, size=2 * N)
    z = 3 * rng.normal(size=(4, 20))[codes] + rng.normal(size=(2 * N, 20))
    names = np.array([f"type_{code}" for code in codes], dtype=object)
    return {"rna": z[:N], "protein": z[N:] + shift}, {"rna": names[:N], "protein": names[N:]}


@pytest.mark.slow  # half a minute to compile, whatever the number of cells
def test_scores_rise_with_mixing_and_with_conservation(tmp_path):
    latents, labels = blobs()
    mixed = scib.scib_scores(latents, labels)
    assert mixed["n_cells"] == mixed["n_labelled"] == 2 * N
    assert min(value for name, value in mixed.items() if not name.startswith("n_")) > 0.8
    apart = scib.scib_scores(*blobs(shift=5.0))
    assert apart["ilisi"] < 0.1
    assert apart["kbet"] < 0.1
    wrong = scib.scib_scores(latents, labels | {"protein": np.random.default_rng(1).permutation(labels["protein"])})
    for name in ("silhouette_label", "nmi", "ari", "graph_connectivity", "kbet"):
        assert wrong[name] < mixed[name] - 0.2, name
    half = scib.scib_scores(latents, {"rna": labels["rna"]})
    assert set(half) == {"n_cells", "ilisi"}

    mdata = mudata.MuData(
        {
            name: ad.AnnData(
                obs=pd.DataFrame({"cell_type": labels[name]}, index=[f"{name}{i}" for i in range(N)]),
                obsm={"X_scmodal": latents[name]},
            )
            for name in latents
        }
    )
    mdata.write(tmp_path / "integrated.h5mu")
    command = ["evaluate", "--integrated", tmp_path / "integrated.h5mu", "--label-key", "cell_type", "--scib"]
    cli.main([*map(str, command), "--output", str(tmp_path / "metrics.json")])
    assert json.loads((tmp_path / "metrics.json").read_text())["scib"] == pytest.approx(mixed)


def test_what_is_missing_is_told(monkeypatch):
    latents, labels = blobs()
    with pytest.raises(InputError, match="needs 270 cells or more"):
        scib.scib_scores({name: z[:50] for name, z in latents.items()}, labels)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'scmodal\[bench\]'"):
        scib.scib_scores(latents, labels)
