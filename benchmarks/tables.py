#!/usr/bin/env python
"""Put the benchmarks' committed numbers into README.md and the documents, and draw their figures.

    python benchmarks/tables.py

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; NAME is the JSON it comes from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields
from itertools import combinations
from pathlib import Path
from typing import Any

import figures
import numpy as np
from quality import PUBLISHED_PAIRS

from scmodal.coherence import LatentScores
from scmodal.presets import pairs_of

HERE = Path(__file__).resolve().parent
DOCUMENTS = (HERE.parent / "README.md", HERE.parent / "docs" / "benchmarks.md", HERE.parent / "docs" / "method.md")


QUALITY = {
    "accuracy_rna_to_other": "accuracy from RNA",
    "accuracy_other_to_rna": "accuracy to RNA",
    "foscttm": "FOSCTTM",
    "imputation_r_rna_to_other": "r imputed from RNA",
}
"""Columns that tell the quality of an integration."""


def quality(results: dict[str, Any]) -> str:
    """Mean and range over the seeds of each data set and preset."""
    lines = [
        "| data set | preset | steps | seeds | " + " | ".join(QUALITY.values()) + " |",
        "|---|---|---|---|" + "---|" * len(QUALITY),
    ]
    for name, entry in sorted(results["settings"].items()):
        data_set, preset = name.split(":")
        summary = entry["summary"]
        cells = [_mean_and_range(summary.get(key), 3) for key in QUALITY]
        head = [f"`{data_set}`", f"`{preset}`", f"{summary['steps']['mean']:,.0f}", str(len(entry["seeds"]))]
        lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join(lines)


def headline(results: dict[str, Any]) -> str:
    """The presets alone on the published pairs, without the variants of one part."""
    settings = {name: results["settings"].get(name) for d in PUBLISHED_PAIRS for name in (f"{d}:default", f"{d}:paper")}
    return quality({"settings": {name: entry for name, entry in settings.items() if entry}})


ESTIMATORS = {
    "imputation_r": "mean place of 30 cells of the target, decoded (`default`)",
    "r_direct": "the cell's own place, decoded (`paper`)",
    "r_neighbours": "mean of 30 cells of the target, measured",
    "r_half": "half of these two",
    "r_linked": "`default`, linked features alone",
    "r_partner": "the linked feature itself, as measured in the other modality",
    "expected_error": "expected correlation is off by",
    "expected_rank": "Spearman of expected with measured correlation",
}
"""Rows of the table of imputation."""


def imputation(results: dict[str, Any]) -> str:
    """Ways to impute, side by side, and how well the correlation of each feature is foretold."""
    columns = {
        f"`{name.split(':')[0]}` {title}": (entry["summary"], way)
        for name, entry in sorted(results["settings"].items())
        if name.endswith(":default") and name.split(":")[0] in PUBLISHED_PAIRS
        for way, title in (("rna_to_other", "from RNA"), ("other_to_rna", "to RNA"))
    }
    lines = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    for key, title in ESTIMATORS.items():
        cells = [f"{summary[f'{key}_{way}']['mean']:.3f}" for summary, way in columns.values()]
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def _score(row: dict[str, Any]) -> float:
    """What `scmodal select` compares seeds and settings by."""
    return LatentScores(**{part.name: row[part.name] for part in fields(LatentScores)}).score


APART = 0.05
"""Share by which the FOSCTTM of two settings differs at least, for one to count as better than the other."""


def selection(results: dict[str, Any]) -> str:
    """Whether the score without labels and pairs chooses the best seed, and ranks the settings as FOSCTTM does."""
    from scipy.stats import spearmanr

    lines = [
        "| data set | seeds | FOSCTTM of the chosen seed | of the best | of the worst | settings | rank correlation "
        "| settings apart, ranked rightly |",
        "|---|---|---|---|---|---|---|---|",
    ]
    settings = results["settings"]
    for data_set in sorted(PUBLISHED_PAIRS):
        seeds = settings[f"{data_set}:default"]["seeds"]
        chosen = max(seeds, key=_score)["foscttm"]
        values = [row["foscttm"] for row in seeds]
        # of every setting the same seed
        rows = [entry["seeds"][0] for name, entry in settings.items() if name.startswith(f"{data_set}:")]
        rows = [row for row in rows if "round_trip" in row]
        rank = spearmanr([_score(row) for row in rows], [-row["foscttm"] for row in rows]).statistic
        ordered = sorted(rows, key=lambda row: row["foscttm"])
        pairs = [(a, b) for a, b in combinations(ordered, 2) if b["foscttm"] > (1 + APART) * a["foscttm"]]
        right = sum(_score(a) > _score(b) for a, b in pairs)
        numbers = [f"{value:.4f}" for value in (chosen, min(values), max(values))]
        cells = [f"`{data_set}`", str(len(seeds)), *numbers, str(len(rows)), f"{rank:.2f}", f"{right} of {len(pairs)}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


PEERS = {k: QUALITY[k] for k in ("accuracy_rna_to_other", "accuracy_other_to_rna", "foscttm")} | {
    "seconds": "seconds",
    "peak_gb": "peak memory, GB",
}
"""Columns that compare methods; imputation is not among them, since few of them offer it."""


def _entries(results: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What was measured of every method by its title, on each data set; ours from the JSON of the quality table."""
    own = json.loads((HERE / "quality.json").read_text())["settings"]
    found = {}
    for data_set in dict.fromkeys(key.split(":")[0] for key in results["settings"]):
        entries = {"scMODAL, `default`": own.get(f"{data_set}:default", {})}
        entries |= {
            method["title"]: results["settings"].get(f"{data_set}:{name}", {})
            for name, method in results["methods"].items()
            if name != "authors"
        }
        found[data_set] = {title: entry for title, entry in entries.items() if entry}
    return found


