"""How often a transferred label is right, as far as that can be told without the query's labels.

The share of the votes that a label wins is the chance that it is right as long as a query cell's place is as sure as
those of the reference cells that vote. A modality that measures a cell less clearly puts it now here, now there, and
next to cells of one label all the same: the share is then too high. So the vote is held again where the query cells
could as well have been placed (:mod:`scmodal.redraw`), as far as their noise exceeds that of the reference.
:func:`calibration_error` and :func:`reliability` compare confidences with a known truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True)
class Calibration:
    """A rising curve from shares of votes to the chance of being right.

    Attributes
    ----------
    shares, chances
        Knots of the curve, both ascending; between them it is linear, beyond them flat.
    """

    shares: NDArray[np.float64]
    chances: NDArray[np.float64]

    def __call__(self, shares: NDArray[np.float64]) -> NDArray[np.float64]:
        """Chances (n) for shares (n)."""
        return np.asarray(np.interp(shares, self.shares, self.chances))


def off_certainty(chances: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chances (n, or n x levels) kept off 0 and 1 by 1 / (n + 2): n cases cannot tell a rarer event from none."""
    margin = _margin(len(chances))
    return np.clip(chances, margin, 1.0 - margin)


def _margin(n: int) -> float:
    return 1.0 / (n + 2)


def fit_curve(shares: NDArray[np.float64], again: NDArray[np.float64]) -> Calibration:
    """Isotonic regression, on the share of votes, of the share that the same label has when the vote is held again.

    Parameters
    ----------
    shares
        Share of the votes that the winner had (n).
    again
        Its share at the cell's other place (n).

    Returns
    -------
    Calibration
        Its chances are kept off 0 and 1 as by :func:`off_certainty`.
    """
    from sklearn.isotonic import IsotonicRegression

    margin = _margin(len(shares))
    curve = IsotonicRegression(y_min=margin, y_max=1.0 - margin).fit(shares, again)
    return Calibration(np.asarray(curve.X_thresholds_), np.asarray(curve.y_thresholds_))


def other_places(
    z_ref: np.ndarray, ref_redrawn: np.ndarray, z_query: np.ndarray, query_redrawn: np.ndarray
) -> tuple[NDArray[np.intp], NDArray[np.float64]] | None:
    """Where query cells would lie, had they been measured anew, beyond what holds for the reference, too.

    Noise adds up by its variance. A place is moved by the displacement that :mod:`scmodal.redraw` found, times the
    square root of the share of its variance that exceeds that of the reference.

    Parameters
    ----------
    z_ref, z_query
        Latents, n_ref x d and n_query x d.
    ref_redrawn, query_redrawn
        The same cells' redrawn latents, of the same shapes; rows of NaN for cells that were not redrawn.

    Returns
    -------
    (cells, places)
        Positions of the query cells that were redrawn (n) and their other places (n x d). None where the query is no
        noisier than the reference, or nothing was redrawn.
    """
    moved = [
        np.asarray(b, np.float64) - np.asarray(a, np.float64)
        for a, b in ((z_ref, ref_redrawn), (z_query, query_redrawn))
    ]
    known = [np.isfinite(item).all(axis=1) for item in moved]
    if not (known[0].any() and known[1].any()):
        return None
    noise = [float(np.square(item[rows]).sum(axis=1).mean()) for item, rows in zip(moved, known)]
    if noise[1] <= noise[0]:
        return None
    cells = np.flatnonzero(known[1])
    return cells, np.asarray(z_query, np.float64)[cells] + (1.0 - noise[0] / noise[1]) ** 0.5 * moved[1][cells]


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
