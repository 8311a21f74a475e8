"""Gene activity: how accessible each cell's chromatin is at each gene, from counts of peaks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from .contracts import InputError
from .intervals import overlapping_pairs
from .rows import BLOCK, CountView, join_blocks

MODES = ("body", "weighted")
"""``body``: the sum of a gene's peaks; ``weighted``: further peaks, too, the less the further away they are."""

UPSTREAM = 2000
"""Base pairs before a transcription start that belong to the gene."""

DECAY = 5000.0
"""Base pairs outside a gene over which the weight of a peak falls to 1/e (mode ``weighted``)."""

WINDOW = 35_000
"""Base pairs outside a gene beyond which peaks do not count (mode ``weighted``): weights below a thousandth would fill
the matrix and change nothing."""


def check_mode(mode: str) -> None:
    """Refuse an unknown mode."""
    if mode not in MODES:
        raise InputError(f"unknown gene activity {mode!r} (known: {', '.join(MODES)})")


def _bodies(genes: pd.DataFrame, upstream: int) -> pd.DataFrame:
    """Genes with what lies upstream of them."""
    plus = (genes["strand"] == "+").to_numpy()
    start = np.maximum(genes["start"].to_numpy() - np.where(plus, upstream, 0), 0)
    end = genes["end"].to_numpy() + np.where(plus, 0, upstream)
    return pd.DataFrame({"chrom": genes["chrom"].to_numpy(), "start": start, "end": end})


def activity_weights(
    peaks: pd.DataFrame, genes: pd.DataFrame, mode: str = "body", upstream: int = UPSTREAM
) -> sp.csr_matrix:
    """With which weight each peak counts for each gene.

    Parameters
    ----------
    peaks
        ``chrom``, ``start`` and ``end`` (base pairs, half-open).
    genes
        From :func:`scmodal.genes.read_genes`.
    mode
        ``body``: 1 for a peak that overlaps the gene or `upstream` base pairs before its start, else 0. ``weighted``:
        outside of that, ``exp(-distance / DECAY)`` up to :data:`WINDOW`.
    upstream
        Base pairs.

    Returns
    -------
    Peaks x genes, float32 CSR.

    Raises
    ------
    InputError
        Unknown mode.
    """
    check_mode(mode)
    bodies = _bodies(genes, upstream)
    reach = bodies
    if mode == "weighted":
        reach = bodies.assign(start=np.maximum(bodies["start"] - WINDOW, 0), end=bodies["end"] + WINDOW)
    gene, peak = overlapping_pairs(reach, peaks)
    weight = np.ones(len(gene), np.float32)
    if mode == "weighted":
        start, end = bodies["start"].to_numpy()[gene], bodies["end"].to_numpy()[gene]
        before = start - peaks["end"].to_numpy()[peak]
        behind = peaks["start"].to_numpy()[peak] - end
        distance = np.maximum(np.maximum(before, behind), 0)
        weight = np.exp(-distance / DECAY).astype(np.float32)
    return sp.csr_matrix((weight, (peak, gene)), shape=(len(peaks), len(genes)))


def gene_activity(counts: Any, weights: sp.csr_matrix) -> sp.csr_matrix:
    """Activity of each gene in each cell: counts of peaks times their weights, in blocks of cells.

    Parameters
    ----------
    counts
        Cells x peaks.
    weights
        Peaks x genes, from :func:`activity_weights`.

    Returns
    -------
    Cells x genes, float32 CSR; whole numbers where counts and weights are.
    """

    def products() -> Iterator[sp.csr_matrix]:
        for block in CountView(counts).blocks(BLOCK):
            product = sp.csr_matrix(block @ weights, dtype=np.float32)
            product.sort_indices()
            yield product

    return join_blocks(products(), weights.shape[1])
