"""Label transfer: the vote by hand, its edges, and what it says of wrong names."""

from __future__ import annotations

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scmodal import transfer
from scmodal.confidence import calibration_error, fit_curve, reliability
from scmodal.contracts import InputError
from scmodal.io import mudata_options


def test_vote_by_hand() -> None:
    z_ref = np.array([[0.0], [1.0], [2.0], [50.0]])
    got = transfer.transfer_labels(z_ref, ["a", "b", "b", "c"], np.array([[0.0]]), k=3, cells=["q"])
    # distances 0, 1, 2; the third is the edge: votes 1, exp(-1/4), exp(-1)
    votes = np.exp(-np.array([0.0, 0.25, 1.0]))
    assert list(got.columns) == ["cell", "label", "confidence", "second_label", "entropy"]
    assert got.loc[0, ["cell", "label", "second_label"]].tolist() == ["q", "b", "a"]
    assert got.loc[0, "confidence"] == pytest.approx(votes[1:].sum() / votes.sum())


def test_nearer_cells_weigh_more() -> None:
    z_ref = np.array([[0.0], [3.0]])
    got = transfer.transfer_labels(z_ref, ["z", "a"], np.array([[1.0], [2.0], [1.5]]), k=2)
    assert got["label"].tolist() == ["z", "a", "a"]  # the last is a tie: alphabetical order
    assert got["confidence"].tolist()[2] == pytest.approx(0.5)
    assert (got["confidence"][:2] > 0.5).all()
    assert got["second_label"].tolist() == ["a", "z", "z"]
    assert got["cell"].tolist() == ["0", "1", "2"]


def test_k_larger_than_the_reference_and_one_label() -> None:
    got = transfer.transfer_labels(np.array([[0.0], [1.0]]), ["a", "a"], np.array([[9.0]]), k=15)
    assert got.loc[0, "label"] == "a"
    assert got.loc[0, "confidence"] == pytest.approx(1.0)
    assert got.loc[0, "second_label"] == ""


def test_all_cells_at_one_place_vote_equally() -> None:
    got = transfer.transfer_labels(np.zeros((3, 2)), ["b", "a", "b"], np.zeros((1, 2)), k=3)
    assert got.loc[0, "label"] == "b"
    assert got.loc[0, "confidence"] == pytest.approx(2 / 3)


def test_unlabelled_reference_cells_have_no_place_among_the_k() -> None:
    z_ref = np.array([[0.0], [0.1], [0.2], [5.0]])
    labels = pd.Series([None, np.nan, "NaN", "far"], dtype=object)
    got = transfer.transfer_labels(z_ref, labels, np.array([[0.0]]), k=1)
    assert got.loc[0, ["label", "confidence"]].tolist() == ["far", 1.0]
    with pytest.raises(InputError, match="no reference cell has a label"):
        transfer.transfer_labels(z_ref[:3], labels[:3], np.array([[0.0]]))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), n=st.integers(1, 40), k=st.integers(1, 50), grid=st.booleans())
def test_confidence_is_a_share_and_order_of_the_reference_is_no_matter(seed: int, n: int, k: int, grid: bool) -> None:
    rng = np.random.default_rng(seed)
    z_ref, z_query = rng.normal(size=(n, 3)), rng.normal(size=(9, 3))
    labels = rng.choice(["a", "b", "c"], size=n)
    if grid:  # whole reference votes, so that ties in distance cannot exchange neighbours
        z_ref, z_query, k = np.round(z_ref), np.round(z_query), n
    got = transfer.transfer_labels(z_ref, labels, z_query, k=k)
    assert got["confidence"].between(1 / 3 - 1e-9, 1).all()
    assert set(got["label"]) <= set(labels)
    assert (got["label"] != got["second_label"]).all()
    order = rng.permutation(n)
    again = transfer.transfer_labels(z_ref[order], labels[order], z_query, k=k)
    pd.testing.assert_frame_equal(got, again, check_exact=False, atol=1e-9)


def test_rows_in_blocks_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    args = rng.normal(size=(50, 4)), rng.choice(["a", "b"], size=50), rng.normal(size=(33, 4))
    whole = transfer.transfer_labels(*args)
    monkeypatch.setattr(transfer, "_VOTE_BLOCK", 7)
    pd.testing.assert_frame_equal(transfer.transfer_labels(*args), whole)


