"""Each metric against a plain evaluation of its definition, and against what it must say of the extremes."""

from __future__ import annotations

import json

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodal import metrics
from scmodal.contracts import DataError, InputError
from scmodal.io import mudata_options


def naive_foscttm(a: np.ndarray, b: np.ndarray) -> float:
    """Straight from the definition, one pair at a time."""
    n = len(a)
    fractions = []
    for x, y in ((a, b), (b, a)):
        for i in range(n):
            true = np.square(x[i] - y[i]).sum()
            others = [np.square(x[i] - y[j]).sum() for j in range(n) if j != i]
            fractions.append(sum(1.0 if d < true else 0.5 if d == true else 0.0 for d in others) / (n - 1))
    return float(np.mean(fractions))


def latents(seed: int = 0, n: int = 120, d: int = 6, noise: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, d))
    return z, z + noise * rng.normal(size=(n, d))


# ------------------------------------------------------------------------------------------------------- FOSCTTM


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(2, 12),
    d=st.integers(1, 4),
    steps=st.integers(1, 4),
    seed=st.integers(0, 10_000),
    offset=st.sampled_from([0.0, 3.0, -1000.0]),
)
def test_foscttm_is_the_definition_ties_included(n: int, d: int, steps: int, seed: int, offset: float) -> None:
    # Few values on a grid of quarters: many exact ties, and differences that are exact in floating point.
    rng = np.random.default_rng(seed)
    a = rng.integers(0, steps + 1, size=(n, d)) / 4 + offset
    b = rng.integers(0, steps + 1, size=(n, d)) / 4 + offset
    assert metrics.foscttm(a, b) == pytest.approx(naive_foscttm(a, b), abs=1e-12)


def test_foscttm_of_continuous_data_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = latents(n=83, noise=1.0)
    expected = naive_foscttm(a, b)
    assert 0.01 < expected < 0.4
    assert metrics.foscttm(a, b) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(metrics, "_BLOCK_ENTRIES", 83 * 10)
    assert metrics.foscttm(a, b) == pytest.approx(expected, abs=1e-12)
    monkeypatch.setattr(metrics, "_BLOCK_ENTRIES", 1)
    assert metrics.foscttm(a, b) == pytest.approx(expected, abs=1e-12)


def test_foscttm_extremes() -> None:
    a, _ = latents(n=400)
    assert metrics.foscttm(a, a) == 0.0
    assert metrics.foscttm(a.astype(np.float32), a.astype(np.float32)) == 0.0
    # A collapsed latent knows nothing: chance, not 0.
    assert metrics.foscttm(np.ones((40, 3)), np.ones((40, 3))) == 0.5
    rng = np.random.default_rng(1)
    permuted = [metrics.foscttm(a, a[rng.permutation(400)]) for _ in range(10)]
    assert np.mean(permuted) == pytest.approx(0.5, abs=0.02)
    # Two cells whose partners are exchanged: the other cell is always closer.
    assert metrics.foscttm(np.array([[0.0], [1.0]]), np.array([[1.0], [0.0]])) == 1.0


def test_foscttm_does_not_depend_on_place_scale_or_order() -> None:
    a, b = latents(n=60)
    value = metrics.foscttm(a, b)
    order = np.random.default_rng(3).permutation(60)
    assert metrics.foscttm(a[order], b[order]) == pytest.approx(value, abs=1e-12)
    assert metrics.foscttm(1e-3 * a + 50, 1e-3 * b + 50) == pytest.approx(value, abs=1e-9)
    assert metrics.foscttm(b, a) == pytest.approx(value, abs=1e-12)


def test_many_pairs_are_sampled_always_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = latents(n=1000)
    whole, distance = metrics.foscttm(a, b), metrics.matching_distance(a, b)
    monkeypatch.setattr(metrics, "EXACT_PAIRS", 300 * 1000)
    chosen = metrics.query_cells(1000)
    assert len(np.unique(chosen)) == 300
    squared = np.square(a[:, None] - b[None]).sum(axis=2)
    true = np.diag(squared)
    closer = [(x[chosen] < true[chosen, None]).sum() / 999 / 300 for x in (squared, squared.T)]
    assert metrics.foscttm(a, b) == pytest.approx(np.mean(closer), abs=1e-12)
    assert metrics.foscttm(a, b) == pytest.approx(whole, abs=0.003)
    assert metrics.matching_distance(a, b) == pytest.approx(distance, rel=0.02)


