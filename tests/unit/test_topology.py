"""Three data sets with a known truth: chain, star and all, matched directly or through another data set."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest

from scmodal import ScModal, build_links, get_preset, metrics, preprocess
from scmodal.contracts import InputError
from scmodal.presets import TOPOLOGIES, pairs_of
from scmodal.results import integrated_data, training_summary
from scmodal.simulate import simulate

ORDER = ("rna", "protein", "cytometry")
SMALL = {"steps": 300, "batch_size": 100, "n_hidden": 128, "rematching_every": 100}


@pytest.fixture(scope="module")
def data():
    mdata = simulate(n_cells=300, n_genes=250, n_proteins=40, n_cell_types=5, n_markers=24, seed=1)
    return {name: getattr(preprocess, name)(mdata[name], label_key="cell_type") for name in ORDER}


@pytest.fixture(scope="module")
def trained(data):
    """A model by topology, and one of another chain; each trained when it is first asked for."""
    models = {}

    def get(topology, order=ORDER):
        if (topology, order) not in models:
            settings = {**SMALL, "topology": topology}
            models[topology, order] = ScModal(seed=0, threads=1, **settings).fit([data[name] for name in order])
        return models[topology, order]

    return get


def foscttm(model, a, b):
    return metrics.foscttm(model.embed(modality=a), model.embed(modality=b))


def test_pairs_by_hand():
    assert pairs_of("chain", 4) == [(0, 1), (1, 2), (2, 3)]
    assert pairs_of("star", 4) == [(0, 1), (0, 2), (0, 3)]
    assert pairs_of("all", 3) == [(0, 1), (0, 2), (1, 2)]
    assert {tuple(pairs_of(way, 2)) for way in TOPOLOGIES} == {((0, 1),)}
    with pytest.raises(InputError, match=r"unknown topology 'strar'; did you mean 'star'\? \(known: chain, star, all"):
        pairs_of("strar", 3)
    with pytest.raises(InputError, match="did you mean 'chain'"):
        get_preset("default", topology="chian")


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_every_two_modalities_come_together(data, trained, topology):
    model = trained(topology)
    labels = data["rna"].obs["cell_type"].to_numpy()
    for a, b in itertools.permutations(ORDER, 2):
        z_a, z_b = model.embed(modality=a), model.embed(modality=b)
        assert metrics.label_transfer(z_a, labels, z_b, labels)["accuracy"] > 0.85, (a, b)
        assert metrics.foscttm(z_a, z_b) < 0.18, (a, b)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_imputation_between_any_two_follows_the_measurement(data, trained, topology):
    """In the chain RNA and cytometry are matched through the proteins alone, in the star the two panels through RNA."""
    model = trained(topology)
    least = {"rna": 0.2, "protein": 0.55, "cytometry": 0.6}
    for a, b in itertools.permutations(ORDER, 2):
        imputed = model.impute(a, b, data[a])
        measured, names = model.scaled(data[b])
        assert list(imputed.var_names) == names
        assert imputed.obs_names.equals(data[a].obs_names)
        assert np.nanmean(metrics.imputation_pearson(imputed.layers["scaled"], measured)) > least[b], (a, b)


def test_what_a_topology_matches_is_linked_and_has_a_discriminator(trained):
    expected = {
        "chain": [("rna", "protein"), ("protein", "cytometry")],
        "star": [("rna", "protein"), ("rna", "cytometry")],
        "all": [("rna", "protein"), ("rna", "cytometry"), ("protein", "cytometry")],
    }
    for topology, pairs in expected.items():
        model = trained(topology)
        linked = model.links.frame[["modality_a", "modality_b"]].drop_duplicates()
        assert sorted(linked.itertuples(index=False, name=None)) == sorted(pairs)
        assert len(model._networks.discriminators) == len(pairs)
        # summed over pairs, so that a mixing of 1 must be of as many of them
        assert 0.6 < training_summary(model)["discriminator_mixing"] < 1.05


@pytest.mark.slow
def test_the_order_of_a_chain_decides_what_is_matched_directly(data, trained):
    """Two panels of the same antigens are better neighbours than a panel and the genes in between."""
    neighbours, apart = trained("chain"), trained("chain", ("protein", "rna", "cytometry"))
    assert apart.links.between("protein", "cytometry").empty
    assert foscttm(neighbours, "protein", "cytometry") < foscttm(apart, "protein", "cytometry") - 0.01
    # from either end it is the same chain: the same links, turned
    there, _ = build_links([data[name] for name in ORDER])
    back, _ = build_links([data[name] for name in reversed(ORDER)])
    for a, b in itertools.pairwise(ORDER):
        columns = ["feature_a", "feature_b"]
        one, other = (table.between(a, b)[columns].sort_values(columns, ignore_index=True) for table in (there, back))
        pd.testing.assert_frame_equal(one, other)
        assert len(one) >= 16


def test_a_star_is_a_chain_with_its_hub_in_the_middle(data):
    """Three data sets: the star of RNA matches what the chain protein, RNA, cytometry matches."""
    star, _ = build_links([data[name] for name in ORDER], topology="star")
    chain, _ = build_links([data[name] for name in ("protein", "rna", "cytometry")])
    for other in ("protein", "cytometry"):
        one, two = (set(map(tuple, t.between("rna", other)[["feature_a", "feature_b"]].values)) for t in (star, chain))
        assert one == two
    assert star.between("protein", "cytometry").empty


def test_two_data_sets_are_the_same_under_every_topology(data):
    latents = [
        ScModal(seed=3, threads=1, steps=20, batch_size=60, n_hidden=64, topology=topology)
        .fit([data["rna"], data["protein"]])
        .embed(modality="protein")
        for topology in TOPOLOGIES
    ]
    np.testing.assert_array_equal(latents[0], latents[1])
    np.testing.assert_array_equal(latents[0], latents[2])


def test_evaluation_covers_pairs_that_were_not_matched(data, trained):
    model = trained("chain")
    result = metrics.evaluate(integrated_data(model, list(data.values())), paired=True, model=model)
    every = ["rna|protein", "rna|cytometry", "protein|cytometry"]
    assert list(result["foscttm"]) == list(result["neighbour_mixing"]) == every
    assert result["foscttm"]["rna|cytometry"] == pytest.approx(foscttm(model, "rna", "cytometry"))
    assert result["n_pairs"] == 300
    assert len(result["label_transfer"]) == len(result["imputation"]) == 6


def test_a_saved_model_keeps_its_topology(data, trained, tmp_path):
    loaded = ScModal.load(trained("all").save(tmp_path / "model"), device="cpu")
    assert loaded.preset.topology == "all"
    expected = trained("all").embed(modality="cytometry")
    np.testing.assert_allclose(loaded.embed(data["cytometry"]), expected, atol=1e-5)


@pytest.mark.slow
def test_different_cells_in_every_data_set():
    mdata = simulate(n_cells=250, n_genes=200, n_proteins=40, n_cell_types=4, n_markers=24, paired=False, seed=2)
    adatas = [getattr(preprocess, name)(mdata[name], label_key="cell_type") for name in ORDER]
    model = ScModal(seed=0, threads=1, **SMALL).fit(adatas)
    for a, b in itertools.permutations(adatas, 2):
        names = [adata.uns["scmodal"]["modality"] for adata in (a, b)]
        z = [model.embed(modality=name) for name in names]
        scores = metrics.label_transfer(z[0], a.obs["cell_type"].to_numpy(), z[1], b.obs["cell_type"].to_numpy())
        assert scores["accuracy"] > 0.75, names


# ------------------------------------------------------------------------------------------------ links made elsewhere


def test_links_of_another_topology_are_refused_before_training(data):
    links, _ = build_links(list(data.values()), topology="chain")
    with pytest.raises(InputError) as error:
        ScModal(steps=1, topology="star").fit(list(data.values()), links)
    text = str(error.value)
    assert "has 0 links of rna and cytometry, which topology 'star' matches" in text
    assert "scmodal link --topology star" in text
    assert "What has enough links: --topology chain or the order protein, rna, cytometry." in text
