"""ScModal as a notebook user meets it, on simulated data with a known truth."""

from __future__ import annotations

import json
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy as sc
from scipy.stats import spearmanr

from scmodal import ScModal, build_links, get_preset, metrics, preprocess
from scmodal.contracts import InputError
from scmodal.impute import impute_to_file
from scmodal.model import pick_device
from scmodal.results import write_latent_cells, write_run
from scmodal.simulate import simulate


@pytest.fixture(scope="module")
def data():
    mdata = simulate(n_cells=400, n_genes=300, n_proteins=40, n_cell_types=5, seed=1)
    return {
        "rna": preprocess.rna(mdata["rna"], label_key="cell_type"),
        "protein": preprocess.protein(mdata["protein"], label_key="cell_type"),
    }


@pytest.fixture(scope="module")
def model(data):
    return ScModal(steps=250, batch_size=100, seed=0).fit(data)


def test_cells_of_one_type_come_together(data, model):
    a, b = model.embed(modality="rna"), model.embed(modality="protein")
    assert a.shape == b.shape == (400, 20)
    assert a.dtype == np.float32
    labels = data["rna"].obs["cell_type"].to_numpy()
    assert metrics.label_transfer(a, labels, b, labels)["accuracy"] > 0.75
    assert metrics.foscttm(a, b) < 0.2


def test_embedding_the_training_cells_again_gives_the_same(data, model):
    for name, adata in data.items():
        np.testing.assert_allclose(model.embed(adata), model.embed(modality=name), atol=1e-5)
        np.testing.assert_allclose(model.embed(adata[5:9].copy()), model.embed(modality=name)[5:9], atol=1e-5)


def test_imputation_is_close_to_what_was_measured(data, model):
    imputed = model.impute("rna", "protein", data["rna"])
    measured, names = model.scaled(data["protein"])
    assert list(imputed.var_names) == names
    assert list(imputed.obs_names) == list(data["rna"].obs_names)
    assert imputed.X.dtype == np.float32
    r = metrics.imputation_pearson(imputed.layers["scaled"], measured)
    assert np.nanmean(r) > 0.35
    assert (imputed.X.mean(0) > 0).all()  # log-normalised units, not z-scores
    confidence = imputed.obs["confidence"]
    assert ((confidence >= 0) & (confidence <= 1)).all()
    assert imputed.uns["scmodal"]["from"] == "rna"


def test_confidence_falls_far_away_from_the_training_cells(model):
    z = model.embed(modality="protein")
    far = z + 10 * np.abs(z).max()
    assert model.confidence(z, "protein").mean() == pytest.approx(0.5, abs=0.02)
    assert model.confidence(far, "protein").mean() < 0.05


def test_save_and_load(data, model, tmp_path: Path):
    model.save(tmp_path / "model")
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == ["model.json", "weights.safetensors"]
    loaded = ScModal.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.embed(data["rna"]), model.embed(data["rna"]), atol=1e-6)
    expected, actual = model.impute("protein", "rna", data["protein"]), loaded.impute("protein", "rna", data["protein"])
    np.testing.assert_allclose(actual.X, expected.X, atol=1e-5)
    np.testing.assert_allclose(actual.obs["confidence"], expected.obs["confidence"], atol=1e-4)
    with pytest.raises(InputError, match="does not keep its training cells"):
        loaded.embed(modality="rna")


def test_damaged_models_are_told(model, tmp_path: Path):
    with pytest.raises(InputError, match=r"no model\.json"):
        ScModal.load(tmp_path)
    folder = model.save(tmp_path / "model")
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(InputError, match="damaged"):
        ScModal.load(folder)
    (folder / "weights.safetensors").write_bytes(weights)
    description = json.loads((folder / "model.json").read_text())
    description["schema_version"] = 99
    (folder / "model.json").write_text(json.dumps(description))
    with pytest.raises(InputError, match="schema version 99"):
        ScModal.load(folder)


def test_written_imputation_equals_the_one_in_memory(data, model, tmp_path: Path, monkeypatch):
    monkeypatch.setattr("scmodal.impute.CHUNK", 150)
    made = impute_to_file(model, "rna", "adt", data["rna"], tmp_path / "i.h5ad")
    written, expected = anndata.read_h5ad(tmp_path / "i.h5ad"), model.impute("rna", "protein", data["rna"])
    assert written.shape == made.shape == expected.shape
    np.testing.assert_allclose(written.X, expected.X, atol=1e-5)
    np.testing.assert_allclose(written.layers["scaled"], expected.layers["scaled"], atol=1e-5)
    np.testing.assert_allclose(written.obs["confidence"], expected.obs["confidence"], atol=1e-4)
    assert list(written.var_names) == list(expected.var_names)
    np.testing.assert_allclose(written.var["expected_r"], expected.var["expected_r"], atol=1e-5)
    np.testing.assert_allclose(expected.var["expected_r"], expected.layers["scaled"].std(0), atol=1e-4)
    assert list(written.obs["cell_type"]) == list(expected.obs["cell_type"])
    assert written.uns["scmodal"]["to"] == "protein"


