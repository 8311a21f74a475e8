"""Correlations of many pairs of rows at once."""

from __future__ import annotations

import numpy as np

PAIRS_AT_A_TIME = 16_384
ROWS_AT_A_TIME = 4_096


def standardise(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of mean 0 and length 1, so that a dot product is a Pearson correlation.

    Parameters
    ----------
    values
        Rows x units.

    Returns
    -------
    (rows, varies)
        Float32 of the same shape, and which rows vary at all (those that do not are 0).
    """
    out = np.empty(values.shape, np.float32)
    varies = np.empty(len(values), bool)
    for start in range(0, len(values), ROWS_AT_A_TIME):
        part = values[start : start + ROWS_AT_A_TIME].astype(np.float64)
        part -= part.mean(axis=1, keepdims=True)
        length = np.linalg.norm(part, axis=1)
        size = np.abs(values[start : start + ROWS_AT_A_TIME]).max(axis=1, initial=0.0)
        # what is left of a constant row after rounding is not variation
        good = length > 1e-6 * np.maximum(size, 1e-6) * np.sqrt(values.shape[1])
        out[start : start + len(part)] = np.where(good[:, None], part / np.where(good, length, 1.0)[:, None], 0.0)
        varies[start : start + len(part)] = good
    return out, varies


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks within each row, ties sharing their mean rank, standardised as :func:`standardise` does (float32)."""
    from scipy.stats import rankdata

    out = np.empty(values.shape, np.float32)
    for start in range(0, len(values), ROWS_AT_A_TIME):
        rows = slice(start, start + ROWS_AT_A_TIME)
        out[rows] = standardise(rankdata(values[rows], axis=1))[0]
    return out


def pair_correlations(a: np.ndarray, b: np.ndarray, in_a: np.ndarray, in_b: np.ndarray) -> np.ndarray:
    """Dot products of chosen pairs of rows.

    Parameters
    ----------
    a, b
        Standardised rows of the same width.
    in_a, in_b
        Numbers of the rows of each pair, equally long.

    Returns
    -------
    ndarray
        One correlation a pair, float32, within -1 and 1.
    """
    out = np.empty(len(in_a), np.float32)
    for start in range(0, len(in_a), PAIRS_AT_A_TIME):
        rows = slice(start, start + PAIRS_AT_A_TIME)
        out[rows] = np.einsum("ij,ij->i", a[in_a[rows]], b[in_b[rows]])
    return np.clip(out, -1.0, 1.0, out=out)


def fisher(r: np.ndarray) -> np.ndarray:
    """Fisher's transform, under which correlations spread alike whether they are near 0 or near 1."""
    return np.arctanh(np.clip(r, -0.9999, 0.9999))
