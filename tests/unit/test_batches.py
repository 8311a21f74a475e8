"""Batches as a covariate: a planted batch effect goes, a population that is in one batch only stays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from sklearn.neighbors import NearestNeighbors

from scmodal import ScModal, preprocess
from scmodal.batches import Batches
from scmodal.contracts import InputError
from scmodal.counterpart import ALONE
from scmodal.embed import embed_cells
from scmodal.inputs import build_inputs
from scmodal.links import build_links
from scmodal.networks import Networks, latent_cycle
from scmodal.presets import get_preset
from scmodal.select import gather
from scmodal.simulate import simulate

ONLY_IN_BATCH_2 = "type_3"


@pytest.fixture(scope="module")
def planted():
    """RNA of two batches with a strong effect on every gene, one cell type in the second only; protein beside it."""
    mdata = simulate(n_cells=500, n_genes=300, n_proteins=40, n_cell_types=4, seed=0, paired=False)
    rng = np.random.default_rng(1)
    rna = mdata["rna"].copy()
    second = (rna.obs["batch"] == "batch_2").to_numpy()
    counts = rna.layers["counts"].toarray()
    counts[second] = rng.poisson(counts[second] * np.exp(rng.normal(0, 0.6, counts.shape[1])))
    rna.layers["counts"] = sp.csr_matrix(counts.astype(np.float32))
    rna.X = rna.layers["counts"]
    rna = rna[second | (rna.obs["cell_type"] != ONLY_IN_BATCH_2).to_numpy()].copy()
    return [
        preprocess.rna(rna, label_key="cell_type", batch_key="batch"),
        preprocess.protein(mdata["protein"], label_key="cell_type"),
    ]


@pytest.fixture(scope="module")
def models(planted):
    return {
        told: ScModal(steps=300, batch_size=120, seed=0, batch_covariate=told, rematching_every=100).fit(planted)
        for told in (True, False)
    }


def mixing(z, types, batches):
    """Share of neighbours of the same type from the other batch, as a share of what chance gives; mean over types."""
    found = []
    for name in set(types) - {ONLY_IN_BATCH_2}:
        own = types == name
        near = NearestNeighbors(n_neighbors=11).fit(z[own]).kneighbors(return_distance=False)[:, 1:]
        first = np.mean(batches[own] == "batch_1")
        found.append((batches[own][near] != batches[own][:, None]).mean() / (2 * first * (1 - first)))
    return float(np.mean(found))


def test_the_planted_effect_goes_and_the_population_stays(planted, models):
    rna, protein = planted
    types, batches = (rna.obs[key].astype(str).to_numpy() for key in ("cell_type", "batch"))
    reference = protein.obs["cell_type"].astype(str).to_numpy()
    mixed, recall = {}, {}
    for told, model in models.items():
        z, other = model.embed(modality="rna"), model.embed(modality="protein")
        mixed[told] = mixing(z, types, batches)
        labels = reference[NearestNeighbors(n_neighbors=1).fit(other).kneighbors(z, return_distance=False)[:, 0]]
        alone = types == ONLY_IN_BATCH_2
        recall[told] = (labels[alone] == ONLY_IN_BATCH_2).mean(), (labels[~alone] == ONLY_IN_BATCH_2).mean()
    assert mixed[False] < 0.3
    assert mixed[True] > 0.6
    assert recall[True][0] > 0.9
    assert recall[True][1] < 0.05


def test_imputed_values_are_of_the_average_batch(planted, models):
    _, protein = planted
    imputed = models[True].impute("protein", "rna", protein)
    assert imputed.shape[0] == protein.n_obs
    assert np.isfinite(imputed.X).all()


def test_batches_are_kept_with_the_model(planted, models, tmp_path: Path):
    rna, _ = planted
    model = models[True]
    assert model.batches["rna"].names == ["batch_1", "batch_2"]
    assert model.batches["protein"] is None
    loaded = ScModal.load(model.save(tmp_path / "model"))
    np.testing.assert_allclose(loaded.embed(rna), model.embed(modality="rna"), atol=1e-5)
    np.testing.assert_allclose(np.concatenate(list(loaded.embed_chunks(rna, "rna", 64))), loaded.embed(rna), atol=1e-5)
    unknown = rna.copy()
    unknown.obs["batch"] = "batch_9"
    without = rna.copy()
    del without.obs["batch"]
    np.testing.assert_array_equal(loaded.embed(unknown), loaded.embed(without))
    assert not np.allclose(loaded.embed(unknown), loaded.embed(rna), atol=1e-3)


def test_what_is_told_of_a_cell(planted):
    rna, protein = planted
    found = Batches.of(rna)
    assert found is not None
    assert found.shares.sum() == pytest.approx(1)
    told = found.rows(rna)
    np.testing.assert_array_equal(told.argmax(1), (rna.obs["batch"] == "batch_2").astype(int))
    np.testing.assert_allclose(told.mean(0), found.shares, atol=1e-6)
    assert Batches.of(protein) is None
    one = rna[rna.obs["batch"] == "batch_1"].copy()
    assert Batches.of(one) is None


def test_the_cycle_through_a_batch_is_that_of_its_networks():
    networks = Networks((30, 8), get_preset("paper", n_hidden=16), seed=0, n_batches=(3, 0))
    generator, encoder = networks.generators[0], networks.encoders[0]
    with torch.no_grad():
        for network in (generator, encoder):
            network.batch.normal_()
    z, told = torch.randn(5, 20), torch.tensor([0.2, 0.5, 0.3])
    torch.testing.assert_close(
        latent_cycle(generator, encoder, z, told), encoder(generator(z, told), told), rtol=1e-4, atol=1e-4
    )
    assert not torch.allclose(generator(z, told), generator(z))
    assert networks.generators[1].batch is None
    plain = Networks((30, 8), get_preset("paper", n_hidden=16), seed=0)
    assert torch.equal(plain.encoders[0].first.weight, encoder.first.weight)


def test_the_setting_is_a_yes_or_no():
    from scmodal.contracts import InputError

    assert get_preset("paper").batch_covariate is False
    assert get_preset("default", batch_covariate="false").batch_covariate is False
    with pytest.raises(InputError, match="must be true or false"):
        get_preset("default", batch_covariate="perhaps")


def test_a_batch_for_every_cell_is_refused(planted):
    cells = planted[0].copy()
    cells.uns["scmodal"]["batch_key"] = "barcode"
    cells.obs["barcode"] = cells.obs_names
    with pytest.raises(InputError, match=r"batch_key 'barcode' tells .* batches among .* rna cells"):
        Batches.of(cells)


def shifted(adata, rng):
    """Counts of the first batch times a factor of each feature."""
    adata = adata.copy()
    counts = np.asarray(adata.layers["counts"].toarray(), float)
    first = (adata.obs["batch"] == "batch_1").to_numpy()
    counts[first] = rng.poisson(counts[first] * np.exp(rng.normal(0, 2.0, counts.shape[1])))
    adata.layers["counts"] = sp.csr_matrix(counts.astype(np.float32))
    adata.X = adata.layers["counts"]
    return adata


def test_the_verdict_counts_the_cells_that_training_found_alone():
    """Without the batches' means, as in training: with them other cells look alone."""
    mdata, rng = simulate(600, 300, 40, 6, paired=False, seed=1), np.random.default_rng(0)
    protein = mdata["protein"][(mdata["protein"].obs["cell_type"] != "type_1").to_numpy()]
    data = [
        preprocess.rna(shifted(mdata["rna"], rng), batch_key="batch"),
        preprocess.protein(shifted(protein, rng), batch_key="batch"),
    ]
    links = build_links(data)[0]
    inputs = build_inputs(data, links, get_preset("default"))
    expected = [float((item.counterpart[0] < ALONE).mean()) for item in inputs]
    np.testing.assert_allclose(gather(data, links, "chain", n_null=2).alone[0], expected, atol=0.01)


