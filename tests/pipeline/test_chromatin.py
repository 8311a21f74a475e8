"""RNA and chromatin of one sample through the whole pipeline: simulated, so that the truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import pytest

from scmodal.simulate_atac import simulate_atac, write_atac_simulation

from .conftest import Run, pipeline

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

SETTINGS = ("--steps", "200", "--batch_size", "80", "--set", "n_hidden=64", "--paired")


@pytest.fixture(scope="module")
def chromatin(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("chromatin")
    sheet = write_atac_simulation(simulate_atac(n_cells=250, n_genes=150, n_cell_types=4, seed=1), folder / "sim")
    run = pipeline(folder, "--input", str(sheet), "--genes", str(folder / "sim" / "genes.bed"), *SETTINGS)
    assert run.code == 0, run.text
    return run


def test_everything_is_published(chromatin: Run) -> None:
    files = chromatin.published()
    assert {
        "simulated/preprocess/atac.h5ad",
        "simulated/impute/rna_to_atac.h5ad",
        "simulated/impute/atac_to_rna.h5ad",
        "simulated/transfer/atac_to_rna.labels.tsv",
        "report/simulated.html",
    } <= files
    prepared = ad.read_h5ad(chromatin.folder / "out" / "simulated" / "preprocess" / "atac.h5ad")
    assert prepared.obsm["peaks"].shape[0] == prepared.n_obs
    assert prepared.uns["scmodal"]["gene_activity"]["mode"] == "body"


def test_the_two_are_brought_together(chromatin: Run) -> None:
    metrics = json.loads((chromatin.folder / "out" / "simulated" / "evaluate" / "metrics.json").read_text())
    assert metrics["foscttm"]["rna|atac"] < 0.3
    accuracy = [scores["accuracy"] for scores in metrics["label_transfer"].values()]
    assert sum(accuracy) / len(accuracy) > 0.7


def test_the_report_names_the_chromatin(chromatin: Run) -> None:
    page = Path(chromatin.folder / "out" / "report" / "simulated.html").read_text()
    assert "Imputed against measured values, RNA → ATAC" in page


def test_peaks_without_genes_stop_at_the_samplesheet(chromatin: Run, tmp_path: Path) -> None:
    run = pipeline(tmp_path, "--input", str(chromatin.folder / "sim" / "samplesheet.csv"))
    assert run.code != 0
    assert "give --genes" in run.text
    assert "exit status (2)" in run.text
