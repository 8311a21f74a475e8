"""What a unit of cells has: the accessibility of its peaks and the imputed expression of its genes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp

UNITS_AT_A_TIME = 32
"""Units whose cells are taken together: what is in memory of the peaks grows with it."""

CELLS_AT_A_TIME = 2048


def accessibility(units: sp.csr_matrix, peaks: Any) -> np.ndarray:
    """Accessibility of every peak in every unit.

    Counts of a unit's cells are summed, brought to the median total of the units, and log1p is taken.

    Parameters
    ----------
    units
        Units x cells, 0 or 1.
    peaks
        Raw counts, cells x peaks: CSR, or anything whose rows come as CSR when they are sliced. Only the rows of cells
        that are in a unit are read, and nothing of it is made dense.

    Returns
    -------
    ndarray
        Peaks x units, float32 (a row a peak, for what is done with it next).
    """
    n_units, n_peaks = units.shape[0], peaks.shape[1]
    out = np.empty((n_peaks, n_units), np.float32)
    totals = np.empty(n_units)
    for start in range(0, n_units, UNITS_AT_A_TIME):
        block = units[start : start + UNITS_AT_A_TIME]
        cells = np.unique(block.indices)
        counts = sp.csr_matrix(peaks[cells]).astype(np.float32)
        summed = (block[:, cells] @ counts).toarray()
        totals[start : start + len(summed)] = summed.sum(axis=1, dtype=np.float64)
        out[:, start : start + len(summed)] = summed.T
    factor = np.divide(np.median(totals), totals, out=np.zeros(n_units), where=totals > 0)
    out *= factor.astype(np.float32)
    return np.log1p(out, out=out)


def cells_open(units: sp.csr_matrix, peaks: Any) -> np.ndarray:
    """In how many of the cells that are in any unit each peak has a count (one number a peak).

    Parameters
    ----------
    units, peaks
        As of :func:`accessibility`.
    """
    found = np.zeros(peaks.shape[1], np.int64)
    for cells, _ in cell_chunks(units):
        counts = sp.csr_matrix(peaks[cells])
        found += np.bincount(counts.indices[counts.data > 0], minlength=len(found))  # zeros may be stored
    return found


def unit_means(units: sp.csr_matrix, values: Any, features: np.ndarray | None = None) -> np.ndarray:
    """Mean of measured values over each unit's cells: features x units, float32.

    Parameters
    ----------
    units
        Units x cells, 0 or 1. A unit without cells has NaN.
    values
        Cells x features, dense or sparse.
    features
        Columns to take; all without.
    """
    part = values if features is None else values[:, features]
    total = units @ part
    total = total.toarray() if sp.issparse(total) else np.asarray(total)
    size = np.asarray(units.sum(axis=1), dtype=np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.ascontiguousarray((total / size).T, dtype=np.float32)


def cell_chunks(units: sp.csr_matrix, size: int = CELLS_AT_A_TIME) -> Iterator[tuple[np.ndarray, sp.csr_matrix]]:
    """The cells that are in any unit, some at a time: their numbers (sorted), and units x these cells."""
    cells = np.unique(units.indices)
    by_cell = units.tocsc()
    for start in range(0, len(cells), size):
        part = cells[start : start + size]
        yield part, by_cell[:, part].tocsr()
