#!/usr/bin/env python
"""Other methods on the data sets of quality.py: label transfer, FOSCTTM, time and memory over several seeds.

    python benchmarks/peers.py --data ../shared/data                # all of it, many hours on two cores
    python benchmarks/peers.py --only hao_pbmc_cite:glue --seeds 3  # one part
    python benchmarks/peers.py --only hao_pbmc_cite:authors --authors CHECKOUT --seeds 3

Each peer is installed from PyPI into a virtual environment of its own (`--environments`), never into ours, and run by
its runner in benchmarks/peers, whose head says with which of its recommended settings. A runner is given prepared
data, without the annotation of the cells, under new cell names and with the cells of the second data set in random
order, so that neither labels nor pairing reach a peer; its latents come back, the order is undone, and our metrics
are taken. Time and peak memory are those of the runner's process, from its start to its end.

The authors' own program (CHECKOUT: of github.com/gefeiwang/scMODAL, used as it is) gets the input of preset `paper`, to
show that `paper` does what it does; on the other data sets, and with all its steps, it would take half a day.

What is already in the JSON is not run again unless `--again` is given; a method that fails is noted with its error,
and the next one is run. `python benchmarks/tables.py` then puts the table into the documentation.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import driving
import numpy as np
import pandas as pd
import quality

if TYPE_CHECKING:
    from anndata import AnnData

    from scmodal.inputs import EngineInput

HERE = Path(__file__).resolve().parent
NEWER = (3, 12)


@dataclass(frozen=True)
class Method:
    """A peer: what it needs and how it is told apart in the tables."""

    title: str
    requirements: tuple[str, ...] = ()
    """Pinned. None: the runner needs nothing but numpy and is run in our own environment."""
    newer_python: bool = False
    """Whether it needs Python 3.12 or later."""
    random: bool = True
    """Whether its seed makes a difference; one that has none is run once."""
    data_sets: tuple[str, ...] = tuple(quality.DATA_SETS)
    """Those that it is run on."""
    takes_inputs: bool = False
    """Whether it gets the input of preset `paper`, and gives imputed values, too."""


METHODS = {
    "linked": Method("linked features alone", random=False),
    "harmony": Method("Harmony on linked features", ("harmonypy==2.1.0", "numpy==2.4.6", "pandas==2.3.3")),
    "seurat_cca": Method(
        "Seurat CCA", ("pyseurat-cca==0.1.0", "anndata==0.12.19", "numpy==2.4.6", "scipy==1.17.1"), random=False
    ),
    # uniPort 1.3 is of the time before numpy 2
    "uniport": Method(
        "uniPort",
        (
            "uniport==1.3",
            "torch==2.15.0",
            "numpy==1.26.4",
            "anndata==0.10.9",
            "scanpy==1.10.4",
            "pandas==2.2.3",
            "scipy==1.13.1",
            "scikit-learn==1.5.2",
        ),
    ),
    "glue": Method(
        "GLUE",
        # scanpy 1.11.5 cannot read the sparse arrays of pynndescent 0.7
        (
            "scglue==0.4.1",
            "torch==2.15.0",
            "anndata==0.12.19",
            "scanpy==1.11.5",
            "pynndescent==0.5.13",
            "numpy==2.4.6",
            "networkx==3.6.1",
        ),
    ),
    "diagvi": Method(
        "DIAGVI",
        ("scvi-tools[diagvi]==1.5.1", "torch==2.15.0", "torch-geometric==2.8.1", "geomloss==0.3.1"),
        newer_python=True,
    ),
    "authors": Method(
        "the authors' program",
        (
            "torch==2.15.0",
            "scanpy==1.11.5",
            "anndata==0.12.19",
            "umap-learn==0.5.12",
            "annoy==1.17.3",
            "scikit-learn==1.9.1",
        ),
        data_sets=("hao_pbmc_cite",),
        takes_inputs=True,
    ),
}
AUTHORS_STEPS = 1000
"""As many as `hao_pbmc_cite:paper` in quality.py does."""


class PeerError(Exception):
    """A peer could not be installed or run; one line."""


# ---- environments ---------------------------------------------------------------------------------------------------


def newer_python(given: str | None = None) -> str:
    """An interpreter of Python 3.12 or later: the one given, else the first that starts."""
    names = [given] if given else [sys.executable, *(f"python3.{minor}" for minor in (12, 13, 14))]
    for name in names:
        try:
            test = f"import sys, venv, ensurepip; sys.exit(sys.version_info[:2] < {NEWER})"
            if subprocess.run([name, "-c", test], capture_output=True).returncode == 0:
                return name
        except OSError:
            continue
    raise PeerError(f"not available: it needs Python 3.12 or later, and none was found as {', '.join(names)}")


def environment(name: str, folder: Path, python: str | None = None) -> Path:
    """Interpreter of a peer's environment, which is made if it is not there or is of other requirements.

    Parameters
    ----------
    name
        Of the method.
    folder
        Where the environments are.
    python
        Python 3.12 or later, for the peers that need it.

    Raises
    ------
    PeerError
        It cannot be made.
    """
    method = METHODS[name]
    if not method.requirements:
        return Path(sys.executable)
    base = newer_python(python) if method.newer_python else sys.executable
    home, stamp = folder / name, folder / name / "complete"
    wanted = "\n".join([str(base), *method.requirements])
    if stamp.exists() and stamp.read_text() == wanted:
        return home / "bin" / "python"
    shutil.rmtree(home, ignore_errors=True)
    home.parent.mkdir(parents=True, exist_ok=True)
    interpreter = home / "bin" / "python"
    make, uv = [str(base), "-m", "venv", str(home)], Path(sys.executable).parent / "uv"
    if uv.exists():
        make.append("--without-pip")
        install = [str(uv), "pip", "install", "--quiet", "--python", str(interpreter)]
    else:
        install = [str(interpreter), "-m", "pip", "install", "--quiet"]
    for command in (make, [*install, *method.requirements]):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise PeerError(f"its environment could not be made: {last_line(done.stderr)}")
    stamp.write_text(wanted)
    return interpreter


def last_line(text: str) -> str:
    """The line of an output that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no message"


