#!/usr/bin/env python
"""How preset default bears what goes wrong: fewer links, wrong links, fewer cells, shallow RNA, unequal tissues.

    python benchmarks/stress.py --data ../shared/data                   # all of it, some half hour on two cores
    python benchmarks/stress.py --only "links cut to 15" --seeds 3      # one case

Every case changes `hao_pbmc_cite` (or, for many cells and the cytometry panel, `cite_pbmc10k`) before it is prepared,
and goes the way of quality.py from there; verdict and reasons are those of `scmodal select`. What is drawn at random
is drawn with the seed of the run. Where a population is missing on one side, accuracy is over all cells of the other
side, so those that lack a counterpart count as wrong. Parts that are already in the JSON are not run again unless
`--again` is given; `python benchmarks/tables.py` then puts the table into the documentation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import driving
import numpy as np
from quality import DATA_SETS, judged, summarise

HERE = Path(__file__).resolve().parent

Change = Callable[[list[Any], np.random.Generator], list[Any]]


@dataclass(frozen=True)
class Case:
    """What is changed: raw RNA and protein of a data set, or the links between them once they are prepared."""

    title: str
    cells: Change | None = None
    links: Callable[[Any, np.random.Generator], Any] | None = None
    data_set: str = "hao_pbmc_cite"
    panel: bool = False
    """Whether the proteins become the channels of a cytometer."""
    changes: dict[str, Any] = field(default_factory=dict)
    """Of the preset."""


def fewer_links(n: int) -> Callable[[Any, np.random.Generator], Any]:
    """Keep `n` links, drawn at random."""
    return lambda frame, rng: frame.iloc[np.sort(rng.choice(len(frame), n, replace=False))]


def shuffled_links(share: float) -> Callable[[Any, np.random.Generator], Any]:
    """Give a share of the links each other's proteins."""

    def change(frame: Any, rng: np.random.Generator) -> Any:
        changed = frame.copy()
        rows = rng.choice(len(frame), max(2, round(share * len(frame))), replace=False)
        column = changed.columns.get_loc("feature_b")
        # a turn by one place leaves no chosen link as it was
        changed.iloc[rows, column] = frame.iloc[np.roll(rows, 1), column].to_numpy()
        return changed

    return change


def some_cells(n: int) -> Change:
    """Keep `n` cells of each side, the same ones, so that all have a partner."""

    def change(sides: list[Any], rng: np.random.Generator) -> list[Any]:
        names = sides[0].obs_names.intersection(sides[1].obs_names)
        kept = names[np.sort(rng.choice(len(names), n, replace=False))]
        return [side[kept].copy() for side in sides]

    return change


def without(population: str, side: int, data_set: str = "hao_pbmc_cite") -> Change:
    """Take a population out of one side."""

    def change(sides: list[Any], rng: np.random.Generator) -> list[Any]:
        key = DATA_SETS[data_set].label_key
        keep = (sides[side].obs[key].astype(str) != population).to_numpy()
        return [s[keep].copy() if k == side else s for k, s in enumerate(sides)]

    return change


def tenth_of(population: str) -> Change:
    """Keep every tenth cell of a population in the proteins."""

    def change(sides: list[Any], rng: np.random.Generator) -> list[Any]:
        key = DATA_SETS["hao_pbmc_cite"].label_key
        own = (sides[1].obs[key].astype(str) == population).to_numpy()
        return [sides[0], sides[1][~own | (rng.random(len(own)) < 0.1)].copy()]

    return change


def shallow(share: float) -> Change:
    """Keep each RNA count with this chance."""

    def change(sides: list[Any], rng: np.random.Generator) -> list[Any]:
        import scipy.sparse as sp

        rna = sides[0].copy()
        counts = sp.csr_matrix(rna.X)
        counts.data = rng.binomial(counts.data.astype(np.int64), share).astype(np.float32)
        counts.eliminate_zeros()
        rna.X = counts
        rna.layers["counts"] = counts
        return [rna[np.diff(counts.indptr) > 0].copy(), sides[1]]

    return change


def cytometer(sides: list[Any], rng: np.random.Generator) -> list[Any]:
    """Other cells in each half, and proteins as a mass cytometer would show them: dual counts, no background count.

    Antibody counts are divided by their cell's total and scaled to an ion count of some tens, with multiplicative
    noise between cells and a Poisson draw. Partners of one half are in the other half by name only, so that no pair
    is left; one cell in five keeps its partner, for the evaluation.
    """
    rna, protein = sides
    names = rna.obs_names.intersection(protein.obs_names)
    order = rng.permutation(len(names))
    fifth = len(names) // 5
    both, first, second = np.split(order, [fifth, 3 * fifth])
    protein = protein[names[np.sort(np.concatenate([both, second]))]].copy()
    counts = protein.X.toarray() if hasattr(protein.X, "toarray") else np.asarray(protein.X)
    level = counts / np.maximum(counts.sum(1, keepdims=True), 1) * 60 * counts.shape[1] / 3
    protein.X = rng.poisson(level * rng.lognormal(0, 0.2, level.shape)).astype(np.float32)
    return [rna[names[np.sort(np.concatenate([both, first]))]].copy(), protein]


