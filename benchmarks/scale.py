#!/usr/bin/env python
"""A million cells in bounded memory: peak memory and time of every process, and the cost of a training step.

    python benchmarks/scale.py --folder /scratch/scale              # a million cells, some hours on two cores
    python benchmarks/scale.py --folder /tmp/scale --cells 50000    # smaller

Every process is the command line's, on data that `scmodal simulate` writes; its peak is the most resident memory that
it ever had. A training step on all cells takes turns with one on 10,000 of the same kind in one process, so that what
else the machine does slows both. The folder (some 10 GB) keeps the data; what is in the JSON already is not run again
unless `--again` is given.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import driving

HERE = Path(__file__).resolve().parent
SMALL = 10_000


def measured(arguments: list[str], threads: int) -> dict[str, float]:
    """Run one command of the command line to its end; seconds and peak resident memory in GB."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "scmodal.cli", *arguments], env=environment)
    # of this child alone; RUSAGE_CHILDREN is the maximum over all that ran before
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"scmodal {' '.join(arguments)} ended with exit code {process.returncode}")
    return {"seconds": time.perf_counter() - start, "peak_memory_gb": usage.ru_maxrss * 1024 / 1e9}


def commands(options: argparse.Namespace) -> dict[str, list[str]]:
    """Arguments of every process by its name, in order."""
    folder = options.folder
    size = ["--genes", str(options.genes), "--proteins", str(options.proteins)]
    prepared = [str(folder / f"{name}.h5ad") for name in ("rna", "protein")]
    inputs = [item for path in prepared for item in ("--input", path)]
    links = ["--links", str(folder / "links.tsv")]
    settings = [item for setting in options.set for item in ("--set", setting)]
    training = ["--steps", str(options.steps), "--threads", str(options.threads), "--device", "cpu", *settings]
    keys = ["--label-key", "cell_type", "--batch-key", "batch"]
    made: dict[str, list[str]] = {
        "simulate": ["simulate", "--cells", str(options.cells), *size, "--output", str(folder / "data")],
        **{
            f"preprocess_{name}": [
                *("preprocess", "--input", str(folder / "data" / f"{name}.h5ad"), "--modality", name, *keys),
                *("--output", path),
            ]
            for name, path in zip(("rna", "protein"), prepared)
        },
        "link": ["link", *inputs, "--output", links[1]],
        "integrate": ["integrate", *inputs, *links, *training, "--output", str(folder / "run")],
        "impute": [
            *("impute", "--model", str(folder / "run" / "model"), "--from", "rna", "--to", "protein"),
            *("--input", prepared[0], "--device", "cpu", "--output", str(folder / "imputed.h5ad")),
        ],
    }
    return made


def make_step(paths: list[Path], options: argparse.Namespace) -> Callable[[], None]:
    """A function that does one training step on prepared data sets, without the smoothing and matching before."""
    import torch

    from scmodal import step, training
    from scmodal.inputs import build_inputs
    from scmodal.io import read_prepared
    from scmodal.links import build_links
    from scmodal.presets import get_preset

    torch.set_num_threads(options.threads)
    preset, device = get_preset("default", smoothing=0.0, matching_rounds=0), torch.device("cpu")
    adatas = [read_prepared(path) for path in paths]
    links, _ = build_links(adatas)
    inputs = build_inputs(adatas, links, preset)
    data = training.make_data(inputs, preset, device)
    state = training.make_state([item.x.shape[1] for item in inputs], preset, 0, device)
    record = torch.zeros(len(step.HISTORY_COLUMNS))
    return lambda: step.train_step(state, data, preset, record)


def time_steps(options: argparse.Namespace) -> dict[str, Any]:
    """Median seconds of a step on all cells and on few, which take turns."""
    from scmodal.io import write_h5ad
    from scmodal.preprocess import preprocess_files

    names = ("rna", "protein")
    small = options.folder / "small"
    if not (small / "samplesheet.csv").exists():
        size = ["--genes", str(options.genes), "--proteins", str(options.proteins)]
        measured(["simulate", "--cells", str(SMALL), *size, "--output", str(small)], options.threads)
    for name in names:
        write_h5ad(preprocess_files([small / f"{name}.h5ad"], name), small / f"{name}.prepared.h5ad")
    steps = {
        "small": make_step([small / f"{name}.prepared.h5ad" for name in names], options),
        "large": make_step([options.folder / f"{name}.h5ad" for name in names], options),
    }
    times: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 3):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn >= 3:  # the first turns warm up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {"cells": {"small": SMALL, "large": options.cells}, **medians, "ratio": medians["large"] / medians["small"]}


def main() -> None:
    """Run what is not in the JSON yet, and write it after every process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="folder for the data and results")
    parser.add_argument("--cells", type=int, default=1_000_000)
    parser.add_argument("--genes", type=int, default=3000)
    parser.add_argument("--proteins", type=int, default=30)
    parser.add_argument("--steps", type=int, default=1000)
    driving.add_settings(parser)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=40, help="steps of each size that are timed")
    parser.add_argument("--again", action="store_true", help="run everything")
    parser.add_argument("--output", type=Path, default=HERE / "scale.json")
    options = parser.parse_args()

    from scmodal.io import write_json
    from scmodal.model import software_versions

    result: dict[str, Any] = {"processes": {}}
    asked = {name: getattr(options, name) for name in ("cells", "genes", "proteins", "steps", "set")}
    if options.output.exists() and not options.again:
        result = json.loads(options.output.read_text())
        if any(result[name] != value for name, value in asked.items()):
            sys.exit(
                f"{options.output} holds another run ({ {n: result[n] for n in asked} }): give --again or --output"
            )
    result.update(asked)
    result["machine"] = driving.machine() | {"threads": options.threads}
    result["versions"] = software_versions()
    for name, arguments in commands(options).items():
        if name not in result["processes"]:
            result["processes"][name] = measured(arguments, options.threads)
            write_json(result, options.output)
    if "seconds_per_step" not in result:
        result["seconds_per_step"] = time_steps(options)
    result["peak_memory_gb"] = max(item["peak_memory_gb"] for item in result["processes"].values())
    write_json(result, options.output)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