# ---- what a peer is given -------------------------------------------------------------------------------------------


@dataclass
class Prepared:
    """A data set, prepared as for our own training."""

    adatas: list[AnnData]
    links: list[tuple[str, str]]
    linked: list[np.ndarray]
    """Scaled, unsmoothed linked columns, cells x links."""
    inputs: list[EngineInput] = field(default_factory=list)
    """Of preset `paper`."""


def prepare(name: str, data: Path) -> Prepared:
    """Preprocess a data set and find its links."""
    from scmodal.inputs import build_inputs
    from scmodal.links import build_links
    from scmodal.presets import get_preset

    adatas = quality.prepared(name, data)
    links, _ = build_links(adatas)
    inputs = build_inputs(adatas, links, get_preset("paper"))  # which smooths nothing
    table = links.between(*(item.modality for item in inputs))
    usable = table[
        table["feature_a"].isin(inputs[0].recipe.features) & table["feature_b"].isin(inputs[1].recipe.features)
    ]
    return Prepared(
        adatas,
        list(zip(usable["feature_a"].astype(str), usable["feature_b"].astype(str))),
        [np.asarray(item.linked[0]) for item in inputs],
        inputs,
    )


def anonymous(adata: AnnData, order: np.ndarray, name: str, columns: tuple[str, ...]) -> AnnData:
    """Counts and normalised values in an order of cells, with new cell names and without annotation of the cells."""
    from anndata import AnnData

    index = [f"{name}-{i}" for i in range(len(order))]
    var = pd.DataFrame(index=pd.Index(adata.var_names.astype(str).to_numpy(object)))
    for column in columns:
        if column in adata.var:
            values = adata.var[column]
            var[column] = values.to_numpy() if values.dtype.kind in "biuf" else values.astype(str).to_numpy(object)
    layers = {"counts": adata.layers["counts"][order]}
    return AnnData(X=adata.X[order], obs=pd.DataFrame(index=index), var=var, layers=layers)