def test_imputation_goes_by_the_nearest_cells_of_the_target(data, model):
    z = model.embed(modality="rna")
    cells = model.embed(modality="protein")
    nearest = np.linalg.norm(z[:50, None] - cells[None], axis=2).argsort(1)[:, : round(len(cells) ** 0.5)]
    expected = model.decode(cells[nearest].mean(1), "protein", direct=True).scaled
    np.testing.assert_allclose(model.decode(z[:50], "protein").scaled, expected, atol=1e-4)
    truth, names = model.scaled(data["protein"])
    assert names == list(model.imputed_features("protein").index)
    r = {
        direct: np.nanmean(metrics.imputation_pearson(model.decode(z, "protein", direct=direct).scaled, truth))
        for direct in (False, True)
    }
    assert r[False] > r[True]  # cells are paired in the simulation


def test_few_cells_of_the_target_are_not_averaged_into_one(data):
    few = {"rna": data["rna"], "protein": data["protein"][:30].copy()}
    imputed = ScModal(steps=60, seed=0, device="cpu").fit(few).impute("rna", "protein")
    assert len(np.unique(imputed.layers["scaled"].round(4), axis=0)) > 10
    truth, _ = ScModal(steps=1, seed=0, device="cpu").fit(data).scaled(data["protein"])
    assert np.nanmean(metrics.imputation_pearson(imputed.layers["scaled"][30:], truth[30:])) > 0.2
    assert imputed.var["expected_r"].mean() > 0.2


def test_the_expected_correlation_is_that_over_all_cells_whichever_are_imputed_for(data, model, tmp_path):
    expected = model.impute("rna", "protein").var["expected_r"]
    for some in (data["rna"][:1], data["rna"][(data["rna"].obs["cell_type"] == "type_1").to_numpy()]):
        pd.testing.assert_series_equal(model.impute("rna", "protein", some.copy()).var["expected_r"], expected)
    again = ScModal.load(model.save(tmp_path / "model"))
    np.testing.assert_allclose(again.expected_r("rna", "protein"), expected, atol=1e-5)


def test_the_expected_correlation_comes_near_the_true_one(data, model):
    truth, _ = model.scaled(data["protein"])
    imputed = model.impute("rna", "protein")
    r = metrics.imputation_pearson(imputed.layers["scaled"], truth)
    expected = imputed.var["expected_r"].to_numpy()
    assert np.abs(expected - r).mean() < 0.1
    assert spearmanr(expected, r).statistic > 0.8


