"""Labels carried from the cells of one modality to the cells of another, through the shared latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmodal.confidence import fit_curve, off_certainty, other_places
from scmodal.contracts import MODALITIES, InputError, canonical_modality, continuous_problem, nearest
from scmodal.counterpart import COLUMN
from scmodal.io import as_text
from scmodal.neighbours import nearest_neighbours
from scmodal.presets import pairs_of
from scmodal.redraw import REDRAWN

if TYPE_CHECKING:
    from mudata import MuData

LATENT = "X_scmodal"
"""Key of the shared latent in ``obsm`` of every modality."""

TRANSFER_COLUMNS = ["cell", "label", "confidence", "second_label", "entropy"]
"""Columns of a table of transferred labels, in this order; levels above the finest come after them."""

OWN_COLUMNS = "scmodal_"
"""Start of the names of columns of ``obs`` that this program writes."""

UNKNOWN = "unknown"
"""Label of a cell that has no counterpart in the reference."""

# Written by tools that turn a column with gaps into text; none of them is the name of a cell type.
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "<na>"})
_VOTE_BLOCK = 20_000
# So many labelled cells are looked for around a query cell, among at most so many reference cells.
_LABELLED_AROUND, _MOST_AROUND = 30, 500


def clean_labels(labels: Any) -> tuple[np.ndarray, np.ndarray]:
    """Labels as text, and which of them are there at all.

    Parameters
    ----------
    labels
        One label per cell (n), of any type: text, categorical, numbers, with gaps.

    Returns
    -------
    (labels, present)
        Object array (n) of `str`, ``""`` where missing, and a boolean array (n). Missing are None, NaN, NA, empty
        text, and the text forms of those (`nan`, `NA`, `None`, any case). A whole number is written without a point:
        gaps make decimal numbers of a column of clusters, which are the same clusters as without gaps.
    """
    # A plain object array first: the rules for gaps differ between categorical, nullable and text columns.
    values = np.asarray(pd.Series(labels).astype(object), dtype=object)
    gaps = np.asarray(pd.isna(values), dtype=bool)
    text = np.array(["" if gap else as_text(value) for value, gap in zip(values, gaps)], dtype=object)
    present = np.array([value.lower() not in _MISSING for value in text], dtype=bool)
    text[~present] = ""
    return text, present


def transfer_labels(
    z_ref: np.ndarray,
    labels: Any,
    z_query: np.ndarray,
    k: int = 15,
    cells: Sequence[str] | pd.Index | None = None,
    *,
    redrawn: tuple[np.ndarray, np.ndarray] | None = None,
    counterpart: np.ndarray | None = None,
    unknown: float = 0.0,
) -> pd.DataFrame:
    """Label every query cell by a distance-weighted vote of its nearest labelled reference cells.

    The vote of a neighbour at distance d is ``exp(-(d / d_k)**2)``, where d_k is the distance of the query's k-th
    (farthest) neighbour: 1 at distance 0, 0.37 at the edge, whatever the local density. If d_k is 0, all k votes
    are equal. The label with the largest sum wins; of labels with equal sums the first in alphabetical order wins.

    The plain confidence is the winner's share of the k votes and nothing else: 1 if all neighbours agree, never below
    1 / (number of labels among them). It is corrected neither for how common a label is nor for how far the
    neighbours are. With `redrawn` it is the chance that the label is right: the share, less what is lost where query
    cells are placed less surely than reference cells (:mod:`scmodal.confidence`).

    Parameters
    ----------
    z_ref
        Latent of the reference cells, n_ref x d.
    labels
        Label of each reference cell (n_ref). Reference cells whose label is missing (see :func:`clean_labels`)
        have no vote and no place among the k. Or a mapping from names of levels to such labels, coarse first; then
        each level's label is chosen among those that reference cells of the winner of the level above have. A
        reference cell without a finer label counts as one whose population is not divided further: the label above
        stands in its place. One without a label of the first level has no vote.
    z_query
        Latent of the cells to label, n_query x d.
    k
        Neighbours asked; all labelled reference cells where there are fewer.
    cells
        Names of the query cells (n_query); row numbers from 0 if not given.
    redrawn
        Latents of the reference's and of the query's cells had they been measured anew (``obsm["X_scmodal_redrawn"]``,
        see :mod:`scmodal.redraw`), of the shapes of `z_ref` and `z_query`; None leaves the shares.
    counterpart
        How much of a counterpart each query cell has in the reference (n_query), see :mod:`scmodal.counterpart`.
    unknown
        Cells with a `counterpart` below this are called :data:`UNKNOWN`; 0 for none. Where reference cells lack labels
        it is their counterpart among those that have one: theirs among all, less as fewer of the reference cells
        around them are labelled than elsewhere.

    Returns
    -------
    DataFrame
        One row per query cell, in their order: `cell`, `label`, `confidence` (0 to 1; NaN for unknown cells),
        `second_label` (of the other labels the one with the largest sum, below whichever parent, ``""`` if all
        neighbours carry one label; for unknown cells the label that they would have), `entropy` (of the shares of all
        labels, natural logarithm: 0 if all agree).
        These are of the finest level; every level above adds `label_<level>` and `confidence_<level>`.
        ``attrs["calibrated"]`` says whether confidences are chances, ``attrs["unknown"]`` (n_query) which cells were
        called unknown, ``attrs["messages"]`` what a user should know of the reference's labels.

    Raises
    ------
    ValueError
        Lengths or widths do not fit, k is below 1, `unknown` is no number of 0 or more, or asked for without
        `counterpart`.
    InputError
        No reference cell has a label, or a level's labels are parts of those of a later level.
    """
    if not unknown >= 0:
        raise ValueError(f"unknown must be 0 or more, not {unknown}")
    ref = _as_latent(z_ref, "z_ref")
    query = _as_latent(z_query, "z_query")
    tree, present, messages = _tree(labels, len(ref))
    names = [str(i) for i in range(len(query))] if cells is None else [str(c) for c in cells]
    if len(names) != len(query):
        raise ValueError(f"{len(query)} query cells but {len(names)} names")
    everywhere, ref = ref, ref[present]
    indices, distances = nearest_neighbours(ref, query, k)
    votes = _vote(distances, indices, tree)
    if redrawn is not None:
        moved = other_places(ref, _as_latent(redrawn[0], "redrawn")[present], query, _as_latent(redrawn[1], "redrawn"))
        if moved is None:
            votes.confidence = off_certainty(votes.confidence)
        else:
            votes.confidence = _calibrated(votes, ref, moved, indices.shape[1], tree)

    winners = [np.array(level.names, dtype=object)[votes.winner[:, at]] for at, level in enumerate(tree)]
    finest = np.array(tree[-1].names, dtype=object)
    second = np.where(votes.second >= 0, finest[np.maximum(votes.second, 0)], "")
    strange = np.zeros(len(query), dtype=bool)
    if unknown > 0:
        if counterpart is None:
            raise ValueError("unknown cells are told by their counterpart, which is not given")
        strange = np.asarray(counterpart) * _labelled_around(everywhere, present, query) < unknown
        second[strange] = winners[-1][strange]
        for given in winners:
            given[strange] = UNKNOWN
        votes.confidence[strange] = np.nan
    table = pd.DataFrame(
        {
            "cell": names,
            "label": winners[-1],
            "confidence": votes.confidence[:, -1],
            "second_label": second,
            "entropy": votes.entropy,
        },
        columns=TRANSFER_COLUMNS,
    )
    for at, level in enumerate(tree[:-1]):
        table[f"label_{level.key}"] = winners[at]
        table[f"confidence_{level.key}"] = votes.confidence[:, at]
    table.attrs |= {"calibrated": redrawn is not None, "unknown": strange, "messages": messages}
    return table


@dataclass(frozen=True)
class _Level:
    """Labels of one level of a hierarchy; the same name below two parents is two labels.

    `names` and `parents` (positions in the level above; zeros at the top) have one entry a label, `of` has the label
    of each reference cell, `of_finest` the label at this level of each label of the finest level.
    """

    key: str
    names: list[str]
    parents: np.ndarray
    of: np.ndarray
    of_finest: np.ndarray


@dataclass
class _Votes:
    """What the neighbours said: n x levels, and of the finest level n."""

    winner: np.ndarray
    confidence: np.ndarray
    second: np.ndarray
    entropy: np.ndarray


def _labelled_around(ref: np.ndarray, present: np.ndarray, query: np.ndarray) -> np.ndarray:
    """Share of labelled cells around each query cell over that of the whole reference, at most 1 (n_query)."""
    overall = present.mean()
    if overall == 1.0:
        return np.ones(len(query))
    near, _ = nearest_neighbours(ref, query, min(len(ref), int(np.ceil(_LABELLED_AROUND / overall)), _MOST_AROUND))
    return np.minimum(present[near].mean(axis=1) / overall, 1.0)


def _tree(labels: Any, n: int) -> tuple[list[_Level], np.ndarray, list[str]]:
    """Levels of the labels of n reference cells, coarse first, which cells have any, and what to say of the others."""
    given = labels if isinstance(labels, Mapping) else {"label": labels}
    texts: list[np.ndarray] = []
    present = np.ones(n, dtype=bool)
    messages = []
    for key, column in given.items():
        text, there = clean_labels(column)
        if len(text) != n:
            raise ValueError(f"{n} reference cells but {len(text)} labels")
        if not texts:
            present = there
            if not present.all():
                messages.append(f"{n - present.sum():,} of {n:,} reference cells have no {key}: they have no vote.")
        else:
            lacking = present & ~there
            if lacking.any():
                messages.append(
                    f"{lacking.sum():,} of {n:,} reference cells have no {key}: the label above stands in its place."
                )
            text = np.where(there, text, texts[-1])
        texts.append(text)
    if not present.any():
        raise InputError("no reference cell has a label, so there is nothing to transfer; give another label key")
    texts = [text[present] for text in texts]
    _check_order(list(given), texts)
    # A label is the path that leads to it, so that sorting paths sorts by name below each parent.
    codes = np.column_stack([np.unique(t.astype(str), return_inverse=True)[1] for t in texts])
    kinds, of_finest = np.unique(codes, axis=0, return_inverse=True)
    of_finest = of_finest.ravel()
    first = np.unique(of_finest, return_index=True)[1]
    levels: list[_Level] = []
    above = np.zeros(len(kinds), dtype=np.intp)
    for at, (key, text) in enumerate(zip(given, texts)):
        _, example, own = np.unique(kinds[:, : at + 1], axis=0, return_index=True, return_inverse=True)
        own = own.ravel()
        names = [str(name) for name in text[first[example]]]
        levels.append(_Level(str(key), names, above[example], own[of_finest], own))
        above = own
    return levels, present, messages


def _check_order(keys: list[Any], texts: list[np.ndarray]) -> None:
    """Refuse levels given fine first: every label of the one lies in a single label of the next, which has fewer."""
    for (above, below), (coarse, fine) in zip(pairwise(keys), pairwise(texts)):
        pairs = pd.DataFrame({"coarse": coarse, "fine": fine}).drop_duplicates()
        if pairs["coarse"].is_unique and pairs["fine"].nunique() < len(pairs):
            raise InputError(
                f"the labels of {above!r} are parts of those of {below!r}: give the coarse key first, {below!r} and "
                f"then {above!r}"
            )


def _vote(distances: np.ndarray, indices: np.ndarray, tree: list[_Level]) -> _Votes:
    """Votes of n x k neighbours (positions in the reference), some cells at a time."""
    n = len(distances)
    votes = _Votes(
        np.zeros((n, len(tree)), dtype=np.intp), np.zeros((n, len(tree))), np.full(n, -1, dtype=np.intp), np.zeros(n)
    )
    for start in range(0, n, _VOTE_BLOCK):
        rows = slice(start, min(start + _VOTE_BLOCK, n))
        _count(_shares(distances[rows], tree[-1].of[indices[rows]], len(tree[-1].names)), tree, votes, rows)
    return votes


def _shares(distances: np.ndarray, codes: np.ndarray, n_classes: int) -> np.ndarray:
    """Share of the votes of each label, n x n_classes, from n x k distances and label codes."""
    n = len(distances)
    edge = distances[:, -1:]
    relative = np.divide(distances, edge, out=np.zeros_like(distances), where=edge > 0)
    weights = np.exp(-np.square(relative))
    weights /= weights.sum(axis=1, keepdims=True)
    slots = np.arange(n)[:, None] * n_classes + codes
    shares = np.bincount(slots.ravel(), weights=weights.ravel(), minlength=n * n_classes).reshape(n, n_classes)
    # Sums of the same votes in another order differ in the last digit; equal votes must stay a tie.
    return np.asarray(np.round(shares, 12))


def _count(finest: np.ndarray, tree: list[_Level], votes: _Votes, rows: slice) -> None:
    """Winners of every level among the labels below the winner of the level above."""
    row = np.arange(len(finest))
    parent = np.zeros(len(finest), dtype=np.intp)
    shares = finest
    for at, level in enumerate(tree):
        shares = np.zeros((len(finest), len(level.names)))
        for label, own in enumerate(level.of_finest):
            shares[:, own] += finest[:, label]
        shares = np.round(shares, 12)
        shares[level.parents[None, :] != parent[:, None]] = 0.0
        parent = shares.argmax(axis=1)
        votes.winner[rows, at] = parent
        votes.confidence[rows, at] = np.clip(shares[row, parent], 0.0, 1.0)
    # of all labels, not only of those below the winner's parent: neighbours may disagree above
    others = finest.copy()
    others[row, parent] = -1.0
    second = others.argmax(axis=1)
    votes.second[rows] = np.where(others[row, second] > 0, second, -1)
    logs = np.log(finest, out=np.zeros_like(finest), where=finest > 0)
    votes.entropy[rows] = np.maximum(-(finest * logs).sum(axis=1), 0.0)


def _calibrated(
    votes: _Votes, ref: np.ndarray, moved: tuple[np.ndarray, np.ndarray], k: int, tree: list[_Level]
) -> np.ndarray:
    """Chances of being right (n x levels), from the votes at other places of some of the cells.

    A fine label is never surer than the coarse one above it.
    """
    cells, places = moved
    again = np.zeros((len(cells), len(tree)))
    for start in range(0, len(cells), _VOTE_BLOCK):
        rows = slice(start, min(start + _VOTE_BLOCK, len(cells)))
        indices, distances = nearest_neighbours(ref, places[rows], k)
        finest = _shares(distances, tree[-1].of[indices], len(tree[-1].names))
        for at, level in enumerate(tree):
            same = level.of_finest[None, :] == votes.winner[cells[rows], at][:, None]
            again[rows, at] = np.clip((finest * same).sum(axis=1), 0.0, 1.0)
    chances = [fit_curve(votes.confidence[cells, at], again[:, at])(votes.confidence[:, at]) for at in range(len(tree))]
    return np.minimum.accumulate(np.column_stack(chances), axis=1)


def transfer_between(
    mdata: MuData,
    source: str,
    target: str,
    label_key: str | Sequence[str] | None = None,
    k: int = 15,
    *,
    calibrated: bool = True,
    unknown: float = 0.0,
) -> pd.DataFrame:
    """Transfer the labels of one modality of an integrated MuData to the cells of another.

    Parameters
    ----------
    mdata
        Result of an integration: ``obsm["X_scmodal"]`` in both modalities.
    source, target
        Modality that has the labels, and the one whose cells get them; aliases (`adt`, `gex`, ...) are accepted.
    label_key
        Column of the source's ``obs``, or several, coarse first; by default the one named in its
        ``uns["scmodal"]["label_key"]``.
    k, unknown
        Neighbours asked, and below which :mod:`scmodal.counterpart` cells are called unknown; see
        :func:`transfer_labels`. Between modalities that were matched through another one, what counts is the
        counterpart in the first modality on the way from the target to the source.
    calibrated
        Whether confidences are chances of being right; they are the shares of the votes where `mdata` does not hold
        the redrawn latents (it was written before there were any).

    Returns
    -------
    DataFrame
        `cell`, `label`, `confidence`, `second_label`, `entropy`; one row per cell of the target. Of several columns,
        these are of the last, and those above add `label_<column>` and `confidence_<column>`.

    Raises
    ------
    InputError
        A modality that is not there (with the nearest name), the same modality twice, no latent, k below 1, no
        label key, or one that is not a column of the source (with the columns there are).
    """
    problems: list[str] = []
    keys: list[str | None] = []
    for option, name in (("--from", source), ("--to", target)):
        try:
            keys.append(find_modality(mdata, name))
        except InputError as error:
            keys.append(None)
            problems += [f"{option}: {problem}" for problem in error.problems]
    src, tgt = keys
    if src is not None and src == tgt:
        problems.append(f"--from and --to are both {src!r}; labels go from one modality to another")
    if not unknown >= 0:
        problems.append(f"--unknown must be 0 or more, not {unknown}")
    if k < 1:
        problems.append(f"the number of neighbours must be 1 or more, not {k}")
    columns: list[str] = []
    if src is not None:
        try:
            columns = _label_columns(mdata.mod[src], src, label_key)
        except InputError as error:
            problems += error.problems
    for name in dict.fromkeys(k for k in keys if k is not None):
        if LATENT not in mdata.mod[name].obsm:
            problems.append(
                f"modality {name!r} has no obsm[{LATENT!r}]; give the integrated.h5mu of `scmodal integrate`"
            )
    if problems:
        raise InputError(problems)
    assert src is not None
    assert tgt is not None
    a, b = mdata.mod[src], mdata.mod[tgt]
    bare = [column for column in columns if not clean_labels(a.obs[column])[1].any()]
    if bare:
        raise InputError(
            [f"column {column!r} of {src} has no labels at all. {_columns_hint(a, src)}" for column in bare]
        )
    odd = [continuous_problem(a.obs[column], f"column {column!r} of {src}") for column in columns]
    if any(odd):
        raise InputError([f"{problem}. {_columns_hint(a, src)}" for problem in odd if problem])
    labels = {column: a.obs[column] for column in columns}
    there = calibrated and REDRAWN in a.obsm and REDRAWN in b.obsm
    return transfer_labels(
        a.obsm[LATENT],
        labels,
        b.obsm[LATENT],
        k,
        b.obs_names,
        redrawn=(a.obsm[REDRAWN], b.obsm[REDRAWN]) if there else None,
        counterpart=_counterpart(mdata, src, str(tgt)) if unknown > 0 else None,
        unknown=unknown,
    )


def _counterpart(mdata: MuData, source: str, target: str) -> np.ndarray:
    """How much of a counterpart the target's cells have in the source, or in what they were matched with on the way."""
    column = COLUMN + _first_step(_matched(mdata), target, source)
    obs = mdata.mod[target].obs
    if column not in obs.columns:
        raise InputError(
            f"unknown cells cannot be told: {target} has no obs[{column!r}], which preset default leaves in "
            "integrated.h5mu; integrate again, or leave --unknown out"
        )
    return np.asarray(obs[column], dtype=np.float64)