def test_no_query_cells() -> None:
    got = transfer.transfer_labels(np.zeros((2, 2)), ["a", "b"], np.zeros((0, 2)))
    assert got.empty
    assert list(got.columns) == transfer.TRANSFER_COLUMNS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ["a"]}, "1 labels"),
        ({"k": 0}, "k must be 1"),
        ({"cells": ["x"]}, "1 names"),
        ({"z_query": np.zeros((3, 5))}, "columns"),
        ({"z_query": np.zeros(3)}, "cells x dimensions"),
    ],
)
def test_wrong_shapes(change: dict, message: str) -> None:
    args = {"z_ref": np.zeros((2, 2)), "labels": ["a", "b"], "z_query": np.zeros((3, 2))} | change
    with pytest.raises(ValueError, match=message):
        transfer.transfer_labels(**args)


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series(["B", None, "T"], dtype="object"),
        pd.Series(["B", None, "T"], dtype="string"),
        pd.Categorical(["B", None, "T"]),
        pd.Categorical(["B", "nan", "T"]),
        ["B", float("nan"), "T"],
    ],
)
def test_clean_labels_of_any_type(labels: object) -> None:
    text, present = transfer.clean_labels(labels)
    assert text.tolist() == ["B", "", "T"]
    assert present.tolist() == [True, False, True]


def test_clean_labels_of_numbers() -> None:
    text, present = transfer.clean_labels(pd.Series([0, 3, 1]))
    assert text.tolist() == ["0", "3", "1"]
    assert present.all()


@pytest.mark.parametrize(
    "labels",
    [
        [1.0, 2.0, np.nan],
        np.array([1, 2, np.nan], dtype=np.float32),
        pd.Series([1, 2, None], dtype="Int64"),
        pd.Categorical([1.0, 2.0, None]),
        pd.Series([1, 2.0, None], dtype=object),
    ],
)
def test_clusters_are_the_same_with_gaps_and_without(labels: object) -> None:
    text, present = transfer.clean_labels(labels)
    assert text.tolist() == ["1", "2", ""]
    assert present.tolist() == [True, True, False]
    assert transfer.clean_labels([1.5, 1e300, float("inf")])[0].tolist()[::2] == ["1.5", "inf"]


# ----------------------------------------------------------------------------------------------------- MuData


@pytest.fixture
def mdata() -> mudata.MuData:
    rng = np.random.default_rng(0)
    kinds = np.array(["B", "T"])[rng.integers(2, size=40)]
    mods = {}
    for name in ("rna", "protein"):
        obs = pd.DataFrame({"celltype": kinds, "batch": "b"}, index=[f"{name}{i}" for i in range(40)])
        mods[name] = ad.AnnData(np.zeros((40, 1)), obs=obs, var=pd.DataFrame(index=[f"{name}_feature"]))
        mods[name].obsm["X_scmodal"] = rng.normal(size=(40, 20)) + 10 * (kinds == "B")[:, None]
        mods[name].uns["scmodal"] = {"label_key": "celltype" if name == "rna" else ""}
    with mudata_options():
        return mudata.MuData(mods)


def test_transfer_between(mdata: mudata.MuData) -> None:
    got = transfer.transfer_between(mdata, "rna", "adt")
    assert got["cell"].tolist() == [f"protein{i}" for i in range(40)]
    assert got["label"].tolist() == mdata.mod["rna"].obs["celltype"].tolist()
    same = transfer.transfer_between(mdata, "rna", "protein", label_key="celltype", k=15)
    pd.testing.assert_frame_equal(got, same)


def test_transfer_between_wrong_names(mdata: mudata.MuData) -> None:
    with pytest.raises(InputError, match=r"no modality 'protien'.*did you mean 'protein'.*rna, protein"):
        transfer.transfer_between(mdata, "rna", "protien")
    with pytest.raises(InputError, match=r"no modality 'atac'.*there are: rna, protein"):
        transfer.transfer_between(mdata, "atac", "protein")
    with pytest.raises(InputError, match="both 'rna'"):
        transfer.transfer_between(mdata, "rna", "gex")
    with pytest.raises(InputError, match=r"'cell_type' in obs of rna; did you mean 'celltype'.*celltype, batch"):
        transfer.transfer_between(mdata, "rna", "protein", label_key="cell_type")
    with pytest.raises(InputError, match=r"no label key for protein.*celltype, batch"):
        transfer.transfer_between(mdata, "protein", "rna")


