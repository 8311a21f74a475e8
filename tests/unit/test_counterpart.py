"""Cells that have no like in the other data set, told from the matched coordinates."""

from __future__ import annotations

import numpy as np
import pytest
from anndata import read_h5ad

from scmodal import counterpart, preprocess
from scmodal.anchors import unit_rows
from scmodal.contracts import InputError
from scmodal.counterpart import ALONE, counterparts, left_alone
from scmodal.links import build_links
from scmodal.model import ScModal
from scmodal.neighbours import nearest_neighbours
from scmodal.presets import get_preset
from tests.conftest import REPO

KINDS = 6


def two_sides(n: tuple[int, int], lacking: int | None, noise: float = 0.8) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Matched coordinates of cells of six kinds, of which the second side may lack one, and each side's kinds."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(KINDS, 20))
    kinds = [rng.integers(KINDS, size=size) for size in n]
    if lacking is not None:
        kinds[1] = kinds[1][kinds[1] != lacking]
    rows = [unit_rows(centres[k] + noise * rng.normal(size=(len(k), 20))).numpy().astype(np.float32) for k in kinds]
    return rows, kinds


@pytest.mark.parametrize("lacking", range(KINDS))
def test_a_population_of_one_side_has_no_counterpart(lacking: int) -> None:
    (a, b), (kinds, _) = two_sides((900, 1100), lacking)
    found, back = counterparts((a, b), (a, b))
    assert (found[kinds == lacking] < ALONE).mean() > 0.95
    assert (found[kinds != lacking] < ALONE).mean() < 0.02
    assert (back < ALONE).mean() < 0.02


def test_a_population_that_is_far_too_rare_is_no_counterpart_of_a_common_one() -> None:
    (a, b), (kinds, other) = two_sides((900, 1100), None)
    shares = []
    for one_in in (1, 2, 10):
        rows = b[(other != 0) | (np.arange(len(other)) % one_in == 0)]
        found, back = counterparts((a, rows), (a, rows))
        shares.append((found[kinds == 0] < ALONE).mean())
        assert (found[kinds != 0] < ALONE).mean() < 0.02
        assert (back < ALONE).mean() < 0.02
    assert shares[0] == 0
    assert shares[1] < 0.1
    assert shares[2] > 0.95


def test_many_cells_follow_from_some(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, kinds = two_sides((900, 1100), 2)
    whole, _ = counterparts((rows[0], rows[1]), (rows[0], rows[1]))
    monkeypatch.setattr(counterpart, "CELLS", 300)
    monkeypatch.setattr(counterpart, "_BLOCK", 128)
    some, _ = counterparts((rows[0], rows[1]), (rows[0], rows[1]))
    assert np.corrcoef(whole, some)[0, 1] > 0.95
    assert (some[kinds[0] == 2] < ALONE).mean() > 0.95


def test_the_transport_is_that_of_the_unbalanced_problem() -> None:
    """At the solution a cell's scaling is the price of its left-behind mass (first-order condition of the problem)."""
    (a, b), _ = two_sides((60, 70), 1)
    u, v = counterpart._transport(a, b)
    kernel = counterpart._kernel(a, b)
    mass = u * (kernel @ v)
    # d/du of the Kullback-Leibler term: log(mass / a) * price = -log(u) * entropy
    np.testing.assert_allclose(
        counterpart._LEFT_BEHIND * np.log(mass * len(a)), -counterpart._ENTROPY * np.log(u), atol=1e-6
    )


def test_a_handful_of_cells() -> None:
    rows, _ = two_sides((3, 4), None)
    for values, item in zip(counterparts((rows[0], rows[1]), (rows[0], rows[1])), rows):
        assert values.shape == (len(item),)
        assert np.isfinite(values).all()


def test_few_cells_alone_are_taken_for_a_mistake() -> None:
    values = np.ones(100, np.float32)
    values[:10] = 0.1
    assert not left_alone(values, ALONE).any()
    values[10] = 0.1
    assert left_alone(values, ALONE).sum() == 11
    assert not left_alone(values, 0.0).any()
    with pytest.raises(InputError, match="least_counterpart"):
        get_preset("default", least_counterpart=1.5)


def test_a_population_of_one_side_takes_the_place_of_no_other() -> None:
    """Real blood: without monocytes in the proteins, hardly a protein cell may lie next to a monocyte of the RNA."""
    rna, protein = (read_h5ad(REPO / "assets" / "testdata" / name) for name in ("rna.h5ad", "adt.h5ad"))
    protein = protein[(protein.obs["celltype"] != "Mono").to_numpy()].copy()
    adatas = [preprocess.rna(rna), preprocess.protein(protein)]
    links, _ = build_links(adatas)
    beside = {}
    for least in (0.0, get_preset("default").least_counterpart):
        model = ScModal(seed=0, device="cpu", steps=200, least_counterpart=least).fit(adatas, links)
        nearest, _ = nearest_neighbours(model.embed(modality="rna"), model.embed(modality="protein"), 1)
        beside[least] = (rna.obs["celltype"].to_numpy()[nearest[:, 0]] == "Mono").mean()
    assert beside[0.7] < 0.75 * beside[0.0], beside
