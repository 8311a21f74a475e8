"""Labels carried from the cells of one modality to the cells of another, through the shared latent space."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmodal.contracts import MODALITIES, InputError, canonical_modality, nearest
from scmodal.neighbours import nearest_neighbours

if TYPE_CHECKING:
    from mudata import MuData

LATENT = "X_scmodal"
"""Key of the shared latent in ``obsm`` of every modality."""

TRANSFER_COLUMNS = ["cell", "label", "confidence", "second_label"]
"""Columns of a table of transferred labels, in this order."""

# Written by tools that turn a column with gaps into text; none of them is the name of a cell type.
_MISSING = frozenset({"", "nan", "na", "n/a", "none", "<na>"})
_VOTE_BLOCK = 20_000


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
        text, and the text forms of those (`nan`, `NA`, `None`, any case).
    """
    # A plain object array first: the rules for gaps differ between categorical, nullable and text columns.
    values = np.asarray(pd.Series(labels).astype(object), dtype=object)
    gaps = np.asarray(pd.isna(values), dtype=bool)
    text = np.array(["" if gap else str(value).strip() for value, gap in zip(values, gaps)], dtype=object)
    present = np.array([value.lower() not in _MISSING for value in text], dtype=bool)
    text[~present] = ""
    return text, present


def transfer_labels(
    z_ref: np.ndarray,
    labels: Any,
    z_query: np.ndarray,
    k: int = 15,
    cells: Sequence[str] | pd.Index | None = None,
) -> pd.DataFrame:
    """Label every query cell by a distance-weighted vote of its nearest labelled reference cells.

    The vote of a neighbour at distance d is ``exp(-(d / d_k)**2)``, where d_k is the distance of the query's k-th
    (farthest) neighbour: 1 at distance 0, 0.37 at the edge, whatever the local density. If d_k is 0, all k votes
    are equal. The label with the largest sum wins; of labels with equal sums the first in alphabetical order wins.

    The confidence is the winner's share of the k votes and nothing else: 1 if all neighbours agree, never below
    1 / (number of labels among them). It is corrected neither for how common a label is nor for how far the
    neighbours are, so a cell far from every reference cell may still have confidence 1.

    Parameters
    ----------
    z_ref
        Latent of the reference cells, n_ref x d.
    labels
        Label of each reference cell (n_ref). Reference cells whose label is missing (see :func:`clean_labels`)
        have no vote and no place among the k.
    z_query
        Latent of the cells to label, n_query x d.
    k
        Neighbours asked; all labelled reference cells where there are fewer.
    cells
        Names of the query cells (n_query); row numbers from 0 if not given.

    Returns
    -------
    DataFrame
        One row per query cell, in their order: `cell`, `label`, `confidence` (0 to 1), `second_label` (label with
        the second largest sum, ``""`` if all neighbours carry one label).

    Raises
    ------
    ValueError
        Lengths or widths do not fit, or k is below 1.
    InputError
        No reference cell has a label.
    """
    ref = _as_latent(z_ref, "z_ref")
    query = _as_latent(z_query, "z_query")
    text, present = clean_labels(labels)
    if len(text) != len(ref):
        raise ValueError(f"{len(ref)} reference cells but {len(text)} labels")
    names = [str(i) for i in range(len(query))] if cells is None else [str(c) for c in cells]
    if len(names) != len(query):
        raise ValueError(f"{len(query)} query cells but {len(names)} names")
    if not present.any():
        raise InputError("no reference cell has a label, so there is nothing to transfer; give another label key")

    classes, codes = np.unique(text[present].astype(str), return_inverse=True)
    indices, distances = nearest_neighbours(ref[present], query, k)
    first = np.zeros(len(query), dtype=np.intp)
    second = np.full(len(query), -1, dtype=np.intp)
    confidence = np.zeros(len(query))
    for start in range(0, len(query), _VOTE_BLOCK):
        rows = slice(start, min(start + _VOTE_BLOCK, len(query)))
        first[rows], second[rows], confidence[rows] = _vote(distances[rows], codes[indices[rows]], len(classes))
    labels_out = classes.astype(object)
    seconds = np.where(second >= 0, labels_out[np.maximum(second, 0)], "")
    return pd.DataFrame(
        {"cell": names, "label": labels_out[first], "confidence": confidence, "second_label": seconds},
        columns=TRANSFER_COLUMNS,
    )