def hand_over(prepared: Prepared, folder: Path, seed: int, with_inputs: bool = False) -> np.ndarray:
    """Write what a runner is given.

    Parameters
    ----------
    prepared
        Both data sets, in the order in which the metrics take them.
    folder
        For the files, see benchmarks/peers/exchange.py.
    seed
        Of the order of the second data set's cells.
    with_inputs
        Whether the input of preset `paper` is among it.

    Returns
    -------
    Row of the second data set at each place of what is written.
    """
    from anndata import AnnData

    from scmodal.chromatin import PEAKS
    from scmodal.intervals import parse_peaks

    first, second = prepared.adatas
    stay, order = np.arange(first.n_obs), np.random.default_rng([seed, 7]).permutation(second.n_obs)
    columns = ("highly_variable", "highly_variable_rank", "chrom", "start", "end", "strand")
    anonymous(first, stay, "first", columns).write_h5ad(folder / "first.h5ad")
    anonymous(second, order, "second", columns).write_h5ad(folder / "second.h5ad")
    pd.DataFrame(prepared.links, columns=["first", "second"]).to_csv(folder / "links.tsv", sep="\t", index=False)
    np.savez(folder / "linked.npz", first=prepared.linked[0], second=prepared.linked[1][order])
    if with_inputs:
        x = [np.asarray(item.x) for item in prepared.inputs]
        np.savez(folder / "inputs.npz", first=x[0], second=x[1][order])
    if PEAKS in second.obsm:
        names = pd.Index([str(peak) for peak in second.uns["scmodal"][PEAKS]])
        where = parse_peaks(pd.DataFrame(index=names), "the peaks").set_axis(names)
        peaks = AnnData(X=second.obsm[PEAKS], var=where, layers={"counts": second.obsm[PEAKS]})
        anonymous(peaks, order, "second", columns).write_h5ad(folder / "peaks.h5ad")
    return order


# ---- a run ----------------------------------------------------------------------------------------------------------


def execute(command: list[str], threads: int, limit: float, log: Path) -> float:
    """Seconds of a process.

    Raises
    ------
    PeerError
        It ends with an error, or not within `limit` seconds.
    """
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
    variables = {**os.environ, **dict.fromkeys(names, str(threads)), "CUDA_VISIBLE_DEVICES": "", "MPLBACKEND": "Agg"}
    variables.pop("PYTHONPATH", None)
    started = time.perf_counter()
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=output, env=variables, cwd=log.parent, timeout=limit, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise PeerError(f"stopped after {limit:,.0f} seconds") from error
    if done.returncode:
        raise PeerError(last_line(log.read_text(errors="replace")))
    return time.perf_counter() - started


def scores(prepared: Prepared, latents: list[np.ndarray], seed: int) -> dict[str, float]:
    """Our metrics of latents whose rows are those of the prepared data sets."""
    from anndata import AnnData
    from mudata import MuData

    from scmodal.inputs import modality_of
    from scmodal.io import mudata_options
    from scmodal.metrics import evaluate
    from scmodal.transfer import LATENT

    names = [modality_of(adata) for adata in prepared.adatas]
    with mudata_options():
        modalities = {
            name: AnnData(
                obs=adata.obs.copy(),
                obsm={LATENT: z},
                uns={"scmodal": {"label_key": adata.uns["scmodal"]["label_key"]}},
            )
            for name, adata, z in zip(names, prepared.adatas, latents)
        }
        mdata = MuData(modalities)
    mdata.uns["scmodal"] = {"modalities": names}
    paired = quality.paired(prepared.adatas)
    result = evaluate(mdata, paired=paired, seed=seed)
    there, back = f"{names[0]}_to_{names[1]}", f"{names[1]}_to_{names[0]}"
    transfer, pair = result["label_transfer"], "|".join(names)
    found = {
        "accuracy_rna_to_other": transfer[there]["accuracy"],
        "accuracy_other_to_rna": transfer[back]["accuracy"],
        "macro_f1_rna_to_other": transfer[there]["macro_f1"],
        "macro_f1_other_to_rna": transfer[back]["macro_f1"],
    }
    if paired:
        found |= {name: result[name][pair] for name in ("foscttm", "matching_distance")}
    return found


