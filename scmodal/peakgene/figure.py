"""A gene's locus: accessibility of each group of cells, links as arcs, the gene, and its imputed expression."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal.peakgene.formats import ALL_CELLS
from scmodal.peakgene.inputs import PeakGeneData
from scmodal.peakgene.link import LinkSettings
from scmodal.plots import _STYLE, label_colours

MAX_GROUPS = 12
"""Groups drawn; of more, the largest."""

MAX_CELLS = 1_000
"""Cells of a group whose imputed expression is drawn."""

_COUNTS = 10_000  # peak counts to which a group's coverage is brought
_WIDTH_LEAST = 0.003  # of a peak, as a share of the window: half a kilobase would not be seen
_POSITIVE, _NEGATIVE, _NO_LINK = "#B2182B", "#2166AC", "#C8C8C8"
_NEARLY = 2.0  # |z| from which a pair that is no link is drawn, too


@dataclass
class Locus:
    """What is drawn of one gene.

    Attributes
    ----------
    gene
        Its row of the genes table: `gene`, `chrom`, `start`, `end`, `strand`, `tss`.
    neighbours
        Other genes within sight.
    peaks
        `start` and `end` of the peaks within sight.
    coverage
        Groups x peaks: counts per 10,000 of the group.
    expression
        Imputed values of some cells of each group.
    links
        Pairs of the gene that are drawn: `start`, `end`, `r`, `group`, `link` (False: it stands out, but not enough).
    limits
        First and last base within sight.
    """

    gene: pd.Series
    neighbours: pd.DataFrame
    peaks: pd.DataFrame
    coverage: pd.DataFrame
    expression: dict[str, np.ndarray]
    links: pd.DataFrame
    limits: tuple[int, int]


def file_name(gene: str) -> str:
    """A gene's name as that of a file."""
    return re.sub(r"[^A-Za-z0-9._+-]", "_", gene)


def draw_loci(
    data: PeakGeneData,
    genes: Sequence[str],
    table: pd.DataFrame,
    settings: LinkSettings,
    labels: np.ndarray | None,
    folder: Path,
) -> list[Path]:
    """Draw some genes as PDF and PNG.

    Parameters
    ----------
    data
        The cells.
    genes
        Names of the genes, all of which are in ``data.genes``.
    table
        All tested pairs.
    settings
        Window and false discovery rate are used.
    labels
        Group of each cell; one group of all without.
    folder
        Made if it is not there.

    Returns
    -------
    The files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups = _largest_groups(len(data.z), labels)
    values = _expression(data, genes, groups)
    totals = {name: _counts_of(data.counts, cells) for name, cells in groups.items()}
    files = []
    for gene in dict.fromkeys(genes):
        row = data.genes.iloc[int(np.flatnonzero(data.genes["gene"] == gene)[0])]
        own = {name: part[gene] for name, part in values.items()}
        locus = locus_of(row, data.genes, data.peaks, totals, own, table, settings)
        for suffix in (".pdf", ".png"):
            files.append(locus_figure(locus, folder / f"{file_name(gene)}{suffix}"))
    return files


def _largest_groups(n: int, labels: np.ndarray | None) -> dict[str, np.ndarray]:
    """Cells of the groups that are drawn, in the order of their names."""
    if labels is None:
        return {"all cells": np.arange(n)}
    names, counts = np.unique(labels[labels != ""].astype(str), return_counts=True)
    chosen = names[np.sort(np.argsort(-counts, kind="stable")[:MAX_GROUPS])]
    return {str(name): np.flatnonzero(labels == name) for name in chosen}


def _expression(
    data: PeakGeneData, genes: Sequence[str], groups: dict[str, np.ndarray]
) -> dict[str, dict[str, np.ndarray]]:
    """Imputed values by group and gene, of at most :data:`MAX_CELLS` cells each."""
    columns = data.model.imputed_features("rna").index.get_indexer(pd.Index(genes))
    out = {}
    for name, cells in groups.items():
        some = cells
        if len(cells) > MAX_CELLS:
            some = np.sort(np.random.default_rng(0).choice(cells, MAX_CELLS, replace=False))
        values = data.model.decode(data.z[some], "rna", direct=True).log_normalised[:, columns]
        out[name] = dict(zip(genes, values.T))
    return out


def _counts_of(counts: Any, cells: np.ndarray, block: int = 4096) -> np.ndarray:
    """Peak counts of a group's cells, per 10,000."""
    total = np.zeros(counts.shape[1])
    for start in range(0, len(cells), block):
        total += np.asarray(sp.csr_matrix(counts[cells[start : start + block]]).sum(axis=0)).ravel()
    return total / max(total.sum(), 1.0) * _COUNTS


