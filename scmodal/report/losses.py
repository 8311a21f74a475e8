"""Training curves: every loss, the anchors found in each minibatch, and the size of the gradients."""

from __future__ import annotations

import math

import numpy as np

from scmodal.plots import LOSS_TERMS, TWO_LN_TWO, binned_history
from scmodal.report.keynumbers import final_mixing
from scmodal.report.page import Figure, Section, multiples, plain_legend
from scmodal.report.reading import ReportData
from scmodal.report.svg import Curve, curves

SEED_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#A89200", "#7B4FA3")


def training_section(data: ReportData) -> Section:
    """Small multiples of everything that was recorded, a line per seed."""
    runs = [r for r in data.runs if len(r.history)]
    if not runs:
        return Section("training", "Training", "No training step was recorded, so there are no curves.")
    several = len(runs) > 1
    names = [f"seed {r.seed}" if r.seed is not None else f"run {i + 1}" for i, r in enumerate(runs)]
    shades = [SEED_COLOURS[i % len(SEED_COLOURS)] if several else "var(--accent)" for i in range(len(runs))]

    def lines(column: str) -> list[Curve]:
        found = []
        for run, name, shade in zip(runs, names, shades):
            if column in run.history:
                b = binned_history(run.history["step"].to_numpy(), run.history[column].to_numpy())
                curve = Curve(b["step"].tolist(), b["mean"].tolist(), colour=shade, name=name)
                if not several:
                    curve.low, curve.high = b["low"].tolist(), b["high"].tolist()
                found.append(curve)
        return [c for c in found if len(c.x)]

    n_pairs = data.n_pairs_of_modalities
    panels = []
    for term in LOSS_TERMS:
        drawn = lines(term.column)
        if not drawn:
            continue
        is_discriminator = term.column == "loss_discriminator"
        log = term.log and min(v for c in drawn for v in (*c.y, *c.low)) > 0
        picture = curves(
            drawn,
            x_label="step",
            log=log,
            reference=TWO_LN_TWO * n_pairs if is_discriminator else None,
            reference_text=f"fully mixed: {f'{n_pairs} × ' if n_pairs > 1 else ''}2 ln 2" if is_discriminator else "",
            from_zero=is_discriminator,
            describe=f"{term.title} loss over the training steps",
        )
        panels.append((f"{term.title}{' (log)' if log else ''}", picture, term.meaning))
    counts = lines("n_anchors")
    if counts:
        picture = curves(counts, x_label="step", from_zero=True, describe="Number of anchors in each minibatch")
        mean = np.mean([c.mean() for c in (r.history["n_anchors"] for r in runs if "n_anchors" in r.history)])
        empty = np.mean([(c == 0).mean() for c in (r.history["n_anchors"] for r in runs if "n_anchors" in r.history)])
        note = (
            "pairs of cells of a minibatch that are mutual nearest neighbours in the linked features: mean"
            f" {mean:,.0f}, none in {100 * empty:.1f} % of the steps"
        )
        panels.append(("anchors per batch", picture, note))
    norms = lines("grad_norm")
    if norms:
        log = min(v for c in norms for v in (*c.y, *c.low)) > 0
        picture = curves(norms, x_label="step", log=log, describe="Norm of the gradients")
        panels.append((f"gradient norm{' (log)' if log else ''}", picture, "before clipping"))
    legend = plain_legend(dict(zip(names, shades))) if several else ""
    figure = Figure(
        legend + multiples(panels),
        "Training",
        "Means over neighbouring steps" + (", one line a seed." if several else "; bands hold 80 % of the steps."),
        "errors fall and level out, the discriminator stays near its dashed line, and every batch has anchors.",
        "the discriminator falls towards zero (the modalities come apart), an error rises again, or many batches have"
        " no anchor (links too few or too noisy, or batches too small).",
    )
    return Section("training", "Training", _lead(data), [figure] if panels else [])


def _lead(data: ReportData) -> str:
    """Steps, time, device, and how far the discriminator was fooled at the end."""
    run = data.runs[0]
    lead = f"{run.metrics.get('steps') or len(run.history):,} steps"
    seconds = run.metrics.get("seconds")
    if isinstance(seconds, int | float):
        lead += f" in {_duration(seconds)} on {run.metrics.get('device', 'an unnamed device')}"
    mixing = final_mixing(run.history, data.n_pairs_of_modalities)
    if math.isfinite(mixing):
        lead += f"; at the end the discriminator’s loss is {100 * mixing:.0f} % of that of full mixing"
    return lead + "."


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
