"""Correlate every gene with the peaks near it and judge each correlation by the background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from scmodal.contracts import DataError, InputError
from scmodal.peakgene.background import (
    NULL_SIZE,
    Background,
    chance_of,
    false_discovery_rates,
    four_digits,
    p_values,
    sample_background,
)
from scmodal.peakgene.correlation import fisher, pair_correlations, ranks, standardise


@dataclass(frozen=True)
class LinkSettings:
    """What a search for links can be told; InputError for numbers out of range."""

    window: int = 250_000
    """Base pairs to either side of the start of transcription in which peaks are tested."""
    n_units: int = 500
    """Units of alike cells, at most."""
    unit_size: int = 50
    """Cells of a unit."""
    max_overlap: float = 0.5
    """Greatest share of its cells that a unit has in common with any other."""
    min_cells: int = 10
    """Cells (of the units) that a peak must be open in. One of a single cell is open in the units of that cell and in
    no other, as many more are: its correlations are those of the cell, and the background's hardly vary."""
    background: int = 200
    """Peaks of other chromosomes in each bin of accessibility (and GC)."""
    fdr: float = 0.05
    """False discovery rate up to which a link counts as one."""
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"--{option} must be {what}, not {value}"
            for option, value, good, what in (
                ("window", self.window, self.window >= 1, "1 or more base pairs"),
                ("n-units", self.n_units, self.n_units >= 10, "10 or more"),
                ("unit-size", self.unit_size, self.unit_size >= 1, "1 or more cells"),
                ("max-overlap", self.max_overlap, 0 <= self.max_overlap <= 1, "between 0 and 1"),
                ("min-cells", self.min_cells, self.min_cells >= 1, "1 or more cells"),
                ("background", self.background, self.background >= 20, "20 or more peaks"),
                ("fdr", self.fdr, 0 < self.fdr < 1, "between 0 and 1"),
                ("seed", self.seed, self.seed >= 0, "0 or more"),
            )
            if not good
        ]
        if problems:
            raise InputError(problems)


def link_peaks(
    expression: np.ndarray,
    accessibility: np.ndarray,
    genes: pd.DataFrame,
    peaks: pd.DataFrame,
    pairs: pd.DataFrame,
    settings: LinkSettings | None = None,
    gc: np.ndarray | None = None,
    usable: np.ndarray | None = None,
) -> pd.DataFrame:
    """Test chosen pairs of genes and peaks over units of cells.

    The correlation r of a pair is Fisher-transformed and expressed in standard deviations (z) from the mean of what
    the same gene has with background peaks: peaks of other chromosomes of the same bin of accessibility (and GC). The
    p-value is the share of scores as extreme among the background peaks themselves, each judged by the others of its
    bin, pooled over genes (:func:`~scmodal.peakgene.background.p_values`).

    Parameters
    ----------
    expression
        Genes x units, log-normalised.
    accessibility
        Peaks x units, log-normalised.
    genes, peaks
        Their places: `chrom` is needed of both.
    pairs
        Row numbers `gene` and `peak` of the pairs to test, as of :func:`~scmodal.peakgene.pairs.pairs_within`.
    settings
        Size of the background and seed are used.
    gc
        Share of G and C of every peak; without it the background is matched in accessibility alone.
    usable
        Whether each peak may be tested and be background; all may without it.

    Returns
    -------
    DataFrame
        The rows of `pairs` whose peak is usable and whose gene and peak vary between the units, with `r`, `spearman`,
        `z`, `p` and `fdr` (Benjamini and Hochberg over all of them) added.

    Raises
    ------
    DataError
        Too few peaks on other chromosomes.
    """
    settings = settings or LinkSettings()
    rng = np.random.default_rng(settings.seed)
    gene_rows, gene_varies = standardise(expression)
    peak_rows, peak_varies = standardise(accessibility)
    if usable is not None:
        peak_varies = peak_varies & usable
    gene, peak = pairs["gene"].to_numpy(), pairs["peak"].to_numpy()
    kept = gene_varies[gene] & peak_varies[peak]
    table = pairs[kept].reset_index(drop=True)
    gene, peak = gene[kept], peak[kept]
    table["r"] = pair_correlations(gene_rows, peak_rows, gene, peak)

    level = accessibility.mean(axis=1, dtype=np.float64)
    chroms = genes["chrom"].to_numpy()
    eligible = np.flatnonzero(peak_varies)
    chrom_of_peak = peaks["chrom"].to_numpy()
    z = np.full(len(table), np.nan, np.float32)
    nulls = []
    tested = np.unique(gene)
    of_pair = chroms[gene]
    for chrom in pd.unique(chroms[tested]):
        candidates = eligible[chrom_of_peak[eligible] != chrom]
        background = sample_background(candidates, level, gc, settings.background, rng)
        own = tested[chroms[tested] == chrom]
        chance = chance_of(gene_rows[own], peak_rows, background, _kept(background, len(tested)))
        nulls.append(chance.null)
        rows = np.flatnonzero(of_pair == chrom)
        at = np.searchsorted(own, gene[rows])
        bins = background.bins(level[peak[rows]], None if gc is None else gc[peak[rows]])
        r = table["r"].to_numpy()[rows]
        z[rows] = (fisher(r) - chance.mean[at, bins]) / chance.deviation[at, bins]
    table["z"] = z
    table["p"] = p_values(z, np.concatenate(nulls)) if nulls else np.zeros(0)
    # as written in the table, so that whoever takes the table's links by their rate takes those of the other files
    table["fdr"] = four_digits(false_discovery_rates(table["p"].to_numpy()))
    del gene_rows, peak_rows
    table["spearman"] = _spearman(expression, accessibility, gene, peak)
    return table