def versus(results: dict[str, Any]) -> str:
    """Every method in one line: accuracy both ways and FOSCTTM on each data set, means over seeds."""
    found = {name: entries for name, entries in sorted(_entries(results).items()) if name in PUBLISHED_PAIRS}
    titles = dict.fromkeys(title for entries in found.values() for title in entries)
    keys = ("accuracy_rna_to_other", "accuracy_other_to_rna", "foscttm")
    lines = ["| method | " + " | ".join(f"`{name}`" for name in found) + " |", "|---|" + "---|" * len(found)]
    for title in titles:
        cells = []
        for entries in found.values():
            summary = entries.get(title, {}).get("summary") or {}
            cells.append(" / ".join(f"{summary[key]['mean']:.3f}" for key in keys) if summary else "–")
        lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def peers(results: dict[str, Any]) -> str:
    """Every method on each data set; a method that failed with its reason."""
    lines = [
        "| data set | method | seeds | " + " | ".join(PEERS.values()) + " |",
        "|---|---|---|" + "---|" * len(PEERS),
    ]
    for data_set, entries in _entries(results).items():
        for title, entry in entries.items():
            head = [f"`{data_set}`", title, str(len(entry["seeds"]))]
            if entry["seeds"]:
                cells = [_mean_and_range(entry["summary"].get(key), 1 if key == "seconds" else 3) for key in PEERS]
            else:
                cells = [entry["failures"][0]["error"].replace("|", "/"), *[""] * (len(PEERS) - 1)]
            lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join(lines)


AUTHORS = "hao_pbmc_cite:authors"
"""Run of the authors' program in peers.json."""


def authors(results: dict[str, Any]) -> str:
    """The authors' program beside preset `paper` after as many steps, on the same input."""
    paper = json.loads((HERE / "quality.json").read_text())["settings"]["hao_pbmc_cite:paper"]
    lines = [
        "| `hao_pbmc_cite` | steps | seeds | " + " | ".join(QUALITY.values()) + " |",
        "|---|---|---|" + "---|" * len(QUALITY),
    ]
    for title, entry in (("the authors' program", results["settings"][AUTHORS]), ("preset `paper`", paper)):
        first = entry["seeds"][0]
        steps = first.get("used", first)["steps"]
        cells = [_mean_and_range(entry["summary"][key], 3) for key in QUALITY]
        lines.append("| " + " | ".join([title, f"{steps:,}", str(len(entry["seeds"])), *cells]) + " |")
    return "\n".join(lines)


