"""Encoders and generators that start from the data instead of from chance.

From random weights the networks of a wide and noisy data set take hundreds of steps to tell cells apart at all, and two
data sets of very different widths start at different scales, which the discriminator then tells apart by nothing
else. Matched coordinates (:mod:`scmodal.matching`) are known before training: each encoder starts as the linear map
that comes nearest to them, each generator as the linear map back, and training goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from scmodal.components import scatter
from scmodal.networks import Networks
from scmodal.rows import BLOCK, Rows, row_chunks

Floats = NDArray[np.float32]

# Ridge of the regressions beyond that of the dropout, relative to the (unit) variance of a column.
_RIDGE = 1e-3


def common_targets(
    found: Sequence[tuple[Floats, Floats]], pairs: Sequence[tuple[int, int]], n_latent: int, scale: float
) -> list[Floats]:
    """Latents to start from: coordinates of all data sets in one space.

    Parameters
    ----------
    found
        For each pair the matched coordinates of both sides (cells x d).
    pairs
        Positions of the data sets in each pair; every data set is joined to the first by some of them.
    n_latent
        Width of the latent space: as many principal components of the first pair's coordinates (the rest is zero).
    scale
        Standard deviation of the latents, averaged over dimensions.

    Returns
    -------
    One table (cells x n_latent) a data set. A data set that is matched with one already placed follows by the linear
    map that takes that one's coordinates in the new pair to its place.
    """
    placed: dict[int, Floats] = {}
    left = list(zip(pairs, found))
    (i, j), coordinates = left.pop(0)
    axes = _axes(coordinates, n_latent)
    for k, own in zip((i, j), coordinates):
        placed[k] = (own - own.mean(0)) @ axes
    while left:
        at = next(n for n, ((i, j), _) in enumerate(left) if i in placed or j in placed)
        (i, j), (a, b) = left.pop(at)
        if i in placed and j in placed:
            continue
        known, known_own, new, new_own = (i, a, j, b) if i in placed else (j, b, i, a)
        map_, *_ = np.linalg.lstsq(known_own - known_own.mean(0), placed[known], rcond=1e-3)
        placed[new] = (new_own - new_own.mean(0)) @ map_.astype(np.float32)
    spread = np.sqrt(np.mean([item.var(0).mean() for item in placed.values()]))
    return [placed[k] * np.float32(scale / max(spread, 1e-6)) for k in sorted(placed)]


def _axes(coordinates: tuple[Floats, Floats], n: int) -> Floats:
    """Leading principal axes of both sides together, columns; of zeros where there are fewer."""
    _, vectors = np.linalg.eigh(sum(scatter(c, c.mean(0)) for c in coordinates))
    leading = vectors[:, ::-1][:, :n]
    out = np.zeros((len(leading), n), np.float32)
    out[:, : leading.shape[1]] = leading
    return out


def start_from(
    networks: Networks,
    x: Sequence[Rows],
    targets: Sequence[Floats],
    dropout: Sequence[float],
    told: Sequence[Floats | None] | None = None,
) -> None:
    """Set encoders and generators to the linear maps from each data set to its targets, and back.

    Parameters
    ----------
    networks
        Changed in place.
    x
        Scaled input of each data set (cells x columns).
    targets
        Latents of the same cells (cells x n_latent), see :func:`common_targets`.
    dropout
        Share of input values that is dropped in training: a regression on inputs with dropout is a ridge regression.
    told
        One-hot batch of every cell (cells x batches) where networks are told of it: the encoder then starts with the
        batches' means taken off, and none of their shift in its latents.
    """
    for k, (rows, z, share) in enumerate(zip(x, targets, dropout)):
        gram, cross = _products(rows, z)
        batches = None if told is None else told[k]
        if batches is not None:
            sizes = batches.sum(0, dtype=np.float64)
            means = _sums(rows, batches) / sizes[:, None]  # batches x columns
            gram -= (means.T * sizes) @ means
            cross -= means.T @ (batches.T @ z)
        diagonal = np.diag_indices(len(gram))
        penalised = gram.copy()
        penalised[diagonal] *= 1.0 + share / (1.0 - share)
        penalised[diagonal] += _RIDGE * len(z)
        forward = np.linalg.solve(penalised, cross)  # columns x latent
        # a ridge shrinks: bring the latents back to their targets' spread, which both sides share
        spread = np.sqrt(np.einsum("ij,ij->j", forward, gram @ forward).mean() / len(z))
        forward *= np.sqrt(z.var(0).mean()) / max(spread, 1e-6)
        latents_gram = forward.T @ gram @ forward
        latents_gram[np.diag_indices(len(latents_gram))] += _RIDGE * len(z)
        back = np.linalg.solve(latents_gram, forward.T @ gram)  # latent x columns
        _linear(networks.encoders[k], forward.T, None if batches is None else means)
        _linear(networks.generators[k], back.T)


def _products(x: Rows, z: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """X'X and X'Z, in blocks of rows."""
    p = x.shape[1]
    gram, cross = np.zeros((p, p)), np.zeros((p, z.shape[1]))
    for rows, values in row_chunks(x, BLOCK):
        gram += values.T @ values
        cross += values.T @ z[rows]
    return gram, cross


def _sums(x: Rows, batches: Floats) -> NDArray[np.float64]:
    """Sum of the rows of each batch (batches x columns)."""
    sums = np.zeros((batches.shape[1], x.shape[1]))
    for rows, values in row_chunks(x, BLOCK):
        sums += batches[rows].T @ values
    return sums


def _linear(network: Any, weights: NDArray[Any], means: NDArray[Any] | None = None) -> None:
    """Make a two-layer network compute ``x @ weights.T``: a ReLU for each sign of what passes its narrow side.

    With `means` (batches x columns of x) it computes ``(x - mean of the row's batch) @ weights.T``.
    With fewer hidden units than that takes it computes the nearest map of lower rank. Hidden units beyond it keep their
    random weights and lead nowhere yet; training finds a use for them.
    """
    out, into = weights.shape
    narrow = min(out, into)
    hidden = network.first.weight.shape[0]
    if 2 * narrow > hidden:
        narrow = hidden // 2
        u, values, v = np.linalg.svd(weights, full_matrices=False)
        halves = (values[:narrow, None] * v[:narrow], u[:, :narrow])
    else:
        halves = (weights, np.eye(out)) if out == narrow else (np.eye(into), weights)
    first, second = (
        torch.as_tensor(half, dtype=network.first.weight.dtype, device=network.first.weight.device) for half in halves
    )
    with torch.no_grad():
        network.second.weight.zero_()
        for sign, units in ((1.0, slice(0, narrow)), (-1.0, slice(narrow, 2 * narrow))):
            network.first.weight[units] = sign * first
            network.first.bias[units] = 0.0
            network.second.weight[:, units] = sign * second
            if means is not None:
                network.batch[:, units] = (
                    -torch.as_tensor(means, dtype=first.dtype, device=first.device) @ (sign * first).T
                )
        network.second.bias.zero_()