def test_a_model_without_its_reference_cells_is_damaged(model, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    path = model.save(tmp_path / "model") / "weights.safetensors"
    weights = load_file(path)
    del weights["cells.rna"]
    save_file(weights, path)
    with pytest.raises(InputError, match="damaged"):
        ScModal.load(path.parent)


def test_a_failed_imputation_leaves_no_file(data, model, tmp_path: Path):
    with pytest.raises(InputError, match="features the model was trained on"):
        impute_to_file(model, "rna", "protein", data["rna"][:, :20].copy(), tmp_path / "i.h5ad")
    with pytest.raises(InputError, match="there are no rna cells to impute for"):
        impute_to_file(model, "rna", "protein", data["rna"][:0].copy(), tmp_path / "i.h5ad")
    with pytest.raises(InputError, match="the cells are of modality protein, not rna"):
        impute_to_file(model, "rna", "protein", data["protein"], tmp_path / "i.h5ad")
    assert list(tmp_path.iterdir()) == []


def test_the_result_folder(data, model, tmp_path: Path):
    import mudata
    import pandas as pd

    write_run(model, list(data.values()), tmp_path / "run")
    names = {p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert names == {
        "integrated.h5mu",
        "embedding.parquet",
        "history.parquet",
        "metrics.json",
        "model/model.json",
        "model/weights.safetensors",
    }
    mdata = mudata.read_h5mu(tmp_path / "run" / "integrated.h5mu")
    assert list(mdata.mod) == ["rna", "protein"]
    for name in mdata.mod:
        np.testing.assert_array_equal(mdata[name].obsm["X_scmodal"], model.embed(modality=name))
        assert 0 < mdata[name].var["linked"].sum() <= mdata[name].var["used"].sum() <= mdata[name].n_vars
        assert "counts" in mdata[name].layers
    table = pd.read_parquet(tmp_path / "run" / "embedding.parquet")
    assert list(table.columns) == ["cell", "modality", *(f"scmodal_{i}" for i in range(20))]
    assert table.groupby("modality").size().to_dict() == {"rna": 400, "protein": 400}
    assert list(table["cell"][:400]) == list(data["rna"].obs_names)
    history = pd.read_parquet(tmp_path / "run" / "history.parquet")
    assert list(history["step"]) == list(range(1, 251))
    assert np.isfinite(history.to_numpy()).all()
    summary = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert summary["n_cells"] == {"rna": 400, "protein": 400}
    assert 0.5 < summary["discriminator_mixing"] < 1.1
    assert summary["anchors_per_batch"] > 0


def test_all_cells_as_other_pipelines_take_them(data, model, tmp_path: Path):
    write_latent_cells(model, list(data.values()), tmp_path)
    cells = anndata.read_h5ad(tmp_path / "latent.h5ad")
    rna, protein = data.values()
    assert cells.shape == (rna.n_obs + protein.n_obs, 0)
    assert list(cells.obs["modality"].value_counts()[["rna", "protein"]]) == [rna.n_obs, protein.n_obs]
    assert set(rna.obs) <= set(cells.obs)
    np.testing.assert_array_equal(cells.obsm["X_emb"][: rna.n_obs], model.embed(modality="rna"))
    table = pd.read_parquet(tmp_path / "X_scmodal.parquet")
    assert list(table.index) == list(cells.obs_names)
    np.testing.assert_array_equal(table.to_numpy(), cells.obsm["X_emb"])
    assert cells.obs_names.is_unique
    shared = set(rna.obs_names) & set(protein.obs_names)
    assert all(f"{name}-rna" in cells.obs_names and f"{name}-protein" in cells.obs_names for name in shared)
    sc.pp.neighbors(cells, use_rep="X_emb")
    assert cells.obsp["connectivities"].nnz


def test_cells_that_training_never_draws_are_told(data):
    model = ScModal(steps=2, batch_size=50).fit(data)
    assert model.training["cells_drawn"]["rna"] == pytest.approx(1 - (1 - 1 / 400) ** 100)
    assert model.messages == [
        f"{name} has 400 cells, of which training draws about 22% (2 steps of 50): more --steps or a larger "
        "--batch-size reach rare kinds of cells."
        for name in ("rna", "protein")
    ]


def test_links_given_as_a_table_and_order_of_the_chain(data):
    links, _ = build_links(list(data.values()))
    few = links.frame[["feature_a", "feature_b"]].head(10)
    turned = few.rename(columns={"feature_a": "feature_b", "feature_b": "feature_a"})
    first = ScModal(steps=3, batch_size=50).fit(data, few)
    second = ScModal(steps=3, batch_size=50).fit(list(data.values()), turned)
    assert len(first.recipes["rna"].blocks[0].features) == 10
    np.testing.assert_array_equal(first.embed(modality="rna"), second.embed(modality="rna"))


def test_mistakes_are_told(data, model):
    with pytest.raises(InputError, match="has no cytometry data"):
        model.embed(modality="cytof")
    with pytest.raises(InputError, match="to itself"):
        model.impute("rna", "gex")
    with pytest.raises(InputError, match="several data sets of one modality"):
        ScModal(steps=1).fit([data["rna"], data["rna"]])
    with pytest.raises(InputError, match="was prepared as 'protein'"):
        ScModal(steps=1).fit({"rna": data["protein"], "protein": data["rna"]})
    with pytest.raises(InputError, match="it has: none yet"):
        ScModal().impute("rna", "protein")


def test_devices():
    import torch

    assert pick_device("cpu").type == "cpu"
    assert pick_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    for name in ("gpu", "cuda:x", "vulkan"):
        with pytest.raises(InputError, match="unknown device"):
            pick_device(name)
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"finds no CUDA device.*--device auto"):
            pick_device("cuda")


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device here")
def test_a_model_trained_on_a_gpu_opens_on_a_cpu(data, tmp_path: Path):
    model = ScModal(steps=20, batch_size=100, device="cuda").fit(data)
    model.save(tmp_path / "model")
    on_cpu = ScModal.load(tmp_path / "model", device="cpu")
    np.testing.assert_allclose(on_cpu.embed(data["rna"]), model.embed(modality="rna"), atol=1e-3)


def test_presets_and_their_settings():
    paper = get_preset("paper")
    assert (paper.steps, paper.batch_size, paper.n_hidden, paper.n_latent) == (10_000, 500, 512, 20)
    assert (paper.learning_rate, paper.weight_decay, paper.discriminator_updates) == (1e-3, 1e-3, 5)
    weights = (paper.weight_gan, paper.weight_autoencoder, paper.weight_cycle, paper.weight_anchor)
    assert (*weights, paper.weight_geometry) == (1, 10, 10, 1, 10)
    assert (paper.smoothing, paper.input_dropout, paper.n_neighbours) == (0, 0, 30)
    assert get_preset("paper", steps="20", input_dropout="0.25").input_dropout == 0.25
    with pytest.raises(InputError, match="did you mean 'paper'"):
        get_preset("papper")
    with pytest.raises(InputError) as error:
        get_preset("default", stepz=3, steps="many", input_dropout=1.5, batch_size=0)
    assert len(error.value.problems) == 4
    assert "did you mean 'steps'" in str(error.value)
    with pytest.raises(InputError) as error:  # each would divide by nothing
        get_preset("default", input_dropout=0.999, scale_clip=0, beta1=1)
    assert len(error.value.problems) == 3
