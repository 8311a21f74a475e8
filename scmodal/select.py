"""Choose the best seed without labels, and say whether its integration can be trusted.

The scores and what they ask are in :mod:`scmodal.coherence`; here they are taken over runs and pairs of data sets, and
turned into a choice and a verdict with reasons.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray

from scmodal.coherence import (
    LEAST_GROUPS,
    HeldOut,
    LatentScores,
    cross_matches,
    groups_of,
    held_out,
    latent_scores,
    same_matches,
)
from scmodal.contracts import MODALITY_TITLES, InputError
from scmodal.counterpart import ALONE, MANY_ALONE, counterparts
from scmodal.inputs import Recipe, build_inputs, modality_of, own_components, without_batches
from scmodal.io import is_on_disk, some
from scmodal.links import LinkTable
from scmodal.matching import match
from scmodal.presets import get_preset, pairs_of

Floats = NDArray[np.float32]

VERDICTS = ("trusted", "doubtful", "failed")
"""From best to worst."""

CELLS = 5_000
"""Cells of each data set that are judged; a larger one gives as many, drawn at random."""

# Limits of the verdict, set where simulated and published data with meaningful and with random links part (see
# benchmarks/verdict.py), not to any one of them.
SIGNAL_Z = 3.0
"""Standard deviations above random links under which links say nothing."""
WEAK_AGREEMENT = 0.05
"""Agreement of held-out links beyond that of random ones under which they say little."""
FAINT_Z = 4.0
FAINT_AGREEMENT = 0.2
"""Standard deviations and agreement beyond that of random links under both of which they may say it by chance."""
APART = 0.1
"""Mixing under which the data sets were not brought together ..."""
HARDLY_MIXED = 0.4
"""... and under which they hardly were."""
FEW_HOME = 0.1
"""Share of cells that come home under which matches are hardly mutual."""
UNLIKE_SEEDS = 0.5
"""Agreement of the matches of two seeds under which chance decides them."""


@dataclass(frozen=True)
class Side:
    """What of one data set is needed to judge its latents."""

    modality: str
    rows: NDArray[np.intp]
    """Rows of the data set that are judged."""
    components: Floats
    """Components of its own features (rows x k)."""


@dataclass(frozen=True)
class Evidence:
    """What the data say before any training.

    Attributes
    ----------
    sides
        One a data set, in chain order.
    pairs
        Positions of the matched data sets.
    linked
        For each pair smoothed linked features of both sides (rows x m).
    signal
        For each pair whether its links say anything; None where there are too few links to tell.
    alone
        For each pair the shares of both sides' cells that have no counterpart (:mod:`scmodal.counterpart`).
    """

    sides: list[Side]
    pairs: list[tuple[int, int]]
    linked: list[tuple[Floats, Floats]]
    signal: list[HeldOut | None]
    alone: list[tuple[float, float]]


@dataclass(frozen=True)
class Choice:
    """Scores of every run, the chosen one and the verdict.

    Attributes
    ----------
    seeds
        Of the runs, in their order.
    signal
        What the links of each pair say (``rna|protein``); None where there are too few to tell.
    alone
        For each pair the shares of both sides' cells without a counterpart.
    scores
        For each run the :class:`~scmodal.coherence.LatentScores` of each pair.
    likeness
        For each run the mean agreement of its matches with those of the others; empty for a single run.
    best
        Position of the chosen run.
    verdict
        One of :data:`VERDICTS`.
    reasons
        Sentences that led to it; also those in favour.
    names
        Folders of the runs, without what is above them; empty where runs are no folders.
    """

    seeds: list[int]
    signal: dict[str, HeldOut | None]
    alone: dict[str, tuple[float, float]]
    scores: list[dict[str, LatentScores]]
    likeness: list[float]
    best: int
    verdict: str
    reasons: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)

    @property
    def chosen(self) -> str:
        """What to call the chosen run: its seed, and its folder where other runs have that seed, too."""
        seed = self.seeds[self.best]
        return f"seed {seed}" + (f" ({self.names[self.best]})" if self.names and self.seeds.count(seed) > 1 else "")


def gather(adatas: Sequence[AnnData], links: LinkTable, topology: str, n_null: int = 20) -> Evidence:
    """What the links of prepared data say, and what latents are judged by.

    Parameters
    ----------
    adatas
        Prepared data sets in chain order.
    links
        That the runs were trained with.
    topology
        Which data sets are matched.
    n_null
        Random pairings of links, see :func:`scmodal.coherence.held_out`.
    """
    # links and components of preset default, whatever the runs were trained with: all are judged alike
    preset = get_preset("default", matching_rounds=0, topology=topology)
    share, rounds = preset.matching_share, get_preset("default").matching_rounds
    rows = [_rows(adata.n_obs) for adata in adatas]
    some = [_taken(adata, chosen) for adata, chosen in zip(adatas, rows)]
    inputs = build_inputs(some, links, preset)
    sides = [
        Side(
            item.modality,
            chosen,
            without_batches(own_components(item, adata, preset.matching_components), item.told),
        )
        for item, adata, chosen in zip(inputs, some, rows)
    ]
    pairs = pairs_of(topology, len(adatas))
    linked, signal, alone = [], [], []
    for pair, (i, j) in enumerate(pairs):
        both = (inputs[i].linked[pair], inputs[j].linked[pair])
        names = [_block(inputs[k].recipe.blocks, pairs, pair, k).features for k in (i, j)]
        linked.append(both)
        own = (sides[i].components, sides[j].components)
        signal.append(held_out(both, own, groups_of(*names), share, n_null))
        matched = match(both, own, rounds, share, inputs[i].weights.get(pair))
        a, b = (float((found < ALONE).mean()) for found in counterparts(matched, own))
        alone.append((a, b))
    return Evidence(sides, pairs, linked, signal, alone)


def _block(blocks: Sequence[Any], pairs: Sequence[tuple[int, int]], pair: int, k: int) -> Any:
    """The linked block of a data set in a pair: blocks stand in the order of its pairs."""
    return blocks[[p for p, members in enumerate(pairs) if k in members].index(pair)]


def _rows(n: int) -> NDArray[np.intp]:
    if n <= CELLS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, CELLS, replace=False))


def _taken(adata: AnnData, rows: NDArray[np.intp]) -> AnnData:
    """Some cells of a data set, in memory, without reading the others."""
    if len(rows) == adata.n_obs and not is_on_disk(adata.X):
        return adata
    return AnnData(
        X=adata.X[rows],
        obs=adata.obs.iloc[rows].copy(),
        var=adata.var,
        layers={name: layer[rows] for name, layer in adata.layers.items()},
        obsm={name: np.asarray(value)[rows] for name, value in adata.obsm.items() if name == "X_lsi"},
        uns=dict(adata.uns),
    )


def judge_latents(evidence: Evidence, latents: Sequence[Floats]) -> list[LatentScores]:
    """Scores of every pair in one latent space.

    Parameters
    ----------
    evidence
        Of the same data.
    latents
        Of every data set in chain order (all cells x d).
    """
    some = [z[side.rows] for z, side in zip(latents, evidence.sides)]
    own = [side.components for side in evidence.sides]
    return [
        latent_scores(some[i], some[j], linked, (own[i], own[j]))
        for (i, j), linked in zip(evidence.pairs, evidence.linked)
    ]


def choose(evidence: Evidence, seeds: Sequence[int], latents: Sequence[Sequence[Floats]]) -> Choice:
    """Choose a run and judge it.

    Parameters
    ----------
    evidence
        Of the data.
    seeds
        Of the runs.
    latents
        For each run the latents of every data set in chain order (all cells x d).

    Returns
    -------
    The run with the highest mean score over pairs; the verdict is on that run.
    """
    scores = [judge_latents(evidence, run) for run in latents]
    best = int(np.argmax([np.mean([pair.score for pair in run]) for run in scores]))
    likeness = _likeness(evidence, latents)
    titles = [" and ".join(_names(evidence, pair)) for pair in evidence.pairs]
    findings = [
        finding
        for k, (title, signal, pair) in enumerate(zip(titles, evidence.signal, scores[best]))
        for finding in (_of_links(title, signal), *_of_latent(title, pair), _of_cells(evidence, k))
    ]
    if likeness:
        findings.append(_of_seeds(likeness[best]))
    worst = max(level for level, _ in findings)
    keys = ["|".join(_names(evidence, pair)) for pair in evidence.pairs]
    return Choice(
        list(seeds),
        dict(zip(keys, evidence.signal)),
        dict(zip(keys, evidence.alone)),
        [dict(zip(keys, run)) for run in scores],
        likeness,
        best,
        VERDICTS[worst],
        [text for _, text in sorted(findings, key=lambda finding: -finding[0])],  # what weighs most first
    )


def _likeness(evidence: Evidence, latents: Sequence[Sequence[Floats]]) -> list[float]:
    """Mean agreement of each run's matches with every other's, over pairs of data sets."""
    if len(latents) < 2:
        return []
    n = len(latents)
    alike = np.full((n, n), np.nan)
    matches = []
    for run in latents:
        some = [z[side.rows] for z, side in zip(run, evidence.sides)]
        matches.append([cross_matches(some[i], some[j]) for i, j in evidence.pairs])
    for s, t in combinations(range(n), 2):
        values = [
            same_matches(a, b, (evidence.sides[i].components, evidence.sides[j].components))
            for (i, j), a, b in zip(evidence.pairs, matches[s], matches[t])
        ]
        alike[s, t] = alike[t, s] = np.mean(values)
    return [float(value) for value in np.nanmean(alike, axis=1)]


def _names(evidence: Evidence, pair: tuple[int, int]) -> list[str]:
    return [evidence.sides[k].modality for k in pair]


def _of_links(title: str, signal: HeldOut | None) -> tuple[int, str]:
    """Level (position in VERDICTS) and sentence on the links of a pair."""
    if signal is None:
        return 1, (
            f"{title}: fewer than {LEAST_GROUPS} independent links, too few to part them and see whether one half "
            "predicts the other"
        )
    null = float(signal.null.mean())
    numbers = f"r {signal.observed:.2f}, with random links {null:.2f}, {signal.z:.1f} standard deviations apart"
    if signal.z < SIGNAL_Z:
        return 2, f"{title}: cells matched by half of the links do not agree on the other half ({numbers})"
    faint = signal.z < FAINT_Z and signal.observed - null < FAINT_AGREEMENT
    if signal.observed - null < WEAK_AGREEMENT or faint:
        return 1, f"{title}: cells matched by half of the links hardly agree on the other half ({numbers})"
    return 0, f"{title}: cells matched by half of the links agree on the other half ({numbers})"


def _of_latent(title: str, scores: LatentScores) -> list[tuple[int, str]]:
    """Levels and sentences on a pair's latents."""
    if scores.mixing < APART:
        mixing = (2, f"{title}: the data sets stay apart in the latent space (mixing {scores.mixing:.3f} of 1)")
    elif scores.mixing < HARDLY_MIXED:
        mixing = (1, f"{title}: the data sets hardly mix in the latent space ({scores.mixing:.3f} of 1)")
    else:
        mixing = (0, f"{title}: the data sets mix in the latent space ({scores.mixing:.3f} of 1)")
    share = f"{scores.cycle:.0%} of cells come home when matched there and back"
    return [mixing, (1, f"{title}: only {share}") if scores.cycle < FEW_HOME else (0, f"{title}: {share}")]