def _kept(background: Background, n_genes: int) -> int:
    """Background peaks a bin whose scores are kept, so that those of all genes together are about as many as wanted."""
    n_bins, per_bin = background.peaks.shape
    return int(np.clip(NULL_SIZE // (n_genes * n_bins), 1, per_bin))


def _spearman(expression: np.ndarray, accessibility: np.ndarray, gene: np.ndarray, peak: np.ndarray) -> np.ndarray:
    """Rank correlations of pairs; only rows that are in a pair are ranked."""
    genes, at_gene = np.unique(gene, return_inverse=True)
    peaks, at_peak = np.unique(peak, return_inverse=True)
    return pair_correlations(ranks(expression[genes]), ranks(accessibility[peaks]), at_gene, at_peak)


def other_correlation(
    table: pd.DataFrame, expression: np.ndarray, accessibility: np.ndarray, genes: np.ndarray | None = None
) -> np.ndarray:
    """Correlation of the same pairs with other values of the genes; NaN where there are none or they do not vary.

    Parameters
    ----------
    table
        From :func:`link_peaks`.
    expression
        Rows x units.
    accessibility
        Peaks x units.
    genes
        Row of `expression` of each gene, -1 where it has none; without it, gene i is row i.
    """
    gene, peak = table["gene"].to_numpy(), table["peak"].to_numpy()
    if genes is not None:
        gene = genes[gene]
    rows, varies = standardise(expression)
    there = gene >= 0
    there[there] = varies[gene[there]]
    r = np.full(len(table), np.nan, np.float32)
    used, at = np.unique(peak[there], return_inverse=True)
    r[there] = pair_correlations(rows, standardise(accessibility[used])[0], gene[there], at)
    return r


def check_chromosomes(genes: pd.DataFrame, peaks: pd.DataFrame, source: str) -> None:
    """Make sure that genes and peaks have a chromosome in common and peaks are on more than one.

    Raises
    ------
    InputError
        No chromosome in common.
    DataError
        All peaks are on one chromosome: there is no background.
    """
    there = pd.unique(peaks["chrom"])
    if not set(there) & set(genes["chrom"]):
        from scmodal.io import some

        raise InputError(
            f"{source}: its chromosomes ({some(list(pd.unique(genes['chrom'])))}) are none of the peaks' "
            f"({some(list(there))}): give the genes of the species and build that the peaks were called on"
        )
    if len(there) < 2:
        raise DataError(
            f"all peaks are on one chromosome ({there[0]}), but the null distribution comes from peaks of other "
            "chromosomes: give peaks of two chromosomes or more"
        )