def test_transfer_between_names_every_problem_at_once(mdata: mudata.MuData) -> None:
    with pytest.raises(InputError) as caught:
        transfer.transfer_between(mdata, "rna", "xyz", label_key="nope", k=0)
    assert len(caught.value.problems) == 3
    del mdata.mod["protein"].obsm["X_scmodal"]
    with pytest.raises(InputError, match="'protein' has no obsm"):
        transfer.transfer_between(mdata, "rna", "protein")


def test_transfer_between_column_without_labels(mdata: mudata.MuData) -> None:
    mdata.mod["rna"].obs["celltype"] = np.nan
    with pytest.raises(InputError, match="no labels at all"):
        transfer.transfer_between(mdata, "rna", "protein")


def test_transfer_between_two_levels(mdata: mudata.MuData) -> None:
    rna = mdata.mod["rna"]
    rna.obs["fine"] = rna.obs["celltype"].astype(str) + "_" + (np.arange(rna.n_obs) % 2).astype(str)
    got = transfer.transfer_between(mdata, "rna", "protein", ["celltype", "fine"])
    assert list(got.columns) == [*transfer.TRANSFER_COLUMNS, "label_celltype", "confidence_celltype"]
    assert (got["label"].str[0] == got["label_celltype"]).all()
    with pytest.raises(InputError, match="'fine' is given twice"):
        transfer.transfer_between(mdata, "rna", "protein", ["fine", "fine"])
    with pytest.raises(InputError) as caught:
        transfer.transfer_between(mdata, "rna", "protein", ["nope", "neither"])
    assert len(caught.value.problems) == 2


def test_offered_columns_and_sentences(mdata: mudata.MuData) -> None:
    for name in mdata.mod:
        mdata.mod[name].obs["scmodal_counterpart_x"] = 1.0
    with pytest.raises(InputError) as caught:
        transfer.transfer_between(mdata, "rna", "atac", label_key="celltyp")
    assert caught.value.problems[0].startswith("--to: no modality 'atac'")
    assert caught.value.problems[1] == (
        "no column 'celltyp' in obs of rna; did you mean 'celltype'? Give --label-key one of the columns of rna: "
        "celltype, batch"
    )
    with pytest.raises(InputError, match=r"obs of rna\. Give --label-key one .*: celltype, batch$"):
        transfer.transfer_between(mdata, "rna", "protein", label_key="qqqqqqq")
    with pytest.raises(InputError, match=r"^no label key for protein\. Give --label-key one .*: celltype, batch$"):
        transfer.transfer_between(mdata, "protein", "rna")
    with pytest.raises(InputError, match="--from: no modality 'atac'"):
        transfer.transfer_between(mdata, "atac", "rna")


def test_a_measured_value_is_no_label() -> None:
    rng = np.random.default_rng(0)
    mods = {}
    for name in ("rna", "protein"):
        obs = pd.DataFrame(
            {"depth": rng.normal(size=80), "few": np.arange(80) % 3.0}, index=[f"c{i}" for i in range(80)]
        )
        mods[name] = ad.AnnData(np.zeros((80, 1)), obs=obs, var=pd.DataFrame(index=[name]))
        mods[name].obsm["X_scmodal"] = rng.normal(size=(80, 2))
    with mudata_options():
        both = mudata.MuData(mods)
    with pytest.raises(InputError, match="column 'depth' of rna holds 80 different numbers in 80 cells"):
        transfer.transfer_between(both, "rna", "protein", "depth")
    assert set(transfer.transfer_between(both, "rna", "protein", "few")["label"]) <= {"0", "1", "2"}


@pytest.mark.parametrize(
    ("topology", "source", "target", "counts"),
    [
        ("chain", "rna", "cytometry", "protein"),
        ("chain", "cytometry", "rna", "protein"),
        ("chain", "rna", "protein", "rna"),
        ("star", "protein", "cytometry", "rna"),
        ("star", "rna", "cytometry", "rna"),
        ("all", "rna", "cytometry", "rna"),
        (None, "rna", "cytometry", "protein"),
        (None, "cytometry", "protein", "cytometry"),
    ],
)
def test_counterparts_on_the_way_count(topology: str | None, source: str, target: str, counts: str) -> None:
    order = ["rna", "protein", "cytometry"]
    matched = {"chain": ["01", "12"], "star": ["01", "02"], "all": ["01", "02", "12"], None: ["01", "12"]}[topology]
    mods = {}
    for at, name in enumerate(order):
        obs = pd.DataFrame({"kind": ["a", "b"] * 2}, index=[f"{name}{i}" for i in range(4)])
        for pair in matched:
            if str(at) in pair:
                other = order[int(pair.replace(str(at), ""))]
                obs[f"scmodal_counterpart_{other}"] = 1.0 if other == counts else 0.1
        if name == target:
            obs["scmodal_counterpart_atac"] = 0.0  # of an integration with other data
        mods[name] = ad.AnnData(np.zeros((4, 1)), obs=obs, var=pd.DataFrame(index=[f"{name}_x"]))
        mods[name].obsm["X_scmodal"] = np.arange(4.0)[:, None]
    with mudata_options():
        mdata = mudata.MuData(mods)
    if topology is not None:
        mdata.uns["scmodal"] = {"modalities": np.array(order, dtype=object), "topology": topology}
    got = transfer.transfer_between(mdata, source, target, "kind", k=1, unknown=0.7)
    assert got["label"].tolist() == ["a", "b"] * 2
    del mdata.mod[target].obs[f"scmodal_counterpart_{counts}"]
    if topology is not None:
        with pytest.raises(InputError, match=f"{target} has no obs.'scmodal_counterpart_{counts}'"):
            transfer.transfer_between(mdata, source, target, "kind", k=1, unknown=0.7)


