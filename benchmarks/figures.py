"""Figures of the benchmarks' committed numbers; `python benchmarks/tables.py` draws them into docs/images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

from scmodal.contracts import MODALITY_TITLES

BLUE, BROWN, GREY = "#0072b2", "#8a5a00", "#777777"
WAYS = {"rna_to_other": ("from RNA", "o"), "other_to_rna": ("to RNA", "s")}
"""Directions of label transfer: how they are called, and their marker."""

Load = Callable[[str], dict[str, Any]]
"""Gives the numbers of a benchmark by its name."""


def _save(figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=160, metadata={"Software": None})
    plt.close(figure)


def engine(load: Load, path: Path) -> None:
    """Milliseconds a step against cells, columns and batch size."""
    results = load("engine")
    titles = {
        "cells": "cells of each data set",
        "columns": "columns of the wider data set",
        "batch": "cells in a batch",
    }
    figure, axes = plt.subplots(1, 3, figsize=(10.5, 3.2), constrained_layout=True)
    for ax, (name, title) in zip(axes, titles.items()):
        for preset, colour in (("paper", BROWN), ("default", BLUE)):
            rows = results["sweeps"][name][preset]
            x, y = [row[name] for row in rows], [1000 * row["median"] for row in rows]
            low = [1000 * (row["median"] - row["min"]) for row in rows]
            high = [1000 * (row["max"] - row["median"]) for row in rows]
            ax.errorbar(x, y, yerr=[low, high], marker="o", color=colour, label=preset, capsize=2, linewidth=1.5)
        if name != "columns":
            ax.set_xscale("log", base=10 if name == "cells" else 2)
        ax.set_ylim(bottom=0)
        ax.set_xlabel(title)
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel(f"ms a step, {results['machine']['threads']} threads")
    axes[0].legend(frameon=False, title="preset")
    _save(figure, path)


def _methods(load: Load) -> tuple[list[str], dict[str, dict[str, Any]]]:
    """Titles of the methods from the first to be shown to the last, and of each data set their summaries."""
    settings, others = load("quality")["settings"], load("peers")
    titles = {name: method["title"] for name, method in others["methods"].items() if name != "authors"}
    data_sets = list(dict.fromkeys(name.split(":")[0] for name in settings))
    found = {}
    for data_set in data_sets:
        entries = {f"scMODAL, {preset}": settings.get(f"{data_set}:{preset}", {}) for preset in ("default", "paper")}
        entries |= {title: others["settings"].get(f"{data_set}:{name}", {}) for name, title in titles.items()}
        found[data_set] = {title: entry["summary"] for title, entry in entries.items() if entry.get("summary")}
    return ["scMODAL, default", "scMODAL, paper", *titles.values()], found


def quality(load: Load, path: Path) -> None:
    """Accuracy and FOSCTTM of every method on every data set: mean, and a line from the least seed to the greatest."""
    titles, found = _methods(load)
    figure, axes = plt.subplots(2, len(found), figsize=(2.3 * len(found), 5.2), sharey=True, constrained_layout=True)
    for column, (data_set, methods) in zip(axes.T, found.items()):
        for y, title in enumerate(titles):
            summary = methods.get(title, {})
            colour = BLUE if title == titles[0] else BROWN if title == titles[1] else GREY
            for way, (_, marker) in WAYS.items():
                face = colour if way == "rna_to_other" else "white"
                _dot(column[0], summary.get(f"accuracy_{way}"), y, colour, marker, face)
            _dot(column[1], summary.get("foscttm"), y, colour, "D", colour)
        column[0].set_title(data_set, fontsize=9)
        column[0].set_xlim(0, 1.04)
        column[0].set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "0.5", "", "1"])
        column[0].set_xlabel("accuracy of labels")
        column[1].set_xlim(0, 0.62)
        column[1].axvline(0.5, color="#bbbbbb", linewidth=1, linestyle=":", zorder=0)
        column[1].set_xlabel("FOSCTTM (chance: 0.5)")
        if not any("foscttm" in summary for summary in methods.values()):
            column[1].text(0.31, len(titles) / 2, "no true pairs", ha="center", color=GREY, fontsize=9)
    for ax in axes.ravel():
        ax.grid(axis="x", color="#eeeeee")
        ax.set_axisbelow(True)
        ax.spines[["top", "right"]].set_visible(False)
        ax.tick_params(labelsize=8)
        ax.xaxis.label.set_size(8)
    axes[0, 0].set_yticks(range(len(titles)), titles)
    axes[0, 0].invert_yaxis()
    keys = [
        axes[0, 0].plot([], [], marker, color=GREY, markerfacecolor=face, label=f"labels carried {name}", markersize=5)[
            0
        ]
        for (name, marker), face in zip(WAYS.values(), (GREY, "white"))
    ]
    figure.legend(handles=keys, frameon=False, fontsize=8, loc="outside lower center", ncols=2, handletextpad=0.1)
    _save(figure, path)


def _dot(ax: Any, number: dict[str, float] | None, y: float, colour: str, marker: str, face: str) -> None:
    """Mean and range of a number; nothing where it was not measured."""
    if number is None:
        return
    ax.plot([number["min"], number["max"]], [y, y], color=colour, linewidth=1.5, zorder=1)
    ax.plot(number["mean"], y, marker, color=colour, markerfacecolor=face, markersize=5, zorder=2)


def _curve(ax: Any, numbers: list[dict[str, float]], colour: str, marker: str, face: str, label: str) -> None:
    """Means over the seeds as a line, ranges as bars."""
    mean = [number["mean"] for number in numbers]
    below = [number["mean"] - number["min"] for number in numbers]
    above = [number["max"] - number["mean"] for number in numbers]
    ax.errorbar(
        range(len(mean)),
        mean,
        yerr=[below, above],
        marker=marker,
        color=colour,
        markerfacecolor=face,
        label=label,
        capsize=2,
        linewidth=1.5,
    )


STRESSES = {
    "links kept": {
        "8": "links cut to 8",
        "15": "links cut to 15",
        "30": "links cut to 30",
        "50": "links cut to 50",
        "all": "as they are",
    },
    "links shuffled": {
        "none": "as they are",
        "a fifth": "a fifth of the links shuffled",
        "half": "half of the links shuffled",
        "all": "all links shuffled",
    },
}
"""Curves of the stress figure: of each place on the axis the case."""

VERDICT_COLOURS = {"trusted": "#009e73", "doubtful": "#e69f00", "failed": "#c0392b"}


def stress(load: Load, path: Path) -> None:
    """Accuracy and FOSCTTM as links become fewer or wrong, and the verdict on each."""
    cases = load("stress")["cases"]
    figure, axes = plt.subplots(1, len(STRESSES), figsize=(9, 3.3), sharey=True, constrained_layout=True)
    for ax, (title, places) in zip(axes, STRESSES.items()):
        rows = [cases[case] for case in places.values()]
        for way, (name, marker) in WAYS.items():
            face = BLUE if way == "rna_to_other" else "white"
            _curve(ax, [row["summary"][f"accuracy_{way}"] for row in rows], BLUE, marker, face, f"accuracy {name}")
        _curve(ax, [row["summary"]["foscttm"] for row in rows], BROWN, "D", BROWN, "FOSCTTM (chance: 0.5)")
        for x, row in enumerate(rows):
            said = Counter(seed["verdict"] for seed in row["seeds"]).most_common()
            for place, (verdict, _) in enumerate(said):
                ax.text(x, 1.02 + 0.07 * place, verdict, color=VERDICT_COLOURS[verdict], ha="center", fontsize=9)
        ax.set_xticks(range(len(places)), list(places))
        ax.set_xlabel(title)
        ax.set_xlim(-0.5, len(places) - 0.5)
        ax.set_ylim(0, 1)
        ax.spines[["top", "right"]].set_visible(False)
    figure.legend(*axes[0].get_legend_handles_labels(), frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    _save(figure, path)


FEWEST = 20
"""Cells that a point of the reliability curve has at least."""


def reliability(load: Load, path: Path) -> None:
    """How often labels of a confidence are right, of each data set and direction; the cells of all seeds together."""
    full = load("transfer")["full"]
    data_sets = list(dict.fromkeys(name.split(":")[0] for name in full))
    figure, axes = plt.subplots(1, len(data_sets), figsize=(9.6, 3.4), sharey=True, constrained_layout=True)
    for ax, data_set in zip(axes, data_sets):
        runs = [run for name, run in full.items() if name.split(":")[0] == data_set]
        ax.plot([0, 1], [0, 1], color="#bbbbbb", linewidth=1, linestyle=":")
        for way in (way for way in runs[0] if way != "steps"):
            source, target = (MODALITY_TITLES.get(name, name) for name in way.split("_to_"))
            bins: dict[float, list[dict[str, float]]] = {}
            for run in runs:
                for found in run[way]["reliability"]:
                    bins.setdefault(found["low"], []).append(found)
            # of a handful of cells a share says nothing
            bins = {low: rows for low, rows in sorted(bins.items()) if sum(row["cells"] for row in rows) >= FEWEST}
            x, y = ([_weighted(rows, key) for rows in bins.values()] for key in ("confidence", "accuracy"))
            cells = [sum(found["cells"] for found in rows) for rows in bins.values()]
            colour, face = (BLUE, BLUE) if source == "RNA" else (BROWN, "white")
            ax.plot(x, y, color=colour, linewidth=1, label=f"{source} to {target}")
            # the area of a dot is the share of the cells
            ax.scatter(
                x,
                y,
                [400 * n / sum(cells) + 6 for n in cells],
                facecolor=face,
                edgecolor=colour,
                zorder=2,
                clip_on=False,
            )
        ax.set_title(data_set, fontsize=10)
        ax.set_xlim(0, 1.03)
        ax.set_ylim(0, 1.03)
        ax.set_xlabel("confidence")
        ax.legend(frameon=False, fontsize=8, loc="upper left")
        ax.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("share of labels that are right")
    _save(figure, path)


def _weighted(bins: list[dict[str, float]], key: str) -> float:
    return sum(found["cells"] * found[key] for found in bins) / sum(found["cells"] for found in bins)


FIGURES: dict[str, Callable[[Load, Path], None]] = {
    "engine": engine,
    "quality": quality,
    "stress": stress,
    "reliability": reliability,
}
