"""The engine from outside, on data that are odd but no mistake, and on data that cannot work."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from anndata import AnnData
from scipy import sparse

from scmodal import ScModal, metrics, preprocess, step
from scmodal.contracts import DataError, InputError
from scmodal.results import training_summary
from scmodal.simulate import simulate

SMALL = {"steps": 60, "batch_size": 60, "n_hidden": 64}


def prepared(mdata):
    return {name: getattr(preprocess, name)(mdata[name], label_key="cell_type") for name in mdata.mod}


def fit(data, links=None, seed=0, **settings):
    return ScModal(seed=seed, threads=1, **{**SMALL, **settings}).fit(data, links)


def embedding(model):
    return np.concatenate([model.embed(modality=name) for name in model.modalities])


@pytest.fixture(scope="module")
def data():
    return prepared(simulate(n_cells=200, n_genes=120, n_proteins=30, n_cell_types=4, seed=5))


# --------------------------------------------------------------------------------------------------------- no anchors


def without_anchors(monkeypatch, empty):
    """Empty the batches whose number `empty` says yes to: of real ones, at least the most alike pair is mutual."""
    found, batch = step.mutual_neighbours, itertools.count()

    def none_now_and_then(*args, **options):
        anchors = found(*args, **options)
        return torch.zeros_like(anchors) if empty(next(batch)) else anchors

    monkeypatch.setattr(step, "mutual_neighbours", none_now_and_then)


def test_a_batch_without_anchors_is_counted_and_the_run_goes_on(data, monkeypatch):
    without_anchors(monkeypatch, lambda batch: batch % 4 == 0)
    model = fit(data)
    empty = model.history["n_anchors"] == 0
    assert empty.tolist() == [i % 4 == 0 for i in range(60)]
    assert (model.history["loss_anchor"][empty] == 0).all()
    assert (model.history["loss_anchor"][~empty] > 0).all()
    assert training_summary(model)["steps_without_anchors"] == pytest.approx(0.25)
    assert np.isfinite(embedding(model)).all()


def test_mostly_batches_without_anchors_stop_the_run(data, monkeypatch):
    without_anchors(monkeypatch, lambda batch: batch % 4 != 0)
    with pytest.raises(DataError, match=r"74% of the batches before step 50 hold not a single anchor.*Check the links"):
        fit(data)


# ----------------------------------------------------------------------------------------------------- odd, but usable


def test_features_never_seen_are_left_out(data):
    """Features that were never seen are neither input nor output, linked ones included."""
    mdata = simulate(n_cells=200, n_genes=120, n_proteins=30, n_cell_types=4, seed=5)
    constant = {}
    for name, adata in mdata.mod.items():
        counts = adata.X.toarray()
        counts[:, [0, 3]] = 0  # the first features are linked
        raw = AnnData(sparse.csr_matrix(counts), obs=adata.obs, var=adata.var[[]])
        constant[name] = getattr(preprocess, name)(raw, label_key="cell_type")
    model = fit(constant)
    dropped = {name: set(mdata[name].var_names[[0, 3]]) for name in mdata.mod}
    for name, recipe in model.recipes.items():
        assert not dropped[name] & set(recipe.features)
    assert len(model.recipes["protein"].features) == 28
    assert len(model.links) == 28
    assert np.isfinite(embedding(model)).all()
    imputed = model.impute("rna", "protein")
    assert not dropped["protein"] & set(imputed.var_names)
    assert np.isfinite(imputed.X).all()


def test_a_linked_column_that_is_constant_in_the_counts_is_no_input(data):
    """The same on data that other programs prepared: the engine does not lean on preprocessing for it."""
    odd = {name: adata.copy() for name, adata in data.items()}
    first = odd["protein"].var_names[0]
    counts = odd["protein"].layers["counts"].toarray()
    counts[:, 0] = 7
    odd["protein"].layers["counts"] = sparse.csr_matrix(counts)
    model = fit(odd)
    assert first not in model.recipes["protein"].columns
    assert len(model.recipes["rna"].blocks[0].features) == len(model.recipes["protein"].blocks[0].features) == 29
    assert np.isfinite(embedding(model)).all()


def test_one_cell_type_only():
    """No types to tell apart, only the gradient within: it trains, mixes and stays finite."""
    data = prepared(simulate(n_cells=200, n_genes=120, n_proteins=30, n_cell_types=1, seed=4))
    model = fit(data, steps=150)
    a, b = (model.embed(modality=name) for name in data)
    assert np.isfinite(embedding(model)).all()
    assert embedding(model).std(0).max() > 0.05  # not collapsed to a point
    assert metrics.neighbour_mixing(a, b, k=20) > 0.4
    assert metrics.foscttm(a, b) < 0.45  # the gradient is found


@pytest.mark.parametrize("preset", ["default", "paper"])
def test_sixty_cells(preset):
    data = prepared(simulate(n_cells=60, n_genes=120, n_proteins=30, n_cell_types=3, seed=6))
    model = ScModal(preset, seed=0, threads=1, steps=150, n_hidden=64).fit(data)
    assert model.training["batch_sizes"] == {"rna": 60, "protein": 60}
    said = [message for message in model.messages if "fewer than the batch size" in message]
    assert [message.split()[:3] for message in said] == [["rna", "has", "60"], ["protein", "has", "60"]]
    a, b = (model.embed(modality=name) for name in data)
    labels = data["rna"].obs["cell_type"].to_numpy()
    assert metrics.label_transfer(a, labels, b, labels)["accuracy"] > 0.6
    assert metrics.foscttm(a, b) < 0.3


def test_two_identical_data_sets():
    """One table under two names: cells come to lie at themselves, and the other's features are as good as the own."""
    raw = simulate(n_cells=200, n_genes=120, n_proteins=30, n_cell_types=4, seed=5)["protein"]
    one, other = preprocess.protein(raw), preprocess.rna(raw)
    links = pd.DataFrame({"feature_a": raw.var_names, "feature_b": raw.var_names})
    model = fit([one, other], links, steps=300)
    np.testing.assert_array_equal(model.recipes["rna"].transform(other), model.recipes["protein"].transform(one))
    a, b = model.embed(modality="protein"), model.embed(modality="rna")
    assert metrics.foscttm(a, b) < 0.05
    assert metrics.matching_distance(a, b) < 0.5
    measured, _ = model.scaled(one)
    own = np.nanmean(metrics.imputation_pearson(model.decode(a, "protein").scaled, measured))
    crossed = np.nanmean(metrics.imputation_pearson(model.decode(b, "protein").scaled, measured))
    assert own > 0.6
    assert crossed > own - 0.05