def test_evaluate_says_how_many_cells_were_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "n_queries" not in metrics.evaluate(integrated(), paired=True)
    monkeypatch.setattr(metrics, "EXACT_PAIRS", 1000)  # 40 pairs
    assert metrics.evaluate(integrated(), paired=True)["n_queries"] == {"rna|protein": 25}


@pytest.mark.parametrize("function", [metrics.foscttm, metrics.matching_distance])
def test_pairs_must_fit(function) -> None:
    a, b = latents(n=10)
    with pytest.raises(ValueError, match="paired"):
        function(a, b[:9])
    with pytest.raises(ValueError, match="at least 2"):
        function(a[:1], b[:1])
    b[3, 2] = np.nan
    with pytest.raises(ValueError, match="not finite"):
        function(a, b)


# --------------------------------------------------------------------------------------------- matching distance


@settings(max_examples=30, deadline=None)
@given(n=st.integers(2, 15), d=st.integers(1, 5), seed=st.integers(0, 10_000))
def test_matching_distance_is_the_definition(n: int, d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(n, d)), rng.normal(size=(n, d))
    cross = np.sqrt(np.square(a[:, None] - b[None]).sum(axis=2))
    assert metrics.matching_distance(a, b) == pytest.approx(np.diag(cross).mean() / cross.mean(), rel=1e-9)


def test_matching_distance_extremes(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = latents(n=300)
    assert metrics.matching_distance(a, a) == 0.0
    assert metrics.matching_distance(a, a[np.random.default_rng(0).permutation(300)]) == pytest.approx(1.0, abs=0.1)
    assert np.isnan(metrics.matching_distance(np.full((5, 3), 0.1), np.full((5, 3), 0.1)))
    whole = metrics.matching_distance(a, b)
    monkeypatch.setattr(metrics, "_BLOCK_ENTRIES", 1000)
    assert metrics.matching_distance(a, b) == pytest.approx(whole, rel=1e-12)


# ------------------------------------------------------------------------------------------------- label transfer


def test_label_transfer_by_hand() -> None:
    z_ref = np.array([[0.0], [10.0], [20.0]])
    z_query = np.array([[1.0], [2.0], [11.0], [19.0]])
    got = metrics.label_transfer(z_ref, ["B", "T", "NK"], z_query, ["B", "T", "T", "T"])
    # predicted B B T NK; over the query's labels only: F1 of B 2/3, of T 2*1*(1/3)/(4/3) = 1/2; NK does not count
    assert got == {"accuracy": 0.5, "macro_f1": pytest.approx((2 / 3 + 1 / 2) / 2), "n_cells": 4}


def test_label_transfer_votes_with_more_neighbours() -> None:
    z_ref = np.array([[0.0], [1.0], [1.2], [5.0]])
    labels = np.array(["x", "y", "y", "z"])
    query = np.array([[0.3]])
    assert metrics.label_transfer(z_ref, labels, query, ["x"], k=1)["accuracy"] == 1.0
    assert metrics.label_transfer(z_ref, labels, query, ["y"], k=3)["accuracy"] == 1.0
    # one vote each for x and y: the nearer cell decides
    assert metrics.label_transfer(z_ref[[1, 0]], labels[[1, 0]], query, ["x"], k=2)["accuracy"] == 1.0


def test_label_transfer_chance_and_errors() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2000, 4)), rng.normal(size=(2000, 4))
    labels = rng.integers(4, size=2000)
    assert metrics.label_transfer(a, labels, b, rng.integers(4, size=2000))["accuracy"] == pytest.approx(0.25, abs=0.05)
    assert metrics.label_transfer(a, labels, a, labels)["accuracy"] == 1.0
    with pytest.raises(ValueError, match="labels"):
        metrics.label_transfer(a, labels[:5], b, labels)
    with pytest.raises(ValueError, match="no cells"):
        metrics.label_transfer(a, labels, b[:0], [])


# ---------------------------------------------------------------------------------------------------- imputation


