"""New cells on a trained model: raw or prepared, columns in any order, labels from the reference, and mistakes."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest

from scmodal import ScModal, cli, preprocess
from scmodal.contracts import InputError
from scmodal.embed import embed_cells, new_cells, read_new_cells
from scmodal.inputs import Recipe
from scmodal.io import read_prepared
from scmodal.results import write_run
from scmodal.simulate import simulate


def run(*arguments: object) -> int:
    """Exit code of a command."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def raw():
    """Cells as they come from a sequencer: the first 200 are trained on, the others are new."""
    return simulate(n_cells=300, n_genes=200, n_proteins=30, n_cell_types=4, seed=3)


@pytest.fixture(scope="module")
def new(raw) -> anndata.AnnData:
    cells = raw["rna"][200:]
    return anndata.AnnData(cells.layers["counts"].copy(), obs=cells.obs.copy(), var=cells.var.copy())


@pytest.fixture(scope="module")
def training(raw):
    return [
        preprocess.rna(raw["rna"][:200], label_key="cell_type"),
        preprocess.protein(raw["protein"][:200], label_key="cell_type"),
    ]


@pytest.fixture(scope="module")
def model(training) -> ScModal:
    return ScModal(steps=150, batch_size=100, seed=0, device="cpu", n_hidden=64).fit(training)


@pytest.fixture(scope="module")
def folder(model, training, tmp_path_factory) -> Path:
    """What an integration leaves."""
    path = tmp_path_factory.mktemp("embed") / "run"
    write_run(model, training, path)
    return path


def test_raw_cells_lie_where_the_same_cells_lay_in_training(raw, model, training):
    again = model.embed(raw["rna"][:200], "rna")
    np.testing.assert_allclose(again, model.embed(modality="rna"), atol=1e-5)
    np.testing.assert_array_equal(model.embed(training[0]), model.embed(raw["rna"][:200], "gex"))


def test_order_of_the_columns_and_other_features_are_no_matter(new, model):
    expected = model.embed(new, "rna")
    order = np.random.default_rng(0).permutation(new.n_vars)
    np.testing.assert_array_equal(model.embed(new[:, order], "rna"), expected)
    other = anndata.AnnData(np.ones((100, 2), np.float32), obs=new.obs, var=pd.DataFrame(index=["other1", "other2"]))
    np.testing.assert_array_equal(model.embed(anndata.concat([other, new], axis=1), "rna"), expected)


def test_cells_in_chunks_and_alone(new, model, monkeypatch):
    expected = model.embed(new, "rna")
    np.testing.assert_allclose(model.embed(new[7:8], "rna"), expected[7:8], atol=1e-5)
    monkeypatch.setattr("scmodal.model.ENCODE_CHUNK", 33)
    np.testing.assert_allclose(model.embed(new, "rna"), expected, atol=1e-5)


def test_a_gene_without_a_count_was_measured_and_a_gene_that_is_not_there_was_not(new, model):
    recipe = model.recipes["rna"]
    gene = recipe.features[int(np.argmax(recipe.mean))]
    silent = new.copy()
    counts = silent.X.toarray()
    counts[:, silent.var_names.get_loc(gene)] = 0
    silent.X = counts
    column = recipe.columns.index(gene)
    without = new[:, new.var_names != gene].copy()
    assert (recipe.transform(new_cells(silent, "rna"))[:, column] < -0.5).all()
    assert (recipe.transform(new_cells(without, "rna"))[:, column] == 0).all()
    result = embed_cells(model, without, "rna")
    assert (
        f"1 of the {len(recipe.features)} rna features the model was trained on"
        in result.uns["scmodal"]["messages"][-1]
    )
    assert repr(gene) in result.uns["scmodal"]["messages"][-1]


def test_the_result_is_prepared_and_can_be_imputed(new, model, tmp_path):
    result = embed_cells(model, new, "rna")
    assert list(result.obs_names) == list(new.obs_names)
    assert result.n_vars == new.n_vars
    np.testing.assert_array_equal(result.obsm["X_emb"], result.obsm["X_scmodal"])
    np.testing.assert_array_equal(result.layers["counts"].toarray(), new.X.toarray())
    total = np.expm1(result.X.toarray()).sum(axis=1)
    np.testing.assert_allclose(total, np.median(np.asarray(new.X.sum(axis=1))), rtol=1e-4)
    np.testing.assert_allclose(result.var["mean"], result.X.toarray().mean(axis=0), rtol=1e-4)
    assert set(result.var_names[result.var["used"]]) == set(model.recipes["rna"].features)
    result.write_h5ad(tmp_path / "e.h5ad")
    imputed = model.impute("rna", "protein", read_prepared(tmp_path / "e.h5ad"))
    assert imputed.shape == (100, len(model.recipes["protein"].features))
    np.testing.assert_array_equal(imputed.obsm["X_scmodal"], result.obsm["X_scmodal"])


