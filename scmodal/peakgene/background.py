"""How strongly a gene correlates with peaks that cannot regulate it: those of other chromosomes.

Imputed expression and accessibility both follow the kind of cell, so that a gene correlates with half of the genome. A
peak near it says something only if it correlates more than peaks of other chromosomes that are as accessible (and,
where the sequence is known, as rich in G and C).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from scmodal.contracts import DataError
from scmodal.peakgene.correlation import fisher

MAX_BINS = 25
"""Bins of accessibility, at most."""

GC_BINS = 4
"""Bins of G and C within a bin of accessibility, where the sequence is known."""

MIN_BACKGROUND = 20
"""Background peaks that a bin must have."""

GENES_AT_A_TIME = 256

NULL_SIZE = 10_000_000
"""Background scores kept as the null distribution; they decide how small a p-value can be."""


@dataclass
class Background:
    """Peaks outside of one chromosome, sampled within bins; and how tested peaks find their bin.

    Attributes
    ----------
    peaks
        Bins x peaks a bin: row numbers of the sampled peaks, in random order within a bin.
    accessibility_edges
        Upper ends of all bins of accessibility but the last.
    gc_edges
        Bins of accessibility x (bins of GC - 1): upper ends; of width 0 without sequence.
    """

    peaks: np.ndarray
    accessibility_edges: np.ndarray
    gc_edges: np.ndarray

    def bins(self, accessibility: np.ndarray, gc: np.ndarray | None) -> np.ndarray:
        """Bin of each of some peaks, by their accessibility and (where the bins are of both) GC content."""
        level = np.searchsorted(self.accessibility_edges, accessibility, side="left")
        n_gc = self.gc_edges.shape[1] + 1
        if n_gc == 1 or gc is None:
            return level
        return level * n_gc + (gc[:, None] > self.gc_edges[level]).sum(axis=1)


def sample_background(
    candidates: np.ndarray, accessibility: np.ndarray, gc: np.ndarray | None, per_bin: int, rng: np.random.Generator
) -> Background:
    """Sort candidates into bins of equal size and sample from each.

    Parameters
    ----------
    candidates
        Row numbers of the peaks that may be background.
    accessibility, gc
        Of all peaks; `gc` may be None.
    per_bin
        Peaks to sample from a bin; fewer where a bin has fewer.
    rng
        Source of randomness.

    Raises
    ------
    DataError
        Fewer than :data:`MIN_BACKGROUND` candidates.
    """
    n = len(candidates)
    if n < MIN_BACKGROUND:
        raise DataError(
            f"only {n} peaks that are open in enough cells lie on other chromosomes than the tested genes, "
            f"{MIN_BACKGROUND} are needed to know how strong a correlation is by chance: give peaks of two chromosomes "
            "or more, or a smaller --min-cells"
        )
    room = max(1, n // max(per_bin, MIN_BACKGROUND))
    n_gc = min(GC_BINS, room) if gc is not None else 1
    n_levels = max(1, min(MAX_BINS, room // n_gc))
    # random order first: equal accessibilities are then parted at random, not by their place in the genome
    shuffled = rng.permutation(candidates)
    by_level = np.array_split(shuffled[np.argsort(accessibility[shuffled], kind="stable")], n_levels)
    edges = np.array([accessibility[part[-1]] for part in by_level[:-1]])
    gc_edges = np.zeros((n_levels, n_gc - 1))
    bins: list[np.ndarray] = []
    for level, part in enumerate(by_level):
        if gc is None or n_gc == 1:
            bins.append(part)
            continue
        split = np.array_split(part[np.argsort(gc[part], kind="stable")], n_gc)
        gc_edges[level] = [gc[s[-1]] for s in split[:-1]]
        bins += split
    size = min(per_bin, min(len(b) for b in bins))
    return Background(np.stack([rng.permutation(b)[:size] for b in bins]), edges, gc_edges)


@dataclass
class Chance:
    """What the background says of some genes.

    Attributes
    ----------
    mean, deviation
        Genes x bins: of the Fisher-transformed correlations with the bin's background peaks.
    null
        Scores that background peaks themselves get, each judged by the others of its bin (float32, flat).
    """

    mean: np.ndarray
    deviation: np.ndarray
    null: np.ndarray


def chance_of(genes: np.ndarray, peaks: np.ndarray, background: Background, kept: int) -> Chance:
    """Correlate genes with their background.

    Parameters
    ----------
    genes, peaks
        Standardised rows (genes x units, peaks x units).
    background
        Of the chromosome that these genes are on.
    kept
        Background peaks a bin whose own scores are kept as the null distribution.

    Returns
    -------
    Chance
    """
    n_bins, per_bin = background.peaks.shape
    columns = np.ascontiguousarray(peaks[background.peaks.ravel()].T)
    mean = np.empty((len(genes), n_bins), np.float32)
    deviation = np.empty((len(genes), n_bins), np.float32)
    nulls = []
    for start in range(0, len(genes), GENES_AT_A_TIME):
        rows = slice(start, start + GENES_AT_A_TIME)
        scores = fisher(genes[rows] @ columns).reshape(-1, n_bins, per_bin)
        mean[rows] = scores.mean(axis=2)
        deviation[rows] = scores.std(axis=2, ddof=1)
        if kept:
            own = scores[:, :, :kept]
            nulls.append(_left_out(own, mean[rows, :, None], deviation[rows, :, None], per_bin).ravel())
    np.maximum(deviation, 1e-6, out=deviation)
    return Chance(mean, deviation, np.concatenate(nulls) if nulls else np.zeros(0, np.float32))


def _left_out(scores: np.ndarray, mean: np.ndarray, deviation: np.ndarray, n: int) -> np.ndarray:
    """Each score in deviations from the mean of the n - 1 others of its bin.

    Mean and deviation of the others follow from those of all, so that nothing is computed again.
    """
    away = scores - mean
    squares = np.square(deviation) * (n - 1) - np.square(away) * (n / (n - 1))
    others = np.sqrt(np.maximum(squares / (n - 2), 1e-12))
    return away * (n / (n - 1)) / others


def p_values(z: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Two-sided empirical p: twice the smaller of the shares of null scores at or above, and at or below, a score.

    Each tail is taken by itself, since the null need be neither normal nor symmetric. The score itself counts as one
    of the null, so that no p is 0: the smallest is 2 / (number of null scores + 1).

    Parameters
    ----------
    z
        Scores.
    null
        Scores of the background; sorted or not.
    """
    ordered = np.sort(null)
    above = len(ordered) - np.searchsorted(ordered, z.astype(ordered.dtype), side="left")
    below = np.searchsorted(ordered, z.astype(ordered.dtype), side="right")
    return np.minimum(1.0, 2.0 * (np.minimum(above, below) + 1.0) / (len(ordered) + 1.0))


def four_digits(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1, rounded to the four digits that ``"%.4g"`` writes of them; those under 1e-18 stay."""
    exponent = np.floor(np.log10(np.maximum(values, 1e-18)))
    # powers of ten to 22 are exact, so the quotient is the decimal's own double
    scale = 10.0 ** np.minimum(3 - exponent, 22)
    return np.where(values < 1e-18, values, np.round(values * scale) / scale)


def false_discovery_rates(p: np.ndarray) -> np.ndarray:
    """Benjamini and Hochberg's adjusted p-values; of none, none."""
    from scipy.stats import false_discovery_control

    return np.asarray(false_discovery_control(p, method="bh")) if len(p) else np.zeros(0)
