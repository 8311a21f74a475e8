"""Query cells that are like no cell of the reference.

Two signs, both read without the query's labels: such cells lie farther from the reference than cells of the label that
they would get lie from the query, and their neighbours do not agree on a label. Neither is sure: training pulls data
sets together, and a population without a counterpart may come to lie on another one, near and unanimous.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from scmodal.neighbours import nearest_neighbours

SMOOTHED_OVER = 30
"""Nearest query cells that a novelty is averaged over: populations are missing, not single cells."""


def novelty(
    distance: NDArray[np.float64],
    entropy: NDArray[np.float64],
    label: NDArray[np.intp],
    usual: NDArray[np.float64],
    z_query: np.ndarray,
) -> NDArray[np.float64]:
    """How unlike the reference each query cell is.

    Of a cell, ``log(distance / usual[label]) + entropy``; then the mean over the cell and the
    :data:`SMOOTHED_OVER` query cells nearest to it.

    Parameters
    ----------
    distance
        Mean distance of each query cell to its k nearest reference cells (n).
    entropy
        Of the shares of their votes, natural logarithm (n).
    label
        Winner of the votes (n), a position in `usual`.
    usual
        For each label the distance to expect, see :func:`usual_distances`.
    z_query
        Latent of the query cells, n x d.

    Returns
    -------
    ndarray
        About 0 for cells at the usual distance whose neighbours agree; 0.69 more at twice that distance; as much more
        where the votes are spread evenly over two labels.
    """
    tiny = np.finfo(np.float64).tiny
    own = entropy + np.log(np.maximum(distance, tiny) / np.maximum(usual[label], tiny))
    # all reference and query cells at one place: nothing is far
    own[(distance <= 0) & (usual[label] <= 0)] = entropy[(distance <= 0) & (usual[label] <= 0)]
    if len(z_query) < 2:
        return own
    beside, _ = nearest_neighbours(z_query, None, SMOOTHED_OVER)
    return np.asarray((own + own[beside].sum(axis=1)) / (1 + beside.shape[1]))


def usual_distances(
    z_ref: np.ndarray, labels: NDArray[np.intp], n_labels: int, z_query: np.ndarray, k: int
) -> NDArray[np.float64]:
    """For each label how far its reference cells are from the query: the median over cells of the mean distance to k.

    Parameters
    ----------
    z_ref, z_query
        Latents, n_ref x d and n_query x d.
    labels
        Label of each reference cell (n_ref), below `n_labels`; each label has at least one.
    n_labels
        How many labels there are.
    k
        Query cells asked; all where there are fewer.

    Returns
    -------
    ndarray
        One distance per label.
    """
    distance = nearest_neighbours(z_query, z_ref, k)[1].mean(axis=1)
    return np.array([np.median(distance[labels == label]) for label in range(n_labels)])