def test_prepared_cells_that_are_too_many_for_memory_are_embedded(folder, training, tmp_path, monkeypatch):
    mixed = training[0][:50].copy()
    mixed.layers["counts"][7] = 0
    mixed.layers["counts"].eliminate_zeros()
    mixed.write_h5ad(tmp_path / "cells.h5ad")
    written = []
    for limit in ("1.5", "0"):
        monkeypatch.setenv("SCMODAL_IN_MEMORY_GB", limit)
        output = tmp_path / f"e{limit}.h5ad"
        asked = ["--model", folder / "model", "--input", tmp_path / "cells.h5ad", "--modality", "rna"]
        assert run("embed", *asked, "--output", output) == 0
        written.append(anndata.read_h5ad(output))
    whole, pieces = written
    np.testing.assert_array_equal(pieces.obsm["X_scmodal"], whole.obsm["X_scmodal"])
    np.testing.assert_array_equal(pieces.X.toarray(), whole.X.toarray())
    np.testing.assert_array_equal(pieces.layers["counts"].toarray(), mixed.layers["counts"].toarray())
    pd.testing.assert_frame_equal(pieces.obs, whole.obs)
    for result in written:
        assert any("1 cells have no count" in text for text in result.uns["scmodal"]["messages"])


def test_a_name_that_promises_another_kind_of_file_is_refused(folder, training, tmp_path, capsys):
    training[0].write_h5ad(tmp_path / "cells.h5ad")
    asked = ["--model", folder / "model", "--input", tmp_path / "cells.h5ad"]
    assert run("embed", *asked, "--modality", "rna", "--output", tmp_path / "e.csv") == 2
    assert "e.csv' is written as h5ad: let its name end in .h5ad" in capsys.readouterr().err
    assert run("impute", *asked, "--from", "rna", "--to", "protein", "--output", tmp_path / "i.loom") == 2
    assert "i.loom' is written as h5ad" in capsys.readouterr().err
    assert not list(tmp_path.glob("[ei].*"))


def test_an_own_column_of_confidence_is_not_replaced_silently(folder, training, tmp_path, capsys):
    cells = training[0].copy()
    cells.obs["confidence"] = "high"
    cells.write_h5ad(tmp_path / "cells.h5ad")
    asked = ["--model", folder / "model", "--input", tmp_path / "cells.h5ad", "--from", "rna", "--to", "protein"]
    assert run("impute", *asked, "--output", tmp_path / "i.h5ad") == 0
    assert "own column 'confidence' is replaced" in capsys.readouterr().err


def test_cells_without_a_count_stay_and_are_told(new, model):
    result = embed_cells(
        model, anndata.AnnData(new.X.multiply(np.arange(100)[:, None] > 1).tocsr(), new.obs, new.var), "rna"
    )
    assert result.n_obs == 100
    assert np.isfinite(result.obsm["X_scmodal"]).all()
    assert np.isfinite(result.X.data).all()
    assert "2 cells have no count in the features of the model" in result.uns["scmodal"]["messages"][-1]


def test_mistakes_are_told(new, model, training):
    with pytest.raises(InputError, match="the cells are protein data, not rna"):
        model.embed(training[1], "rna")
    with pytest.raises(InputError, match=r"the model has no atac data \(it has: rna, protein\)"):
        model.embed(new, "peaks")
    with pytest.raises(InputError, match="are not in the data"):
        model.embed(new[:, :40], "rna")
    with pytest.raises(InputError, match="no cells"):
        model.embed(new[:0], "rna")


