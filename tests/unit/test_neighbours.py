"""Neighbour searches: exact ones against all distances, approximate ones by their recall."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from scmodal import neighbours
from scmodal.neighbours import nearest_neighbours


def by_definition(points: np.ndarray, queries: np.ndarray | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All distances at once."""
    distance = np.sqrt(np.square((points if queries is None else queries)[:, None] - points[None]).sum(axis=2))
    if queries is None:
        np.fill_diagonal(distance, np.inf)
    order = np.argsort(distance, axis=1)[:, :k]
    return order, np.take_along_axis(distance, order, axis=1)


def recall(found: np.ndarray, true: np.ndarray) -> float:
    return float(np.mean([len(set(a) & set(b)) / len(b) for a, b in zip(found, true)]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("own", [True, False])
def test_exact(dtype: type, own: bool) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(200, 6)).astype(dtype)
    queries = None if own else rng.normal(size=(30, 6)).astype(dtype)
    expected = by_definition(points.astype(float), None if own else queries.astype(float), 7)
    indices, distances = nearest_neighbours(points, queries, 7)
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(distances, expected[1], rtol=1e-5)


def test_no_more_neighbours_than_there_are() -> None:
    points = np.arange(4.0)[:, None]
    assert nearest_neighbours(points, None, 9)[0].shape == (4, 3)
    assert nearest_neighbours(points, points[:2], 9)[0].shape == (2, 4)
    assert nearest_neighbours(points, points[:0], 9)[0].shape == (0, 4)


@pytest.mark.parametrize(
    ("points", "queries", "k", "message"),
    [
        (np.zeros((3, 2)), np.zeros((3, 1)), 1, "points have 2 columns and the queries 1"),
        (np.zeros(3), None, 1, "cells x dimensions"),
        (np.zeros((3, 2)), None, 0, "k must be 1 or more, not 0"),
        (np.zeros((1, 2)), None, 1, "no points to search"),
        (np.zeros((0, 2)), np.zeros((1, 2)), 1, "no points to search"),
    ],
)
def test_wrong_shapes(points: np.ndarray, queries: np.ndarray | None, k: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_neighbours(points, queries, k)


def test_only_large_searches_are_approximate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "EXACT_BELOW", 100)
    monkeypatch.setattr(neighbours, "EXACT_PAIRS", 100 * 100)
    monkeypatch.setattr(neighbours, "_approximate", lambda *_: "approximate")
    points = np.random.default_rng(0).normal(size=(101, 2))
    assert nearest_neighbours(points, None, 1) == "approximate"
    assert nearest_neighbours(points, points, 1) == "approximate"
    assert nearest_neighbours(points[:99], points, 1) != "approximate"  # few points, many queries
    assert nearest_neighbours(points, points[:99], 1) != "approximate"  # many points, few queries


@pytest.mark.parametrize("own", [True, False])
def test_what_the_approximate_search_leaves_open_is_searched_exactly(
    monkeypatch: pytest.MonkeyPatch, own: bool
) -> None:
    """Its lists with holes, and one without the point itself: no hole and no point of its own comes back."""
    points = np.random.default_rng(0).normal(size=(60, 3))
    queries = None if own else points[::-1] + 0.1
    expected = by_definition(points, queries, 5)
    with_self = np.concatenate([np.arange(60)[:, None], by_definition(points, None, 20)[0]], axis=1)
    with_self[3] = by_definition(points, None, 21)[0][3]

    def found(k: int) -> tuple[np.ndarray, np.ndarray]:
        indices = with_self if own else by_definition(points, queries, k)[0]
        at = points if own else queries
        distances = np.sqrt(np.square(points[indices] - at[:, None]).sum(axis=2)).astype(np.float32)
        indices[7, -20:], distances[7, -20:] = -1, np.inf
        return indices.astype(np.int32), distances

    class Index:
        neighbor_graph = found(21) if own else None

        def __init__(self, table: np.ndarray, n_neighbors: int, random_state: int, n_jobs: int) -> None:
            assert (table.dtype, n_neighbors, random_state) == (np.float32, 21, 4)
            np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-6)

        def query(self, wanted: np.ndarray, k: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
            return found(k)

    monkeypatch.setitem(sys.modules, "pynndescent", SimpleNamespace(NNDescent=Index))
    monkeypatch.setattr(neighbours, "EXACT_BELOW", 10)
    monkeypatch.setattr(neighbours, "EXACT_PAIRS", 10)
    indices, distances = nearest_neighbours(points, queries, 5, seed=4)
    np.testing.assert_array_equal(indices, expected[0])
    np.testing.assert_allclose(distances, expected[1], rtol=1e-5)
    assert (indices.dtype, distances.dtype) == (np.intp, np.float64)


@pytest.mark.slow  # compiling the search takes half a minute
def test_approximate_search(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    places = 3 * rng.normal(size=(20, 8))[rng.integers(20, size=6000)] @ rng.normal(size=(8, 20))
    points = places + rng.normal(size=(6000, 20)) + 100
    queries = points[:1000] + 0.1
    expected = [nearest_neighbours(points, q, 20)[0] for q in (None, queries)]
    monkeypatch.setattr(neighbours, "EXACT_BELOW", 1000)
    monkeypatch.setattr(neighbours, "EXACT_PAIRS", 1000)
    for q, true in zip((None, queries), expected):
        indices, distances = nearest_neighbours(points, q, 20)
        assert recall(indices, true) > 0.98
        at = points if q is None else q
        exact = np.sqrt(np.square(points[indices] - at[:, None]).sum(axis=2))
        np.testing.assert_allclose(distances, exact, rtol=1e-3)
        assert (np.diff(distances, axis=1) >= 0).all()
        np.testing.assert_array_equal(nearest_neighbours(points, q, 20)[0], indices)
    assert not (nearest_neighbours(points, None, 20)[0] == np.arange(6000)[:, None]).any()

    one_place = nearest_neighbours(np.ones((2000, 3)), None, 4)
    assert one_place[1].max() == 0
    assert not (one_place[0] == np.arange(2000)[:, None]).any()
