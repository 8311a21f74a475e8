"""Simulated data: what the docstring says of them is measured here."""

from __future__ import annotations

import csv
from pathlib import Path

import anndata
import mudata
import numpy as np
import pytest
import scipy.sparse as sp

from scmodal import simulate_large
from scmodal.contracts import InputError, read_samplesheet
from scmodal.metrics import foscttm, imputation_pearson, label_transfer
from scmodal.simulate import simulate, write_simulation


@pytest.fixture(scope="module")
def sim() -> mudata.MuData:
    return simulate(n_cells=600, n_genes=800, n_proteins=60, seed=1)


def log_normalised(counts: sp.csr_matrix) -> np.ndarray:
    x = counts.toarray()
    total = x.sum(axis=1, keepdims=True)
    return np.log1p(x / np.maximum(total, 1) * np.median(total))


def standardised(values: np.ndarray) -> np.ndarray:
    return (values - values.mean(axis=0)) / np.maximum(values.std(axis=0), 1e-6)


def test_layout(sim: mudata.MuData) -> None:
    assert list(sim.mod) == ["rna", "protein"]
    assert sim.mod["rna"].shape == (600, 800)
    assert sim.mod["protein"].shape == (600, 60)
    for adata in sim.mod.values():
        for counts in (adata.X, adata.layers["counts"]):
            assert sp.issparse(counts)
            assert counts.format == "csr"
            assert counts.dtype == np.float32
            assert (counts.data == np.round(counts.data)).all()
            assert counts.data.min() > 0
        assert adata.obs_names.is_unique
        assert adata.var_names.is_unique
        assert adata.obs["cell_type"].nunique() == 8
        assert adata.obs["batch"].nunique() == 2
        assert adata.obs["state"].between(-1, 1).all()
        assert adata.obsm["truth"].shape == (600, 10)
        assert abs(adata.X - adata.layers["counts"]).nnz == 0


def test_paired_cells_are_the_same_cells(sim: mudata.MuData) -> None:
    rna, protein = sim.mod["rna"], sim.mod["protein"]
    assert rna.obs_names.equals(protein.obs_names)
    assert rna.obs.equals(protein.obs)
    np.testing.assert_array_equal(rna.obsm["truth"], protein.obsm["truth"])


def test_unpaired_cells_are_disjoint_and_of_the_same_tissue() -> None:
    mdata = simulate(n_cells=300, n_genes=100, n_proteins=20, paired=False)
    rna, protein = mdata.mod["rna"], mdata.mod["protein"]
    assert rna.n_obs == protein.n_obs == 300
    assert not set(rna.obs_names) & set(protein.obs_names)
    types = rna.obs["cell_type"].astype(str), protein.obs["cell_type"].astype(str)
    assert set(types[0]) == set(types[1])
    # the same latent space: a type is at the same place in both
    assert label_transfer(rna.obsm["truth"], types[0], protein.obsm["truth"], types[1])["accuracy"] > 0.95


def test_rna_looks_like_droplet_data(sim: mudata.MuData) -> None:
    counts = sim.mod["rna"].X
    depth = np.asarray(counts.sum(axis=1)).ravel()
    assert 2500 < np.median(depth) < 3500
    assert np.percentile(depth, 5) > 1000
    assert np.percentile(depth, 95) < 6500
    x = counts.toarray()
    assert 0.5 < (x == 0).mean() < 0.9
    mean, variance = x.mean(axis=0), x.var(axis=0)
    expressed = mean > 0.5
    assert (variance[expressed] > 1.2 * mean[expressed]).mean() > 0.9  # more than Poisson
    assert x.max() > 50