def _of_cells(evidence: Evidence, pair: int) -> tuple[int, str]:
    """Level and sentence on cells of a pair that are on one side only."""
    a, b = _names(evidence, evidence.pairs[pair])
    shares = evidence.alone[pair]
    titles = [MODALITY_TITLES.get(name, name) for name in (a, b)]
    parts = [f"{share:.0%} of the {title} cells" for title, share in zip(titles, shares)]
    if max(shares) <= MANY_ALONE:
        return 0, f"{a} and {b}: {parts[0]} and {parts[1]} have no counterpart, or far too few, on the other side"
    worst = int(np.argmax(shares))
    return 1, (
        f"{a} and {b}: {parts[worst]} have no counterpart, or far too few, among the {titles[1 - worst]} cells; what "
        f"they get may be other cells' labels and values (scmodal transfer --unknown {ALONE:g} leaves them out)"
    )


def _of_seeds(likeness: float) -> tuple[int, str]:
    """Level and sentence on how the chosen run's matches agree with those of the others."""
    if likeness < UNLIKE_SEEDS:
        return 1, f"seeds match cells differently (r {likeness:.2f} between their matches)"
    return 0, f"seeds match cells alike (r {likeness:.2f} between their matches)"


def select_runs(adatas: Sequence[AnnData], links: LinkTable, runs: Sequence[Path]) -> Choice:
    """Choose among result folders of :func:`scmodal.results.write_run`.

    Parameters
    ----------
    adatas
        Prepared data sets that all runs were trained on, in chain order.
    links
        That they were trained with.
    runs
        Folders.

    Raises
    ------
    InputError
        A folder that is no result, or one of other data, or of the same latents as another; all problems at once.
    """
    problems: list[str] = []
    seeds: list[int] = []
    latents: list[list[Floats]] = []
    topologies: list[str] = []
    read: list[Path] = []
    for run in runs:
        try:
            seed, topology, found = _read_run(run, adatas)
        except InputError as error:
            problems += error.problems
            continue
        seeds.append(seed)
        topologies.append(topology)
        same = next((other for other, z in zip(read, latents) if all(map(np.array_equal, z, found))), None)
        if same is not None:  # it would agree with itself
            problems.append(f"{run} and {same} are the same result: give runs of different seeds or settings")
        read.append(run)
        latents.append(found)
    if len(set(topologies)) > 1:
        problems.append(f"the runs differ in topology ({', '.join(sorted(set(topologies)))}): give those of one")
    if problems:
        raise InputError(problems)
    choice = choose(gather(adatas, links, topologies[0]), seeds, latents)
    return replace(choice, names=[Path(os.path.abspath(run)).name for run in runs])


