"""Palettes, tables and paper figures."""

from __future__ import annotations

import math
from pathlib import Path

import anndata as ad
import mudata
import numpy as np
import pandas as pd
import pytest

from scmodal import plots
from scmodal.contracts import InputError


def image(path: Path) -> np.ndarray:
    from matplotlib.image import imread

    return imread(path)


def share_of(picture: np.ndarray, colour: str) -> float:
    """Share of pixels near a colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return float((np.abs(picture[..., :3] - wanted).max(axis=-1) < 0.25).mean())


@pytest.fixture
def result() -> mudata.MuData:
    rng = np.random.default_rng(0)
    kinds = np.repeat([0, 1, 2], 30)
    modalities = {}
    for name in ("rna", "protein"):
        adata = ad.AnnData(
            rng.random((90, 4)).astype(np.float32),
            obs=pd.DataFrame({"kind": np.array(["A1", "A2", "A10"])[kinds]}, index=[f"c{i}" for i in range(90)]),
        )
        adata.obsm["X_scmodal"] = (np.eye(20)[kinds] * 9 + rng.normal(0, 0.3, (90, 20))).astype(np.float32)
        modalities[name] = adata
    return mudata.MuData(modalities)


@pytest.mark.parametrize("n", [1, 8, 9, 20, 21, 60])
def test_label_colours_are_distinct_and_stable(n: int) -> None:
    names = [f"T{i}" for i in range(n)]
    colours = plots.label_colours(names)
    assert list(colours) == names
    assert len(set(colours.values())) == n
    assert colours == plots.label_colours([*reversed(names), *names, None, math.nan])
    assert all(len(c) == 7 and c[0] == "#" for c in colours.values())


def test_labels_sort_as_a_reader_would() -> None:
    assert list(plots.label_colours(["CD16", "cd8", "CD4", "B"])) == ["B", "CD4", "cd8", "CD16"]


def test_stratified_sample_keeps_every_group_in_proportion() -> None:
    rows = plots.stratified_sample([9_000, 900, 3, 0], 1000, seed=1)
    assert [len(r) for r in rows] == [908, 90, 1, 0]
    assert all(len(np.unique(r)) == len(r) for r in rows)
    assert [len(r) for r in plots.stratified_sample([5, 6], 11)] == [5, 6]
    again = plots.stratified_sample([9_000, 900, 3, 0], 1000, seed=1)
    assert all((a == b).all() for a, b in zip(rows, again))


def test_umap_repeats_itself_and_keeps_islands_apart(result: mudata.MuData) -> None:
    z = result.mod["rna"].obsm["X_scmodal"]
    xy = plots.umap_coordinates(z, seed=4)
    assert xy.shape == (90, 2)
    assert (xy == plots.umap_coordinates(z, seed=4)).all()
    centre = np.stack([xy[i * 30 : i * 30 + 30].mean(axis=0) for i in range(3)])
    nearest = ((xy[:, None] - centre[None]) ** 2).sum(-1).argmin(axis=1)
    assert (nearest == np.repeat([0, 1, 2], 30)).all()


@pytest.mark.parametrize("n", [0, 1, 4])
def test_umap_of_hardly_any_cells(n: int) -> None:
    xy = plots.umap_coordinates(np.random.default_rng(0).normal(size=(n, 20)))
    assert xy.shape == (n, 2)
    assert np.isfinite(xy).all()


def test_confusion_table_counts_and_orders() -> None:
    counts = plots.confusion_table(["b", "a", "a", "only true", None], ["b", "a", "b", "new", "a"])
    assert counts.index.tolist() == ["a", "b", "only true"]
    assert counts.columns.tolist() == ["a", "b", "new"]
    assert counts.to_numpy().tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert plots.confusion_table(["a", "b"], ["a", "a"], ["b", "z"]).columns.tolist() == ["a", "b"]
    assert plots.row_fractions(counts).loc["a"].tolist() == [0.5, 0.5, 0.0]


def test_binned_history_is_short_and_leaves_out_what_is_not_finite() -> None:
    values = np.r_[np.full(500, 2.0), np.full(500, 4.0)]
    values[::10] = np.nan
    curve = plots.binned_history(np.arange(1000), values, bins=10)
    assert len(curve) == 10
    assert curve["mean"].tolist() == [2.0] * 5 + [4.0] * 5
    assert (curve["low"] <= curve["mean"]).all()
    assert curve["step"].is_monotonic_increasing
    assert len(plots.binned_history(np.arange(3), np.full(3, np.nan))) == 0


def test_pearson() -> None:
    assert plots.pearson(np.array([1, 2, 3]), np.array([2, 4, 6])) == pytest.approx(1)
    assert math.isnan(plots.pearson(np.ones(3), np.arange(3)))


def test_ends_name_nothing_twice() -> None:
    assert plots.ends(list("abcdef"), 2) == (["a", "b"], ["e", "f"])
    assert plots.ends(list("abc"), 2) == (["a", "b"], ["c"])
    assert plots.ends(list("a"), 2) == (["a"], [])


def test_latent_figure_shows_both_modalities_and_all_labels(result: mudata.MuData, tmp_path: Path) -> None:
    path = plots.latent_figure(result, "kind", tmp_path / "latent.png")
    picture = image(path)
    assert picture.shape[1] > 1.8 * picture.shape[0]
    colours = [plots.MODALITY_COLOURS["rna"], plots.MODALITY_COLOURS["protein"]]
    colours += list(plots.label_colours(["A1", "A2", "A10"]).values())
    assert min(share_of(picture, c) for c in colours) > 2e-4
    alone = image(plots.latent_figure(result, None, tmp_path / "alone.png"))
    assert alone.shape[1] < 0.7 * picture.shape[1]


def test_latent_figure_greys_cells_without_labels(result: mudata.MuData, tmp_path: Path) -> None:
    path = plots.latent_figure(result, {"rna": "kind"}, tmp_path / "latent.svg")
    text = path.read_text()
    assert plots.NO_LABEL_COLOUR.lower() in text
    assert "no label" in text or "<!-- no label -->" in text
    assert text == plots.latent_figure(result, {"rna": "kind"}, tmp_path / "again.svg").read_text()


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("kidn", "no column 'kidn' in obs of rna, protein; did you mean 'kind'? (there: kind, own)"),
        ({"rna": "kind", "protein": "kidn"}, "no column 'kidn' in obs of protein; did you mean 'kind'? (there: kind)"),
        ({"adt": "kind"}, "no modality 'adt' in these data (there are: rna, protein)"),
    ],
)
def test_latent_figure_of_labels_that_are_not_there(
    result: mudata.MuData, tmp_path: Path, key: str | dict[str, str], said: str
) -> None:
    result.mod["rna"].obs["own"] = 1.0
    with pytest.raises(InputError) as caught:
        plots.latent_figure(result, key, tmp_path / "latent.png")
    assert caught.value.problems == [said]
    assert list(tmp_path.iterdir()) == []
    assert ">1.0<" not in plots.latent_figure(result, "own", tmp_path / "latent.svg").read_text()


def test_latent_figure_needs_a_latent(result: mudata.MuData, tmp_path: Path) -> None:
    del result.mod["protein"].obsm["X_scmodal"]
    with pytest.raises(InputError, match="protein"):
        plots.latent_figure(result, None, tmp_path / "latent.png")
    assert list(tmp_path.iterdir()) == []


def test_confusion_figure(tmp_path: Path) -> None:
    path = plots.confusion_figure(list("aabb"), list("aabc"), tmp_path / "confusion.svg", title="x")
    text = path.read_text()
    assert "<!-- 100 -->" in text
    assert text.count("<!-- 50 -->") == 2
    with pytest.raises(InputError, match="nothing to compare"):
        plots.confusion_figure([None], ["a"], tmp_path / "none.png")


def test_history_figure_draws_every_loss(tmp_path: Path) -> None:
    steps = np.arange(1, 201)
    history = pd.DataFrame({"step": steps, **{t.column: np.exp(-steps / 50) for t in plots.LOSS_TERMS}})
    text = plots.history_figure(history, tmp_path / "history.svg").read_text()
    for term in plots.LOSS_TERMS:
        assert f"<!-- {term.title} -->" in text


def test_imputation_figure_ranks_by_correlation(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    measured = ad.AnnData(rng.random((50, 3)).astype(np.float32))
    measured.var_names = ["good", "noise", "flat"]
    imputed = measured[::-1].copy()
    imputed.X[:, 1] = rng.random(50)
    imputed.X[:, 2] = 1
    text = plots.imputation_figure(measured, imputed, tmp_path / "imputation.svg", n=1).read_text()
    assert "<!-- good  r = 1.00 -->" in text
    assert "<!-- noise" in text
    assert "<!-- flat" not in text
    with pytest.raises(InputError, match="nowhere"):
        plots.imputation_figure(measured, imputed, tmp_path / "x.png", features=["nowhere"])