def test_measured_links_are_weak_but_there(sim: mudata.MuData) -> None:
    rna, protein = sim.mod["rna"], sim.mod["protein"]
    names = protein.var["partner"]
    assert (names != "").all()
    gene, antibody = log_normalised(rna[:, names].X), log_normalised(protein.X)
    r = imputation_pearson(gene, antibody)
    assert 0.1 < np.nanmedian(r) < 0.5
    assert np.nanpercentile(r, 90) < 0.75
    # the raw links tell pairs from others somewhat, and no more: there is something to do for the method
    assert 0.1 < foscttm(standardised(gene), standardised(antibody)) < 0.35
    # antibody background: proteins are hardly ever 0
    assert (protein.X.toarray() == 0).mean() < 0.2


def test_link_strength_is_the_correlation_of_true_levels() -> None:
    weak = simulate(n_cells=1500, n_genes=60, n_proteins=60, link_strength=0.0, umis=20_000, seed=2)
    strong = simulate(n_cells=1500, n_genes=60, n_proteins=60, link_strength=1.0, umis=20_000, seed=2)
    median = []
    for mdata in (weak, strong):
        x, y = (log_normalised(mdata.mod[name].X) for name in ("rna", "protein"))
        median.append(np.nanmedian(imputation_pearson(x, y)))
    assert abs(median[0]) < 0.15
    assert median[1] > 0.5


def test_both_modalities_tell_cell_types_apart(sim: mudata.MuData) -> None:
    train = np.arange(600) % 2 == 0
    for adata in sim.mod.values():
        x, labels = log_normalised(adata.X), adata.obs["cell_type"].astype(str).to_numpy()
        assert label_transfer(x[train], labels[train], x[~train], labels[~train])["accuracy"] > 0.85


def test_types_have_a_gradient_inside(sim: mudata.MuData) -> None:
    rna = sim.mod["rna"]
    for kind in rna.obs["cell_type"].cat.categories:
        rows = (rna.obs["cell_type"] == kind).to_numpy()
        z = rna.obsm["truth"][rows] - rna.obsm["truth"][rows].mean(axis=0)
        first = z @ np.linalg.svd(z, full_matrices=False)[2][0]
        assert abs(np.corrcoef(first, rna.obs["state"][rows])[0, 1]) > 0.9


@pytest.fixture(scope="module")
def three() -> mudata.MuData:
    return simulate(n_cells=600, n_genes=800, n_proteins=60, seed=1, n_markers=30)


def test_cytometry_beside_the_same_rna_and_protein(sim: mudata.MuData, three: mudata.MuData) -> None:
    assert list(three.mod) == ["rna", "protein", "cytometry"]
    for name in ("rna", "protein"):
        assert (three.mod[name].X != sim.mod[name].X).nnz == 0
        assert three.mod[name].obs.equals(sim.mod[name].obs)
    renamed = three.mod["rna"].var_names != sim.mod["rna"].var_names
    assert np.flatnonzero(renamed).tolist() == list(range(60, 70))
    assert three.mod["protein"].var.equals(sim.mod["protein"].var)
    cytometry = three.mod["cytometry"]
    assert cytometry.shape == (600, 30)
    assert cytometry.obs.equals(sim.mod["rna"].obs)
    np.testing.assert_array_equal(cytometry.obsm["truth"], sim.mod["rna"].obsm["truth"])
    assert "counts" not in cytometry.layers


def test_cytometry_looks_like_raw_intensities(three: mudata.MuData) -> None:
    from scmodal import preprocess

    x = three.mod["cytometry"].X
    assert isinstance(x, np.ndarray)
    assert x.dtype == np.float32
    assert x.min() >= 0
    assert 300 < x.max() < 20_000
    prepared = preprocess.cytometry(three.mod["cytometry"])
    assert prepared.uns["scmodal"]["cofactor"] == 5
    assert prepared.n_vars == 30
    labels = prepared.obs["cell_type"].astype(str).to_numpy()
    train = np.arange(600) % 2 == 0
    assert label_transfer(prepared.X[train], labels[train], prepared.X[~train], labels[~train])["accuracy"] > 0.85