def _matched(mdata: MuData) -> list[tuple[str, str]]:
    """Pairs of modalities that were matched with each other in training."""
    own = mdata.uns.get("scmodal")
    if isinstance(own, Mapping) and "topology" in own and "modalities" in own:
        order = [str(name) for name in own["modalities"]]
        return [(order[i], order[j]) for i, j in pairs_of(str(own["topology"]), len(order))]
    # results of earlier versions do not name the topology: the counterparts are of matched modalities
    return [(a, b) for a, adata in mdata.mod.items() for b in mdata.mod if COLUMN + b in adata.obs.columns]


def _first_step(pairs: Sequence[tuple[str, str]], start: str, goal: str) -> str:
    """Modality next to `start` on the shortest way to `goal` over matched pairs; `goal` where there is no way."""
    beside: dict[str, list[str]] = {}
    for a, b in pairs:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    ways = [[start]]
    seen = {start}
    for way in ways:  # grows on the way: shorter ones first
        for name in beside.get(way[-1], []):
            if name == goal:
                return [*way, name][1]
            if name not in seen:
                seen.add(name)
                ways.append([*way, name])
    return goal


def _label_columns(adata: Any, modality: str, label_key: str | Sequence[str] | None) -> list[str]:
    """Columns of labels, coarse first; all problems at once."""
    keys: Sequence[str] | None = [label_key] if isinstance(label_key, str) else label_key
    wanted: list[str | None] = list(keys) if keys else [None]
    found: list[str] = []
    problems: list[str] = []
    for item in wanted:
        try:
            key = find_label_key(adata, modality, item)
        except InputError as error:
            problems += error.problems
            continue
        if key is None:
            problems.append(f"no label key for {modality}. {_columns_hint(adata, modality)}")
        elif key in found:
            problems.append(f"the label key {key!r} is given twice; give a coarse and a finer one")
        else:
            found.append(key)
    if problems:
        raise InputError(problems)
    return found