def test_command_with_labels_and_table(new, folder, tmp_path, capsys):
    order = np.random.default_rng(1).permutation(new.n_vars)[5:]
    new[:, order].copy().write_h5ad(tmp_path / "new.h5ad")
    files = {name: tmp_path / "out" / name for name in ("new.h5ad", "new.parquet", "labels.tsv")}
    options = ("--reference", folder / "integrated.h5mu", "--labels", files["labels.tsv"], "--device", "cpu")
    outputs = ("--output", files["new.h5ad"], "--table", files["new.parquet"])
    source = ("--model", folder / "model", "--input", tmp_path / "new.h5ad", "--modality", "rna")
    assert run("embed", *source, *outputs, *options) == 0
    said = capsys.readouterr().err
    assert "they count as not measured" in said
    assert "100 cells x 20 latent dimensions" in said
    result = anndata.read_h5ad(files["new.h5ad"])
    table = pd.read_parquet(files["new.parquet"])
    assert list(table.columns) == ["cell", "modality", *(f"scmodal_{i}" for i in range(20))]
    assert list(table["cell"]) == list(new.obs_names)
    np.testing.assert_array_equal(table.iloc[:, 2:].to_numpy(), result.obsm["X_emb"])
    labels = pd.read_csv(files["labels.tsv"], sep="\t")
    assert list(labels["cell"]) == list(new.obs_names)
    assert (labels["label"].to_numpy() == new.obs["cell_type"].to_numpy()).mean() > 0.8
    assert list(result.obs["scmodal_label"]) == list(labels["label"])
    np.testing.assert_allclose(result.obs["scmodal_confidence"], labels["confidence"])

    # a prepared file gives the same place where preparation dropped no gene of the model
    prepared = preprocess.rna(new)
    prepared.write_h5ad(tmp_path / "prepared.h5ad")
    source = ("--model", folder / "model", "--input", tmp_path / "prepared.h5ad", "--modality", "rna")
    assert run("embed", *source, "--output", tmp_path / "again.h5ad", "--device", "cpu") == 0
    again = anndata.read_h5ad(tmp_path / "again.h5ad")
    np.testing.assert_allclose(again.obsm["X_scmodal"], ScModal.load(folder / "model").embed(prepared), atol=1e-6)


def test_labels_of_another_modality_and_column(new, folder, tmp_path):
    new.write_h5ad(tmp_path / "new.h5ad")
    source = ("--model", folder / "model", "--input", tmp_path / "new.h5ad", "--modality", "rna", "--device", "cpu")
    reference = ("--reference", folder / "integrated.h5mu", "--from", "adt", "--label-key", "cell_type")
    assert run("embed", *source, *reference, "--output", tmp_path / "out.h5ad") == 0
    labels = anndata.read_h5ad(tmp_path / "out.h5ad").obs["scmodal_label"]
    assert (labels.to_numpy() == new.obs["cell_type"].to_numpy()).mean() > 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--model": "{tmp}"}, "no model.json in it"),
        ({"--model": "{tmp}/gone"}, "no model.json in it"),
        ({"--modality": "atac"}, "the model has no atac data (it has: rna, protein)"),
        ({"--modality": "protien"}, "did you mean 'protein'"),
        ({"--modality": "protein"}, "{tmp}/new.h5ad: "),
        ({"--input": "{tmp}/gone.h5ad"}, "gone.h5ad: not found"),
        ({"--input": "{tmp}/empty.h5ad"}, "no cells"),
        ({"--input": "{tmp}/half.h5ad"}, "are not in the data"),
        ({"--input": "{tmp}/text.h5ad"}, "text.h5ad"),
        ({"--labels": "{tmp}/l.tsv"}, "need --reference"),
        ({"--reference": "{tmp}/other.h5mu"}, "it is the result of another run"),
        (
            {"--reference": "{run}/integrated.h5mu", "--label-key": "cell_typ"},
            "no modality of the reference has a column",
        ),
        ({"--reference": "{tmp}/named.h5mu", "--from": "rna", "--label-key": "name"}, "no groups; give another"),
        ({"--reference": "{run}/integrated.h5mu", "--from": "atac"}, "no modality 'atac' in these data"),
    ],
)
def test_wrong_options(new, folder, tmp_path, capsys, change, message):
    new.write_h5ad(tmp_path / "new.h5ad")
    new[:0].copy().write_h5ad(tmp_path / "empty.h5ad")
    new[:, :40].copy().write_h5ad(tmp_path / "half.h5ad")
    (tmp_path / "text.h5ad").write_text("this is no HDF5")
    if "other" in change.get("--reference", ""):
        from scmodal.io import read_h5mu, write_h5mu

        mdata = read_h5mu(folder / "integrated.h5mu")
        mdata["rna"].obsm["X_scmodal"] = mdata["rna"].obsm["X_scmodal"][::-1].copy()
        write_h5mu(mdata, tmp_path / "other.h5mu")
    if "named" in change.get("--reference", ""):
        from scmodal.io import read_h5mu, write_h5mu

        mdata = read_h5mu(folder / "integrated.h5mu")
        mdata["rna"].obs["name"] = mdata["rna"].obs_names
        write_h5mu(mdata, tmp_path / "named.h5mu")
    options = {"--model": folder / "model", "--input": tmp_path / "new.h5ad", "--modality": "rna", "--device": "cpu"}
    options |= {key: str(value).format(tmp=tmp_path, run=folder) for key, value in change.items()}
    arguments = [part for pair in options.items() for part in pair]
    assert run("embed", *arguments, "--output", tmp_path / "out.h5ad") == 2
    assert message.format(tmp=tmp_path) in capsys.readouterr().err
    assert not (tmp_path / "out.h5ad").exists()


