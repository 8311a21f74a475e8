#!/usr/bin/env python
"""Cost of a training step: ours beside the plain evaluation of the same formulas, in one run on one machine.

    python benchmarks/engine.py --threads 2

The plain evaluation is what the formulas say, with broadcast differences for distances, the wide reconstruction in the
latent cycle and separate optimiser loops; it shares no code with the engine. Times on a busy machine are noise: what
counts is the ratio of the two, which take turns. `python benchmarks/tables.py` puts the table into the documentation.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
CELLS = 6000
LINKS = 14


def make_data(columns: tuple[int, int]) -> list:
    """Two random data sets as engine inputs; a step's cost does not depend on the values."""
    import numpy as np

    from scmodal.inputs import EngineInput, Recipe

    rng = np.random.default_rng(0)
    made = []
    for name, p in zip(("rna", "protein"), columns):
        x = rng.standard_normal((CELLS, p), dtype=np.float32)
        recipe = Recipe(name, [], np.zeros(p, np.float32), np.ones(p, np.float32), 10.0)
        made.append(EngineInput(name, recipe, x, {0: x[:, :LINKS]}))
    return made


def our_step(preset_name: str, columns: tuple[int, int], threads: int) -> Callable[[], None]:
    """A function that does one step of the engine."""
    import torch

    from scmodal import step, training
    from scmodal.presets import get_preset

    torch.set_num_threads(threads)
    preset, device = get_preset(preset_name), torch.device("cpu")
    data = training.make_data(make_data(columns), preset, device)
    state = training.make_state(columns, preset, 0, device)
    record = torch.zeros(len(step.HISTORY_COLUMNS))
    return lambda: step.train_step(state, data, preset, record)


def plain_step(columns: tuple[int, int], threads: int) -> Callable[[], None]:
    """A function that does one step of preset `paper` by the formulas as they are written."""
    import torch
    from torch import nn

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    batch, latent, hidden = 500, 20, 512
    x = [torch.as_tensor(item.x) for item in make_data(columns)]

    def mlp(*widths: int) -> nn.Sequential:
        layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1])

    encoders = [mlp(p, hidden, latent) for p in columns]
    generators = [mlp(latent, hidden, p) for p in columns]
    discriminator = mlp(latent, hidden, hidden, 1)
    ours = [p for m in (*encoders, *generators) for p in m.parameters()]
    for parameter in (*ours, *discriminator.parameters()):
        nn.init.normal_(parameter, 0.0, 0.1)
    adam = torch.optim.Adam(ours, weight_decay=1e-3)
    adam_d = torch.optim.Adam(discriminator.parameters(), weight_decay=1e-3)

    def d_loss(z: list) -> torch.Tensor:
        a, b = (discriminator(item).clamp(-50, 50) for item in z)
        return (torch.log1p(torch.exp(-a)) + torch.log1p(torch.exp(b))).mean()

    def kernel(v: torch.Tensor) -> torch.Tensor:
        return torch.exp(-((v[:, None, :] - v[None, :, :]) ** 2).sum(2) / (2 * v.shape[1]))

    def step() -> None:
        b = [item[torch.randint(CELLS, (batch,))] for item in x]
        for _ in range(5):
            adam_d.zero_grad()
            d_loss([encoder(item).detach() for encoder, item in zip(encoders, b)]).backward()
            adam_d.step()
        z = [encoder(item) for encoder, item in zip(encoders, b)]
        similarity = nn.functional.normalize(b[0][:, :LINKS]) @ nn.functional.normalize(b[1][:, :LINKS]).T
        near_a = torch.zeros_like(similarity).scatter(1, similarity.topk(30, 1).indices, 1.0)
        near_b = torch.zeros_like(similarity).scatter(0, similarity.topk(30, 0).indices, 1.0)
        anchors = near_a * near_b
        squares = ((z[0][:, None, :] - z[1][None, :, :]) ** 2).mean(2)
        loss = -d_loss(z) + (anchors * squares).sum() / anchors.sum().clamp_min(1)
        for i, j in ((0, 1), (1, 0)):
            loss = loss + 10 * ((generators[i](z[i]) - b[i]) ** 2).mean()
            loss = loss + 10 * ((z[i] - encoders[j](generators[j](z[i]))) ** 2).mean()
            cosine = nn.functional.cosine_similarity(kernel(b[i]), kernel(z[i]), dim=1)
            loss = loss - 10 * cosine.clamp_max(0.975).mean()
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(ours, 5.0)
        adam.step()

    return step


def make_step(which: str, columns: tuple[int, int], threads: int) -> Callable[[], None]:
    """The step of one competitor by its name."""
    return plain_step(columns, threads) if which == "plain" else our_step(which, columns, threads)


def peak_memory(which: str, columns: tuple[int, int], threads: int) -> float:
    """Peak resident memory in GB of a process that does three steps of one competitor, its imports included."""
    arguments = ["--peak-of", which, "--columns", *map(str, columns), "--threads", str(threads)]
    return float(subprocess.run([sys.executable, __file__, *arguments], check=True, capture_output=True).stdout)


def main() -> None:
    """Time the competitors in turns and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=7, help="turns of each competitor")
    parser.add_argument("--columns", type=int, nargs=2, default=(3014, 16))
    parser.add_argument("--peak-of", help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, default=HERE / "engine.json")
    options = parser.parse_args()
    columns = tuple(options.columns)

    if options.peak_of:
        step = make_step(options.peak_of, columns, options.threads)
        for _ in range(3):
            step()
        # not getrusage: its maximum is inherited from the process that started this one
        status = Path("/proc/self/status").read_text()
        print(int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e9)
        return

    from scmodal.io import write_json
    from scmodal.model import software_versions

    names = ("paper", "default", "plain")
    steps = {name: make_step(name, columns, options.threads) for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(options.rounds + 1):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn:  # the first turn warms up
                times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    result = {
        "columns": list(columns),
        "cells": CELLS,
        "machine": {"processor": platform.machine(), "threads": options.threads},
        "versions": software_versions(),
        "seconds_per_step": {
            name: {"median": medians[name], "min": min(values), "max": max(values)} for name, values in times.items()
        },
        "times_faster_than_plain": {name: medians["plain"] / medians[name] for name in ("paper", "default")},
        "peak_memory_gb": {name: peak_memory(name, columns, options.threads) for name in names},
    }
    write_json(result, options.output)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