def test_the_panels_overlap_in_part(three: mudata.MuData) -> None:
    from scmodal.links import build_links

    protein, cytometry = three.mod["protein"], three.mod["cytometry"]
    shared = cytometry.var["protein"] != ""
    assert int(shared.sum()) == 20
    assert set(cytometry.var["protein"][shared]) <= set(protein.var_names)
    assert not set(cytometry.var_names[~shared]) & set(protein.var_names)
    # the same level through two instruments, and so a far closer link than a gene and its protein
    partners = cytometry.var["protein"][shared]
    markers, proteins = np.arcsinh(cytometry[:, shared].X / 5), log_normalised(protein[:, partners].X)
    close = np.nanmedian(imputation_pearson(markers, proteins))
    genes = log_normalised(three.mod["rna"][:, cytometry.var["partner"][shared]].X)
    assert close > 0.45
    assert close > np.nanmedian(imputation_pearson(markers, genes)) + 0.15
    for name, adata in three.mod.items():
        adata.uns["scmodal"] = {"modality": name}
    links, _ = build_links(list(three.mod.values()), topology="all")
    truth = {(marker, partner) for marker, partner in partners.items()}
    assert set(map(tuple, links.between("cytometry", "protein")[["feature_a", "feature_b"]].values)) == truth
    genes_of = set(cytometry.var["partner"].items())
    assert set(map(tuple, links.between("cytometry", "rna")[["feature_a", "feature_b"]].values)) == genes_of


def test_unpaired_cytometry_has_cells_of_its_own() -> None:
    mdata = simulate(n_cells=100, n_genes=60, n_proteins=20, paired=False, n_markers=6)
    names = [set(adata.obs_names) for adata in mdata.mod.values()]
    assert len(set.union(*names)) == 300
    assert all(adata.n_obs == 100 for adata in mdata.mod.values())


def test_more_markers_than_the_table_has() -> None:
    mdata = simulate(n_cells=20, n_genes=2000, n_proteins=12, n_markers=1500)
    cytometry = mdata.mod["cytometry"]
    assert cytometry.var_names.is_unique
    assert cytometry.n_vars == 1500
    own = cytometry.var_names.str.fullmatch(r"MARKER\d+")
    assert own.sum() > 500
    assert (cytometry.var.loc[own, "partner"] == "").all()
    assert mdata.mod["rna"].var_names.is_unique


def test_same_seed_same_data() -> None:
    one, two, other = (simulate(n_cells=50, n_genes=40, n_proteins=10, seed=s, n_markers=6) for s in (3, 3, 4))
    for name in one.mod:
        x = [sp.csr_matrix(mdata.mod[name].X) for mdata in (one, two, other)]
        assert (x[0] != x[1]).nnz == 0
        assert one.mod[name].obs.equals(two.mod[name].obs)
        assert (x[0] != x[2]).nnz > 0


def test_linked_names_are_known_to_the_link_builder(sim: mudata.MuData) -> None:
    from scmodal.antigens import antigen_genes

    rna, protein = sim.mod["rna"], sim.mod["protein"]
    for name, gene in protein.var["partner"].items():
        assert antigen_genes(str(name), "human") == (gene,)
        assert rna.var.loc[gene, "partner"] == name
    unlinked = rna.var_names[rna.var["partner"] == ""]
    assert len(unlinked) == 740
    assert unlinked.str.fullmatch(r"GENE\d+").all()


def test_more_proteins_than_the_table_has() -> None:
    mdata = simulate(n_cells=20, n_genes=2000, n_proteins=2000)
    protein = mdata.mod["protein"]
    assert protein.var_names.is_unique
    own = protein.var_names.str.fullmatch(r"PROTEIN\d+")
    assert 0 < own.sum() < 2000
    assert (protein.var.loc[own, "partner"] == "").all()


