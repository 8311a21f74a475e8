"""Three modalities of one sample through the whole pipeline: simulated, so that the truth is known for every pair."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pandas as pd
import pytest

from scmodal.simulate import simulate, write_simulation

from .conftest import Run, pipeline

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

MODALITIES = ("rna", "protein", "cytometry")
DIRECTIONS = [f"{a}_to_{b}" for a, b in itertools.permutations(MODALITIES, 2)]


@pytest.fixture(scope="module")
def star(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("three")
    mdata = simulate(n_cells=200, n_genes=150, n_proteins=30, n_cell_types=4, n_markers=18, seed=1)
    sheet = write_simulation(mdata, folder / "sim")
    settings = ("--steps", "200", "--batch_size", "80", "--set", "n_hidden=64", "--paired")
    run = pipeline(folder, "--input", str(sheet), "--topology", "star", *settings)
    assert run.code == 0, run.text
    return run


def test_every_direction_is_published(star: Run) -> None:
    files = star.published()
    assert {f"simulated/preprocess/{name}.h5ad" for name in MODALITIES} <= files
    assert {f"simulated/impute/{direction}.h5ad" for direction in DIRECTIONS} <= files
    assert {f"simulated/transfer/{direction}.labels.tsv" for direction in DIRECTIONS} <= files


def test_links_and_training_are_of_the_same_topology(star: Run) -> None:
    out = star.folder / "out" / "simulated"
    links = pd.read_csv(out / "link" / "links.tsv", sep="\t")
    pairs = set(zip(links["modality_a"], links["modality_b"], strict=True))
    assert pairs == {("rna", "protein"), ("rna", "cytometry")}
    model = json.loads((out / "integrate" / "model" / "model.json").read_text())
    assert model["preset"]["topology"] == "star"
    assert len(model["links"]) == len(links)


def test_every_pair_is_measured(star: Run) -> None:
    metrics = json.loads((star.folder / "out" / "simulated" / "evaluate" / "metrics.json").read_text())
    assert list(metrics["foscttm"]) == ["rna|protein", "rna|cytometry", "protein|cytometry"]
    assert max(metrics["foscttm"].values()) < 0.3
    assert set(metrics["label_transfer"]) == set(DIRECTIONS)
    accuracy = [scores["accuracy"] for scores in metrics["label_transfer"].values()]
    # few cells and steps: single directions differ between seeds, their mean hardly does
    assert sum(accuracy) / len(accuracy) > 0.75


def test_the_report_tells_the_pairs_apart(star: Run) -> None:
    page = Path(star.folder / "out" / "report" / "simulated.html").read_text()
    assert "They join RNA with protein (30) and RNA with cytometry (18)." in page
    assert "fully mixed: 2 × 2 ln 2" in page
    for title in ("RNA → cytometry", "cytometry → protein"):
        assert f"Imputed against measured values, {title}" in page
