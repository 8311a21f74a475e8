"""Highly variable genes as seurat_v3 ranks them, in passes over blocks of cells."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .rows import CountView

SPANS = (0.3, 0.6, 1.0)  # of the loess fit behind seurat_v3; wider ones hold where data are few


@dataclass
class _BatchSums:
    """Sums over the counts of each batch; of counts, so they are exact."""

    n: np.ndarray
    """Cells of each batch."""
    mean: np.ndarray
    """Batches x genes."""
    variance: np.ndarray


def _batch_sums(counts: CountView, batches: np.ndarray) -> _BatchSums:
    """Mean and variance (ddof 1) of each gene within each batch; cells of batch -1 are left out."""
    n, p = int(batches.max()) + 1, counts.shape[1]
    total, squares = np.zeros(n * p), np.zeros(n * p)
    for place, values in _batch_values(counts, batches):
        total += np.bincount(place, weights=values, minlength=n * p)
        squares += np.bincount(place, weights=np.square(values, dtype=np.float64), minlength=n * p)
    size = np.bincount(batches[batches >= 0], minlength=n)
    mean = total.reshape(n, p) / size[:, None]
    variance = (squares.reshape(n, p) / size[:, None] - np.square(mean)) * (size / (size - 1))[:, None]
    return _BatchSums(size, mean, variance)


def _batch_values(counts: CountView, batches: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """In blocks, the place of each count in a table of batches x genes, and the count."""
    start, p = 0, counts.shape[1]
    for part in counts.blocks():
        batch = np.repeat(batches[start : start + part.shape[0]], np.diff(part.indptr))
        start += part.shape[0]
        used = batch >= 0
        yield batch[used] * p + part.indices[used], part.data[used]


def seurat_v3(counts: CountView, batches: np.ndarray, n_top: int) -> tuple[np.ndarray | None, float]:
    """Ranking of seurat_v3 with the narrowest span of the loess fit that works.

    The formula is that of scanpy (``sc.pp.highly_variable_genes``), which needs the whole matrix in memory; here it
    is two passes over blocks of cells.

    Parameters
    ----------
    counts
        Raw counts.
    batches
        Number of each cell's batch, from 0; -1 leaves a cell out.
    n_top
        Genes to choose.

    Returns
    -------
    order
        Positions of the chosen genes, the most variable first; None if no span works.
    span
        Of the fit, as a fraction of the genes.
    """
    from skmisc.loess import loess

    sums = _batch_sums(counts, batches)
    varying = sums.variance > 0
    for span in SPANS:
        # The compiled fit ends the whole process, without an exception, when its window holds no point.
        if int(varying.sum(1).min() * span) < 3:
            continue
        expected = np.zeros_like(sums.mean)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                for b, varies in enumerate(varying):
                    fit = loess(np.log10(sums.mean[b, varies]), np.log10(sums.variance[b, varies]), span=span, degree=2)
                    fit.fit()
                    expected[b, varies] = fit.outputs.fitted_values
        except (ValueError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError):
            continue  # the fit has no solution with so few different means: widen it
        if not np.isfinite(expected).all():
            continue
        return _most_variable(_standardised_variance(counts, batches, sums, np.sqrt(10**expected)), n_top), span
    return None, 0.0


def _standardised_variance(
    counts: CountView, batches: np.ndarray, sums: _BatchSums, expected: np.ndarray
) -> np.ndarray:
    """Variance of the counts over the one expected at their mean, large counts clipped: batches x genes."""
    n = sums.n[:, None]
    clip = (expected * np.sqrt(n) + sums.mean).ravel()
    total, squares = np.zeros(clip.size), np.zeros(clip.size)
    for place, values in _batch_values(counts, batches):
        clipped = np.minimum(values, clip[place])
        total += np.bincount(place, weights=clipped, minlength=clip.size)
        squares += np.bincount(place, weights=np.square(clipped), minlength=clip.size)
    total, squares = total.reshape(expected.shape), squares.reshape(expected.shape)
    return (n * np.square(sums.mean) + squares - 2 * total * sums.mean) / ((n - 1) * np.square(expected))


def _most_variable(variance: np.ndarray, n_top: int) -> np.ndarray:
    """Positions of the genes by their median rank over the batches in which they are among the first `n_top`."""
    ranks = np.argsort(np.argsort(-variance, axis=1), axis=1).astype(np.float64)
    ranks[ranks >= n_top] = np.nan
    in_batches = np.isfinite(ranks).sum(0)
    chosen = np.flatnonzero(in_batches)
    median = np.nanmedian(ranks[:, chosen], axis=0)
    frame = pd.DataFrame({"rank": median, "batches": in_batches[chosen]}, index=chosen)
    return frame.sort_values(["rank", "batches"], ascending=[True, False], kind="stable").index.to_numpy()[:n_top]
