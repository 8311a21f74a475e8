"""Transferred labels: against the truth where it is known, else how they are spread and how sure they are."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pandas as pd
from markupsafe import Markup

from scmodal.confidence import calibration_error, reliability
from scmodal.plots import MODALITY_TITLES, confusion_table, natural_key, row_fractions
from scmodal.report.page import Figure, Section, direction_title, plain_legend, side_by_side
from scmodal.report.reading import Direction, Modality, ReportData
from scmodal.report.svg import Curve, curves, histogram
from scmodal.transfer import UNKNOWN, clean_labels, label_columns

RIGHT, WRONG = "var(--accent)", "var(--second)"
HALF_PAGE = 500
"""Pixels that a confusion matrix may take beside another one; a wider one gets the whole width."""


def labels_section(data: ReportData) -> Section:
    """Directions with a known truth side by side, then those without."""
    title = "Label transfer"
    if not data.transfers:
        return Section("labels", title, "No labels were transferred: no modality has a label column to transfer from.")
    known, unknown = [], []
    for direction, table in data.transfers.items():
        truth = _truth(data, direction, table)
        if truth is None:
            unknown.append((direction, table))
        else:
            known.append((direction, table, truth))
    lead = (
        "A cell’s label is the vote of its nearest cells of the other modality in the shared latent space; its"
        " confidence is the chance that it is right: its share of the vote, less what is lost where these cells were"
        " measured less clearly than those that vote (with --confidence share, the share alone). (The accuracies among"
        " the key numbers are stricter: a single nearest neighbour.)"
    )
    figures = _against_truth(data, known) + [f for d, t in unknown for f in _composition(data, d, t)]
    return Section("labels", title, lead if figures else "No transferred label belongs to a cell of this run.", figures)


def confusion_html(counts: pd.DataFrame, target: str) -> Markup:
    """Confusion matrix as a table: per cent of each row in the cells, counts on hover."""
    shares = row_fractions(counts)
    head = Markup("").join(Markup('<th scope="col"><span>{}</span></th>').format(c) for c in counts.columns)
    rows = Markup("")
    for name in counts.index:
        total = int(counts.loc[name].sum())
        cells = Markup("")
        for column in counts.columns:
            share, count = float(shares.loc[name, column]), int(counts.loc[name, column])
            kind = "hit" if column == name else "miss"
            cells += Markup('<td class="{}{}" style="--share:{:.3f}" title="{}">{}</td>').format(
                kind,
                " strong" if share > 0.55 else "",
                share,
                f"{name} labelled {column}: {count:,} of {total:,} cells",
                _percent(share, count),
            )
        rows += Markup('<tr><th scope="row">{}</th>{}<td class="n">{:,}</td></tr>').format(name, cells, total)
    return Markup(
        '<div class="overflow"><table class="confusion">'
        "<caption>rows: true label in {}; columns: transferred label; %</caption>"
        '<thead><tr><th></th>{}<th scope="col"><span>cells</span></th></tr></thead>'
        "<tbody>{}</tbody></table></div>"
    ).format(target, head, rows)


def _width(counts: pd.DataFrame) -> int:
    """About how many pixels :func:`confusion_html` needs: the longest name, a column a label, the number of cells."""
    return 7 * max((len(str(name)) for name in counts.index), default=0) + 33 * counts.shape[1] + 65


def _percent(share: float, count: int) -> str:
    if count == 0:
        return ""
    return "<1" if share < 0.005 else f"{100 * share:.0f}"


def _truth(data: ReportData, direction: Direction, table: pd.DataFrame) -> np.ndarray | None:
    """True label of every row of the table, empty where unknown; None where no row has one."""
    source, modality = (data.modality(name) for name in direction)
    labels = data.labels(modality)
    other = _other_key(source, table)
    if other:
        labels = clean_labels(modality.obs[other])[0] if other in modality.obs else None
    if labels is None:
        return None
    known = dict(zip(modality.cells, labels))
    truth = np.array([known.get(c, "") for c in table["cell"]], dtype=object)
    return truth if any(truth) else None


def _other_key(source: Modality, table: pd.DataFrame) -> str:
    """Column of the source that the labels are of, where they are not those it was prepared with; else empty."""
    if not source.label_key:
        return ""
    given = set(table["label"]) - {"", UNKNOWN}
    for column in (source.label_key, *label_columns(source)):
        if given <= set(clean_labels(source.obs[column])[0]):
            return "" if column == source.label_key else column
    return ""


def _against_truth(data: ReportData, known: list[tuple[Direction, pd.DataFrame, np.ndarray]]) -> list[Figure]:
    """Confusion matrices of all directions, and the confidence of right and wrong labels."""
    if not known:
        return []
    matrices, pictures, diagrams, said, widest = [], [], [], [], 0.0
    for direction, table, truth in known:
        name = direction_title(*direction)
        there = np.array([bool(t) and bool(v) for t, v in zip(truth, table["label"])])
        given, true = table["label"].to_numpy(dtype=object)[there], truth[there]
        own = data.labels(data.modality(direction[0]))
        counts = confusion_table(true, given, () if own is None else [v for v in own if v])
        widest = max(widest, _width(counts))
        matrices.append((name, confusion_html(counts, MODALITY_TITLES.get(direction[1], direction[1]))))
        if not set(counts.index) & set(counts.columns):
            said.append(f"{name}: the modalities use different label names, so nothing lies on a diagonal.")
            continue
        strange = _unknown(table)[there]
        said.append(_unknown_said(name, strange))
        if strange.all():
            continue
        right = (given == true)[~strange]
        said.append(f"{name}: {100 * right.mean():.1f} % of {len(right):,} labelled cells get their true label.")
        confidence = np.clip(table["confidence"].to_numpy(dtype=float)[there][~strange], 0.0, 1.0)
        groups = [("right label", confidence[right], RIGHT), ("wrong label", confidence[~right], WRONG)]
        groups = [g for g in groups if np.isfinite(g[1]).any()]
        if groups:
            picture = _confidence(groups, "Confidence of right and of wrong labels")
            counted = f"{int(right.sum()):,} right, {int((~right).sum()):,} wrong"
            pictures.append((f"{name} ({counted})", picture))
            error = calibration_error(confidence, right)
            diagrams.append((f"{name} (calibration error {error:.3f})", _reliability(confidence, right)))
    figures = [
        Figure(
            side_by_side(matrices, wide=widest > HALF_PAGE),
            "Transferred against true labels",
            " ".join(sentence for sentence in said if sentence),
            "the outlined diagonal holds nearly all of each row.",
            "a row spread over several labels, or a column that draws cells from everywhere; related cell types are the"
            " usual place to lose some.",
        )
    ]
    if pictures:
        figures.append(
            Figure(
                plain_legend({"right label": RIGHT, "wrong label": WRONG}) + side_by_side(pictures),
                "Confidence of right and wrong labels",
                "Each group adds up to 100 %.",
                "right labels pile up at 1 and wrong ones lie lower, so that a threshold on the confidence helps.",
                "wrong labels are as sure as right ones.",
            )
        )
        figures.append(
            Figure(
                plain_legend({"measured": RIGHT, "confidence equals accuracy": "var(--faint)"})
                + side_by_side(diagrams),
                "Reliability of the confidence",
                "Accuracy of the labels in bins of their confidence; the calibration error is the mean distance of the"
                " two, weighted by cells.",
                "the curve runs along the diagonal: of labels with confidence 0.8, eight of ten are right.",
                "a curve far below the diagonal: labels are less often right than their confidence says. (Bins of few"
                " cells scatter.)",
            )
        )
    return figures


def _unknown(table: pd.DataFrame) -> np.ndarray:
    """Which cells were called unknown; a label of that name has a confidence."""
    return ((table["label"] == UNKNOWN) & table["confidence"].isna()).to_numpy(dtype=bool)


def _unknown_said(name: str, strange: np.ndarray) -> str:
    """Share of cells without a label, where there are any."""
    if not strange.any():
        return ""
    head = f"{name}: " if name else ""
    return f"{head}{100 * strange.mean():.1f} % of {len(strange):,} cells are called unknown."


def _reliability(confidence: np.ndarray, right: np.ndarray) -> Markup:
    """Accuracy against confidence."""
    bins = reliability(confidence, right)
    x, y = bins["confidence"].tolist(), bins["accuracy"].tolist()
    if len(bins) == 1:  # a point would not be seen
        x, y = [bins["low"].iloc[0], bins["high"].iloc[0]], y * 2
    lines = [
        Curve([0.0, 1.0], [0.0, 1.0], colour="var(--faint)", name="confidence equals accuracy"),
        Curve(x, y, colour=RIGHT, name="measured"),
    ]
    return curves(
        lines, x_label="confidence", y_label="accuracy", describe="Accuracy of labels against their confidence"
    )


def _confidence(groups: list[tuple[str, np.ndarray, str]], describe: str) -> Markup:
    return histogram(groups, x_label="confidence", bins=20, limits=(0.0, 1.0), describe=describe)


def _composition(data: ReportData, direction: Direction, table: pd.DataFrame) -> list[Figure]:
    source, target = direction
    given = Counter(v for v in table["label"] if v)
    own = data.labels(data.modality(source))
    reference = Counter(v for v in own if v) if own is not None else Counter()
    names = sorted(set(given) | set(reference), key=natural_key)
    if not names:
        return []
    largest = max(
        [given[n] / max(1, given.total()) for n in names] + [reference[n] / max(1, reference.total()) for n in names]
    )
    bars = Markup("")
    for name in names:
        pairs = [(given[name] / max(1, given.total()), RIGHT)]
        if reference:
            pairs.append((reference[name] / reference.total(), "var(--faint)"))
        inside = Markup("").join(
            Markup('<i style="width:{:.2f}%;background:{}"></i>').format(100 * share / largest, shade)
            for share, shade in pairs
        )
        numbers = " / ".join(f"{100 * share:.1f} %" for share, _ in pairs)
        bars += Markup('<div class="bar double"><span>{}</span><b>{}</b><span>{}</span></div>').format(
            name, inside, numbers
        )
    legend = {f"transferred to {MODALITY_TITLES.get(target, target)}": RIGHT}
    if reference:
        legend[f"measured in {MODALITY_TITLES.get(source, source)}"] = "var(--faint)"
    figures = [
        Figure(
            plain_legend(legend) + Markup('<div class="bar-chart">{}</div>').format(bars),
            f"Composition of transferred labels, {direction_title(*direction)}",
            f"The true labels of these cells are not known. {_unknown_said('', _unknown(table))}".strip(),
            "shares like those of the modality the labels come from, if both were taken from the same tissue.",
            "a label that vanishes or takes over.",
        )
    ]
    confidence = table["confidence"].to_numpy(dtype=float)
    if np.isfinite(confidence).any():
        picture = _confidence([("cells", confidence, RIGHT)], "Confidence of all transferred labels")
        figures.append(
            Figure(
                Markup('<div class="single">{}</div>').format(picture),
                f"Confidence of transferred labels, {direction_title(*direction)}",
                f"Median {np.nanmedian(confidence):.2f}.",
                "most cells near 1.",
                "a broad heap in the middle; do not use labels of low confidence.",
            )
        )
    return figures
