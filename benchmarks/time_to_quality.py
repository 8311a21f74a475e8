#!/usr/bin/env python
"""Minutes from files to the quality that the published settings reach in all their steps.

    python benchmarks/time_to_quality.py --data FOLDER             # preset default: some minutes
    python benchmarks/time_to_quality.py --data FOLDER --paper     # the reference too: 10,000 steps of preset paper

The commands of the command line are timed one after another, as a user would run them: preprocess twice, link,
integrate, on `cite_pbmc10k`; then evaluate measures the result against the pairing, which training did not see.
Preset `paper` at its full 10,000 steps stands for the authors' program, whose losses and gradients it computes to 1e-5
(their own program needs hours here). Its quality is measured with `--paper`; what a step of it costs, always: some
steps before and after those of preset `default`, on the same input. Results: benchmarks/time_to_quality.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import driving

HERE = Path(__file__).resolve().parent
TIMED_STEPS = 150
"""Steps of preset `paper` that are timed, twice."""


def scmodal(command: str, omp_threads: int, **options: Any) -> float:
    """Run a command of the command line; its seconds. A list repeats its option, True gives it without a value."""
    arguments = [command]
    for name, value in options.items():
        for item in value if isinstance(value, list) else [value]:
            arguments += [f"--{name.replace('_', '-')}", *([] if item is True else [str(item)])]
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "scmodal.cli", *arguments],
        check=True,
        env=dict(os.environ, OMP_NUM_THREADS=str(omp_threads)),
        stdout=subprocess.DEVNULL,
    )
    return time.perf_counter() - start


def prepare(data: Path, folder: Path, threads: int) -> tuple[list[Path], Path, dict[str, float]]:
    """Prepared inputs, links, and the seconds of each command."""
    prepared, links = {name: folder / f"{name}.h5ad" for name in ("rna", "protein")}, folder / "links.tsv"
    seconds = {}
    for (modality, output), name in zip(prepared.items(), ("rna", "adt")):
        source = data / "cite_pbmc10k" / f"{name}.h5ad"
        seconds[f"preprocess {modality}"] = scmodal(
            "preprocess", threads, input=source, modality=modality, label_key="cell_type_l2", output=output
        )
    inputs = list(prepared.values())
    seconds["link"] = scmodal("link", threads, input=inputs, output=links)
    return inputs, links, seconds


def integrate(
    preset: str, inputs: list[Path], links: Path, output: Path, seed: int, threads: int, settings: list[str]
) -> tuple[float, dict[str, Any]]:
    """Seconds of `scmodal integrate`, and what it says of the training."""
    options = {"preset": preset, "seed": seed, "device": "cpu", "threads": threads, "set": settings}
    seconds = scmodal("integrate", threads, input=inputs, links=links, output=output, **options)
    return seconds, json.loads((output / "metrics.json").read_text())


def measure(preset: str, data: Path, folder: Path, seed: int, threads: int, settings: list[str]) -> dict[str, Any]:
    """Seconds of each command, and the quality of the result."""
    inputs, links, seconds = prepare(data, folder, threads)
    seconds["integrate"], training = integrate(preset, inputs, links, folder / "run", seed, threads, settings)
    scmodal("evaluate", threads, integrated=folder / "run" / "integrated.h5mu", paired=True, output=folder / "m.json")
    metrics = json.loads((folder / "m.json").read_text())
    return {
        "seed": seed,
        "seconds": seconds,
        "seconds_in_all": sum(seconds.values()),
        "steps": training["steps"],
        "seconds_per_step": training["seconds_per_step"],
        "accuracy_rna_to_other": metrics["label_transfer"]["rna_to_protein"]["accuracy"],
        "accuracy_other_to_rna": metrics["label_transfer"]["protein_to_rna"]["accuracy"],
        "foscttm": metrics["foscttm"]["rna|protein"],
        "imputation_r_rna_to_other": metrics["imputation"]["rna_to_protein"]["pearson_mean"],
    }


def paper_steps(data: Path, folder: Path, threads: int) -> float:
    """Seconds of a step of preset `paper`."""
    inputs, links, _ = prepare(data, folder, threads)
    return float(
        integrate("paper", inputs, links, folder / "run", 0, threads, [f"steps={TIMED_STEPS}"])[1]["seconds_per_step"]
    )


def main() -> None:
    """Measure and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=HERE.parents[1] / "shared" / "data")
    parser.add_argument("--paper", action="store_true", help="measure the reference, too")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=HERE / "time_to_quality.json")
    driving.add_settings(parser)
    options = parser.parse_args()
    if not (options.data / "cite_pbmc10k").is_dir():
        sys.exit(f"{options.data}: no cite_pbmc10k in it; name the folder with the published data sets by --data")

    from scmodal.io import write_json
    from scmodal.model import software_versions

    result = json.loads(options.output.read_text()) if options.output.exists() else {}
    result |= {"machine": driving.machine() | {"threads": options.threads}, "versions": software_versions()}
    result.pop("set", None)
    result |= {"set": options.set} if options.set else {}
    with tempfile.TemporaryDirectory() as place:

        def folder() -> Path:
            return Path(tempfile.mkdtemp(dir=place))

        def run(preset: str) -> None:
            settings = options.set if preset == "default" else []
            result[preset] = [
                measure(preset, options.data, folder(), seed, options.threads, settings)
                for seed in range(options.seeds)
            ]
            print(json.dumps({preset: result[preset]}, indent=2), flush=True)
            write_json(result, options.output)

        before = paper_steps(options.data, folder(), options.threads)
        run("default")
        result["paper_seconds_per_step"] = [before, paper_steps(options.data, folder(), options.threads)]
        write_json(result, options.output)
        if options.paper:
            run("paper")


if __name__ == "__main__":
    main()