def test_validate_for_a_model(new, folder, tmp_path, capsys):
    new.write_h5ad(tmp_path / "new.h5ad")
    sheet = tmp_path / "sheet.csv"
    sheet.write_text("sample,modality,path\na,rna,new.h5ad\nb,gex,new.h5ad\n")
    assert run("validate", "--input", sheet) == 2
    assert "has one row only" in capsys.readouterr().err
    options = ("--model", folder / "model", "--output", tmp_path / "out.csv")
    assert run("validate", "--input", sheet, *options) == 0
    assert list(pd.read_csv(tmp_path / "out.csv")["modality"]) == ["rna", "rna"]
    sheet.write_text("sample,modality,path\na,rna,new.h5ad\na,gex,new.h5ad\nb,cytof,new.h5ad\n")
    assert run("validate", "--input", sheet, *options) == 2
    said = capsys.readouterr().err
    assert "row 3 (line 4): the model has no cytometry data (it has: rna, protein)" in said
    assert "sample 'a' has 2 rows of modality 'rna'" in said
    assert run("validate", "--input", sheet, "--model", tmp_path) == 2
    assert "no model.json in it" in capsys.readouterr().err


@pytest.fixture(scope="module")
def cytometer():
    """A model of RNA and raw cytometry, and the cytometry it was trained on: 15 raw markers, up to some thousands."""
    mdata = simulate(n_cells=150, n_genes=120, n_proteins=15, n_cell_types=3, seed=5)
    values = np.asarray(mdata["protein"].layers["counts"].todense(), np.float32)
    cells = anndata.AnnData(values, obs=mdata["protein"].obs.copy(), var=pd.DataFrame(index=mdata["protein"].var_names))
    training = [preprocess.rna(mdata["rna"]), preprocess.cytometry(cells)]
    assert training[1].uns["scmodal"]["cofactor"] > 0
    model = ScModal(steps=5, batch_size=50, seed=0, device="cpu", n_hidden=32).fit(training)
    return model, cells


def test_cells_of_a_cytometer_lie_where_they_lay_in_training(cytometer, tmp_path: Path):
    """Whatever else is in the file: dim cells alone, few of them, a single one."""
    model, cells = cytometer
    assert Recipe.from_dict(model.recipes["cytometry"].to_dict()).cofactor == model.recipes["cytometry"].cofactor
    dim = np.argsort(cells.X.max(axis=1))[:5]
    for chosen in (dim, np.array([7]), np.arange(len(cells))):
        z = embed_cells(model, cells[chosen].copy(), "cytometry").obsm["X_scmodal"]
        np.testing.assert_allclose(z, model.embed(modality="cytometry")[chosen], atol=1e-4)
    cells[dim].to_df().to_csv(tmp_path / "dim.csv")
    z = embed_cells(model, read_new_cells(tmp_path / "dim.csv", "cytometry")).obsm["X_scmodal"]
    np.testing.assert_allclose(z, model.embed(modality="cytometry")[dim], atol=1e-4)


def test_cells_prepared_with_another_cofactor_are_refused(cytometer):
    model, cells = cytometer
    with pytest.raises(InputError, match=r"prepared with arcsinh\(x / 150\)"):
        embed_cells(model, preprocess.cytometry(cells, cofactor=150.0))


def test_raw_values_for_a_model_of_transformed_ones_are_refused(cytometer):
    _, cells = cytometer
    with pytest.raises(InputError, match="look raw"):
        new_cells(cells, "cytometry", cofactor=0.0)
