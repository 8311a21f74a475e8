"""`--model`: the samplesheet's rows are new cells for a trained model."""

from __future__ import annotations

import json
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from .conftest import PARSERS, TESTDATA, pipeline

pytestmark = pytest.mark.pipeline

SHEET = f"""\
sample,modality,path
new.1,rna,{TESTDATA / "rna.h5ad"}
both,protein,{TESTDATA / "adt.h5ad"}
both,rna,{TESTDATA / "rna.h5ad"}
"""


def files(sample: str, modality: str, other: str) -> set[str]:
    """What one row publishes."""
    embedded = {f"{sample}/embed/{modality}.h5ad", f"{sample}/embed/{modality}.embedding.parquet"}
    return embedded | {f"{sample}/impute/{modality}_to_{other}.h5ad"}


@pytest.mark.parametrize("parser", PARSERS)
def test_stub(parser: str, tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(SHEET)
    (tmp_path / "trained").mkdir()
    (tmp_path / "trained" / "model.json").write_text(json.dumps({"modalities": ["rna", "protein"]}))
    arguments = ("--input", "sheet.csv", "--model", "trained", "-stub-run")
    run = pipeline(tmp_path, *arguments, parser=parser)
    assert run.code == 0, run.text
    assert run.published() == (
        files("new.1", "rna", "protein") | files("both", "rna", "protein") | files("both", "protein", "rna")
    )
    assert set(run.trace) == {
        *("VALIDATE (samplesheet)", "EMBED (new.1 rna)", "EMBED (both rna)", "EMBED (both protein)"),
        *("IMPUTE (new.1 rna to protein)", "IMPUTE (both rna to protein)", "IMPUTE (both protein to rna)"),
    }
    assert "EMBED:\n  scmodal: " in (tmp_path / "out" / "pipeline_info" / "versions.yml").read_text()
    assert "Embedded cells: out/<sample>/embed" in run.text

    again = pipeline(tmp_path, *arguments, "--impute", "false", "-resume", parser=parser)
    assert again.code == 0, again.text
    assert {name.split()[0] for name in again.trace} == {"VALIDATE", "EMBED"}
    assert set(again.trace.values()) == {"CACHED"}


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(SHEET)
    run = pipeline(tmp_path, "--input", "sheet.csv", "--model", str(tmp_path))
    assert run.code != 0
    assert "no model.json in it; give the model/ folder of an integration result" in run.text


@pytest.mark.slow
def test_new_cells_for_real(tmp_path: Path) -> None:
    from scmodal import ScModal, preprocess

    rna = ad.read_h5ad(TESTDATA / "rna.h5ad")
    prepared = [preprocess.rna(rna[:900], 500), preprocess.protein(ad.read_h5ad(TESTDATA / "adt.h5ad"))]
    model = ScModal(steps=20, batch_size=100, device="cpu").fit(prepared)
    model.save(tmp_path / "trained")
    rna[900:, ::-1].copy().write_h5ad(tmp_path / "cells.h5ad")
    (tmp_path / "sheet.csv").write_text("sample,modality,path\nnew,gex,cells.h5ad\n")
    # a label_key left from the training's parameters: new cells have none
    options = ("--input", "sheet.csv", "--model", "trained", "--device", "cpu", "--label_key", "known_in_training")
    run = pipeline(tmp_path, *options)
    assert run.code == 0, run.text
    assert run.published() == files("new", "rna", "protein")
    embedded = ad.read_h5ad(tmp_path / "out" / "new" / "embed" / "rna.h5ad")
    assert list(embedded.obs_names) == list(rna.obs_names[900:])
    np.testing.assert_allclose(embedded.obsm["X_scmodal"], model.embed(rna[900:], "rna"), atol=1e-4)
    np.testing.assert_array_equal(embedded.obsm["X_emb"], embedded.obsm["X_scmodal"])
    table = pd.read_parquet(tmp_path / "out" / "new" / "embed" / "rna.embedding.parquet")
    assert list(table["cell"]) == list(embedded.obs_names)
    imputed = ad.read_h5ad(tmp_path / "out" / "new" / "impute" / "rna_to_protein.h5ad")
    assert imputed.shape == (300, len(model.recipes["protein"].features))
    np.testing.assert_allclose(imputed.X, model.impute("rna", "protein", embedded).X, atol=1e-3)

    (tmp_path / "sheet.csv").write_text("sample,modality,path\nnew,cytof,cells.h5ad\n")
    wrong = pipeline(tmp_path, "--input", "sheet.csv", "--model", "trained")
    assert wrong.code != 0
    assert "the model has no cytometry data (it has: rna, protein)" in wrong.text
    assert set(wrong.trace) == {"VALIDATE (samplesheet)"}