def test_imputation_pearson_is_numpys(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    measured = rng.normal(size=(50, 7)).astype(np.float32)
    imputed = (0.5 * measured + rng.normal(size=(50, 7))).astype(np.float32)
    expected = [np.corrcoef(imputed[:, j], measured[:, j])[0, 1] for j in range(7)]
    np.testing.assert_allclose(metrics.imputation_pearson(imputed, measured), expected, rtol=1e-6)
    monkeypatch.setattr(metrics, "_BLOCK_ENTRIES", 100)
    np.testing.assert_allclose(metrics.imputation_pearson(imputed, measured), expected, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.sampled_from([1e-200, 1e-6, 1.0, 1e150]))
def test_imputation_pearson_does_not_depend_on_units(seed: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=(20, 3))
    plain = metrics.imputation_pearson(x, y)
    np.testing.assert_allclose(metrics.imputation_pearson(scale * x, y), plain, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(metrics.imputation_pearson(-x, y), -plain, rtol=1e-9)


def test_imputation_pearson_has_no_value_where_nothing_varies() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(30, 5)).astype(np.float32)
    x[:, 0] = 0.1
    y[:, 1] = 0.1
    y[4, 2] = np.nan
    x[4, 3] = np.inf
    r = metrics.imputation_pearson(x, y)
    assert np.isnan(r[:4]).all()
    assert np.isfinite(r[4])
    assert np.isnan(metrics.imputation_pearson(x[:1], y[:1])).all()
    with pytest.raises(ValueError, match="measured"):
        metrics.imputation_pearson(x, y[:, :4])


# -------------------------------------------------------------------------------------------------------- mixing


def test_neighbour_mixing_is_the_formula() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(13, 2)), rng.normal(size=(29, 2)) + 0.5
    joint = np.concatenate([a, b])
    distance = np.square(joint[:, None] - joint[None]).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    near = np.argsort(distance, axis=1)[:, :5] >= 13
    expected = (near[:13].mean() / (29 / 41) + (~near[13:]).mean() / (13 / 41)) / 2
    assert metrics.neighbour_mixing(a, b, k=5) == pytest.approx(expected)


def test_neighbour_mixing_extremes() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(300, 5)), rng.normal(size=(1500, 5))
    assert metrics.neighbour_mixing(a, b) == pytest.approx(1.0, abs=0.05)
    assert metrics.neighbour_mixing(a, b + 100) == 0.0
    # every other cell is a neighbour, so this is the expectation itself
    assert metrics.neighbour_mixing(a[:5], b[:7] + 100, k=50) == pytest.approx(1.0)
    # identical rows: a cell is never its own neighbour
    assert metrics.neighbour_mixing(a, a, k=1) == pytest.approx(599 / 300)
    with pytest.raises(ValueError, match="k must be"):
        metrics.neighbour_mixing(a, b, k=0)


# ------------------------------------------------------------------------------------------------------- evaluate


class FakeModel:
    """Imputes the measured values themselves, features in another order, one of them constant."""

    def scaled(self, adata: ad.AnnData, modality: str) -> tuple[np.ndarray, list[str]]:
        return adata.X, list(adata.var_names)

    def impute(self, source: str, target: str, adata: ad.AnnData) -> ad.AnnData:
        names = [f"{target}_{i}" for i in (3, 1, 0, 2)]
        truth = adata.obsm[f"true_{target}"][:, [3, 1, 0, 2]].copy()
        truth[:, 1] = 1.0
        out = ad.AnnData(truth, obs=adata.obs[[]], var=pd.DataFrame(index=names))
        out.layers["scaled"] = truth
        return out