def imputation(prepared: Prepared, imputed: list[np.ndarray]) -> dict[str, float]:
    """Correlation of what was imputed in each data set with measured values, in paired cells, mean over features."""
    from scmodal.metrics import imputation_pearson

    found = {}
    for cells, values in enumerate(imputed):
        other = prepared.inputs[1 - cells]
        names = [prepared.adatas[i].obs_names for i in (cells, 1 - cells)]
        partner = names[1].get_indexer(names[0])
        rows = np.flatnonzero(partner >= 0)
        measured = other.recipe.per_feature(np.asarray(other.x)[partner[rows]])
        r = imputation_pearson(other.recipe.per_feature(values[rows]), measured)
        found[f"imputation_r_{('rna_to_other', 'other_to_rna')[cells]}"] = float(np.nanmean(r))
    return found


@dataclass(frozen=True)
class PeerRun:
    """What one run of a peer gives."""

    latents: list[np.ndarray]
    """Of both data sets, in the order of their cells."""
    imputed: list[np.ndarray] | None
    """What it imputed in them, where it was handed the inputs."""
    seconds: float
    used: dict[str, Any]
    """What the runner tells of itself: versions, settings, memory."""


def run_peer(
    prepared: Prepared,
    interpreter: Path,
    runner: Path,
    seed: int,
    threads: int,
    limit: float,
    asked: dict[str, Any] | None = None,
    with_inputs: bool = False,
) -> PeerRun:
    """Run a peer once. `asked` is handed over as ``asked.json``.

    Raises
    ------
    PeerError
        The runner fails, takes too long, or gives no usable latents.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        order = hand_over(prepared, folder, seed, with_inputs)
        if asked:
            (folder / "asked.json").write_text(json.dumps(asked))
        command = [str(interpreter), str(runner), str(folder), str(seed), str(threads)]
        seconds = execute(command, threads, limit, folder / "log.txt")
        try:
            with np.load(folder / "latents.npz") as stored:
                first, given = stored["first"], stored["second"]
            used = json.loads((folder / "used.json").read_text())
            imputed = None
            if with_inputs:
                with np.load(folder / "imputed.npz") as stored:
                    imputed = [stored["first"], np.empty_like(stored["second"])]
                    imputed[1][order] = stored["second"]
        except (OSError, KeyError, ValueError) as error:
            raise PeerError(f"its latents cannot be read: {last_line(str(error))}") from error
    sizes = [adata.n_obs for adata in prepared.adatas]
    if [len(first), len(given)] != sizes or first.shape[1] != given.shape[1]:
        raise PeerError(f"its latents are {first.shape} and {given.shape}, of {sizes[0]} and {sizes[1]} cells")
    if not (np.isfinite(first).all() and np.isfinite(given).all()):
        raise PeerError("its latents have values that are not finite")
    second = np.empty_like(given)
    second[order] = given
    return PeerRun([first, second], imputed, seconds, used)


def measure(prepared: Prepared, run: PeerRun, seed: int, threads: int) -> dict[str, Any]:
    """Every number of one run; imputed values are judged where there are any."""
    used = dict(run.used)
    return {
        "seed": seed,
        **scores(prepared, run.latents, seed),
        **(imputation(prepared, run.imputed) if run.imputed else {}),
        "seconds": round(run.seconds, 1),
        "peak_gb": round(used.pop("peak_gb"), 2),
        "used": {**used, "threads": threads},
    }


# ---- all of them ----------------------------------------------------------------------------------------------------


def summarise(seeds: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and range of every number over the seeds."""
    return quality.summarise([{key: value for key, value in row.items() if key != "used"} for row in seeds])


def run_seeds(
    entry: dict[str, Any], seeds: range, again: bool, one: Callable[[int], dict[str, Any]]
) -> Iterator[dict[str, Any]]:
    """An entry of the JSON after each seed that is run.

    Parameters
    ----------
    entry
        What is known: `seeds` (rows) and `failures` (seed and error).
    seeds
        Wanted. Those that are known are not run, failed ones neither; known ones beyond these are kept.
    again
        Run all.
    one
        Runs a seed; its errors become a failure.
    """
    rows = [] if again else list(entry.get("seeds", []))
    failures = [] if again else list(entry.get("failures", []))
    for seed in seeds:
        if any(row["seed"] == seed for row in (*rows, *failures)):
            continue
        try:
            rows = sorted([*rows, one(seed)], key=lambda row: row["seed"])
        except Exception as error:  # whatever it is, it is told, and the other methods are still run
            message = str(error) if isinstance(error, PeerError) else f"{type(error).__name__}: {last_line(str(error))}"
            failures.append({"seed": seed, "error": message})
        found: dict[str, Any] = {"seeds": rows}
        if rows:
            found["summary"] = summarise(rows)
        if failures:
            found["failures"] = failures
        yield found