def _mean_and_range(number: dict[str, float] | None, digits: int) -> str:
    """Mean (least–greatest), or a dash for what was not measured; one number where they are the same."""
    if number is None:
        return "–"
    mean, low, high = (f"{number[key]:,.{digits}f}" for key in ("mean", "min", "max"))
    return mean if low == high else f"{mean} ({low}–{high})"


def engine(results: dict[str, Any]) -> str:
    """Seconds and memory of a training step, side by side."""
    measured = results["side_by_side"]
    columns = " x ".join(f"{p:,}" for p in measured["columns"])
    slow = [name for name in ("authors", "plain") if name in measured["competitors"]]
    names = {
        "authors": "the authors' program, batch 500",
        "plain": "plain evaluation, batch 500",
        "paper": "preset `paper`, batch 500",
        "default": "preset `default`, batch 300",
    }
    heads = "".join(f" times faster than {'the authors' if name == 'authors' else name} |" for name in slow)
    lines = [
        f"| {columns} columns, {results['machine']['threads']} threads | seconds a step |{heads} peak memory, GB |",
        "|---|---|" + "---|" * len(slow) + "---|",
    ]
    for name, title in names.items():
        if name not in measured["competitors"]:
            continue
        row = measured["competitors"][name]
        faster = [
            f"{measured['competitors'][other]['median'] / row['median']:.1f}" if other != name else "1"
            for other in slow
        ]
        lines.append(f"| {title} | {row['median']:.3f} | {' | '.join(faster)} | {row['peak_gb']:.1f} |")
    return "\n".join(lines)


def topology(results: dict[str, Any]) -> str:
    """FOSCTTM, accuracy and imputation of every two of three data sets."""
    pairs = (("rna", "protein"), ("protein", "cytometry"), ("rna", "cytometry"))
    titles = {"rna": "RNA", "protein": "protein", "cytometry": "cytometry"}
    lines = ["| topology | pair | FOSCTTM | label accuracy | imputation r |", "|---|---|---|---|---|"]
    for entry in results["settings"].values():
        order, summary = entry["order"], entry["summary"]
        matched = {frozenset((order[i], order[j])) for i, j in pairs_of(entry["topology"], len(order))}
        for pair in pairs:
            name, title = "|".join(sorted(pair)), "–".join(titles[m] for m in pair)
            cells = [
                f"{summary[key]['mean']:.3f} ({summary[key]['min']:.3f}–{summary[key]['max']:.3f})"
                for key in (f"foscttm {name}", f"accuracy {name}", f"pearson {name}")
            ]
            head = f"{entry['topology']}: {', '.join(titles[m] for m in order)}" if pair == pairs[0] else ""
            lines.append(
                "| " + " | ".join([head, title if frozenset(pair) in matched else f"*{title}*", *cells]) + " |"
            )
    return "\n".join(lines)


RANKINGS = {
    "ours_z": "imputed expression, by z",
    "ours_r": "imputed expression, by r",
    "ours_r_locus_out": "imputed expression with the locus hidden, by r",
    "gene_activity": "gene activity in place of expression",
    "distance": "distance",
    "glue": "GLUE, regulatory score",
}
"""Ways to rank pairs of genes and peaks."""


def peakgene(results: dict[str, Any]) -> str:
    """Seconds and memory of the links at full size and, where they were measured, real cells and large data."""
    own = results["speed"]
    lines = [
        "| genes | peaks | units | window | tested pairs | threads | seconds | peak memory, GB |",
        "|---|---|---|---|---|---|---|---|",
        f"| {own['n_genes']:,} | {own['n_peaks']:,} | {own['n_units']:,} | {own['window']:,} bp | {own['n_pairs']:,} "
        f"| {own['threads']} | {own['seconds']:.0f} | {own['peak_memory_gb']:.1f} |",
    ]
    for part, table in (("large", _large), ("snare_cortex", _cortex), ("archr_pbmc_tiny", _blood)):
        if results.get(part):
            lines += ["", *table(results[part])]
    return "\n".join(lines)