def _vote(distances: np.ndarray, codes: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Winner, runner-up (-1 if none) and the winner's share, from n x k distances and label codes."""
    n = len(distances)
    edge = distances[:, -1:]
    relative = np.divide(distances, edge, out=np.zeros_like(distances), where=edge > 0)
    weights = np.exp(-np.square(relative))
    weights /= weights.sum(axis=1, keepdims=True)
    slots = np.arange(n)[:, None] * n_classes + codes
    shares = np.bincount(slots.ravel(), weights=weights.ravel(), minlength=n * n_classes).reshape(n, n_classes)
    # Sums of the same votes in another order differ in the last digit; equal votes must stay a tie.
    shares = np.round(shares, 12)
    first = shares.argmax(axis=1)
    row = np.arange(n)
    confidence = np.clip(shares[row, first], 0.0, 1.0)
    shares[row, first] = -1.0
    second = shares.argmax(axis=1)
    second = np.where(shares[row, second] > 0, second, -1)
    return first, second, confidence


def transfer_between(
    mdata: MuData, source: str, target: str, label_key: str | None = None, k: int = 15
) -> pd.DataFrame:
    """Transfer the labels of one modality of an integrated MuData to the cells of another.

    Parameters
    ----------
    mdata
        Result of an integration: ``obsm["X_scmodal"]`` in both modalities.
    source, target
        Modality that has the labels, and the one whose cells get them; aliases (`adt`, `gex`, ...) are accepted.
    label_key
        Column of the source's ``obs``; by default the one named in its ``uns["scmodal"]["label_key"]``.
    k
        Neighbours asked, see :func:`transfer_labels`.

    Returns
    -------
    DataFrame
        `cell`, `label`, `confidence`, `second_label`; one row per cell of the target.

    Raises
    ------
    InputError
        A modality that is not there (with the nearest name), the same modality twice, no latent, k below 1, no
        label key, or one that is not a column of the source (with the columns there are).
    """
    problems: list[str] = []
    keys: list[str | None] = []
    for option, name in (("from", source), ("to", target)):
        try:
            keys.append(find_modality(mdata, name))
        except InputError as error:
            keys.append(None)
            problems += [f"{option}: {problem}" for problem in error.problems]
    src, tgt = keys
    if src is not None and src == tgt:
        problems.append(f"from and to are both {src!r}; labels go from one modality to another")
    if k < 1:
        problems.append(f"the number of neighbours must be 1 or more, not {k}")
    key = None
    if src is not None:
        try:
            key = find_label_key(mdata.mod[src], src, label_key)
            if key is None:
                raise InputError(f"no label key for {src}: {_columns_hint(mdata.mod[src], src)}")
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
    assert key is not None
    a, b = mdata.mod[src], mdata.mod[tgt]
    _, present = clean_labels(a.obs[key])
    if not present.any():
        raise InputError(f"column {key!r} of {src} has no labels at all. {_columns_hint(a, src)}")
    return transfer_labels(a.obsm[LATENT], a.obs[key], b.obsm[LATENT], k=k, cells=b.obs_names)


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
        close = nearest(key, [str(c) for c in adata.obs.columns])
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise InputError(f"no column {key!r} in obs of {modality}{hint}. {_columns_hint(adata, modality)}")
    return key


def _columns_hint(adata: Any, modality: str) -> str:
    """One sentence that lists the obs columns."""
    columns = [str(c) for c in adata.obs.columns]
    if not columns:
        return f"obs of {modality} has no columns: add the labels and prepare the data again"
    return f"Give --label-key one of the columns of {modality}: {', '.join(columns)}"


def _as_latent(z: Any, name: str) -> np.ndarray:
    """Latent as a two-dimensional float64 array."""
    array = np.ascontiguousarray(z, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be cells x dimensions, not of shape {array.shape}")
    return array
