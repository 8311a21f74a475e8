"""Chromatin data in any form that people have them, brought to gene activity with the peaks beside it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from . import io
from .contracts import InputError
from .fragments import MIN_FRAGMENTS, read_cells, read_fragments
from .gene_activity import UPSTREAM, activity_weights, check_mode, gene_activity
from .genes import read_genes
from .genome import match_genome
from .intervals import has_peaks, parse_peaks, peak_names, read_peaks

if TYPE_CHECKING:
    from anndata import AnnData

PEAKS = io.PEAKS

LSI = "X_lsi"
"""Key of the components of the peaks in ``obsm``."""


@dataclass(frozen=True)
class AtacOptions:
    """How chromatin data are read and turned into gene activity."""

    genes: str | Path | pd.DataFrame | None = None
    """BED file or GTF (:func:`scmodal.genes.read_genes`), or the table read from it."""
    genome: str = ""
    """Name of the genome build: noted, nothing else."""
    peaks: str | Path | None = None
    """BED file of peaks to count fragments in; default tiles."""
    cells: str | Path | None = None
    """Cells of a fragments file (:func:`scmodal.fragments.read_cells`)."""
    min_fragments: int = MIN_FRAGMENTS
    """Fragments of a barcode that is a cell, where no cells are given."""
    gene_activity: str = "body"
    """``body`` or ``weighted``, see :func:`scmodal.gene_activity.activity_weights`."""
    upstream: int = UPSTREAM
    """Base pairs."""
    check_build: bool = True
    """Refuse genes of another genome build."""

    def table(self) -> pd.DataFrame | None:
        """The genes, read if need be."""
        if self.genes is None or isinstance(self.genes, pd.DataFrame):
            return self.genes
        return read_genes(self.genes)


def _need_genes(name: str, what: str) -> InputError:
    return InputError(
        f"{name}: holds {what}, from which gene activity is computed; give --genes (a GTF or BED file of the genes of "
        "the genome that the data were mapped to)"
    )


def read_atac(path: str | Path, options: AtacOptions, obs_columns: Collection[str] = ()) -> AnnData:
    """Read chromatin data: peaks or gene activity in any format of matrices, or a fragments file.

    Parameters
    ----------
    path
        See :func:`scmodal.io.read_modality`; or a fragments file (:func:`scmodal.fragments.read_fragments`).
    options
        Genes are needed for fragments.
    obs_columns
        Columns of a table that are annotation of the cells although they hold numbers.

    Returns
    -------
    AnnData
        In the form of the readers. Peaks are named ``chrom:start-end``, in whichever spelling they were.

    Raises
    ------
    InputError
        Whatever is wrong with the file, or genes that are missing or of another build.
    """
    path = Path(path)
    if io.sniff(path) != "fragments":
        adata = io.read_modality(path, "atac", obs_columns=obs_columns)
        if has_peaks(adata.var):
            adata.var_names = pd.Index(peak_names(parse_peaks(adata.var, str(path))))
        return adata
    genes = options.table()
    if genes is None:
        raise _need_genes(str(path), "fragments")
    peaks = None if options.peaks is None else read_peaks(str(options.peaks))
    cells = None if options.cells is None else read_cells(options.cells)
    return read_fragments(path, genes, peaks, cells, options.min_fragments, options.check_build)


def to_gene_activity(adata: AnnData, options: AtacOptions, name: str = "the ATAC data") -> AnnData:
    """From peaks to gene activity, with the peaks kept beside it.

    Parameters
    ----------
    adata
        In the form of the readers; not changed.
    options
        Genes are needed if the features are peaks.
    name
        What to call the data in messages.

    Returns
    -------
    AnnData
        Cells x genes: counts of gene activity in ``layers["counts"]`` and ``X``; ``var`` with ``chrom``, ``start``,
        ``end``, ``strand`` and ``gene_id``; ``obsm["peaks"]`` the counts of the peaks, whose names are in
        ``uns["scmodal"]["peaks"]``. Data that hold gene activity already have no peaks, and keep their features.

    Raises
    ------
    InputError
        Peaks without genes, faulty peaks, genes of another build.
    """
    from anndata import AnnData

    check_mode(options.gene_activity)
    own = dict(adata.uns["scmodal"])
    messages = list(own.get("messages", []))
    if not has_peaks(adata.var):
        messages.append(
            f"{name}: the features are taken for genes, and the counts for gene activity; without peaks, links of "
            "peaks and genes cannot be sought."
        )
        result = adata.copy()
        result.uns["scmodal"] = own | {"messages": messages, "genome": options.genome}
        return result
    genes = options.table()
    if genes is None:
        raise _need_genes(name, "peaks")
    messages += [str(text) for text in genes.attrs.get("messages", [])]
    peaks = parse_peaks(adata.var, name)
    starts, ends = peaks["start"].to_numpy(), peaks["end"].to_numpy()
    # Fragments were held against the genes when they were read: tiles could not be.
    if own.get("counts_from") == "fragments":
        chrom = peaks["chrom"].to_numpy()
    else:
        chrom, said = match_genome(
            chrom=peaks["chrom"].to_numpy(),
            start=starts,
            end=ends,
            genes=genes,
            name=name,
            what="peaks",
            check=options.check_build,
        )
        messages += said
    peaks["chrom"] = chrom
    counts = adata.layers["counts"]
    if counts.nnz and counts.data.max() == 1 and counts.data.min() == 1:
        messages.append(
            f"{name}: the counts of the peaks are all 0 or 1: they were binarised, and are taken as they are."
        )
    activity = gene_activity(counts, activity_weights(peaks, genes, options.gene_activity, options.upstream))
    if activity.nnz == 0:
        raise InputError(f"{name}: no peak with a count lies in a gene; give the genes of the genome of these data")
    result = AnnData(
        X=activity,
        obs=adata.obs.copy(),
        var=genes[["chrom", "start", "end", "strand", "gene_id"]].set_index(pd.Index(genes["gene"].to_numpy(object))),
        layers={"counts": activity},
        obsm={**dict(adata.obsm), PEAKS: counts},
    )
    how = (
        "the gene and what lies"
        if options.gene_activity == "body"
        else "the gene, around it (the less the further), and"
    )
    with_peaks = int((np.bincount(activity.indices, minlength=activity.shape[1]) > 0).sum())
    messages.append(
        f"{name}: activity of {with_peaks:,} genes was summed from {len(peaks):,} peaks: those in {how} up to "
        f"{options.upstream:,} bp upstream."
    )
    result.uns["scmodal"] = own | {
        "messages": messages,
        "genome": options.genome,
        "gene_activity": {"upstream": int(options.upstream), "mode": options.gene_activity},
        PEAKS: peak_names(peaks),
    }
    return result