DROPPED = [
    Case(f"no {population} in the {name}", cells=without(population, side))
    for side, name in enumerate(("RNA", "proteins"))
    for population in ("Mono", "B", "NK", "CD8 T")
]
LARGE = [
    Case(
        f"no {population} in the {('RNA', 'proteins')[side]}",
        cells=without(population, side, "cite_pbmc10k"),
        data_set="cite_pbmc10k",
    )
    for population, side in (("CD16+ NK", 0), ("classical monocyte", 1))
]
TENTH = Case("one monocyte in ten kept in the proteins", cells=tenth_of("Mono"))
ALL_IN = {"least_counterpart": 0.0}
CASES = [
    Case("as they are"),
    *(Case(f"links cut to {n}", links=fewer_links(n)) for n in (50, 30, 15, 8)),
    Case("a fifth of the links shuffled", links=shuffled_links(0.2)),
    Case("half of the links shuffled", links=shuffled_links(0.5)),
    Case("all links shuffled", links=shuffled_links(1.0)),
    Case("300 cells", cells=some_cells(300)),
    Case("1,000 cells", cells=some_cells(1000), data_set="cite_pbmc10k"),
    Case("5,000 cells", cells=some_cells(5000), data_set="cite_pbmc10k"),
    Case("RNA counts cut to 10 %", cells=shallow(0.1)),
    TENTH,
    *DROPPED,
    *LARGE,
    Case("proteins as a mass cytometer's panel", cells=cytometer, data_set="cite_pbmc10k", panel=True),
    # where cells are left out of the adversarial term, what it would be with all of them in
    *(
        replace(case, title=f"{case.title}, all cells in the adversarial term", changes=ALL_IN)
        for case in (TENTH, next(case for case in DROPPED if case.title == "no Mono in the proteins"), *LARGE)
    ),
]


def run(case: Case, seed: int, data: Path, threads: int, changes: dict[str, Any]) -> dict[str, Any]:
    """One case with one seed."""
    from scmodal import preprocess
    from scmodal.io import read_modality
    from scmodal.links import LinkTable, build_links

    found = DATA_SETS[case.data_set]
    rng = np.random.default_rng(seed)
    sides = [read_modality(data / path, name) for path, name in ((found.rna, "rna"), (found.other, found.modality))]
    if case.cells is not None:
        sides = case.cells(sides, rng)
    second = preprocess.cytometry if case.panel else preprocess.protein
    adatas = [preprocess.rna(sides[0], label_key=found.label_key), second(sides[1], label_key=found.label_key)]
    links, _ = build_links(adatas)
    if case.links is not None:
        links = LinkTable(case.links(links.frame, rng))
    row, choice = judged(adatas, links, "default", seed, threads, changes | (case.changes or {}), n_null=20)
    return row | {"verdict": choice.verdict, "reasons": choice.reasons}


def main() -> None:
    """Run what is asked for and write the JSON after every seed."""
    parser = driving.command_line(__doc__, HERE / "stress.json")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--only", nargs="*", help="titles of cases")
    parser.add_argument("--again", action="store_true", help="run cases that are already in the output")
    options = driving.parsed(parser)
    driving.check_known(options.only, [case.title for case in CASES])

    from scmodal.io import write_json

    results = driving.earlier_results(options, "cases")
    for case in CASES:
        if options.only and case.title not in options.only:
            continue

        def one(seed: int, title: str = case.title) -> dict[str, Any]:
            row = driving.apart(run_by_title, title, seed, options.data, options.threads, driving.changes(options))
            print(title, {k: v if isinstance(v, (str, list)) else round(v, 3) for k, v in row.items()}, flush=True)
            return row

        old = results["cases"].get(case.title, {}).get("seeds", [])
        for seeds in driving.lacking_seeds(old, options.seeds, options.again, one):
            numbers = [{k: v for k, v in row.items() if k not in {"verdict", "reasons"}} for row in seeds]
            known = results["cases"] | {
                case.title: {"data_set": case.data_set, "summary": summarise(numbers), "seeds": seeds}
            }
            results["cases"] = {item.title: known[item.title] for item in CASES if item.title in known}
            write_json(results, options.output)


def run_by_title(title: str, seed: int, data: Path, threads: int, changes: dict[str, str]) -> dict[str, Any]:
    """:func:`run`, for a process that cannot be sent a function."""
    return run(next(case for case in CASES if case.title == title), seed, data, threads, changes)


if __name__ == "__main__":
    with driving.surroundings():
        main()