# -------------------------------------------------------------------------------------- hierarchy and confidence


def test_fine_label_is_chosen_below_the_coarse_winner() -> None:
    # One neighbour at distance 0 is the single largest fine vote, but the coarse label T has more votes together.
    z_ref = np.array([[0.0], [0.1], [0.1], [0.1], [5.0]])
    levels = {"coarse": ["B", "T", "T", "T", "T"], "fine": ["naive", "naive", "memory", "gamma", "gamma"]}
    query = np.array([[0.0]])
    votes = np.exp(-np.array([0.0, 1.0, 1.0, 1.0]))
    got = transfer.transfer_labels(z_ref, levels, query, k=4).iloc[0]
    assert got["label_coarse"] == "T"
    assert got["confidence_coarse"] == pytest.approx(votes[1:].sum() / votes.sum())
    # "naive" exists below B too; that vote is not one for the naive T cell
    assert got["label"] == "gamma"
    assert got["second_label"] == "naive"  # of B, which has most of the votes after those of the winner
    assert got["confidence"] == pytest.approx(votes[1] / votes.sum())
    shares = votes / votes.sum()
    assert got["entropy"] == pytest.approx(-(shares * np.log(shares)).sum())


def test_second_label_of_another_parent() -> None:
    levels = {"coarse": ["B", "B", "T"], "fine": ["naive", "naive", "memory"]}
    got = transfer.transfer_labels(np.zeros((3, 1)), levels, np.zeros((1, 1)), k=3).iloc[0]
    assert got[["label", "second_label"]].tolist() == ["naive", "memory"]
    alone = transfer.transfer_labels(np.zeros((2, 1)), {"a": ["B", "B"], "b": ["x", "x"]}, np.zeros((1, 1)), k=2)
    assert alone["second_label"].tolist() == [""]


def test_entropy_of_two_equal_labels() -> None:
    got = transfer.transfer_labels(np.zeros((4, 1)), ["a", "b", "a", "b"], np.zeros((1, 1)), k=4)
    assert got.loc[0, "entropy"] == pytest.approx(np.log(2))
    assert transfer.transfer_labels(np.zeros((4, 1)), ["a"] * 4, np.zeros((1, 1))).loc[0, "entropy"] == 0.0


