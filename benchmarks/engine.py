#!/usr/bin/env python
"""Cost of a training step: ours, the authors' program and the plain evaluation of the formulas, side by side.

    python benchmarks/engine.py --authors PATH     # PATH: a checkout of github.com/gefeiwang/scMODAL, used as it is
    python benchmarks/engine.py --only sweeps      # one part again
    python benchmarks/engine.py --device cuda

Every competitor is a process of its own; they take turns, since times on a busy machine are noise and only what was
measured side by side counts. The authors' program runs unmodified, in an environment that is made for it in
.tools/peers. The plain evaluation is what the formulas say, with broadcast differences for distances, the wide
reconstruction in the latent cycle and encoders run again for every discriminator update; it shares no code with the
engine. Results: benchmarks/engine.json; `python benchmarks/tables.py` makes the table and the figure.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import driving

HERE = Path(__file__).resolve().parent
LINKS = 14


@dataclass(frozen=True)
class Problem:
    """What a step is timed on: random data, since a step's cost does not depend on the values."""

    columns: tuple[int, int] = (3014, 16)
    cells: int = 6000
    batch: int | None = None
    """None: the preset's (500 in `paper` and in the authors' program, 300 in `default`)."""
    threads: int = 2
    device: str = "cpu"


# ---- competitors: a function that does so many steps ----------------------------------------------------------------


def dense(problem: Problem) -> list[Any]:
    """Two random data sets."""
    import numpy as np

    rng = np.random.default_rng(0)
    return [rng.standard_normal((problem.cells, p), dtype=np.float32) for p in problem.columns]


def our_steps(preset_name: str, problem: Problem) -> Callable[[int], None]:
    """Steps of the engine."""
    from scmodal.allocator import keep_large_buffers

    keep_large_buffers()  # as the command does

    import torch

    from scmodal import step, training
    from scmodal.capture import make_step
    from scmodal.presets import get_preset

    torch.set_num_threads(problem.threads)
    preset, device = get_preset(preset_name, batch_size=problem.batch), torch.device(problem.device)
    data = training.make_data(engine_inputs(problem), preset, device)
    state = training.make_state(problem.columns, preset, 0, device)
    record = torch.zeros(len(step.HISTORY_COLUMNS), device=device)
    advance = make_step(state, data, preset)

    def steps(n: int) -> None:
        for _ in range(n):
            advance(record)
        record.cpu()  # waits for the device

    return steps


def engine_inputs(problem: Problem) -> list[Any]:
    """The data sets as engine inputs, in memory; benchmarks/scale.py times steps on data that stay on disk."""
    import numpy as np

    from scmodal.inputs import EngineInput, Recipe

    def recipe(name: str, p: int) -> Recipe:
        return Recipe(name, [], np.zeros(p, np.float32), np.ones(p, np.float32), 10.0)

    names = ("rna", "protein")
    return [
        EngineInput(name, recipe(name, p), x, {0: x[:, :LINKS]})
        for name, p, x in zip(names, problem.columns, dense(problem))
    ]