def _large(own: dict[str, Any]) -> list[str]:
    """Steps that read a large matrix of peaks."""
    titles = {"simulate": "simulation", "preprocess": "`scmodal preprocess`", "units": "peaks summed to units"}
    head = f"{own['n_cells']:,} cells x {own['n_peaks']:,} peaks, {100 * own['share_stored']:.2g} % not zero"
    return [
        f"| {head} | seconds | CPU seconds | peak memory, GB |",
        "|---|---|---|---|",
        *(
            f"| {titles[name]} | {row['seconds']:,.0f} | {row['cpu_seconds']:,.0f} | {row['peak_memory_gb']:.1f} |"
            for name, row in own["processes"].items()
        ),
        f"| *the matrix, sparse* | | | {own['stored_gb']:.1f} |",
        f"| *the matrix, dense* | | | {own['dense_gb']:.0f} |",
    ]


def _cortex(rows: list[dict[str, Any]]) -> list[str]:
    """Precision and correlation of each way to rank pairs, in the same units and against other cells."""
    kinds = {"same_units": "the same units", "other_cells": "other cells"}
    lines = [
        "| mouse cortex, ranked by | "
        + " | ".join(f"{what}, {title}" for title in kinds.values() for what in ("precision at 1,000", "r with true r"))
        + " |",
        "|---|" + "---|---|" * len(kinds),
    ]
    for name, title in RANKINGS.items():
        cells = []
        for kind in kinds:
            for what in ("precision_at_1000", "correlation_of_r"):
                values = [row[kind][what][name] for row in rows if name in row[kind][what]]
                number = {"mean": sum(values) / len(values), "min": min(values), "max": max(values)} if values else None
                cells.append(_mean_and_range(number, 3))
        if any(cell != "–" for cell in cells):
            lines.append("| " + " | ".join([title, *cells]) + " |")
    chance = [f"{sum(row[kind]['chance'] for row in rows) / len(rows):.3f} | –" for kind in kinds]
    return [*lines, "| *chance* | " + " | ".join(chance) + " |"]


def _blood(own: dict[str, Any]) -> list[str]:
    """From a fragments file to links."""
    ways = {"rna_to_atac": "accuracy from RNA", "atac_to_rna": "accuracy to RNA"}
    near, share = f"{own['near'] // 1000} kb", own["share_near_of_links"]
    return [
        "| blood, from fragments | cells (RNA, ATAC) | "
        + " | ".join(ways.values())
        + f" | tested pairs | links | within {near}: pairs | best 100 by z | links | seconds |",
        "|---|---|" + "---|" * (len(ways) + 6),
        f"| `archr_pbmc_tiny` | {own['cells']['rna']}, {own['cells']['atac']} | "
        + " | ".join(f"{own['accuracy_by_vote'][way]:.3f}" for way in ways)
        + f" | {own['n_pairs']:,} | {own['n_links']:,} | {100 * own['share_near_of_pairs']:.0f} % "
        + f"| {100 * own['share_near_of_best']:.0f} % | "
        + ("–" if share is None else f"{100 * share:.0f} %")
        + f" | {own['seconds_in_all']:,.0f} |",
    ]


def time_to_quality(results: dict[str, Any]) -> str:
    """What a step and all steps of both presets take on one machine, and the quality they end with."""
    lines = [
        "| preset | steps | seconds a step | seconds of all steps | " + " | ".join(QUALITY.values()) + " |",
        "|---|---|---|---|" + "---|" * len(QUALITY),
    ]
    paper = float(np.mean(results["paper_seconds_per_step"]))
    for preset, seconds in (("default", None), ("paper", paper)):
        for run in results.get(preset, []):
            a_step = seconds or run["seconds_per_step"]
            times = [f"{run['steps']:,}", f"{a_step:.3f}", f"{a_step * run['steps']:,.0f}"]
            lines.append("| " + " | ".join([f"`{preset}`", *times, *(f"{run[key]:.3f}" for key in QUALITY)]) + " |")
    return "\n".join(lines)


def scale(results: dict[str, Any]) -> str:
    """Seconds and memory of every command on many cells, and the step beside that on few."""
    head = f"{results['cells']:,} cells x {results['genes']:,} genes, {results['proteins']} proteins"
    threads = results["machine"]["threads"]
    head += f", {threads} thread{'' if threads == 1 else 's'}"
    step = results["seconds_per_step"]
    sizes = step["cells"]
    return "\n".join(
        [
            f"| {head} | seconds | peak memory, GB |",
            "|---|---|---|",
            *(
                f"| `scmodal {' '.join(name.split('_', 1))}` | {row['seconds']:,.0f} | {row['peak_memory_gb']:.2f} |"
                for name, row in results["processes"].items()
            ),
            "",
            "| a step of training on | seconds | ratio |",
            "|---|---|---|",
            f"| {sizes['small']:,} cells | {step['small']:.3f} | 1 |",
            f"| {sizes['large']:,} cells | {step['large']:.3f} | {step['ratio']:.2f} |",
        ]
    )


