"""Anchors: pairs of cells of two data sets that are mutual nearest neighbours on the linked features."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOUR_CELLS = 20_000
"""Cells among which neighbourhoods are sought, so that their cost and memory do not grow with the square of cells."""

_BLOCK = 50_000


def mutual_neighbours(a: Tensor, b: Tensor, k_a: int, k_b: int) -> Tensor:
    """Mutual nearest neighbours by cosine similarity.

    Parameters
    ----------
    a, b
        Linked features of two minibatches with rows of unit length (batch_a x m, batch_b x m).
    k_a
        A row of `b` must be among the `k_a` most similar of a row of `a` ...
    k_b
        ... which must be among the `k_b` most similar of that row of `b`.

    Returns
    -------
    1.0 where a pair is mutual, else 0.0 (batch_a x batch_b). Exact and deterministic: the full similarity matrix of
    a minibatch is cheaper than an approximate index.
    """
    similarity = a @ b.T
    of_a = torch.zeros_like(similarity, dtype=torch.bool)
    of_b = torch.zeros_like(of_a)
    of_a.scatter_(1, similarity.topk(k_a, dim=1, sorted=False).indices, True)
    of_b.scatter_(0, similarity.topk(k_b, dim=0, sorted=False).indices, True)
    return of_a.logical_and_(of_b).to(similarity.dtype)


def unit_rows(x: np.ndarray | Tensor) -> Tensor:
    """Rows scaled to unit length, so that a dot product is a cosine; rows of zeros stay zero."""
    return F.normalize(torch.as_tensor(x), dim=1)


def smooth(linked: np.ndarray, components: np.ndarray, share: float, n_neighbours: int) -> np.ndarray:
    """Linked features blended with their mean over each cell's neighbourhood in its own data set.

    A single link is a noisy measurement of a cell; its neighbours, found on *all* features of the data set, measure
    nearly the same state once more.

    Parameters
    ----------
    linked
        Scaled linked features (cells x m).
    components
        Components of all features of the same cells (cells x d), in which neighbourhoods are found; among at most
        :data:`NEIGHBOUR_CELLS` cells, drawn at random.
    share
        Weight of the neighbourhood mean, from 0 (unchanged) to 1.
    n_neighbours
        Size of a neighbourhood, without the cell itself; fewer where there are fewer cells.

    Returns
    -------
    cells x m, float32.
    """
    n = len(linked)
    n_neighbours = min(n_neighbours, n - 1)
    if share == 0.0 or n_neighbours < 1:
        return linked
    out = np.empty_like(linked, dtype=np.float32)
    for rows, neighbours in _neighbourhoods(components, n_neighbours):
        mean = np.zeros((len(neighbours), linked.shape[1]), np.float32)
        for column in neighbours.T:  # one neighbour at a time: cells x m in memory, not cells x neighbours x m
            mean += linked[column]
        out[rows] = (1.0 - share) * linked[rows] + (share / neighbours.shape[1]) * mean
    return out


def _neighbourhoods(components: np.ndarray, k: int) -> Iterator[tuple[slice, np.ndarray]]:
    """Positions of the nearest cells of every cell, in blocks of cells."""
    from scmodal.neighbours import nearest_neighbours

    n = len(components)
    if n <= NEIGHBOUR_CELLS:
        yield slice(0, n), nearest_neighbours(components, None, k)[0]
        return
    among = np.sort(np.random.default_rng(0).choice(n, NEIGHBOUR_CELLS, replace=False))
    for start in range(0, n, _BLOCK):
        rows = slice(start, min(start + _BLOCK, n))
        found = among[nearest_neighbours(components[among], components[rows], k + 1)[0]]
        itself = found == np.arange(rows.start, rows.stop)[:, None]
        others_first = np.argsort(itself, axis=1, kind="stable")[:, :k]
        yield rows, np.take_along_axis(found, others_first, axis=1)
