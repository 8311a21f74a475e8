#!/usr/bin/env python
"""Put the benchmarks' committed numbers into README.md, docs/benchmarks.md and docs/method.md.

    python benchmarks/tables.py

A table stands between `<!-- begin NAME -->` and `<!-- end NAME -->`; NAME is the JSON it comes from.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from scmodal.presets import pairs_of

HERE = Path(__file__).resolve().parent
DOCUMENTS = (HERE.parent / "README.md", HERE.parent / "docs" / "benchmarks.md", HERE.parent / "docs" / "method.md")


def quality(results: dict[str, Any]) -> str:
    """Mean and range over the seeds of each data set and preset."""
    columns = {
        "accuracy_rna_to_protein": "accuracy RNA→protein",
        "accuracy_protein_to_rna": "accuracy protein→RNA",
        "foscttm": "FOSCTTM",
        "imputation_r_rna_to_protein": "imputed protein r",
    }
    lines = [
        "| data set | preset | steps | seeds | " + " | ".join(columns.values()) + " |",
        "|---|---|---|---|" + "---|" * len(columns),
    ]
    for name, entry in sorted(results["settings"].items()):
        data_set, preset = name.split(":")
        summary = entry["summary"]
        cells = [f"{summary[k]['mean']:.3f} ({summary[k]['min']:.3f}–{summary[k]['max']:.3f})" for k in columns]
        head = [f"`{data_set}`", f"`{preset}`", f"{summary['steps']['mean']:,.0f}", str(len(entry["seeds"]))]
        lines.append("| " + " | ".join([*head, *cells]) + " |")
    return "\n".join(lines)


def engine(results: dict[str, Any]) -> str:
    """Seconds and memory of a training step."""
    columns = " x ".join(f"{p:,}" for p in results["columns"])
    lines = [
        f"| {columns} columns, {results['machine']['threads']} threads "
        "| seconds a step | times faster | peak memory, GB |",
        "|---|---|---|---|",
    ]
    names = {
        "plain": "plain evaluation",
        "paper": "preset `paper`, batch 500",
        "default": "preset `default`, batch 300",
    }
    for name, title in names.items():
        seconds = results["seconds_per_step"][name]["median"]
        faster = results["times_faster_than_plain"].get(name, 1.0)
        lines.append(f"| {title} | {seconds:.2f} | {faster:.1f} | {results['peak_memory_gb'][name]:.1f} |")
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


def filled(text: str) -> str:
    """`text` with every table made anew from its JSON."""
    for name, make in (("quality", quality), ("engine", engine), ("topology", topology)):
        table = make(json.loads((HERE / f"{name}.json").read_text()))
        block = f"<!-- begin {name} -->\n{table}\n<!-- end {name} -->"
        text = re.sub(
            f"<!-- begin {name} -->.*?<!-- end {name} -->", lambda _, block=block: block, text, flags=re.DOTALL
        )
    return text


def main() -> None:
    """Rewrite the documents."""
    for path in DOCUMENTS:
        path.write_text(filled(path.read_text()))


if __name__ == "__main__":
    main()