def find_modality(mdata: MuData, name: str) -> str:
    """Key of a modality in a MuData, from its key or an alias.

    Parameters
    ----------
    mdata
        Where to look.
    name
        A key of ``mdata.mod``, or an alias of one.

    Raises
    ------
    InputError
        Not there; the message has the nearest name and what there is.
    """
    there = list(mdata.mod)
    if name in there:
        return name
    try:
        canonical = canonical_modality(name)
    except InputError:
        canonical = ""
    if canonical in there:
        return canonical
    close = nearest(name, there) or ([m for m in nearest(name, MODALITIES) if m in there])
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(f"no modality {name!r} in these data{hint} (there are: {', '.join(there)})")


def find_label_key(adata: Any, modality: str, label_key: str | None) -> str | None:
    """Column with the labels of a modality: the one asked for, else the one it was prepared with.

    Parameters
    ----------
    adata
        The modality (AnnData).
    modality
        Its name, for messages.
    label_key
        Column asked for, or None.

    Returns
    -------
    str or None
        None if none was asked for and none is recorded.

    Raises
    ------
    InputError
        The column is not there; the message lists the columns there are.
    """
    recorded = adata.uns.get("scmodal", {})
    key = label_key or (str(recorded.get("label_key") or "") if isinstance(recorded, Mapping) else "")
    if not key:
        return None
    if key not in adata.obs.columns:
        close = nearest(key, label_columns(adata))
        hint = f"; did you mean {close[0]!r}?" if close else "."
        raise InputError(f"no column {key!r} in obs of {modality}{hint} {_columns_hint(adata, modality)}")
    return key


def label_columns(adata: Any) -> list[str]:
    """Columns of ``obs`` that may hold labels: all but those that this program wrote."""
    return [str(c) for c in adata.obs.columns if not str(c).startswith(OWN_COLUMNS)]


def _columns_hint(adata: Any, modality: str) -> str:
    """One sentence that lists the obs columns."""
    columns = label_columns(adata)
    if not columns:
        return f"The obs of {modality} has no column with labels: add one and prepare the data again"
    return f"Give --label-key one of the columns of {modality}: {', '.join(columns)}"


def _as_latent(z: Any, name: str) -> np.ndarray:
    """Latent as a two-dimensional float64 array."""
    array = np.ascontiguousarray(z, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be cells x dimensions, not of shape {array.shape}")
    return array