def two_modalities(
    seed: int, spread: float = 1.0, shift: float = 0.8
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Six overlapping types; the query is as spread as the reference, and shifted off it as another modality is."""
    rng = np.random.default_rng(seed)
    centres = 1.6 * rng.normal(size=(6, 10))
    kinds = rng.integers(6, size=(2, 1200))
    ref, query = (centres[k] + spread * rng.normal(size=(1200, 10)) for k in kinds)
    return ref, kinds[0].astype(str), query + shift * rng.normal(size=query.shape), kinds[1].astype(str)


def measured_again(
    seed: int, noise: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Six types apart from each other, measured with some noise in reference and query, and both measured again."""
    rng = np.random.default_rng(seed)
    centres = 1.2 * rng.normal(size=(6, 10))
    kinds = rng.integers(6, size=(2, 1200))
    (ref, ref_again), (query, query_again) = (
        [centres[k] + level * rng.normal(size=(1200, 10)) for _ in range(2)] for k, level in zip(kinds, noise)
    )
    # a latent and its redraw differ by one measurement's noise, not by that of two
    moved = tuple(one + (two - one) / 2**0.5 for one, two in ((ref, ref_again), (query, query_again)))
    return ref, kinds[0].astype(str), query, kinds[1].astype(str), moved


@pytest.mark.parametrize("seed", range(3))
def test_calibrated_confidence_is_nearer_to_the_chance_of_being_right(seed: int) -> None:
    ref, labels, query, truth, redrawn = measured_again(seed, (0.5, 1.8))
    # the reference's types are apart, and a query cell that noise puts next to another type is as sure of it
    share = transfer.transfer_labels(ref, labels, query)
    got = transfer.transfer_labels(ref, labels, query, redrawn=redrawn)
    pd.testing.assert_frame_equal(got.drop(columns="confidence"), share.drop(columns="confidence"))
    right = got["label"] == truth
    error = calibration_error(share["confidence"], right)
    assert error > 0.1
    assert calibration_error(got["confidence"], right) < error / 2
    # a rising curve: the order of the shares is kept
    order = np.argsort(share["confidence"].to_numpy(), kind="stable")
    assert (np.diff(got["confidence"].to_numpy()[order]) >= 0).all()
    assert got.attrs["calibrated"]
    assert not share.attrs["calibrated"]


def test_the_share_is_the_chance_where_both_are_equally_noisy() -> None:
    ref, labels, query, truth, redrawn = measured_again(3, (1.0, 1.0))
    share = transfer.transfer_labels(ref, labels, query)
    got = transfer.transfer_labels(ref, labels, query, redrawn=redrawn)
    assert np.abs(got["confidence"] - share["confidence"]).mean() < 0.03
    assert calibration_error(got["confidence"], got["label"] == truth) < 0.1


def test_the_share_stands_where_the_reference_is_noisier() -> None:
    ref, labels, query, truth, redrawn = measured_again(3, (1.5, 0.5))
    share = transfer.transfer_labels(ref, labels, query)
    got = transfer.transfer_labels(ref, labels, query, redrawn=redrawn)
    pd.testing.assert_frame_equal(got.drop(columns="confidence"), share.drop(columns="confidence"))
    assert got["confidence"].max() == 1 - 1 / 1202  # a thousand cells cannot tell a rarer error from none
    np.testing.assert_allclose(got["confidence"], share["confidence"], atol=1 / 1202)
    assert got["confidence"].mean() < (got["label"] == truth).mean()  # too modest rather than too sure


def test_cells_that_were_not_redrawn_get_the_same_curve() -> None:
    ref, labels, query, _, (ref_again, query_again) = measured_again(0, (0.5, 1.8))
    whole = transfer.transfer_labels(ref, labels, query, redrawn=(ref_again, query_again))
    query_again[::2] = np.nan
    half = transfer.transfer_labels(ref, labels, query, redrawn=(ref_again, query_again))
    assert np.abs(whole["confidence"] - half["confidence"]).max() < 0.15
    query_again[:] = np.nan
    none = transfer.transfer_labels(ref, labels, query, redrawn=(ref_again, query_again))
    share = transfer.transfer_labels(ref, labels, query)["confidence"]
    np.testing.assert_allclose(none["confidence"], share, atol=1 / 1202)


def test_curve_of_shares_and_what_they_are_again() -> None:
    shares, again = np.repeat([0.4, 0.9], 50), np.tile([0.0, 1.0], 50)
    again[50:] = np.arange(50) < 40
    curve = fit_curve(shares, again)
    assert curve(np.array([0.0, 0.4, 0.9, 1.0])) == pytest.approx([0.5, 0.5, 0.8, 0.8])
    # a hundred cases without a failure are no certainty
    assert fit_curve(shares, np.ones(100))(np.array([1.0])) == pytest.approx([1 - 1 / 102])


def test_calibrated_levels_are_nested() -> None:
    ref, labels, query, truth, redrawn = measured_again(1, (0.5, 1.5))
    halves = np.where(labels < "3", "low", "high")
    got = transfer.transfer_labels(ref, {"half": halves, "type": labels}, query, redrawn=redrawn)
    assert (got["confidence"] <= got["confidence_half"]).all()
    right = got["label_half"] == np.where(truth < "3", "low", "high")
    assert calibration_error(got["confidence_half"], right) < 0.05
    assert (np.where(got["label"] < "3", "low", "high") == got["label_half"]).all()


def test_cells_without_a_counterpart_are_unknown() -> None:
    ref, labels, query, truth = two_modalities(2, spread=0.5)
    there = labels != "4"
    counterpart = np.where(truth == "4", 0.5, 1.0)
    got = transfer.transfer_labels(ref[there], labels[there], query, counterpart=counterpart, unknown=0.7)
    called = (got["label"] == "unknown").to_numpy()
    np.testing.assert_array_equal(called, truth == "4")
    with pytest.raises(ValueError, match="counterpart"):
        transfer.transfer_labels(ref, labels, query, unknown=0.7)
    with pytest.raises(ValueError, match="0 or more"):
        transfer.transfer_labels(ref, labels, query, counterpart=counterpart, unknown=float("nan"))
    # what the vote said is not lost, and an unknown cell has no confidence
    plain = transfer.transfer_labels(ref[there], labels[there], query)
    assert got["second_label"][called].tolist() == plain["label"][called].tolist()
    assert (got["confidence"].isna() == called).all()


def test_reliability_by_hand() -> None:
    confidence, right = [0.05, 0.95, 0.85, 1.0, np.nan], [False, True, False, False, True]
    table = reliability(confidence, right)
    assert table["cells"].tolist() == [1, 1, 2]
    assert table["low"].tolist() == pytest.approx([0.0, 0.8, 0.9])
    assert table["accuracy"].tolist() == [0.0, 0.0, 0.5]
    assert calibration_error(confidence, right) == pytest.approx((0.05 + 0.85 + 2 * 0.475) / 4)
    assert np.isnan(calibration_error([], []))
    with pytest.raises(ValueError, match="between 0 and 1"):
        reliability([1.2], [True])
    with pytest.raises(ValueError, match="one value a cell"):
        reliability([0.2, 0.1], [True])


def test_where_a_finer_label_is_lacking_the_coarse_one_stands() -> None:
    ref, labels, query, truth = two_modalities(2, spread=0.5)
    coarse = np.where(np.isin(labels, ["0", "1"]), "low", "high").astype(object)
    fine = np.where(coarse == "low", labels, None)  # none of the others is divided further
    got = transfer.transfer_labels(ref, {"coarse": coarse, "fine": fine}, query)
    expected = np.where(np.isin(truth, ["0", "1"]), truth, "high")
    assert (got["label"] == expected).mean() > 0.95
    assert (got["label_coarse"] == np.where(np.isin(truth, ["0", "1"]), "low", "high")).mean() > 0.95
    n = int((coarse == "high").sum())
    assert got.attrs["messages"] == [
        f"{n:,} of {len(ref):,} reference cells have no fine: the label above stands in its place."
    ]
    bare = transfer.transfer_labels(ref, {"coarse": np.where(labels == "0", None, coarse), "fine": labels}, query)
    assert "0" not in set(bare["label"])
    assert (
        f"{int((labels == '0').sum()):,} of {len(ref):,} reference cells have no coarse: they have no vote."
        in (bare.attrs["messages"])
    )
    assert transfer.transfer_labels(ref, labels, query).attrs["messages"] == []


def test_levels_given_fine_first_are_refused() -> None:
    coarse, fine = ["B", "T", "T", "T"], ["B", "CD4", "CD8", "CD8"]
    z = np.arange(4.0)[:, None]
    with pytest.raises(InputError, match="give the coarse key first, 'coarse' and then 'fine'"):
        transfer.transfer_labels(z, {"fine": fine, "coarse": coarse}, z, k=2)
    transfer.transfer_labels(z, {"coarse": coarse, "fine": fine}, z, k=2)
    transfer.transfer_labels(z, {"coarse": coarse, "renamed": ["b", "t", "t", "t"]}, z, k=2)


def test_cells_of_an_unlabelled_population_are_unknown() -> None:
    ref, labels, query, truth = two_modalities(2, spread=0.5)
    some = np.where(labels == "4", None, labels)
    everywhere = np.ones(len(query))  # each has its like among all reference cells
    got = transfer.transfer_labels(ref, some, query, counterpart=everywhere, unknown=0.7)
    np.testing.assert_array_equal(got.attrs["unknown"], (got["label"] == "unknown").to_numpy())
    assert got.attrs["unknown"][truth == "4"].mean() > 0.95
    assert got.attrs["unknown"][truth != "4"].mean() < 0.05
    # labels that lack here and there are no population
    half = np.where(np.random.default_rng(0).random(len(labels)) < 0.5, None, labels)
    got = transfer.transfer_labels(ref, half, query, counterpart=everywhere, unknown=0.7)
    assert got.attrs["unknown"].mean() < 0.05
    assert not transfer.transfer_labels(ref, some, query).attrs["unknown"].any()
