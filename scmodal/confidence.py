"""How often a transferred label is right, as far as that can be told without the query's labels.

The share of the votes that a label wins is not the chance that it is right: reference cells lie closer to each other
than to cells of another modality, and votes of neighbours are not independent. :func:`calibrate` measures how often a
share of this size is right on reference cells, whose labels are known, seen from where the query is;
:func:`calibration_error` and :func:`reliability` compare confidences with a known truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scmodal.neighbours import nearest_neighbours

LEAST_CELLS = 100
"""Labelled reference cells below which there is too little to calibrate by."""

STAND_INS = 5
"""Query cells that each of them is seen from."""

MOST_CELLS = 20_000
"""Reference cells that the calibration is measured on; of a larger reference as many are drawn, always the same."""


@dataclass(frozen=True)
class Calibration:
    """A rising curve from shares of votes to the chance of being right.

    Attributes
    ----------
    shares, chances
        Knots of the curve, both ascending; between them it is linear, beyond them flat.
    n_cells
        Reference cells it was measured on.
    """

    shares: NDArray[np.float64]
    chances: NDArray[np.float64]
    n_cells: int

    def __call__(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chances (n) for shares (n)."""
        return np.asarray(np.interp(shares, self.shares, self.chances))


def fit_curve(shares: NDArray[np.float64], right: NDArray[np.bool_]) -> Calibration:
    """Isotonic regression of being right on the share of votes.

    Parameters
    ----------
    shares
        Share of the votes that the winner had (n).
    right
        Whether the winner was right (n).

    Returns
    -------
    Calibration
        Chances are kept off 0 and 1 by 1 / (n + 2): n cases cannot tell a rarer event from none.
    """
    from sklearn.isotonic import IsotonicRegression

    n = len(shares)
    margin = 1.0 / (n + 2)
    curve = IsotonicRegression(y_min=margin, y_max=1.0 - margin).fit(shares, right.astype(np.float64))
    return Calibration(np.asarray(curve.X_thresholds_), np.asarray(curve.y_thresholds_), n)


def stand_ins(
    z_ref: np.ndarray, z_query: np.ndarray, k: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]] | None:
    """Reference cells asked as if they were query cells: each is seen from the query cell next to it.

    A reference cell's own neighbourhood is denser and purer than what a cell of another modality finds around it. The
    :data:`STAND_INS` nearest query cells lie where query cells lie; the neighbours of each, without the reference cell
    itself, are asked for the label of the reference cell, which is known.

    Parameters
    ----------
    z_ref, z_query
        Latents, n_ref x d and n_query x d.
    k
        Neighbours asked.

    Returns
    -------
    (cells, indices, distances)
        Reference cells (n, each as often as it has stand-ins), their stand-ins' neighbours among the reference and
        the distances of these (both n x k, nearest first). None where there is too little to calibrate by.
    """
    n = len(z_ref)
    if n < LEAST_CELLS or len(z_query) == 0 or k >= n:
        return None
    cells = np.arange(n)
    if n > MOST_CELLS:
        cells = np.sort(np.random.default_rng(0).choice(n, MOST_CELLS, replace=False))
    beside = nearest_neighbours(z_query, z_ref[cells], STAND_INS)[0]
    cells, beside = np.repeat(cells, beside.shape[1]), beside.ravel()
    asked, place = np.unique(beside, return_inverse=True)
    indices, distances = nearest_neighbours(z_ref, z_query[asked], k + 1)
    indices, distances = indices[place], distances[place]
    out = indices == cells[:, None]
    # a cell that is not among its stand-in's neighbours leaves the farthest place free
    out[~out.any(axis=1), -1] = True
    return cells, indices[~out].reshape(-1, k), distances[~out].reshape(-1, k)


def calibration_error(confidence: Any, right: Any, bins: int = 10) -> float:
    """Expected calibration error: how far confidence is from accuracy, bin by bin.

    Parameters
    ----------
    confidence
        From 0 to 1 (n).
    right
        Whether each was right (n).
    bins
        Of equal width, from 0 to 1.

    Returns
    -------
    float
        Mean over cells of the absolute difference between a bin's mean confidence and its share of right ones; NaN
        without cells. 0 is perfect. (Naeini et al., AAAI 2015.)
    """
    table = reliability(confidence, right, bins)
    if table.empty:
        return float("nan")
    gap = (table["confidence"] - table["accuracy"]).abs()
    return float((gap * table["cells"]).sum() / table["cells"].sum())


def reliability(confidence: Any, right: Any, bins: int = 10) -> pd.DataFrame:
    """Accuracy against confidence in bins of equal width.

    Parameters
    ----------
    confidence, right, bins
        See :func:`calibration_error`. Cells without a confidence (NaN) are left out.

    Returns
    -------
    DataFrame
        One row per bin that has cells: `low`, `high`, `cells`, `confidence` (mean), `accuracy`.

    Raises
    ------
    ValueError
        Lengths differ or confidences beyond 0 and 1.
    """
    values, hits = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if values.shape != hits.shape or values.ndim != 1:
        raise ValueError(f"confidence {values.shape} and right {hits.shape} must be one value a cell each")
    there = np.isfinite(values)
    values, hits = values[there], hits[there]
    if len(values) and (values.min() < 0 or values.max() > 1):
        raise ValueError("confidences must lie between 0 and 1")
    which = np.minimum((values * bins).astype(int), bins - 1)
    cells = np.bincount(which, minlength=bins)
    filled = np.flatnonzero(cells)
    return pd.DataFrame(
        {
            "low": filled / bins,
            "high": (filled + 1) / bins,
            "cells": cells[filled],
            "confidence": np.bincount(which, values, bins)[filled] / cells[filled],
            "accuracy": np.bincount(which, hits, bins)[filled] / cells[filled],
        }
    )
