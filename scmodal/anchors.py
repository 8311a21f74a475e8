"""Anchors: pairs of cells of two data sets that are mutual nearest neighbours on the linked features."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from scmodal.components import principal_components
from scmodal.rows import Rows


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
    of_a = torch.zeros_like(similarity).scatter_(1, similarity.topk(k_a, dim=1, sorted=False).indices, 1.0)
    of_b = torch.zeros_like(similarity).scatter_(0, similarity.topk(k_b, dim=0, sorted=False).indices, 1.0)
    return of_a * of_b


def unit_rows(x: np.ndarray | Tensor) -> Tensor:
    """Rows scaled to unit length, so that a dot product is a cosine; rows of zeros stay zero."""
    return F.normalize(torch.as_tensor(x), dim=1)


def smooth(linked: np.ndarray, x: Rows, share: float, n_neighbours: int, n_components: int) -> np.ndarray:
    """Linked features blended with their mean over each cell's neighbourhood in its own data set.

    A single link is a noisy measurement of a cell; its neighbours, found on *all* features of the data set, measure
    nearly the same state once more.

    Parameters
    ----------
    linked
        Scaled linked features (cells x m).
    x
        All scaled features of the same cells (cells x p), in memory or made when taken.
    share
        Weight of the neighbourhood mean, from 0 (unchanged) to 1.
    n_neighbours
        Size of a neighbourhood, without the cell itself; fewer where there are fewer cells.
    n_components
        Principal components of `x` in which neighbourhoods are found.

    Returns
    -------
    cells x m, float32.
    """
    from scmodal.neighbours import nearest_neighbours

    n_neighbours = min(n_neighbours, len(x) - 1)
    if share == 0.0 or n_neighbours < 1:
        return linked
    neighbours, _ = nearest_neighbours(principal_components(x, n_components), None, n_neighbours)
    mean = np.zeros_like(linked)
    for column in range(n_neighbours):  # one neighbour at a time: cells x m in memory, not cells x neighbours x m
        mean += linked[neighbours[:, column]]
    return ((1.0 - share) * linked + (share / n_neighbours) * mean).astype(np.float32)