def test_a_batch_is_the_same_whichever_type_its_number_has(planted):
    told = []
    for kind in (int, float, str):
        adata = planted[0].copy()
        adata.obs["batch"] = [kind(str(name)[-1]) for name in adata.obs["batch"]]
        told.append(adata)
    batches = Batches("batch", ["1", "2"], np.array([0.4, 0.6], np.float32))
    expected = np.eye(2, dtype=np.float32)[(planted[0].obs["batch"] == "batch_2").to_numpy(int)]
    for adata in told:
        np.testing.assert_array_equal(batches.rows(adata), expected)
        assert batches.unknown(adata) == ""


def test_cells_of_a_batch_that_training_did_not_see_are_told(planted, models):
    cells = planted[0][:20].copy()
    model = models[True]
    known = embed_cells(model, cells, "rna")
    assert not any("average batch" in text for text in known.uns["scmodal"]["messages"])
    cells.obs["batch"] = ["batch_1"] * 15 + ["batch_9"] * 5
    other = embed_cells(model, cells, "rna")
    assert "5 cells are of batches that the model was not trained on ('batch_9'" in other.uns["scmodal"]["messages"][-1]
    without = cells.copy()
    del without.obs["batch"]
    found = embed_cells(model, without, "rna")
    assert "have no column 'batch'" in found.uns["scmodal"]["messages"][-1]
    assert not any(
        "average batch" in text for text in embed_cells(models[False], without, "rna").uns["scmodal"]["messages"]
    )