def plain_steps(problem: Problem) -> Callable[[int], None]:
    """Steps of preset `paper` by the formulas as they are written."""
    import torch
    from torch import nn

    torch.set_num_threads(problem.threads)
    torch.manual_seed(0)
    batch, latent, hidden = problem.batch or 500, 20, 512
    device = torch.device(problem.device)
    x = [torch.as_tensor(item, device=device) for item in dense(problem)]

    def mlp(*widths: int) -> nn.Sequential:
        layers = [m for a, b in itertools.pairwise(widths) for m in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(*layers[:-1]).to(device)

    encoders = [mlp(p, hidden, latent) for p in problem.columns]
    generators = [mlp(latent, hidden, p) for p in problem.columns]
    discriminator = mlp(latent, hidden, hidden, 1)
    ours = [p for m in (*encoders, *generators) for p in m.parameters()]
    for parameter in (*ours, *discriminator.parameters()):
        nn.init.normal_(parameter, 0.0, 0.1)
    adam = torch.optim.Adam(ours, weight_decay=1e-3)
    adam_d = torch.optim.Adam(discriminator.parameters(), weight_decay=1e-3)

    def d_loss(z: list[Any]) -> Any:
        a, b = (discriminator(item).clamp(-50, 50) for item in z)
        return (torch.log1p(torch.exp(-a)) + torch.log1p(torch.exp(b))).mean()

    def kernel(v: Any) -> Any:
        return torch.exp(-((v[:, None, :] - v[None, :, :]) ** 2).sum(2) / (2 * v.shape[1]))

    def step() -> None:
        b = [item[torch.randint(problem.cells, (batch,), device=device)] for item in x]
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

    def steps(n: int) -> None:
        for _ in range(n):
            step()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return steps


def authors_steps(problem: Problem) -> Callable[[int], None]:
    """Steps of the authors' program, through its own public interface: a training of so many steps."""
    import torch

    from scmodal.model import Model  # the authors' package of the same name: this process has theirs on its path

    torch.set_num_threads(problem.threads)
    model = Model(batch_size=problem.batch or 500, model_path=tempfile.mkdtemp())
    model.emb_A, model.emb_B = dense(problem)
    model.shared_gene_num = LINKS
    said = open(os.devnull, "w")  # noqa: SIM115  (it prints; standard output is how this process talks to its parent)

    def steps(n: int) -> None:
        model.training_steps = n
        out, sys.stdout = sys.stdout, said
        try:
            model.train()
        finally:
            sys.stdout = out

    return steps


def serve(name: str, problem: Problem) -> None:
    """The process of one competitor: reads a number of steps, does them, answers with seconds and peak memory."""
    makers: dict[str, Callable[[Problem], Callable[[int], None]]] = {
        "plain": plain_steps,
        "authors": authors_steps,
    }
    make = makers.get(name, lambda p: our_steps(name, p))
    steps = make(problem)
    for line in sys.stdin:
        start = time.perf_counter()
        steps(int(line))
        seconds = time.perf_counter() - start
        # not getrusage: its maximum is inherited from the process that started this one
        peak = int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e9
        print(json.dumps({"seconds": seconds, "peak_gb": peak}), flush=True)


# ---- the parent -----------------------------------------------------------------------------------------------------


class Competitor:
    """A running competitor."""

    def __init__(self, name: str, problem: Problem, authors: Path | None = None) -> None:
        environment = dict(os.environ, OMP_NUM_THREADS=str(problem.threads))
        python = sys.executable
        if name == "authors":
            assert authors is not None
            python = str(peer_environment())
            environment["PYTHONPATH"] = str(authors)
        arguments = ["--serve", name, "--problem", json.dumps(problem.__dict__)]
        self.process = subprocess.Popen(
            [python, __file__, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.times: list[float] = []
        self.peak = 0.0

    def run(self, n: int, keep: bool = True) -> None:
        """Do `n` steps and keep the seconds a step."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{n}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("a competitor ended early: see its error above")
        answer = json.loads(line)
        self.peak = answer["peak_gb"]
        if keep:
            self.times.append(answer["seconds"] / n)

    def result(self) -> dict[str, float]:
        """Its figures; the process ends."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        return {
            "median": statistics.median(self.times),
            "min": min(self.times),
            "max": max(self.times),
            "peak_gb": self.peak,
        }


def peer_environment() -> Path:
    """Python of an environment with what the authors' program imports; made once."""
    import importlib.metadata

    folder = HERE.parent / ".tools" / "peers" / "authors"
    python = folder / "bin" / "python"
    if not (folder / "ready").exists():
        uv = Path(sys.executable).parent / "uv"
        torch = importlib.metadata.version("torch").split("+")[0]
        subprocess.run([uv, "venv", "--clear", "--python", sys.executable, folder], check=True)
        packages = [f"torch=={torch}", "scanpy", "umap-learn", "annoy", "scikit-learn"]
        subprocess.run([uv, "pip", "install", "--python", python, *packages], check=True)
        (folder / "ready").touch()
    return python


def take_turns(competitors: dict[str, tuple[Competitor, int]], rounds: int) -> dict[str, dict[str, float]]:
    """Let all warm up, then in each round each do its number of steps."""
    for competitor, n in competitors.values():
        competitor.run(min(n, 3), keep=False)
    for turn in range(rounds):
        order = list(competitors.values())
        for competitor, n in order if turn % 2 == 0 else reversed(order):
            competitor.run(n)
    return {name: competitor.result() for name, (competitor, _) in competitors.items()}


def products_of_a_paper_step(columns: tuple[int, int], batch: int) -> float:
    """Floating point operations of the matrix products that the engine's step of preset `paper` consists of.

    2 m n k a product. Forward and both gradients of every layer, but no gradient of the data; the cycle by way of the
    512 x 512 product of two weights; the kernel of the data; five updates of the discriminator and one pass through
    it that carries gradients to the latents.
    """
    h, d, total = 512, 20, 0.0
    for p in columns:
        encoder = 2 * (2 * batch * p * h) + 3 * (2 * batch * h * d)
        generator = 3 * (2 * batch * h * p) + 3 * (2 * batch * d * h)
        cycle = 3 * (2 * h * h * p) + 3 * (2 * batch * h * h) + 6 * (2 * batch * d * h)
        total += encoder + generator + cycle + 2 * batch * batch * (p + 2 * d)
    layers = d * h + h * h + h
    update = 2 * (2 * batch) * (3 * layers - d * h)
    through = 2 * (2 * batch) * (2 * layers)
    return total + 5 * update + through


def machine_peak(threads: int) -> dict[str, float]:
    """Best rate of a large square matrix product, GFLOP/s, by precision."""
    import torch

    torch.set_num_threads(threads)
    n, peaks = 2048, {}
    for name, kind in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a, b = (torch.randn(n, n).to(kind) for _ in range(2))
        best = float("inf")
        for _ in range(15):
            start = time.perf_counter()
            a @ b
            best = min(best, time.perf_counter() - start)
        peaks[name] = 2 * n**3 / best / 1e9
    return peaks


def side_by_side(problem: Problem, rounds: int, authors: Path | None) -> dict[str, Any]:
    """The main table: every competitor on one problem."""
    steps = {"paper": 10, "default": 15, "plain": 2} | ({"authors": 2} if authors else {})
    peak = machine_peak(problem.threads) if problem.device == "cpu" else {}
    results = take_turns({name: (Competitor(name, problem, authors), n) for name, n in steps.items()}, rounds)
    out: dict[str, Any] = {"columns": problem.columns, "cells": problem.cells, "competitors": results}
    for slow in ("authors", "plain"):
        if slow in results:
            out[f"times_faster_than_{slow}"] = {
                name: results[slow]["median"] / results[name]["median"] for name in ("paper", "default")
            }
    if peak:
        again = machine_peak(problem.threads)
        peak = {name: max(value, again[name]) for name, value in peak.items()}
        work = products_of_a_paper_step(problem.columns, problem.batch or 500)
        out["machine_peak_gflops"] = peak
        out["paper_gflop_a_step"] = work / 1e9
        out["paper_share_of_peak"] = work / 1e9 / results["paper"]["median"] / peak["float32"]
    return out


SWEEPS: dict[str, list[Any]] = {
    "cells": [1_000, 10_000, 100_000],
    "columns": [500, 1_000, 2_000, 4_000, 8_000],
    "batch": [128, 256, 512, 1_024, 2_048, 4_096],
}


def sweep(name: str, base: Problem, rounds: int) -> dict[str, list[dict[str, Any]]]:
    """Both presets over one size; all sizes of a preset take turns."""
    out = {}
    for preset in ("paper", "default"):
        problems = {}
        for value in SWEEPS[name]:
            change: dict[str, Any] = {name: (value, 16) if name == "columns" else value}
            problems[str(value)] = replace(base, **change)
        results = take_turns(
            {key: (Competitor(preset, problem), 5) for key, problem in problems.items()},
            rounds,
        )
        out[preset] = [{name: int(key), **values} for key, values in results.items()]
        print(name, preset, {row[name]: round(row["median"], 4) for row in out[preset]}, flush=True)
    return out


def main() -> None:
    """Run what is asked for and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authors", type=Path, help="checkout of the authors' program")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each competitor")
    parser.add_argument("--only", choices=["side_by_side", "sweeps"])
    parser.add_argument("--output", type=Path, help="default: engine.json, on CUDA engine_cuda.json, beside this file")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--problem", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        fields = json.loads(options.problem)
        serve(options.serve, Problem(**{**fields, "columns": tuple(fields["columns"])}))
        return
    if options.authors is not None and not (options.authors / "scmodal" / "model.py").is_file():
        sys.exit(f"{options.authors}: no scmodal/model.py in it; give a checkout of the authors' program")
    output = options.output or HERE / ("engine.json" if options.device == "cpu" else "engine_cuda.json")

    from scmodal.io import write_json
    from scmodal.model import pick_device, software_versions

    pick_device(options.device)
    base = Problem(threads=options.threads, device=options.device)
    result = json.loads(output.read_text()) if output.exists() else {}
    result["machine"] = measured_on(options.device) | {"threads": options.threads}
    result["versions"] = software_versions()
    if options.only != "sweeps":
        measured = side_by_side(base, options.rounds, options.authors)
        result["side_by_side"] = measured
        print(json.dumps(measured, indent=2), flush=True)
        write_json(result, output)
    if options.only != "side_by_side":
        for name in SWEEPS:
            result.setdefault("sweeps", {})[name] = sweep(name, base, options.rounds)
            write_json(result, output)


def measured_on(device: str) -> dict[str, Any]:
    """What computes."""
    if device == "cpu":
        return driving.machine()
    import torch

    return {"processor": torch.cuda.get_device_name(device)}


if __name__ == "__main__":
    main()
