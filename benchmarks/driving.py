"""What the benchmark commands share: the data folder, results that are gone on with, processes of their own."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")


def command_line(description: str | None, output: Path) -> argparse.ArgumentParser:
    """Parser with the options that every command has: `--data`, `--threads`, `--output`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("--data", type=Path, default=data, help="folder of the data sets")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=output)
    add_settings(parser)
    return parser


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Option `--set`, which `changes` and `noted` read."""
    told = "settings of preset `default` to change"
    parser.add_argument("--set", nargs="*", type=_setting, default=[], metavar="NAME=VALUE", help=told)


def _setting(text: str) -> str:
    if "=" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form NAME=VALUE")
    return text


def changes(options: argparse.Namespace) -> dict[str, str]:
    """The settings of `--set` by name, as `ScModal` takes them."""
    return dict(item.split("=", 1) for item in options.set)


def noted(results: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    """Results with the settings that they are of; the command ends where those that are there are of others."""
    there = any(
        part for name, part in results.items() if isinstance(part, dict) and name not in ("machine", "versions")
    )
    anew = getattr(options, "again", False) and not getattr(options, "only", None)
    if there and results.get("set", []) != options.set and not anew:
        asked, had = (f"--set {' '.join(s)}" if s else "no --set" for s in (options.set, results.get("set", [])))
        sys.exit(f"{options.output} is of {had}, asked for is {asked}: give another --output, or run all of it --again")
    results.pop("set", None)
    return results | {"set": options.set} if options.set else results


def parsed(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; without the data the command ends here."""
    options = parser.parse_args()
    if not options.data.is_dir():
        sys.exit(f"{options.data}: no such folder; name the one with the published data sets by --data")
    return options


def check_known(asked: list[str] | None, known: list[str]) -> None:
    """End the command if something is asked for that there is not."""
    unknown = sorted(set(asked or []) - set(known))
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)} (known: {', '.join(known)})")


def machine() -> dict[str, Any]:
    """Processor, its instruction sets that decide how fast matrices are multiplied, and cores."""
    import torch

    about = Path("/proc/cpuinfo")
    lines = about.read_text().splitlines() if about.exists() else []
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    able = getattr(torch.cpu, "get_capabilities", dict)()
    return {
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "instructions": [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(name)],
        "cores": os.cpu_count(),
    }


def earlier_results(options: argparse.Namespace, *parts: str) -> dict[str, Any]:
    """What the output holds already, or empty `parts`; stamped with the machine and the versions of this run."""
    from scmodal.model import software_versions

    found: dict[str, Any] = {part: {} for part in parts}
    if options.output.exists():
        found |= json.loads(options.output.read_text())
    found = noted(found, options) if "set" in options else found
    return found | {"machine": machine() | {"threads": options.threads}, "versions": software_versions()}


def apart(function: Callable[..., Result], *arguments: Any) -> Result:
    """Call a function in a process of its own: memory of one run does not count for the next."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as own:
        return own.submit(function, *arguments).result()


Row = dict[str, Any]


def lacking_seeds(old: list[Row], n: int, again: bool, run: Callable[[int], Row]) -> Iterator[list[Row]]:
    """Run the seeds below `n` that are not among the `old` rows; all rows so far after each.

    With `again` everything is run anew and the old rows are dropped, for they may be of other settings.
    """
    rows = [] if again else list(old)
    for seed in range(n):
        if any(row["seed"] == seed for row in rows):
            continue
        rows = sorted([*rows, run(seed)], key=lambda row: row["seed"])
        yield rows


@contextmanager
def surroundings() -> Iterator[None]:
    """Compiled functions go where a read-only checkout does not matter, and threads wait as the command line's do."""
    with tempfile.TemporaryDirectory() as cache:
        os.environ.setdefault("NUMBA_CACHE_DIR", cache)
        os.environ.setdefault("OMP_WAIT_POLICY", "passive")
        yield
