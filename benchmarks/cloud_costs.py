"""What a run costs in a cloud, from the times that Nextflow measured and prices that the reader gives.

Usage: ``python benchmarks/cloud_costs.py [--trace NAME=trace.txt ...] [--cpu-price 0.05] [--utilisation 0.5]``.
With ``--trace`` the measured core-hours are taken from those files of ``pipeline_info`` and added to
``benchmarks/cloud_costs.json``; without, that file is used as it is. Prints the table and puts it into docs/cloud.md if
prices and utilisation are the assumed ones.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULT = ROOT / "benchmarks" / "cloud_costs.json"
DOCS = ROOT / "docs" / "cloud.md"
BEGIN = "<!-- begin costs: benchmarks/cloud_costs.py -->"
END = "<!-- end costs -->"

CPU_PRICE = 0.05
"""Assumed price of a core (with its memory) for an hour, in the reader's currency."""

UTILISATION = 0.5
"""Assumed share of the paid cores' time that tasks use."""

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """A duration as Nextflow writes it, `1m 3s`, in seconds."""
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(r"([\d.]+)(ms|s|m|h|d)", text))


def core_hours(trace: Path) -> dict[str, float]:
    """Core-hours that the tasks of a run used, by step: the time each ran times the cores it kept busy."""
    used: dict[str, float] = {}
    with trace.open(newline="") as lines:
        for task in csv.DictReader(lines, delimiter="\t"):
            if task["status"] not in {"COMPLETED", "CACHED"}:
                continue
            step = task["name"].split(" ")[0].split(":")[-1]
            busy = seconds(task["realtime"]) * float(task["%cpu"].rstrip("%")) / 100
            used[step] = used.get(step, 0.0) + busy / 3600
    return used


def table(measured: dict[str, dict[str, float]], price: float, utilisation: float) -> str:
    """One row a run: core-hours in all and of the training, and what they cost."""
    lines = [
        f"| run | core-hours | of them training | cost at {price:g} a core-hour, {utilisation:.0%} used |",
        "|---|---|---|---|",
    ]
    for name, used in measured.items():
        total = sum(used.values())
        cost = total / utilisation * price
        lines.append(f"| {name} | {total:.3f} | {used.get('INTEGRATE', 0.0):.3f} | {cost:.4f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure if asked to, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", action="append", default=[], metavar="NAME=FILE")
    parser.add_argument("--cpu-price", type=float, default=CPU_PRICE)
    parser.add_argument("--utilisation", type=float, default=UTILISATION)
    given = parser.parse_args()
    if given.trace:
        pairs = [item.partition("=")[::2] for item in given.trace]
        known = json.loads(RESULT.read_text()) if RESULT.exists() else {}
        measured = known | {name: core_hours(Path(path)) for name, path in pairs}
        RESULT.write_text(json.dumps(measured, indent=2) + "\n")
    else:
        measured = json.loads(RESULT.read_text())
    text = table(measured, given.cpu_price, given.utilisation)
    print(text)
    if (given.cpu_price, given.utilisation) == (CPU_PRICE, UTILISATION):
        head, rest = DOCS.read_text().split(BEGIN)
        DOCS.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