def default_environments() -> Path:
    """Folder below the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scmodal-benchmarks"


def arguments() -> argparse.Namespace:
    """The command line, checked."""
    parser = driving.command_line(__doc__, HERE / "peers.json")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--only", nargs="*", help="DATA_SET:METHOD, several")
    parser.add_argument(
        "--again", action="store_true", help="run parts that are already in the output, failed ones too"
    )
    parser.add_argument("--limit", type=float, default=6 * 3600, help="seconds after which a run is stopped")
    parser.add_argument("--environments", type=Path, default=default_environments(), help="folder of the environments")
    parser.add_argument("--newer-python", help="Python 3.12 or later, for DIAGVI; by default one that is on the PATH")
    parser.add_argument("--minutes", type=float, help="after which each of GLUE's two trainings is ended, as by Ctrl-C")
    parser.add_argument("--authors", type=Path, help="checkout of the authors' program, without which it is not run")
    options = driving.parsed(parser)
    known = [f"{data_set}:{name}" for name, method in METHODS.items() for data_set in method.data_sets]
    driving.check_known(options.only, known)
    of_authors = [key for key in known if key.endswith(":authors")]
    if not options.authors:
        if set(options.only or []) & set(of_authors):
            sys.exit("name the checkout of the authors' program by --authors")
        known = [key for key in known if key not in of_authors]
    elif not (options.authors / "scmodal" / "model.py").is_file():
        sys.exit(f"{options.authors}: no checkout of the authors' program")
    if options.environments.resolve().is_relative_to(HERE.parent):
        sys.exit(f"{options.environments}: the peers' environments are kept out of the repository; name another folder")
    options.wanted = options.only or known
    return options


def asked_of_authors(checkout: Path) -> dict[str, Any]:
    """What the runner of the authors' program is told."""
    command = ["git", "-C", str(checkout), "rev-parse", "HEAD"]
    commit = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return {"checkout": str(checkout.resolve()), "commit": commit or "unknown", "steps": AUTHORS_STEPS}


def asked_of(name: str, options: argparse.Namespace) -> dict[str, Any] | None:
    """What the runner of a method is told beside its data."""
    if name == "authors":
        return asked_of_authors(options.authors)
    if name == "glue" and options.minutes is not None:
        return {"minutes": options.minutes}
    return None


def main() -> None:
    """Run what is asked for and write the JSON after every seed."""
    from scmodal.io import write_json

    options = arguments()
    results = driving.earlier_results(options, "settings")
    results["methods"] = {
        name: {"title": method.title, "requirements": list(method.requirements)} for name, method in METHODS.items()
    }
    for data_set in quality.DATA_SETS:
        prepared: Prepared | None = None
        for name, method in METHODS.items():
            key = f"{data_set}:{name}"
            if key not in options.wanted:
                continue

            def one(seed: int, data_set: str = data_set, name: str = name) -> dict[str, Any]:
                nonlocal prepared
                interpreter = environment(name, options.environments, options.newer_python)
                if prepared is None:
                    prepared = prepare(data_set, options.data)
                runner = HERE / "peers" / f"run_{name}.py"
                run = run_peer(
                    prepared,
                    interpreter,
                    runner,
                    seed,
                    options.threads,
                    options.limit,
                    asked_of(name, options),
                    METHODS[name].takes_inputs,
                )
                return measure(prepared, run, seed, options.threads)

            seeds = range(options.seeds if method.random else min(options.seeds, 1))
            for entry in run_seeds(results["settings"].get(key, {}), seeds, options.again, one):
                results["settings"][key] = entry
                write_json(results, options.output)
                print(key, {k: round(v["mean"], 3) for k, v in entry.get("summary", {}).items()}, flush=True)
                for failure in entry.get("failures", []):
                    print(key, "failed:", failure, flush=True)


if __name__ == "__main__":
    with driving.surroundings():
        main()
