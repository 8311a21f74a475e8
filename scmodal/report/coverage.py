"""Which features the links reach, and what the names that were not understood resemble."""

from __future__ import annotations

from collections import Counter

import pandas as pd
from markupsafe import Markup

from scmodal.contracts import MODALITY_TITLES
from scmodal.plots import natural_key
from scmodal.report.page import Figure, Section, join_words, table
from scmodal.report.reading import ReportData

MAX_ROWS = 1_500
"""Rows in the table at most; a full transcriptome without partner would only make the page heavy."""


def coverage_counts(coverage: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """Matched and unmatched features of each modality, in order of appearance."""
    return {
        str(name): (int(part["matched"].sum()), int((~part["matched"]).sum()))
        for name, part in coverage.groupby("modality", sort=False)
    }


def coverage_section(data: ReportData) -> Section:
    """Bars of matched and unmatched features, and the searchable table."""
    title = "Links between the modalities"
    n_links = count_links(data)
    lead = f"{n_links:,} links (pairs of features said to vary together) guide the integration." if n_links else ""
    by_pair = links_by_pair(data)
    if len(by_pair) > 1:
        listed = [
            f"{MODALITY_TITLES.get(a, a)} with {MODALITY_TITLES.get(b, b)} ({n:,})" for (a, b), n in by_pair.items()
        ]
        lead += f" They join {join_words(listed)}."
    if data.coverage is None or data.coverage.empty:
        lead = f"{lead} No coverage table was given, so the linked features are not listed here.".strip()
        return Section("links", title, lead)
    bars = Markup("")
    for name, (matched, unmatched) in coverage_counts(data.coverage).items():
        share = 100 * matched / max(1, matched + unmatched)
        bars += Markup(
            '<div class="bar"><span>{}</span><b><i style="width:{:.2f}%"></i></b><span>{:,} of {:,} linked</span></div>'
        ).format(MODALITY_TITLES.get(name, name), share, matched, matched + unmatched)
    order = data.coverage.assign(
        _few=data.coverage.groupby("modality")["feature"].transform("size"),
        _key=data.coverage["feature"].astype(str).map(natural_key),
    ).sort_values(["_few", "matched", "_key"], kind="stable")
    shown = order.head(MAX_ROWS)
    rows = [
        (
            r["feature"],
            MODALITY_TITLES.get(r["modality"], r["modality"]),
            _listed(r["partner"]) if r["matched"] else Markup("<em>not linked</em>"),
            "" if r["matched"] else _listed(r["nearest"]),
            r["note"],
        )
        for r in shown.to_dict("records")
    ]
    left_out = len(order) - len(shown)
    heading = f"All features ({len(shown):,} rows)" if not left_out else f"Features ({len(shown):,} of {len(order):,})"
    listing = Markup(
        '<details class="listing"><summary>{}</summary>'
        '<input type="search" placeholder="find a feature" aria-label="find a feature">{}</details>'
    ).format(
        heading,
        table(["feature", "modality", "linked to", "nearest known names", "note"], rows, kind="searchable"),
    )
    few = shown[shown["modality"] == shown["modality"].iloc[0]]
    missing = few[~few["matched"]]
    caption = "Features of each modality that the links reach."
    if left_out:
        caption += f" {left_out:,} more features of the largest modality are in the coverage file."
    named = Markup("")
    if len(missing):
        some = [
            Markup("<b>{}</b>{}").format(
                r["feature"],
                f" (nearest: {_listed(r['nearest'])})" if r["nearest"] else f" ({r['note']})" if r["note"] else "",
            )
            for r in missing.head(8).to_dict("records")
        ]
        more = f" and {len(missing) - 8:,} more" if len(missing) > 8 else ""
        named = Markup("<p>Not linked in {}: {}{}.</p>").format(
            MODALITY_TITLES.get(str(few["modality"].iloc[0]), ""), Markup(", ").join(some), more
        )
    body = Markup('<div class="bar-chart">{}</div>{}{}').format(bars, named, listing)
    figure = Figure(
        body,
        "Link coverage",
        caption,
        "most features of the smaller panel that can have a partner in the other are linked.",
        "well-known features are not, though their partner was measured: their names are spelled in a way that was not"
        " understood, and a links table of your own mends that.",
    )
    return Section("links", title, lead, [figure])


def _listed(names: str) -> str:
    return ", ".join(str(names).split(";"))


def links_by_pair(data: ReportData) -> dict[tuple[str, str], int]:
    """Links of each pair of modalities in the first run's model, in the order of the table."""
    links = data.runs[0].model.get("links")
    named = [link for link in links if link.get("modality_a")] if isinstance(links, list) else []
    return dict(Counter((str(link["modality_a"]), str(link["modality_b"])) for link in named))


def count_links(data: ReportData) -> int:
    """Links of the first run, as its model or its metrics tell."""
    links = data.runs[0].model.get("links")
    if isinstance(links, list):
        return len(links)
    counted = data.runs[0].metrics.get("n_links", 0)
    return int(sum(counted.values()) if isinstance(counted, dict) else counted or 0)
