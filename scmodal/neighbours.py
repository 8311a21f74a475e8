"""Nearest neighbours and blocks of distances (Euclidean), for ten cells or a million: one place decides how."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

EXACT_BELOW = 50_000
"""Searches among fewer points than this are always exact."""

EXACT_PAIRS = EXACT_BELOW**2
"""Pairs of a query and a point up to which a search is exact however many points there are: seconds to a minute."""

# Of the approximate search. A graph of fewer neighbours than this is poorly connected, and searches in it go astray.
_GRAPH_NEIGHBOURS = 21
# How much farther than the k-th neighbour found so far a search still looks: .2 gives a recall of .99 and more.
_EPSILON = 0.2


def nearest_neighbours(
    points: np.ndarray, queries: np.ndarray | None, k: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Euclidean k nearest points of every query.

    Exact where there are fewer than :data:`EXACT_BELOW` points or no more than :data:`EXACT_PAIRS` pairs of a query and
    a point. Above, nearest-neighbour descent (pynndescent) in single precision: at least .98 of the neighbours are the
    true ones, and the same seed and number of threads give the same result. The few queries for which it finds less
    than k points are searched exactly.

    Parameters
    ----------
    points
        n x d, finite.
    queries
        m x d, or None for the points themselves, each of which is then left out of its own neighbours.
    k
        How many; no more than there are (n, or n - 1 without `queries`) are given.
    seed
        Of the approximate search.

    Returns
    -------
    (indices, distances)
        Both m x k, nearest first.

    Raises
    ------
    ValueError
        Shapes do not fit, there are no points, or k is below 1.
    """
    if points.ndim != 2 or (queries is not None and queries.ndim != 2):
        raise ValueError("points and queries must be tables of cells x dimensions")
    if queries is not None and queries.shape[1] != points.shape[1]:
        raise ValueError(f"the points have {points.shape[1]} columns and the queries {queries.shape[1]}")
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    there = len(points) - (queries is None)
    if there < 1:
        raise ValueError("there are no points to search")
    k = min(k, there)
    m = len(points) if queries is None else len(queries)
    if m == 0:
        return np.zeros((0, k), dtype=np.intp), np.zeros((0, k))
    if len(points) < EXACT_BELOW or m * len(points) <= EXACT_PAIRS:
        return _exact(points, queries, k)
    return _approximate(points, queries, k, seed)


def _exact(points: np.ndarray, queries: np.ndarray | None, k: int) -> tuple[np.ndarray, np.ndarray]:
    """All distances, a block at a time."""
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=k, algorithm="brute").fit(points).kneighbors(queries)
    return indices, distances


def _approximate(points: np.ndarray, queries: np.ndarray | None, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Nearest-neighbour descent; rows it leaves incomplete are searched exactly."""
    import pynndescent

    # About their mean, where single precision loses the fewest digits.
    centre = points.mean(axis=0, dtype=np.float64)
    table = np.ascontiguousarray(points - centre, dtype=np.float32)
    n_neighbors = min(len(table), max(k + 1, _GRAPH_NEIGHBOURS))
    index = pynndescent.NNDescent(table, n_neighbors=n_neighbors, random_state=seed, n_jobs=_threads())
    if queries is None:
        indices, distances = index.neighbor_graph
        own = indices == np.arange(len(indices))[:, None]
        # Among many points at one place the point itself may not be on its own list: then the farthest goes.
        own[~own.any(axis=1), -1] = True
        width = indices.shape[1] - 1
        indices, distances = indices[~own].reshape(-1, width), distances[~own].reshape(-1, width)
        indices, distances = indices[:, :k], distances[:, :k]
    else:
        wanted = np.ascontiguousarray(queries - centre, dtype=np.float32)
        indices, distances = index.query(wanted, k=k, epsilon=_EPSILON)
    indices, distances = indices.astype(np.intp), distances.astype(np.float64)
    incomplete = np.flatnonzero((indices < 0).any(axis=1) | ~np.isfinite(distances).all(axis=1))
    if len(incomplete):
        rest = points[incomplete] if queries is None else queries[incomplete]
        indices[incomplete], distances[incomplete] = _exact_rest(points, rest, incomplete, queries is None, k)
    return indices, distances


def _exact_rest(
    points: np.ndarray, rest: np.ndarray, own: np.ndarray, leave_out: bool, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Exact search for some queries; if these are points themselves (number `own`), each leaves itself out."""
    indices, distances = _exact(points, rest, k + leave_out)
    if leave_out:
        out = indices == own[:, None]
        out[~out.any(axis=1), -1] = True
        indices, distances = indices[~out].reshape(-1, k), distances[~out].reshape(-1, k)
    return indices, distances


def _threads() -> int:
    """Threads of the approximate search: OMP_NUM_THREADS where it is set, as for everything else, else all."""
    import numba

    wanted = os.environ.get("OMP_NUM_THREADS", "")
    most = numba.get_num_threads()
    return min(int(wanted), most) if wanted.isdigit() and int(wanted) > 0 else most


def distance_blocks(a: np.ndarray, b: np.ndarray, entries: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared Euclidean distances of all pairs, some rows of `a` at a time.

    Parameters
    ----------
    a, b
        n x d and m x d. Distances come from a matrix product: exact to some 1e-15 of the squared lengths, so centre
        the data first. They may fall below 0 by that much.
    entries
        Distances in a block, about.

    Yields
    ------
    (rows, squared)
        A slice of the rows of `a`, and their distances to all of `b` (rows x m).
    """
    norm_a, norm_b = np.square(a).sum(axis=1), np.square(b).sum(axis=1)
    columns = -2.0 * b.T
    step = max(1, entries // len(b))
    for start in range(0, len(a), step):
        rows = slice(start, min(start + step, len(a)))
        squared = a[rows] @ columns
        squared += norm_b
        squared += norm_a[rows, None]
        yield rows, squared