def test_wrong_numbers_are_all_named() -> None:
    with pytest.raises(InputError) as caught:
        simulate(n_cells=5, n_genes=20, n_proteins=30, n_cell_types=8, link_strength=2)
    assert len(caught.value.problems) == 3
    assert "20 genes are fewer than 30 proteins" in str(caught.value)
    with pytest.raises(InputError, match="30 genes are fewer than 20 proteins and the 13 cytometry markers"):
        simulate(n_genes=30, n_proteins=20, n_markers=33)
    with pytest.raises(InputError, match="markers must be 0, or 3 or more, not 2"):
        simulate(n_markers=2)
    with pytest.raises(InputError, match="seed must be 0 or more"):
        simulate(seed=-1)


def test_smallest_simulation() -> None:
    mdata = simulate(n_cells=2, n_genes=10, n_proteins=3, n_cell_types=1, n_batches=1)
    assert mdata.mod["rna"].shape == (2, 10)


@pytest.mark.parametrize("n_batches", [1, 2])
def test_write(tmp_path: Path, n_batches: int) -> None:
    from scmodal.contracts import read_samplesheet

    mdata = simulate(n_cells=40, n_genes=50, n_proteins=12, n_batches=n_batches)
    sheet = write_simulation(mdata, tmp_path / "sim")
    assert sorted(p.name for p in sheet.parent.iterdir()) == ["protein.h5ad", "rna.h5ad", "samplesheet.csv"]
    with sheet.open() as handle:
        rows = list(csv.DictReader(handle))
    batch_key = "batch" if n_batches > 1 else ""
    assert rows == [
        {"sample": "simulated", "modality": m, "path": f"{m}.h5ad", "label_key": "cell_type", "batch_key": batch_key}
        for m in ("rna", "protein")
    ]
    for name, adata in mdata.mod.items():
        back = anndata.read_h5ad(sheet.parent / f"{name}.h5ad")
        assert (back.X != adata.X).nnz == 0
        np.testing.assert_array_equal(back.obsm["truth"], adata.obsm["truth"])
        assert back.obs["cell_type"].tolist() == adata.obs["cell_type"].tolist()
    assert [row.modality for row in read_samplesheet(sheet)] == ["rna", "protein"]


@pytest.mark.parametrize("paired", [True, False])
def test_a_large_simulation_is_of_the_same_kind(paired: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(simulate_large, "CHUNK", 500)
    arguments = (1200, 300, 40, 5)
    sheet = simulate_large.write_large_simulation(tmp_path, *arguments, paired=paired, seed=1)
    reference = simulate(*arguments, paired=paired, seed=1)
    assert [row.path for row in read_samplesheet(sheet)] == ["rna.h5ad", "protein.h5ad"]
    made = {name: anndata.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("rna", "protein")}
    for name, adata in made.items():
        assert adata.shape == reference[name].shape
        assert list(adata.var_names) == list(reference[name].var_names)
        assert list(adata.var["partner"]) == list(reference[name].var["partner"])
        assert set(adata.obs["cell_type"]) == set(reference[name].obs["cell_type"])
        assert (adata.X.data == np.rint(adata.X.data)).all()
        counts = np.asarray(adata.X.sum(1)).ravel()
        assert 0.7 < np.median(counts) / np.median(reference[name].X.sum(1).A1) < 1.4
    rna, protein = made["rna"], made["protein"]
    assert (set(rna.obs_names) == set(protein.obs_names)) == paired
    if paired:
        r = [
            np.corrcoef(log_normalised(rna.X)[:, rna.var_names.get_loc(gene)], log_normalised(protein.X)[:, j])[0, 1]
            for j, gene in enumerate(protein.var["partner"])
            if gene
        ]
        assert 0.1 < np.mean(r) < 0.7
    again = tmp_path / "again"
    simulate_large.write_large_simulation(again, *arguments, paired=paired, seed=1)
    np.testing.assert_array_equal(anndata.read_h5ad(again / "rna.h5ad").X.toarray(), rna.X.toarray())


def test_a_large_simulation_needs_a_gene_for_each_protein(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="20 genes are fewer than 30 proteins"):
        simulate_large.write_large_simulation(tmp_path, 100, 20, 30)