def locus_of(
    gene: pd.Series,
    genes: pd.DataFrame,
    peaks: pd.DataFrame,
    totals: dict[str, np.ndarray],
    expression: dict[str, np.ndarray],
    table: pd.DataFrame,
    settings: LinkSettings,
) -> Locus:
    """Cut out what is near a gene.

    Parameters
    ----------
    gene, genes
        The gene's row, and all rows.
    peaks
        Places of all peaks.
    totals
        By group, coverage of all peaks.
    expression
        By group, imputed values.
    table
        All tested pairs of all genes.
    settings
        Window and false discovery rate are used.
    """
    window = settings.window
    pairs = table[table["gene"] == gene["gene"]]
    pairs = pairs.assign(link=pairs["fdr"] <= settings.fdr)
    pairs = pairs[pairs["link"] | ((pairs["z"].abs() >= _NEARLY) & (pairs["group"] == ALL_CELLS))]
    low = max(0, min(int(gene["tss"]) - window, int(gene["start"])))
    high = max(int(gene["tss"]) + window, int(gene["end"]))
    there = (peaks["chrom"] == gene["chrom"]) & (peaks["end"] > low) & (peaks["start"] < high)
    near = (genes["chrom"] == gene["chrom"]) & (genes["end"] > low) & (genes["start"] < high)
    coverage = pd.DataFrame({name: total[there.to_numpy()] for name, total in totals.items()}).T
    return Locus(
        gene=gene,
        neighbours=genes[near & (genes["gene"] != gene["gene"])],
        peaks=peaks.loc[there, ["start", "end"]],
        coverage=coverage,
        expression=expression,
        links=pairs.sort_values("link")[["start", "end", "r", "group", "link"]],
        limits=(low, high),
    )


def locus_figure(locus: Locus, path: str | Path) -> Path:
    """Draw a locus; the suffix of `path` chooses the format."""
    import matplotlib as mpl

    from scmodal.plots import _save

    with mpl.rc_context(_STYLE):
        return _save(_draw(locus), path)


def _draw(locus: Locus) -> Any:
    from matplotlib.figure import Figure

    groups = list(locus.coverage.index)
    figure = Figure(figsize=(7.2, 1.9 + 0.42 * len(groups)), layout="constrained")
    heights = [0.42] * len(groups) + [0.85, 0.35]
    grid = figure.add_gridspec(len(groups) + 2, 2, width_ratios=[4.6, 1], height_ratios=heights)
    colours = label_colours(groups)
    tracks = [figure.add_subplot(grid[i, 0]) for i in range(len(groups))]
    arcs, model = figure.add_subplot(grid[-2, 0]), figure.add_subplot(grid[-1, 0])
    _coverage(tracks, locus, colours)
    _arcs(arcs, locus)
    _gene_model(model, locus)
    for axes in (*tracks, arcs, model):
        axes.set_xlim(locus.limits)
        axes.axvline(int(locus.gene["tss"]), color="#999999", linewidth=0.5, linestyle=":", zorder=0)
    _values([figure.add_subplot(grid[i, 1]) for i in range(len(groups))], locus, colours)
    figure.suptitle(f"{locus.gene['gene']}  {locus.gene['chrom']}:{locus.limits[0]:,}-{locus.limits[1]:,}", fontsize=9)
    return figure


def _coverage(tracks: Sequence[Any], locus: Locus, colours: dict[str, str]) -> None:
    """A row of bars a group, all on one scale."""
    span = locus.limits[1] - locus.limits[0]
    width = np.maximum(locus.peaks["end"] - locus.peaks["start"], _WIDTH_LEAST * span)
    middle = (locus.peaks["start"] + locus.peaks["end"]) / 2
    top = float(locus.coverage.to_numpy().max(initial=0.0)) or 1.0
    for axes, (name, values) in zip(tracks, locus.coverage.iterrows()):
        axes.bar(middle, values, width=width, color=colours[str(name)], linewidth=0)
        axes.set_ylim(0, 1.1 * top)
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=7)
    tracks[0].set_title(f"accessibility of peaks (counts per {_COUNTS:,}, 0 to {top:.2g})", fontsize=7, loc="left")


