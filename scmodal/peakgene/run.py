"""From the files of an integration to a folder of links."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal._version import __version__
from scmodal.contracts import DataError, InputError, nearest
from scmodal.gene_activity import WINDOW
from scmodal.io import atomic_path, some, write_json
from scmodal.peakgene.aggregate import accessibility, cells_open, unit_means
from scmodal.peakgene.expression import imputed_expression
from scmodal.peakgene.formats import (
    ALL_CELLS,
    FIGURES,
    link_table,
    significant,
    write_bedpe,
    write_interact,
    write_table,
)
from scmodal.peakgene.inputs import PeakGeneData, cell_groups, read_inputs
from scmodal.peakgene.link import LinkSettings, link_peaks, other_correlation
from scmodal.peakgene.locus import column_places, expression_without_locus, locus_columns
from scmodal.peakgene.pairs import pairs_within
from scmodal.peakgene.units import MIN_UNITS, choose_units, fitting_size

DECAY_EDGES = (0, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 175_000, 250_000, 500_000, 1_000_000)
"""Distances, in base pairs, between which the share of tested pairs that are links is counted."""

FILES = ("peak_gene.tsv.gz", "peak_gene.bedpe", "peak_gene.interact", "peak_gene.json")


@dataclass
class Request:
    """What is asked for beside the links themselves."""

    leave_locus_out: bool = False
    paired: bool = False
    group_key: str | None = None
    plot_genes: Sequence[str] = ()
    fasta: Path | None = None


@dataclass
class Found:
    """Tested pairs of every group, and how they came about."""

    table: pd.DataFrame
    groups: dict[str, dict[str, int]]
    messages: list[str] = field(default_factory=list)


@dataclass
class Measured:
    """Log-normalised expression that was measured in the same cells."""

    values: Any
    """Cells x genes, sparse."""
    row: np.ndarray
    """Of each ATAC cell, -1 without a partner."""
    column: np.ndarray
    """Of each gene, -1 where it was not measured."""


def peak_gene(
    rna: Path,
    atac: Path,
    integrated: Path,
    genes: Path,
    output: Path,
    settings: LinkSettings | None = None,
    request: Request | None = None,
    model: Path | None = None,
    device: str = "auto",
    say: Callable[[str], None] = lambda _: None,
) -> pd.DataFrame:
    """Find the links of an integration and write them.

    Parameters
    ----------
    rna, atac
        Prepared data sets.
    integrated
        ``integrated.h5mu``, with the ``model/`` folder beside it unless `model` is given.
    genes
        Gene coordinates (BED or GTF).
    output
        Folder for the results; made if it is not there.
    settings, request
        How links are sought, and what else is wanted.
    model
        ``model/`` folder.
    device
        Where to impute.
    say
        Called with each sentence on what was noticed.

    Returns
    -------
    The table of all tested pairs.

    Raises
    ------
    InputError
        Files or options that do not fit.
    DataError
        The data cannot say anything on links (too few cells, peaks of one chromosome).
    """
    settings, request = settings or LinkSettings(), request or Request()
    data = read_inputs(rna, atac, integrated, genes, model, device)
    check_plot_genes(request.plot_genes, data)
    labels, whence = cell_groups(data, integrated, request.group_key)
    gc = None
    if request.fasta is not None:
        from scmodal.peakgene.sequence import gc_content

        gc = gc_content(request.fasta, data.peaks)
    found = find_links(data, settings, request, labels if request.group_key else None, gc)
    if labels is not None and (request.group_key or request.plot_genes):
        found.messages.append(whence[:1].upper() + whence[1:])
    for message in found.messages:
        say(message)
    links = significant(found.table, settings.fdr)
    with atomic_path(output, optional=[FIGURES]) as folder:
        folder.mkdir()
        write_table(found.table, folder / FILES[0])
        write_bedpe(links, folder / FILES[1])
        write_interact(links, folder / FILES[2], settings.fdr)
        write_json(summary(found, settings, request, links), folder / FILES[3])
        if request.plot_genes:
            from scmodal.peakgene.figure import draw_loci

            draw_loci(data, request.plot_genes, found.table, settings, labels, folder / FIGURES)
    return found.table


def check_plot_genes(wanted: Sequence[str], data: PeakGeneData) -> None:
    """Make sure that all genes to be drawn can be; InputError with the nearest names otherwise."""
    known = list(data.genes["gene"])
    problems = []
    for gene in wanted:
        if gene not in set(known):
            close = nearest(gene, known)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"--plot-genes {gene!r}: not among the genes that are imputed and have a place{hint}")
    if problems:
        raise InputError(problems)


def find_links(
    data: PeakGeneData,
    settings: LinkSettings,
    request: Request,
    labels: np.ndarray | None = None,
    gc: np.ndarray | None = None,
) -> Found:
    """Test all peaks near all genes, in all cells and in each group of cells.

    Parameters
    ----------
    data
        The cells.
    settings, request
        See :class:`LinkSettings` and :class:`Request`.
    labels
        Group of every cell ("" for none); without it there is one group of all.
    gc
        Share of G and C of every peak.

    Raises
    ------
    InputError
        No peak is near any gene.
    DataError
        Too few cells, or peaks of one chromosome only.
    """
    pairs = pairs_within(data.genes, data.peaks, settings.window)
    messages = list(data.messages)
    if len(pairs) == 0:
        raise InputError(
            f"none of the {len(data.peaks):,} peaks lies within {settings.window:,} bp of the start of one of the "
            f"{len(data.genes):,} genes: choose a larger --window, and check that peaks and genes are of the same build"
        )
    alone = len(data.genes) - pairs["gene"].nunique()
    if alone:
        messages.append(f"{alone:,} of {len(data.genes):,} genes have no peak within {settings.window:,} bp.")
    measured = _measured(data) if request.paired else None
    masks = None
    if request.leave_locus_out:
        how = data.atac.uns["scmodal"].get("gene_activity", {})
        around = WINDOW if how.get("mode") == "weighted" else 0
        places = column_places(data.model, data.atac)
        masks = locus_columns(data.genes, places, settings.window, int(how.get("upstream", 0)), around)
    tables, groups = [], {}
    for name, cells in _groups(len(data.z), labels):
        try:
            units = _units(data.z, cells, settings)
            table = _test(data, units, pairs, settings, gc, masks, measured)
        except DataError as error:
            if name == ALL_CELLS:
                raise
            messages.append(f"Group {name!r} was left out: {error}.")
            continue
        table["n_units"], table["group"] = units.shape[0], name
        tables.append(table)
        groups[name] = {"n_cells": len(cells), "n_units": units.shape[0], "unit_size": int(units[0].nnz)}
        if name == ALL_CELLS:
            untested = pairs["peak"].nunique() - table["peak"].nunique()
            if untested:
                messages.append(
                    f"{untested:,} of {pairs['peak'].nunique():,} peaks near genes were not tested: they are open in "
                    f"fewer than {settings.min_cells} cells, or the same in all units of cells."
                )
        if groups[name]["unit_size"] < settings.unit_size:
            messages.append(
                f"Units have {groups[name]['unit_size']} cells in place of {settings.unit_size}: there are "
                f"{len(cells):,} cells{'' if name == ALL_CELLS else f' in group {name!r}'}."
            )
    table = link_table(pd.concat(tables, ignore_index=True), data.genes, data.peaks)
    return Found(table, groups, messages)


def _groups(n: int, labels: np.ndarray | None) -> list[tuple[str, np.ndarray]]:
    """All cells, then those of each label."""
    groups = [(ALL_CELLS, np.arange(n))]
    if labels is not None:
        for name in sorted(set(labels) - {""}):
            own = f"{name} (group)" if name == ALL_CELLS else str(name)  # a label may be called like the group of all
            groups.append((own, np.flatnonzero(labels == name)))
    return groups


def _units(z: np.ndarray, cells: np.ndarray, settings: LinkSettings) -> sp.csr_matrix:
    """Units of some cells, as units x all cells."""
    if len(cells) < MIN_UNITS or len(cells) < fitting_size(len(cells), settings.unit_size):
        raise DataError(f"{len(cells)} cells are too few for {MIN_UNITS} units of alike cells")
    own = choose_units(z[cells], settings.n_units, settings.unit_size, settings.max_overlap, settings.seed)
    return sp.csr_matrix((own.data, cells[own.indices], own.indptr), shape=(own.shape[0], len(z)))


def _test(
    data: PeakGeneData,
    units: sp.csr_matrix,
    pairs: pd.DataFrame,
    settings: LinkSettings,
    gc: np.ndarray | None,
    masks: sp.csr_matrix | None,
    measured: Measured | None,
) -> pd.DataFrame:
    """Tested pairs of one group of cells."""
    names = list(data.genes["gene"])
    opened = accessibility(units, data.counts)
    usable = cells_open(units, data.counts) >= settings.min_cells
    expressed = imputed_expression(data.model, data.z, names, units)
    table = link_peaks(expressed, opened, data.genes, data.peaks, pairs, settings, gc, usable)
    if table.empty:
        raise DataError(
            f"no peak near a gene is open in {settings.min_cells} cells or more and varies between the units: more "
            "cells or deeper data are needed, or a smaller --min-cells"
        )
    if masks is not None:
        tested = np.unique(table["gene"])
        part = [names[i] for i in tested]
        without = expression_without_locus(data.model, data.atac, part, masks[tested], units)
        row = np.full(len(names), -1)
        row[tested] = np.arange(len(tested))
        table["r_locus_out"] = other_correlation(table, without, opened, row)
        table["r_locus_change"] = table["r_locus_out"] - table["r"]
    if measured is not None:
        there = measured.row >= 0
        own = units[:, there]
        known = np.asarray(own.sum(axis=1)).ravel() > 0  # units with a cell whose expression was measured
        values = unit_means(own[known], measured.values[measured.row[there]])
        table["r_paired"] = other_correlation(table, values, opened[:, known], measured.column)
    return table


def _measured(data: PeakGeneData) -> Measured:
    """Expression of the ATAC cells that was measured, by equal cell names.

    Raises
    ------
    InputError
        Fewer than half of the ATAC cells have a partner: names that are equal by chance are no pairs.
    """
    from scmodal.io import read_prepared

    rna = read_prepared(data.rna)
    row = rna.obs_names.get_indexer(data.atac.obs_names)
    if (row >= 0).mean() < 0.5:
        raise InputError(
            f"--paired: only {int((row >= 0).sum()):,} of {len(row):,} ATAC cells have an RNA cell of the same name "
            f"(ATAC: {some(list(data.atac.obs_names), 2)}; RNA: {some(list(rna.obs_names), 2)}): leave --paired out, "
            "or give both measurements of a cell the same name"
        )
    values = rna.X if sp.issparse(rna.X) else sp.csr_matrix(rna.X[:])
    return Measured(sp.csr_matrix(values), row, rna.var_names.get_indexer(data.genes["gene"]))


def summary(found: Found, settings: LinkSettings, request: Request, links: pd.DataFrame) -> dict[str, Any]:
    """The result in numbers (``peak_gene.json``)."""
    table = found.table
    groups = {
        name: {
            **numbers,
            "n_tested": int((table["group"] == name).sum()),
            "n_links": int((links["group"] == name).sum()),
            "n_positive": int(((links["group"] == name) & (links["r"] > 0)).sum()),
            "n_genes_with_links": int(links.loc[links["group"] == name, "gene"].nunique()),
        }
        for name, numbers in found.groups.items()
    }
    return {
        "scmodal_version": __version__,
        "settings": dataclasses.asdict(settings),
        "leave_locus_out": request.leave_locus_out,
        "paired": request.paired,
        "group_key": request.group_key or "",
        "matched_gc": request.fasta is not None,
        "groups": groups,
        "distance_decay": distance_decay(table, settings.fdr),
        "messages": found.messages,
    }


def distance_decay(table: pd.DataFrame, fdr: float) -> list[dict[str, Any]]:
    """Tested pairs and links of all cells by the distance to the start of transcription."""
    own = table[table["group"] == ALL_CELLS]
    away = np.abs(own["distance"].to_numpy())
    link = (own["fdr"] <= fdr).to_numpy()
    edges = [*DECAY_EDGES, max(DECAY_EDGES[-1], int(away.max(initial=0))) + 1]
    rows = []
    for low, high in itertools.pairwise(edges):
        inside = (away >= low) & (away < high)
        if inside.any():
            n, n_links = int(inside.sum()), int((inside & link).sum())
            rows.append(
                {
                    "from": int(low),
                    "to": int(high),
                    "n_tested": n,
                    "n_links": n_links,
                    "share": n_links / n,
                    "mean_abs_r": float(np.abs(own["r"].to_numpy()[inside]).mean()),
                }
            )
    return rows
