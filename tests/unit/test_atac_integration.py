"""Chromatin in the engine: links by gene name, three modalities, new cells, and what the result keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from scmodal import preprocess
from scmodal.chromatin import AtacOptions
from scmodal.contracts import InputError
from scmodal.embed import embed_file
from scmodal.inputs import build_inputs
from scmodal.io import read_h5mu
from scmodal.links import build_links
from scmodal.model import ScModal
from scmodal.presets import get_preset
from scmodal.results import training_summary, write_run
from scmodal.simulate import simulate
from scmodal.simulate_atac import simulate_atac, write_atac_simulation

PRESET = get_preset("default", steps=20, batch_size=40, n_hidden=32)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sim")
    write_atac_simulation(simulate_atac(80, 60, 3, seed=2), folder)
    return folder


@pytest.fixture(scope="module")
def run(simulated: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ScModal, Path]:
    rna = preprocess.preprocess_files([simulated / "rna.h5ad"], "rna", "cell_type")
    options = AtacOptions(simulated / "genes.bed")
    atac = preprocess.preprocess_files([simulated / "atac.h5ad"], "atac", "cell_type", atac_options=options)
    model = ScModal(PRESET, seed=0, device="cpu")
    model.fit([rna, atac])
    folder = tmp_path_factory.mktemp("run") / "run"
    write_run(model, [rna, atac], folder)
    return model, folder


def test_genes_of_the_same_name_are_links(run: tuple[ScModal, Path]) -> None:
    model, folder = run
    atac = read_h5mu(folder / "integrated.h5mu").mod["atac"]
    rna = read_h5mu(folder / "integrated.h5mu").mod["rna"]
    shared = set(rna.var_names) & set(atac.var_names)
    assert len(shared) > 50
    assert set(model.recipes["atac"].linked_features) == shared


def test_the_result_holds_components_and_no_peaks(run: tuple[ScModal, Path]) -> None:
    atac = read_h5mu(run[1] / "integrated.h5mu").mod["atac"]
    assert "X_lsi" in atac.obsm
    assert "peaks" not in atac.obsm
    assert "peaks" not in atac.uns["scmodal"]
    assert atac.uns["scmodal"]["gene_activity"]["mode"] == "body"


def test_new_cells_from_peaks_lie_where_the_training_cells_do(simulated: Path, run: tuple[ScModal, Path]) -> None:
    model, _ = run
    embedded = embed_file(model, simulated / "atac.h5ad", "atac", AtacOptions(simulated / "genes.bed"))
    np.testing.assert_allclose(embedded.obsm["X_scmodal"], model.embed(modality="atac"), atol=1e-4)
    assert list(embedded.uns["scmodal"]["peaks"])
    with pytest.raises(InputError, match="--genes"):
        embed_file(model, simulated / "atac.h5ad", "atac")


def paper_inputs(simulated: Path, **changes: int):
    rna = preprocess.preprocess_files([simulated / "rna.h5ad"], "rna", "cell_type")
    options = AtacOptions(simulated / "genes.bed")
    atac = preprocess.preprocess_files([simulated / "atac.h5ad"], "atac", "cell_type", atac_options=options)
    links, _ = build_links([rna, atac])
    return (rna, atac), build_inputs([rna, atac], links, get_preset("paper", **changes))


def test_paper_seeks_anchors_in_joint_components_of_the_shared_genes(simulated: Path) -> None:
    _, inputs = paper_inputs(simulated)
    n_links = [len(item.recipe.blocks[0].features) for item in inputs]
    assert n_links[0] == n_links[1] > 30
    columns = [item.x[:, : n_links[0]].astype(np.float64) for item in inputs]
    stacked = np.vstack(columns)
    _, _, axes = np.linalg.svd(stacked - stacked.mean(0), full_matrices=False)
    for item, own in zip(inputs, columns):
        found, expected = item.linked[0], own @ axes[:30].T
        assert found.shape == (len(own), 30)
        signs = np.sign((found * expected).sum(0))
        np.testing.assert_allclose(found * signs, expected, atol=2e-3)
    # few links are taken as they are
    _, few = paper_inputs(simulated, chromatin_components=n_links[0])
    np.testing.assert_array_equal(few[0].linked[0], few[0].x[:, : n_links[0]])


def test_paper_takes_as_many_variable_genes_of_rna_as_of_chromatin(simulated: Path) -> None:
    (rna, atac), inputs = paper_inputs(simulated, chromatin_genes=25)
    first = [set(a.var_names[(a.var["highly_variable_rank"] < 25).to_numpy()]) for a in (rna, atac)]
    for item, own in zip(inputs, first):
        assert set(item.recipe.features) == own
        assert item.recipe.linked_features == first[0] & first[1]
    with pytest.raises(InputError, match="among the 2 most variable genes of each"):
        paper_inputs(simulated, chromatin_genes=2)


def test_the_links_that_training_used_are_counted(simulated: Path, run: tuple[ScModal, Path]) -> None:
    data, inputs = paper_inputs(simulated, chromatin_genes=25)
    model = ScModal("paper", device="cpu", steps=2, batch_size=40, n_hidden=32, chromatin_genes=25).fit(data)
    used = training_summary(model)["n_links"]
    assert used == len(inputs[0].recipe.linked_features) < len(model.links)
    assert training_summary(run[0])["n_links"] == len(run[0].links)


def test_imputed_genes_of_chromatin(run: tuple[ScModal, Path]) -> None:
    model, folder = run
    rna = read_h5mu(folder / "integrated.h5mu").mod["rna"]
    imputed = model.impute("rna", "atac", rna)
    assert imputed.n_obs == rna.n_obs
    assert set(imputed.var_names) <= set(read_h5mu(folder / "integrated.h5mu").mod["atac"].var_names)


def test_most_variable_genes_beside_the_links() -> None:
    rna = simulate(60, 200, 5, 3, seed=1).mod["rna"]
    other = rna.copy()
    other.var_names = [f"X{name}" if i >= 40 else name for i, name in enumerate(rna.var_names)]
    adatas = [preprocess.rna(rna, n_top_genes=30), preprocess.atac(other, n_top_genes=30)]
    links, _ = build_links(adatas)
    inputs = build_inputs(adatas, links, PRESET)
    rest = inputs[1].recipe.blocks[-1]
    assert len(rest.features) == 30
    rank = adatas[1].var["highly_variable_rank"]
    linked = set(links.frame["feature_b"])
    free = rank[[name not in linked for name in rank.index]].dropna().sort_values().index[:30]
    assert set(rest.features) == set(free)


def test_only_genes_that_vary_in_the_rna_are_links() -> None:
    rna = simulate(60, 200, 5, 3, seed=1).mod["rna"]
    adatas = [preprocess.rna(rna, n_top_genes=30), preprocess.atac(rna, n_top_genes=30)]
    links, coverage = build_links(adatas)
    variable = adatas[0].var_names[adatas[0].var["highly_variable"]]
    assert set(links.frame["feature_a"]) == set(variable)
    notes = coverage.set_index(["modality", "feature"])["note"]
    still = adatas[0].var_names.difference(variable)[0]
    assert notes["atac", still] == notes["rna", still] == "not highly variable in the RNA data"


def test_three_modalities_in_the_order_that_has_links() -> None:
    data = simulate(60, 150, 30, 3, seed=3)
    rna, protein = preprocess.rna(data.mod["rna"]), preprocess.protein(data.mod["protein"])
    atac = preprocess.atac(data.mod["rna"])  # gene activity, as if it was measured in the same cells
    model = ScModal(PRESET, seed=0, device="cpu")
    model.fit([protein, rna, atac])
    assert model.modalities == ["protein", "rna", "atac"]
    assert model.impute("protein", "atac", protein).n_obs == 60
    links, _ = build_links([rna, protein, atac])  # by the antigens' genes, as RNA is
    assert len(links.between("protein", "atac")) == len(links.between("rna", "protein"))


def test_simulated_peaks_follow_their_genes_and_only_they_do() -> None:
    data = simulate_atac(400, 40, 4, seed=5)
    again = simulate_atac(400, 40, 4, seed=5)
    rna, atac = data.mod["rna"], data.mod["atac"]
    assert (atac.X != again.mod["atac"].X).nnz == 0
    level = rna.X.toarray()
    own = np.array([rna.var_names.get_loc(g) if g else -1 for g in atac.var["gene"]])
    correlation = np.array(
        [np.corrcoef(atac.X[:, j].toarray().ravel(), level[:, max(i, 0)])[0, 1] for j, i in enumerate(own)]
    )
    told = own < 20  # the half of the genes that tell states apart; -1: a peak of no gene
    assert np.nanmean(correlation[told & (own >= 0)]) > 0.15
    assert abs(np.nanmean(correlation[own < 0])) < 0.05
    assert (atac.obs_names == rna.obs_names).all()
    assert not set(simulate_atac(20, 20, 2, paired=False).mod["atac"].obs_names) & set(
        simulate_atac(20, 20, 2, paired=False).mod["rna"].obs_names
    )
    with pytest.raises(InputError) as error:
        simulate_atac(1, 2, 1, seed=-1)
    assert len(error.value.problems) == 3