def _arcs(axes: Any, locus: Locus) -> None:
    """Links hang from the start of transcription to the middle of their peak.

    Those of one group only are dashed; pairs that stand out but are no links are grey, and lie below.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    tss = int(locus.gene["tss"])
    reach = max(1, max(abs(tss - locus.limits[0]), abs(locus.limits[1] - tss)))
    columns = (locus.links[name] for name in ("start", "end", "r", "group", "link"))
    for begin, end, r, group, link in zip(*columns):
        middle = (begin + end) / 2
        depth = 0.25 + 0.75 * abs(middle - tss) / reach
        curve = Curve(
            [(tss, 0), (tss, -depth * 4 / 3), (middle, -depth * 4 / 3), (middle, 0)],
            [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4],
        )
        axes.add_patch(
            PathPatch(
                curve,
                fill=False,
                edgecolor=_NO_LINK if not link else _POSITIVE if r > 0 else _NEGATIVE,
                linewidth=0.5 + 1.5 * abs(r) * link,
                alpha=0.85,
                linestyle="-" if group == ALL_CELLS else "--",
            )
        )
    axes.set_ylim(-1.08, 0.02)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_ylabel("links", rotation=0, ha="right", va="center", fontsize=7)
    if not locus.links["link"].any():
        axes.text(tss, -0.9, "no link", ha="center", va="center", color="#777777", fontsize=7)


def _gene_model(axes: Any, locus: Locus) -> None:
    """Bodies of the genes as bars with their strand; the start of transcription of the gene itself as an arrow."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    gene = locus.gene
    starts, ends = locus.neighbours["start"].to_numpy(), locus.neighbours["end"].to_numpy()
    axes.barh(np.full(len(starts), 0.3), ends - starts, left=starts, height=0.16, color="#BBBBBB", linewidth=0)
    axes.barh(1, gene["end"] - gene["start"], left=gene["start"], height=0.3, color="#333333", linewidth=0)
    tss, span = int(gene["tss"]), locus.limits[1] - locus.limits[0]
    turn = -1 if gene["strand"] == "-" else 1
    arrow = {"arrowstyle": "-|>", "color": "#333333", "linewidth": 0.8, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 6}
    axes.plot([tss, tss], [1, 1.6], color="#333333", linewidth=0.8)
    axes.annotate("", xy=(tss + turn * 0.025 * span, 1.6), xytext=(tss, 1.6), arrowprops=arrow)
    axes.text(
        tss - turn * 0.008 * span, 1.55, gene["gene"], ha="right" if turn > 0 else "left", va="center", fontsize=7
    )
    axes.set_ylim(0, 2.1)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1e6:.2f}"))
    axes.set_xlabel(f"{gene['chrom']}, Mb", fontsize=7)
    axes.tick_params(labelsize=7)


def _values(panels: Sequence[Any], locus: Locus, colours: dict[str, str]) -> None:
    """Median, quartiles and the middle nine tenths of each group's imputed values, all on one scale."""
    everything = np.concatenate(list(locus.expression.values()))
    low, high = float(everything.min()), float(everything.max())
    room = 0.05 * (high - low) or 0.5
    for axes, name in zip(panels, locus.coverage.index):
        least, quarter, median, three_quarters, most = np.quantile(
            locus.expression[str(name)], [0.05, 0.25, 0.5, 0.75, 0.95]
        )
        axes.plot([least, most], [0, 0], color=colours[str(name)], linewidth=0.8)
        axes.barh(0, three_quarters - quarter, left=quarter, height=0.6, color=colours[str(name)], linewidth=0)
        axes.plot([median, median], [-0.3, 0.3], color="black", linewidth=1.0)
        axes.set_ylim(-0.6, 0.6)
        axes.set_xlim(low - room, high + room)
        axes.set_yticks([])
        axes.spines["left"].set_visible(False)
        if axes is not panels[-1]:
            axes.set_xticks([])
    panels[-1].tick_params(labelsize=7)
    panels[0].set_title("imputed expression", fontsize=7)