def _read_run(run: Path, adatas: Sequence[AnnData]) -> tuple[int, str, list[Floats]]:
    """Seed, topology and latents of a result folder."""
    description, table = run / "model" / "model.json", run / "embedding.parquet"
    missing = [path.name for path in (description, table) if not path.is_file()]
    if missing:
        raise InputError(f"{run}: no {' and no '.join(missing)} in it; give the folder that `scmodal integrate` made")
    try:
        model = json.loads(description.read_text())
        frame = pd.read_parquet(table)
        seed, topology = int(model["seed"]), str(model["preset"]["topology"])
        trained = [str(name) for name in model["modalities"]]
        features = {name: Recipe.from_dict(recipe).features for name, recipe in model["recipes"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise InputError(f"{run}: damaged ({error}); integrate again") from error
    given = [modality_of(adata) for adata in adatas]
    if given != trained:
        raise InputError(
            f"{run}: it was trained on {', '.join(trained)}, not on {', '.join(given)}: give the prepared data sets "
            "that it was trained on, in that order"
        )
    latents = []
    for adata in adatas:
        name = modality_of(adata)
        own = frame[frame["modality"] == name]
        if not own["cell"].to_numpy().tolist() == adata.obs_names.to_list():
            raise InputError(
                f"{run}: its {name} cells ({len(own)}) are not those of the prepared data ({adata.n_obs}); "
                "give the files that it was trained on"
            )
        lacking = [feature for feature in features[name] if feature not in adata.var_names]
        if lacking:
            raise InputError(
                f"{run}: {len(lacking)} of its {len(features[name])} {name} features ({some(lacking)}) are not in the "
                "prepared data; give the files that it was trained on"
            )
        latents.append(own.drop(columns=["cell", "modality"]).to_numpy(np.float32))
    return seed, topology, latents


def as_json(choice: Choice) -> dict[str, Any]:
    """What was found, for ``selection.json``."""
    return {
        "verdict": choice.verdict,
        "reasons": choice.reasons,
        "chosen_seed": choice.seeds[choice.best],
        **({"chosen_run": choice.names[choice.best]} if choice.names else {}),
        "links": {
            name: None
            if signal is None
            else {"agreement": signal.observed, "random_links": float(signal.null.mean()), "z": signal.z}
            for name, signal in choice.signal.items()
        },
        "without_counterpart": {name: dict(zip(name.split("|"), shares)) for name, shares in choice.alone.items()},
        "runs": [
            {
                "seed": seed,
                **({"run": choice.names[n]} if choice.names else {}),
                "score": float(np.mean([pair.score for pair in scores.values()])),
                "likeness": choice.likeness[n] if choice.likeness else None,
                "pairs": {name: s.named() for name, s in scores.items()},
            }
            for n, (seed, scores) in enumerate(zip(choice.seeds, choice.scores))
        ],
    }


def as_table(choice: Choice) -> pd.DataFrame:
    """A row a run and pair of data sets: `seed`, `pair`, the score and its parts, `chosen`, `run` (its folder)."""
    names = choice.names or [""] * len(choice.seeds)
    return pd.DataFrame(
        [
            {"seed": seed, "pair": name, **s.named(), "chosen": n == choice.best, "run": names[n]}
            for n, (seed, scores) in enumerate(zip(choice.seeds, choice.scores))
            for name, s in scores.items()
        ]
    )


def at_least(verdict: str, limit: str) -> bool:
    """Whether a verdict is as bad as a limit, or worse; both of :data:`VERDICTS`."""
    return VERDICTS.index(verdict) >= VERDICTS.index(limit)