def integrated(seed: int = 0, labels: bool = True) -> mudata.MuData:
    """60 rna and 50 protein cells, of which 40 are shared and lie in another order in protein."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(70, 20)).astype(np.float32) + 4 * rng.integers(3, size=70)[:, None]
    kinds = np.array(["B", "T", "NK"])[np.digitize(z.mean(axis=1), [2, 6])]
    values = {"rna": rng.normal(size=(70, 4)), "protein": rng.normal(size=(70, 4))}
    rows = {"rna": np.arange(60), "protein": np.concatenate([np.arange(60, 70), np.arange(40)[::-1]])}
    mods = {}
    for name, index in rows.items():
        obs = pd.DataFrame({"celltype": kinds[index], "depth": 1.0}, index=[f"cell{i}" for i in index])
        adata = ad.AnnData(values[name][index], obs=obs, var=pd.DataFrame(index=[f"{name}_{i}" for i in range(4)]))
        adata.obsm["X_scmodal"] = z[index] + 0.01 * rng.normal(size=(len(index), 20)).astype(np.float32)
        for other in values:
            adata.obsm[f"true_{other}"] = values[other][index]
        adata.uns["scmodal"] = {"label_key": "celltype" if labels else ""}
        mods[name] = adata
    with mudata_options():
        mdata = mudata.MuData(mods)
    mdata.uns["scmodal"] = {"modalities": ["rna", "protein"]}
    return mdata


def test_evaluate_aligns_pairs_by_name_and_gives_plain_json() -> None:
    mdata = integrated()
    result = metrics.evaluate(mdata, paired=True, model=FakeModel(), seed=3)
    assert list(result) == [
        "sample",
        "n_cells",
        "paired",
        "n_pairs",
        "seed",
        "foscttm",
        "matching_distance",
        "label_transfer",
        "imputation",
        "neighbour_mixing",
    ]
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["n_cells"] == {"rna": 60, "protein": 50}
    assert (result["paired"], result["n_pairs"], result["seed"], result["sample"]) == (True, 40, 3, None)
    assert result["foscttm"] == {"rna|protein": 0.0}
    assert result["matching_distance"]["rna|protein"] < 0.05
    forth, back = result["label_transfer"]["rna_to_protein"], result["label_transfer"]["protein_to_rna"]
    assert (forth["n_cells"], back["n_cells"]) == (50, 60)
    assert forth["accuracy"] > 0.95
    assert forth["label_key"] == "celltype"
    for direction, target in (("rna_to_protein", "protein"), ("protein_to_rna", "rna")):
        scores = result["imputation"][direction]
        assert scores["per_feature"] == {f"{target}_{i}": pytest.approx(1.0) for i in (0, 2, 3)}
        assert scores["pearson_mean"] == pytest.approx(1.0)
        assert scores["pearson_median"] == pytest.approx(1.0)
        assert (scores["n_features"], scores["n_constant"]) == (3, 1)


def test_evaluate_without_pairs_labels_or_model_leaves_their_keys_out() -> None:
    result = metrics.evaluate(integrated(labels=False), paired=False, model=FakeModel())
    assert list(result) == ["sample", "n_cells", "paired", "n_pairs", "seed", "neighbour_mixing"]
    assert result["n_pairs"] is None
    assert "imputation" not in metrics.evaluate(integrated(), paired=True)


def test_evaluate_order_of_the_chain_names_the_pairs() -> None:
    mdata = integrated()
    mdata.uns["scmodal"] = {"modalities": np.array(["protein", "rna"])}
    assert list(metrics.evaluate(mdata, paired=True)["foscttm"]) == ["protein|rna"]
    del mdata.uns["scmodal"]
    assert list(metrics.evaluate(mdata, paired=True)["foscttm"]) == ["rna|protein"]


def test_evaluate_leaves_cells_without_a_label_out_and_counts_them() -> None:
    mdata = integrated()
    column = mdata.mod["protein"].obs["celltype"].astype(object)
    column.iloc[:7] = [None, np.nan, "nan", "NaN", "", " NA ", "None"]
    mdata.mod["protein"].obs["celltype"] = pd.Categorical(column)
    scores = metrics.evaluate(mdata, paired=False)["label_transfer"]
    assert scores["rna_to_protein"]["n_cells"] == 43
    assert scores["rna_to_protein"]["n_unlabelled"] == 7
    assert scores["protein_to_rna"]["n_cells"] == 60
    mdata.mod["protein"].obs["celltype"] = np.nan
    assert "label_transfer" not in metrics.evaluate(mdata, paired=False)


def test_evaluate_does_not_score_labels_that_are_named_differently() -> None:
    mdata = integrated()
    mdata.mod["protein"].obs["celltype"] = "cluster " + mdata.mod["protein"].obs["celltype"].astype(str)
    assert "label_transfer" not in metrics.evaluate(mdata, paired=False)


def test_evaluate_takes_missing_labels_from_partners_only_if_paired() -> None:
    mdata = integrated()
    protein = mdata.mod["protein"]
    del protein.obs["celltype"]
    assert "label_transfer" not in metrics.evaluate(mdata, paired=False, label_key="celltype")
    scores = metrics.evaluate(mdata, paired=True, label_key="celltype")["label_transfer"]
    assert (scores["rna_to_protein"]["n_cells"], scores["rna_to_protein"]["n_unlabelled"]) == (40, 10)
    assert scores["rna_to_protein"]["accuracy"] > 0.95
    assert scores["protein_to_rna"]["n_cells"] == 60


def test_evaluate_label_key_that_is_nowhere_lists_the_columns() -> None:
    with pytest.raises(InputError, match=r"did you mean 'celltype'.*rna: celltype, depth; protein: celltype, depth"):
        metrics.evaluate(integrated(), paired=False, label_key="cell_type")
    mdata = integrated()
    mdata.mod["rna"].uns["scmodal"] = {"label_key": "gone"}
    with pytest.raises(InputError, match="'gone' in obs of rna"):
        metrics.evaluate(mdata, paired=False)


def test_evaluate_label_key_that_tells_no_groups() -> None:
    mdata = integrated()
    mdata.mod["rna"].obs["barcode"] = mdata.mod["rna"].obs_names
    with pytest.raises(InputError, match="column 'barcode' of rna holds 60 different texts"):
        metrics.evaluate(mdata, paired=False, label_key="barcode")


def test_a_column_without_labels_is_told() -> None:
    mdata = integrated()
    for adata in mdata.mod.values():
        adata.obs["empty"] = None
    with pytest.raises(InputError, match="'empty' has no labels at all"):
        metrics.evaluate(mdata, paired=False, label_key="empty")


def test_evaluate_clusters_of_which_one_side_has_gaps() -> None:
    mdata = integrated()
    for name, gaps in (("rna", 5), ("protein", 0)):
        obs = mdata.mod[name].obs
        clusters = obs["celltype"].map({"B": 1, "T": 2, "NK": 3})
        obs["cluster"] = clusters.where(np.arange(len(obs)) >= gaps) if gaps else clusters.astype(int)
    scores = metrics.evaluate(mdata, paired=False, label_key="cluster")["label_transfer"]
    assert scores["rna_to_protein"]["accuracy"] > 0.9


def test_evaluate_pairs_that_are_none_show_names_of_both_sides() -> None:
    mdata = integrated()
    protein = mdata.mod["protein"].copy()
    protein.obs_names = [f"{name}-1" for name in protein.obs_names]
    with mudata_options():
        other = mudata.MuData({"rna": mdata.mod["rna"], "protein": protein})
    with pytest.raises(InputError, match=r"'cell0'.*'cell60-1'.*leave out --paired"):
        metrics.evaluate(other, paired=True)
    assert metrics.evaluate(other, paired=False)["n_pairs"] is None


def test_evaluate_says_what_is_wrong_with_the_latent() -> None:
    mdata = integrated()
    mdata.mod["rna"].obsm["X_scmodal"][2, 3] = np.nan
    with pytest.raises(DataError, match="of rna has values that are not finite"):
        metrics.evaluate(mdata, paired=False)
    del mdata.mod["protein"].obsm["X_scmodal"]
    with pytest.raises(InputError, match="'protein' has no obsm"):
        metrics.evaluate(mdata, paired=False)


def test_evaluate_three_modalities() -> None:
    mdata = integrated()
    third = ad.AnnData(np.zeros((30, 1)), obs=pd.DataFrame(index=[f"other{i}" for i in range(30)]))
    third.obsm["X_scmodal"] = np.random.default_rng(0).normal(size=(30, 20))
    with mudata_options():
        three = mudata.MuData({**mdata.mod, "atac": third})
    result = metrics.evaluate(three, paired=True)
    assert list(result["neighbour_mixing"]) == ["rna|protein", "rna|atac", "protein|atac"]
    assert list(result["foscttm"]) == ["rna|protein"]
    assert result["n_pairs"] == 40