def test_links_fix_the_input_whatever_the_order_of_the_columns(data):
    """With the links given, only the columns beside them follow the file; results agree, but not bit for bit."""
    from scmodal import build_links

    links, _ = build_links(list(data.values()))
    turned = {name: adata[:, ::-1].copy() for name, adata in data.items()}
    first, second = fit(data, links, n_top_genes=0), fit(turned, links, n_top_genes=0)
    for name in data:
        assert first.recipes[name].columns == second.recipes[name].columns
    np.testing.assert_array_equal(embedding(first), embedding(second))


def test_the_same_model_reads_columns_in_any_order(data):
    model = fit(data)
    for adata in data.values():
        shuffled = adata[:, np.random.default_rng(0).permutation(adata.n_vars)].copy()
        np.testing.assert_array_equal(model.embed(shuffled), model.embed(adata))


def test_more_columns_than_the_model_knows_are_ignored(data):
    model = fit(data)
    rna = data["rna"]
    more = AnnData(
        sparse.hstack([rna.layers["counts"], rna.layers["counts"][:, :5]]).tocsr(),
        obs=rna.obs,
        var=pd.DataFrame(index=[*rna.var_names, *(f"new{i}" for i in range(5))]),
        uns=rna.uns,
    )
    more.layers["counts"] = more.X
    np.testing.assert_array_equal(model.embed(more), model.embed(rna))


# ---------------------------------------------------------------------------------------------------------- hopeless


def test_a_cell_without_any_count_stays_finite(data):
    odd = {name: adata.copy() for name, adata in data.items()}
    counts = odd["rna"].layers["counts"].tolil()
    counts[0] = 0
    odd["rna"].layers["counts"] = counts.tocsr()
    assert np.isfinite(embedding(fit(odd))).all()


def test_extreme_values_stop_with_a_mend(data):
    with pytest.raises(DataError, match=r"training diverged before step \d+: loss_\w+.*lower learning rate"):
        fit(data, learning_rate=1e6, scale_clip=1e6, clip_norm=1e30)


def test_links_of_constant_features_only_are_told(data):
    odd = {name: adata.copy() for name, adata in data.items()}
    odd["protein"].layers["counts"] = sparse.csr_matrix(np.full(odd["protein"].shape, 7.0, np.float32))
    with pytest.raises(InputError, match=r"0 of 30 links join rna to protein features that are in the data and vary"):
        fit(odd)
