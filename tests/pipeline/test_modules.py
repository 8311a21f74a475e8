"""A module on its own, as another pipeline would include it: none of this pipeline's configuration."""

from __future__ import annotations

import os
from pathlib import Path

import anndata as ad
import pytest

from .conftest import REPO, TESTDATA, Run, nextflow

pytestmark = pytest.mark.pipeline

LABEL_KEY = "donor's cell type"
"""A column name that a shell would take apart."""


def run_workflow(folder: Path, script: str, *arguments: str) -> Run:
    """Run a small workflow that includes modules of this repository; the checkout's launcher is on PATH."""
    (folder / "bin").mkdir()
    os.symlink(REPO / "bin" / "scmodal", folder / "bin" / "scmodal")
    (folder / "nextflow.config").write_text("process.publishDir = 'out'\n")
    (folder / "main.nf").write_text(script.replace("MODULES", str(REPO / "modules" / "nf-scmodal" / "scmodal")))
    return nextflow(folder, "run", "main.nf", *arguments)


def test_preprocess_joins_files_and_quotes_column_names(tmp_path: Path) -> None:
    rna = ad.read_h5ad(TESTDATA / "rna.h5ad")
    rna.obs[LABEL_KEY] = rna.obs["celltype"]
    for name, cells in (("first half.h5ad", slice(0, 600)), ("second half.h5ad", slice(600, None))):
        rna[cells].write_h5ad(tmp_path / name)
    script = f"""
    include {{ SCMODAL_PREPROCESS as PREPROCESS }} from 'MODULES/preprocess'
    workflow {{
        meta = [id: 'pbmc', modality: 'rna', label_key: "{LABEL_KEY}", batch_key: 'batch']
        PREPROCESS([meta, [file('first half.h5ad'), file('second half.h5ad')]], [], [])
    }}
    """
    run = run_workflow(tmp_path, script)
    assert run.code == 0, run.text
    prepared = ad.read_h5ad(tmp_path / "out" / "pbmc.rna.h5ad")
    assert prepared.n_obs == 1200
    assert prepared.uns["scmodal"]["label_key"] == LABEL_KEY
    assert prepared.uns["scmodal"]["batch_key"] == "batch"


def test_a_wrong_column_stops_with_status_2(tmp_path: Path) -> None:
    script = f"""
    include {{ SCMODAL_PREPROCESS as PREPROCESS }} from 'MODULES/preprocess'
    workflow {{
        PREPROCESS([[id: 'pbmc', modality: 'rna', label_key: 'cell_type'], file('{TESTDATA / "rna.h5ad"}')], [], [])
    }}
    """
    run = run_workflow(tmp_path, script)
    assert run.code != 0
    assert "exit status (2)" in run.text
    assert "celltype" in run.text
    assert not (tmp_path / "out").exists()


def test_every_module_has_its_parts() -> None:
    modules = sorted(path.parent for path in REPO.glob("modules/nf-scmodal/scmodal/*/main.nf"))
    assert len(modules) == 11
    for module in modules:
        for part in ("meta.yml", "environment.yml", "tests/main.nf.test"):
            assert (module / part).is_file(), module / part
        text = (module / "main.nf").read_text()
        for part in ("stub:", "topic: versions", "task.ext.args", "task.ext.prefix", "label 'process_"):
            assert part in text, (module, part)
        assert "params." not in text, module
        # the name by which nf-core tools find the module that a subworkflow includes
        assert text.startswith(f"process SCMODAL_{module.name.upper()} {{\n"), module
