"""Links between peaks and genes: how many, how far apart, the strongest ones, and the loci that were drawn."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from scmodal.contracts import InputError
from scmodal.peakgene.formats import ALL_CELLS, FIGURES, read_table
from scmodal.report.page import Figure, Section, table
from scmodal.report.reading import ReportData
from scmodal.report.svg import Curve, curves

SHOWN = 25
"""Genes listed."""


def peakgene_section(data: ReportData) -> Section | None:
    """The first seed's links; None where none were sought."""
    if not data.peakgene:
        return None
    from scmodal.io import read_json

    folder = data.peakgene[0]
    about = read_json(folder / "peak_gene.json")
    for name in ("settings", "groups", "distance_decay"):
        if name not in about:
            raise InputError(f"{folder / 'peak_gene.json'}: no {name} in it; give a folder of `scmodal peakgene`")
    links = read_table(folder / "peak_gene.tsv.gz")
    fdr = float(about["settings"]["fdr"])
    own = links[links["group"] == ALL_CELLS]
    significant = own[own["fdr"] <= fdr]
    figures = [_top_genes(own, significant, fdr)]
    if len(about["distance_decay"]) > 1:
        figures.insert(0, _decay(about["distance_decay"], len(significant) > 0))
    if len(about["groups"]) > 1:
        figures.append(_groups(about["groups"]))
    figures += [_locus(path) for path in sorted((folder / FIGURES).glob("*.png"))]
    return Section("peakgene", "Peak-gene links", _lead(about, own, significant), figures)


def _lead(about: Mapping[str, Any], own: pd.DataFrame, significant: pd.DataFrame) -> str:
    settings = about["settings"]
    text = (
        f"{len(significant):,} links at a false discovery rate of {settings['fdr']:.0%}, of {len(own):,} tested pairs: "
        f"{own['peak'].nunique():,} peaks within {settings['window']:,} bp of {own['gene'].nunique():,} genes, "
        f"correlated with imputed expression over {int(own['n_units'].iloc[0]) if len(own) else 0:,} units of cells."
    )
    if len(significant):
        text += f" {(significant['r'] > 0).mean():.0%} of them are positive."
    else:
        text += (
            " None stands out from peaks of other chromosomes that are as accessible. Larger units (--unit-size) lessen"
            " the noise; the table holds every tested pair."
        )
    if "r_locus_change" in own and len(significant):
        median = significant["r_locus_change"].abs().median()
        text += f" With the locus hidden from the model, r of the links changes by {median:.3f} (median)."
    if "r_paired" in own and own["r_paired"].notna().sum() > 2:
        agreement = own["r"].corr(own["r_paired"])
        text += f" Imputed and measured expression give the same r to {agreement:.2f} (correlation over all pairs)."
    return text


def _decay(rows: list[dict[str, Any]], any_links: bool) -> Figure:
    """Links, or where there are none the strength of correlations, by distance."""
    x = [(row["from"] + row["to"]) / 2000 for row in rows]
    if any_links:
        y, label = [100 * row["share"] for row in rows], "% of tested pairs"
    else:
        y, label = [row["mean_abs_r"] for row in rows], "mean |r|"
    picture = curves(
        [Curve(x, y)],
        x_label="distance to the start of transcription, kb",
        y_label=label,
        from_zero=True,
        describe="Links by distance" if any_links else "Correlations by distance",
    )
    listing = table(
        ["distance, kb", "tested", "links", "mean |r|"],
        [
            (
                f"{row['from'] / 1000:g} to {row['to'] / 1000:g}",
                f"{row['n_tested']:,}",
                f"{row['n_links']:,}",
                f"{row['mean_abs_r']:.3f}",
            )
            for row in rows
        ],
        numeric=range(1, 4),
    )
    return Figure(
        Markup('<div class="single">{}</div>').format(picture) + listing,
        "Links by distance" if any_links else "Correlations by distance",
        "Share of tested pairs that are links, by the distance between the peak's middle and the gene's start."
        if any_links
        else "Mean strength of the correlations by distance.",
        "it falls with distance: near peaks regulate more often than far ones.",
        "it is flat, as it would be if links were chance or followed cell types alone.",
    )


def _top_genes(own: pd.DataFrame, significant: pd.DataFrame, fdr: float) -> Figure:
    """The genes with the strongest evidence, with their best peak."""
    source = significant if len(significant) else own
    n_links = significant["gene"].value_counts()
    best = source.sort_values(["fdr", "p", "z"], key=lambda c: -c.abs() if c.name == "z" else c, kind="stable")
    best = best.drop_duplicates("gene").head(SHOWN)
    body = table(
        ["gene", "links", "best peak", "distance", "r", "z", "FDR"],
        [
            (row["gene"], int(n_links.get(row["gene"], 0)), row["peak"], f"{row['distance']:+,}", f"{row['r']:+.2f}",
             f"{row['z']:+.1f}", f"{row['fdr']:.2g}")
            for _, row in best.iterrows()
        ],
        numeric=[1, 3, 4, 5, 6],
    )  # fmt: skip
    return Figure(
        body,
        "Genes with the clearest links" if len(significant) else "Strongest pairs",
        f"Each gene with its best peak; a link has an FDR of at most {fdr:g}. Distances are negative upstream. z counts"
        " standard deviations from what the gene has with alike peaks on other chromosomes.",
        "marker genes of the tissue, with peaks that are open in the same cells.",
        "many genes with the same far peak.",
    )


def _groups(groups: Mapping[str, Mapping[str, Any]]) -> Figure:
    keys = ("n_cells", "n_units", "n_tested", "n_links")
    body = table(
        ["group", "cells", "units", "tested pairs", "links"],
        [(name, *(f"{numbers.get(key, 0):,}" for key in keys)) for name, numbers in groups.items()],
        numeric=range(1, 5),
    )
    return Figure(
        body,
        "Links by group of cells",
        "Within a group only differences among its own cells count.",
        "groups with many units have some links of their own.",
        "a group of few units can show none.",
    )


def _locus(path: Path) -> Figure:
    image = base64.b64encode(path.read_bytes()).decode("ascii")
    body = Markup('<img src="data:image/png;base64,{}" alt="Locus of {}" style="max-width:100%">').format(
        image, path.stem
    )
    return Figure(
        body,
        f"Locus of {path.stem}",
        "Accessibility of each peak in each group of cells, links as arcs (red positive, blue negative; dashed: in one"
        " group only; grey: |z| of 2 or more, but no link), genes, and at the right the imputed expression.",
        "linked peaks are open where the gene is expressed.",
        "arcs to peaks that are open everywhere.",
    )
