"""Print where a finished run's report is and its key numbers.

Usage: ``python scripts/show_demo.py results/demo``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def numbers(metrics: dict) -> list[str]:
    """One line for each number a newcomer would look for."""
    lines = []
    for pair, value in metrics.get("foscttm", {}).items():
        lines.append(f"match of {pair.replace('|', ' and ')}, FOSCTTM (0 is perfect, 0.5 is chance): {value:.3f}")
    for direction, scores in metrics.get("label_transfer", {}).items():
        lines.append(f"labels {direction.replace('_to_', ' to ')}: accuracy {scores['accuracy']:.3f}")
    for direction, scores in metrics.get("imputation", {}).items():
        lines.append(f"imputed {direction.replace('_to_', ' to ')}: mean correlation {scores['pearson_mean']:.3f}")
    return lines


def main(outdir: Path) -> None:
    """Print the numbers of every sample, then the reports."""
    for path in sorted(outdir.glob("*/evaluate/metrics.json")):
        print(f"\n{path.parts[-3]}")
        print("\n".join(f"  {line}" for line in numbers(json.loads(path.read_text()))))
    for report in sorted(outdir.glob("report/*.html")):
        print(f"\nReport: {report.resolve()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