def verdict(results: dict[str, Any]) -> str:
    """How often each verdict was given."""
    lines = ["| data | links | steps | seeds | trusted | doubtful | failed |", "|---|---|---|---|---|---|---|"]
    titles = {
        "links": "as they are",
        "full": "as they are",
        "random": "random pairs",
        "unrelated": "as they are, of another tissue",
    }
    for name, entry in results["settings"].items():
        data, kind = name.split(":")
        counts = [str(entry["verdicts"].get(v, 0)) for v in ("trusted", "doubtful", "failed")]
        steps = "all" if kind == "full" else str(results["steps"])
        lines.append("| " + " | ".join([f"`{data}`", titles[kind], steps, str(len(entry["seeds"])), *counts]) + " |")
    return "\n".join(lines)


def transfer(results: dict[str, Any]) -> str:
    """Calibration of transferred labels, and what becomes of populations that the reference lacks."""
    titles = {"rna": "RNA", "protein": "protein", "atac": "ATAC"}
    lines = [
        "| data set | seed | steps | from | accuracy | calibration error | that of the share | called unknown |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, row in sorted(results["full"].items()):
        data_set, seed = name.split(":")
        for way, found in row.items():
            if way == "steps":
                continue
            numbers = [found[k] for k in ("accuracy", "calibration_error", "calibration_error_share")]
            cells = [f"`{data_set}`", seed, f"{row['steps']:,}", titles[way.split("_to_")[0]]]
            cells += [f"{value:.3f}" for value in numbers] + [f"{100 * found['unknown']:.1f} %"]
            lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| data set | missing from the reference | cells | called unknown | precision | recall |"]
    lines += ["|---|---|---|---|---|---|"]
    for name, row in results["dropped"].items():
        data_set, (side, population) = name.split(":")[0], name.split(":")[1].split(" without ")
        precision = "–" if row["precision"] is None else f"{row['precision']:.2f}"
        cells = [f"`{data_set}`", f"{population} ({titles[side]})", f"{row['missing']:,}"]
        cells += [f"{row['called_unknown']:,}", precision, f"{row['recall']:.2f}"]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def ceiling(results: dict[str, Any]) -> str:
    """Accuracy with the labels given, beside that of labels carried by `default` to the same cells."""
    settings = json.loads((HERE / "quality.json").read_text())["settings"]
    votes = json.loads((HERE / "transfer.json").read_text())["full"]
    titles = {"rna": "RNA", "protein": "protein", "atac": "ATAC"}
    lines = [
        "| data set | cells | known: nearest | known: votes of 15 | known: logistic regression | carried: nearest | "
        "carried: votes of 15 |",
        "|---|---|---|---|---|---|---|",
    ]
    for data_set, rows in results["data_sets"].items():
        names = [row["modality"] for row in rows]
        for row, source, way in zip(rows, names[::-1], ("other_to_rna", "rna_to_other")):
            carried = settings[f"{data_set}:default"]["summary"][f"accuracy_{way}"]["mean"]
            voted = [
                found[f"{source}_to_{row['modality']}"]["accuracy"]
                for name, found in votes.items()
                if name.split(":")[0] == data_set
            ]
            numbers = [*(row[key] for key in ("nearest", "votes", "logistic_regression")), carried, np.mean(voted)]
            cells = [f"`{data_set}`", titles[row["modality"]], *(f"{number:.3f}" for number in numbers)]
            lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


STRESS = {key: QUALITY[key] for key in ("accuracy_rna_to_other", "accuracy_other_to_rna", "foscttm")} | {
    "imputation_r_rna_to_other": "r imputed from RNA"
}
"""Columns of the stress table."""


def stress(results: dict[str, Any]) -> str:
    """What each change does, mean over seeds, and the verdicts."""
    lines = [
        "| case | data set | seeds | links | " + " | ".join(STRESS.values()) + " | verdict |",
        "|---|---|---|---|" + "---|" * (len(STRESS) + 1),
    ]
    for title, entry in results["cases"].items():
        summary, verdicts = entry["summary"], [row["verdict"] for row in entry["seeds"]]
        cells = [f"{summary[key]['mean']:.3f}" for key in STRESS]
        said = ", ".join(sorted(set(verdicts), key=verdicts.count, reverse=True))
        head = [title, f"`{entry['data_set']}`", str(len(verdicts)), f"{summary['n_links']['mean']:.0f}"]
        lines.append("| " + " | ".join([*head, *cells, said]) + " |")
    return "\n".join(lines)


def heldout(results: dict[str, Any]) -> str:
    """Cells left out of training beside as many of those trained on, mean and range over seeds."""
    columns = {
        "foscttm": "FOSCTTM",
        "accuracy_from_rna": "accuracy from RNA",
        "accuracy_to_rna": "accuracy to RNA",
        "r_from_rna": "r imputed from RNA",
        "r_to_rna": "r imputed to RNA",
    }
    lines = ["| data set | cells | | seeds | " + " | ".join(columns.values()) + " |"]
    lines.append("|---|---|---|---|" + "---|" * len(columns))
    for data_set, entry in results["data_sets"].items():
        for suffix, title in (("", "left out"), ("_trained", "trained on")):
            numbers = [_mean_and_range(entry["summary"][key + suffix], 3) for key in columns]
            cells = f"{entry['summary']['cells']['mean']:,.0f}"
            lines.append("| " + " | ".join([f"`{data_set}`", cells, title, str(len(entry["seeds"])), *numbers]) + " |")
    return "\n".join(lines)


def mixing(results: dict[str, Any]) -> str:
    """Scores of scib-metrics, one seed."""
    methods = loaded("peers")["methods"]
    columns = {
        "ilisi": "iLISI",
        "kbet": "kBET",
        "graph_connectivity": "graph connectivity",
        "silhouette_label": "ASW",
        "nmi": "NMI",
        "ari": "ARI",
    }
    lines = ["| data set | method | " + " | ".join(columns.values()) + " |", "|---|---|" + "---|" * len(columns)]
    for key, found in results["settings"].items():
        data_set, name = key.split(":")
        title = methods[name]["title"] if name in methods else f"scMODAL, `{name}`"
        lines.append("| " + " | ".join([f"`{data_set}`", title, *(f"{found[c]:.3f}" for c in columns)]) + " |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "quality": quality,
    "peers": peers,
    "authors": authors,
    "engine": engine,
    "topology": topology,
    "time_to_quality": time_to_quality,
    "peakgene": peakgene,
    "verdict": verdict,
    "transfer": transfer,
    "stress": stress,
    "ceiling": ceiling,
    "scale": scale,
    "imputation": imputation,
    "selection": selection,
    "headline": headline,
    "versus": versus,
    "heldout": heldout,
    "mixing": mixing,
}
SOURCES = dict.fromkeys(("imputation", "selection", "headline"), "quality") | {"versus": "peers", "authors": "peers"}
"""JSON of a table that does not bear its name."""


def loaded(name: str) -> dict[str, Any]:
    """Committed numbers of a benchmark."""
    results: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return results


def _settings(results: dict[str, Any]) -> str:
    """A sentence on settings of `default` that were changed, where some were."""
    changed = f"--set {' '.join(results['set'])}" if results.get("set") else results.get("integrate")
    return f"\n\nPreset `default` with `{changed}`." if changed else ""


def filled(text: str) -> str:
    """`text` with every table made anew from its JSON."""
    for name, make in TABLES.items():
        results = loaded(SOURCES.get(name, name))
        table = make(results) + _settings(results)
        block = f"<!-- begin {name} -->\n{table}\n<!-- end {name} -->"
        text = re.sub(
            f"<!-- begin {name} -->.*?<!-- end {name} -->", lambda _, block=block: block, text, flags=re.DOTALL
        )
    return text


def main() -> None:
    """Rewrite the documents."""
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text()))
    for name, draw in figures.FIGURES.items():
        draw(loaded, HERE.parent / "docs" / "images" / f"{name}.png")


if __name__ == "__main__":
    main()
