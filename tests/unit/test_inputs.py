"""Engine inputs: the normalisation of docs/method.md, by hand, on small tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData
from scipy import sparse

from scmodal import preprocess
from scmodal.contracts import DataError, InputError
from scmodal.inputs import Recipe, build_inputs
from scmodal.links import LinkTable
from scmodal.presets import get_preset

PAPER = get_preset("paper")


def prepared(counts, names, modality):
    counts = np.asarray(counts, np.float32)
    adata = AnnData(
        sparse.csr_matrix(counts) if modality != "cytometry" else counts,
        obs=pd.DataFrame(index=[f"c{i}" for i in range(len(counts))]),
        var=pd.DataFrame(index=names),
        uns={"scmodal": {"modality": modality}},
    )
    if modality != "cytometry":
        adata.layers["counts"] = adata.X.copy()
    if modality == "rna":
        adata.var["highly_variable_rank"] = np.arange(adata.n_vars, dtype=float)
    return adata


def links(*pairs, modalities=("rna", "protein")):
    frame = pd.DataFrame(pairs, columns=["feature_a", "feature_b"])
    frame["modality_a"], frame["modality_b"] = modalities
    frame["weight"] = 1.0
    return LinkTable(frame)


@pytest.fixture
def rna():
    return prepared(np.random.default_rng(0).poisson(3.0, (40, 8)), [f"G{i}" for i in range(8)], "rna")


@pytest.fixture
def protein():
    return prepared(np.random.default_rng(1).poisson(30.0, (50, 5)), [f"P{i}" for i in range(5)], "protein")


THREE = (("G0", "P0"), ("G1", "P0"), ("G2", "P1"))


def test_linked_blocks_share_one_target_and_the_rest_has_its_own(rna, protein):
    a, b = build_inputs([rna, protein], links(*THREE), PAPER)
    assert a.recipe.columns == ["G0", "G1", "G2", "G3", "G4", "G5", "G6", "G7"]
    assert b.recipe.columns == ["P0", "P0", "P1", "P2", "P3", "P4"]

    counts = rna.layers["counts"].toarray().astype(float)
    target = max(np.median(counts[:, :3].sum(1)), 20.0)
    assert a.recipe.blocks[0].target_sum == b.recipe.blocks[0].target_sum == target
    linked = counts[:, :3]
    total = linked.sum(1, keepdims=True)
    linked = np.log1p(np.divide(linked * target, total, out=np.zeros_like(linked), where=total > 0))
    rest = counts[:, 3:]
    rest = np.log1p(rest / rest.sum(1, keepdims=True) * np.median(rest.sum(1)))
    expected = np.hstack([linked, rest])
    expected = (expected - expected.mean(0)) / expected.std(0, ddof=1)
    np.testing.assert_allclose(a.x, np.clip(expected, -10, 10), atol=2e-5)
    np.testing.assert_allclose(b.linked[0], b.x[:, :3])


def test_a_large_linked_total_sets_the_target(protein):
    rna = prepared(np.random.default_rng(0).poisson(100.0, (40, 5)), [f"G{i}" for i in range(5)], "rna")
    a, _ = build_inputs([rna, protein], links(*THREE), PAPER)
    assert a.recipe.blocks[0].target_sum == np.median(rna.layers["counts"].toarray()[:, :3].sum(1))


def test_a_cytometers_values_are_used_as_they_are_and_set_the_target(rna):
    values = np.random.default_rng(2).uniform(0, 5, (30, 4)).astype(np.float32)
    cytof = prepared(values, ["P0", "P1", "P2", "P3"], "cytometry")
    table = links(("G0", "P0"), ("G1", "P1"), ("G2", "P2"), modalities=("rna", "cytometry"))
    a, b = build_inputs([rna, cytof], table, PAPER)
    assert a.recipe.blocks[0].target_sum == pytest.approx(np.median(np.expm1(values[:, :3]).sum(1)), rel=1e-5)
    np.testing.assert_allclose(b.x, (values - values.mean(0)) / values.std(0, ddof=1), atol=1e-5)


def test_constant_columns_and_their_links_are_dropped(rna, protein):
    counts = protein.layers["counts"].toarray()
    counts[:, 2] = 7
    protein.layers["counts"] = sparse.csr_matrix(counts)
    a, b = build_inputs([rna, protein], links(*THREE, ("G3", "P2")), PAPER)
    assert "P2" not in b.recipe.columns
    assert a.linked[0].shape[1] == b.linked[0].shape[1] == 3
    assert "G3" in a.recipe.blocks[1].features


def test_too_few_usable_links_are_told(rna, protein):
    with pytest.raises(InputError, match=r"2 of 3 links join rna to protein"):
        build_inputs([rna, protein], links(*THREE[:2], ("G2", "P99")), PAPER)


@pytest.mark.parametrize("preset", ["paper", "default"])
def test_links_count_by_their_weight(rna, protein, preset):
    five = links(*THREE, ("G3", "P2"), ("G4", "P3"))

    def linked(weights):
        table = LinkTable(five.frame.assign(weight=weights))
        return [item.linked[0] for item in build_inputs([rna, protein], table, get_preset(preset))]

    alike, doubled, uneven = linked([1.0] * 5), linked([2.0] * 5), linked([4.0, 1.0, 1.0, 1.0, 1.0])
    four = LinkTable(five.frame.iloc[1:])
    without = [item.linked[0] for item in build_inputs([rna, protein], four, get_preset(preset))]
    for a, b, c, d, e in zip(alike, doubled, uneven, linked([0.0, 1.0, 1.0, 1.0, 1.0]), without):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(d, e)
        assert a.shape == c.shape
        if preset == "paper":  # a product of two values of the first link is 4 times that of the others
            np.testing.assert_allclose(c, a * np.sqrt(np.array([4, 1, 1, 1, 1]) / 1.6), rtol=1e-5)
        else:
            assert np.abs(c - a).max() > 0.01
    with pytest.raises(InputError, match="have a weight above 0"):
        linked([0.0] * 5)


def test_only_the_most_variable_of_the_rest_are_used(rna, protein):
    a, _ = build_inputs([rna, protein], links(*THREE), get_preset("paper", n_top_genes=2))
    assert a.recipe.blocks[1].features == ["G3", "G4"]


@pytest.mark.parametrize("n_top", [30, 3200])
def test_as_many_genes_as_preparation_was_asked_for(protein, n_top):
    counts = np.random.default_rng(0).poisson(1.0, (protein.n_obs, 3300)).astype(np.float32)
    rna = AnnData(sparse.csr_matrix(counts), var=pd.DataFrame(index=[f"G{i}" for i in range(3300)]))
    # more are ranked, since links of any of these may be used
    rna = preprocess.rna(rna, n_top_genes=n_top, linked=[f"G{i}" for i in range(9)])
    a, _ = build_inputs([rna, protein], links(*THREE), PAPER)
    assert len(a.recipe.blocks[1].features) == n_top


def test_one_cell_cannot_be_integrated(rna, protein):
    with pytest.raises(DataError, match="1 cell"):
        build_inputs([rna[:1].copy(), protein], links(*THREE), PAPER)


def test_unprepared_data_are_refused(rna, protein):
    del rna.uns["scmodal"]
    with pytest.raises(InputError, match="scmodal preprocess"):
        build_inputs([rna, protein], links(*THREE), PAPER)


def test_the_recipe_makes_the_training_input_again(rna, protein):
    for adata, item in zip([rna, protein], build_inputs([rna, protein], links(*THREE), PAPER)):
        recipe = Recipe.from_dict(item.recipe.to_dict())
        np.testing.assert_allclose(recipe.transform(adata), item.x, atol=1e-6)
        np.testing.assert_allclose(recipe.transform(adata[:, ::-1].copy()), item.x, atol=1e-6)
        np.testing.assert_allclose(recipe.unscale(item.x), recipe.normalised(adata), atol=1e-4)


def test_a_missing_feature_stands_at_its_mean_and_many_are_refused(rna, protein):
    item = build_inputs([rna, protein], links(*THREE), PAPER)[0]
    x = item.recipe.transform(rna[:, [name for name in rna.var_names if name != "G5"]].copy())
    np.testing.assert_allclose(x[:, item.recipe.columns.index("G5")], 0.0, atol=1e-6)
    with pytest.raises(InputError, match="6 of the 8 rna features"):
        item.recipe.transform(rna[:, :2].copy())


def test_columns_of_one_feature_are_averaged(rna, protein):
    item = build_inputs([rna, protein], links(*THREE), PAPER)[1]
    values = item.recipe.per_feature(item.x)
    assert item.recipe.features == ["P0", "P1", "P2", "P3", "P4"]
    assert values.shape == (50, 5)
    np.testing.assert_allclose(values[:, 0], item.x[:, :2].mean(1), atol=1e-6)
    np.testing.assert_allclose(values[:, 4], item.x[:, 5], atol=1e-6)


def test_a_chain_of_three_has_a_linked_block_a_pair(rna, protein):
    cytof = prepared(np.random.default_rng(3).uniform(0, 4, (20, 4)), ["M0", "M1", "M2", "M3"], "cytometry")
    table = pd.concat(
        [
            links(*THREE).frame,
            links(("P2", "M0"), ("P3", "M1"), ("P0", "M2"), ("P1", "M3"), modalities=("protein", "cytometry")).frame,
        ]
    )
    items = build_inputs([rna, protein, cytof], LinkTable(table), PAPER)
    assert [sorted(item.linked) for item in items] == [[0], [0, 1], [1]]
    assert items[1].recipe.columns == ["P0", "P0", "P1", "P2", "P3", "P0", "P1", "P4"]
    assert items[1].linked[1].shape == (50, 4)
    assert items[2].linked[1].shape == (20, 4)
    np.testing.assert_array_equal(items[1].linked[1], items[1].x[:, 3:7])
    assert len(items[1].recipe.blocks) == 3
    assert items[2].recipe.linked_features == {"M0", "M1", "M2", "M3"}


def test_smoothing_pulls_linked_features_towards_the_neighbourhood(rna, protein):
    raw = build_inputs([rna, protein], links(*THREE), PAPER)[0]
    smoothed = build_inputs([rna, protein], links(*THREE), get_preset("paper", smoothing=0.8))[0]
    np.testing.assert_array_equal(raw.x, smoothed.x)
    assert smoothed.linked[0].std() < 0.7 * raw.linked[0].std()


def test_a_feature_alone_in_its_block_keeps_its_counts(rna):
    """Brought to its own total it would be the same in every cell, and rounding would be all that is left."""
    counts = np.random.default_rng(1).poisson(30.0, (50, 4)) + 1
    protein = prepared(counts, ["P0", "P1", "P2", "isotype"], "protein")
    _, b = build_inputs([rna, protein], links(("G0", "P0"), ("G1", "P1"), ("G2", "P2")), PAPER)
    assert b.recipe.columns[-1] == "isotype"
    expected = np.log1p(counts[:, 3])
    np.testing.assert_allclose(b.x[:, -1], (expected - expected.mean()) / expected.std(ddof=1), atol=1e-4)


def test_links_of_a_single_feature_are_refused(rna, protein):
    with pytest.raises(InputError, match="hold 1 distinct protein"):
        build_inputs([rna, protein], links(("G0", "P0"), ("G1", "P0"), ("G2", "P0")), PAPER)


def test_a_column_that_only_rounding_moves_stays_at_zero(rna):
    """Two proteins in a fixed ratio: normalised they do not vary."""
    depth = np.random.default_rng(1).integers(1, 900, 50)
    free = np.random.default_rng(2).poisson(30.0, (50, 3))
    counts = np.column_stack([free, 3 * depth, 7 * depth])
    protein = prepared(counts, ["P0", "P1", "P2", "P3", "P4"], "protein")
    _, b = build_inputs([rna, protein], links(("G0", "P0"), ("G1", "P1"), ("G2", "P2")), PAPER)
    assert np.abs(b.x[:, 3:]).max() < 1e-4


def test_cytometry_of_negative_values_has_a_target(rna):
    """Logs of fractions: the sum of exp(value) - 1 is negative."""
    values = -np.abs(np.random.default_rng(1).normal(2.0, 1.0, (40, 4)))
    cells = prepared(values, ["P0", "P1", "P2", "P3"], "cytometry")
    found = links(("G0", "P0"), ("G1", "P1"), ("G2", "P2"), modalities=("rna", "cytometry"))
    a, b = build_inputs([rna, cells], found, PAPER)
    assert np.isfinite(a.x).all()
    assert np.isfinite(b.x).all()
    assert a.recipe.blocks[0].target_sum == PAPER.min_target_sum
