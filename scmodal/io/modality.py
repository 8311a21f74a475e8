"""One AnnData of one modality in the form that every reader gives, whatever it came from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..contracts import InputError, canonical_modality
from .counts import find_counts, find_flaw, to_csr
from .kinds import INTERVAL
from .names import repeated_names, text_index, unique_names, use_symbols
from .wording import FEATURE_TYPES, empty_matrix, some, wrong_types

if TYPE_CHECKING:
    from anndata import AnnData


CountsFinder = Callable[["AnnData", str], tuple[Any, str]]
"""As :func:`scmodal.io.find_counts`."""


def pick_modality(available: Sequence[str], modality: str, name: str) -> str:
    """The key of a MuData's modalities that means `modality`."""
    for key in available:
        if key.lower() == modality:
            return key
    matches = []
    for key in available:
        with contextlib.suppress(InputError):
            if canonical_modality(key) == modality:
                matches.append(key)
    if len(matches) == 1:
        return matches[0]
    if matches:
        raise InputError(
            f"{name}: several modalities mean {modality}: {some(matches)}; rename the right one {modality!r}"
        )
    raise InputError(
        f"{name}: no modality {modality!r} inside (there: {some(list(available)) or 'none'}); "
        "give the row the modality that is there, or another file"
    )


def check_feature_types(types: Sequence[str], modality: str, name: str) -> None:
    """Refuse a matrix whose features are all of known kinds other than the wanted one."""
    wanted = FEATURE_TYPES.get(modality)
    if wanted and types and wanted not in types and all(t in FEATURE_TYPES.values() for t in types):
        raise InputError(wrong_types(types, modality, name))


@dataclass
class Checked:
    """One modality of a file, looked through: what :func:`from_anndata` makes an AnnData of."""

    obs: pd.DataFrame
    var: pd.DataFrame
    matrix: Any
    """Cells x features as they are stored, in memory or on disk."""
    columns: np.ndarray | None
    """Positions of the matrix's columns that `var` names; None for all of them."""
    obsm: dict[str, np.ndarray]
    own: dict[str, Any]
    """What goes into ``uns["scmodal"]``."""


def _of_type(types: pd.Series, modality: str, name: str) -> np.ndarray | None:
    """Mask of the features of the wanted 10x type; None where none is said to be of it, or all are."""
    wanted = FEATURE_TYPES.get(modality)
    present = sorted(types.unique())
    check_feature_types([t for t in present if t], modality, name)
    if wanted not in present or len(present) == 1:
        return None
    return np.asarray(types == wanted)


def _numbered(names: pd.Index) -> pd.MultiIndex:
    """Names with how often each occurs, and the which one it is."""
    series = pd.Series(names.astype(str).to_numpy())
    groups = series.groupby(series)
    return pd.MultiIndex.from_arrays([series, groups.transform("size"), groups.cumcount()])


def _types_of_raw(adata: AnnData) -> pd.Series | None:
    """Feature types of raw, by its own annotation, else by name from var (empty where that has no such feature)."""
    raw_var = adata.raw.var
    if "feature_types" in raw_var:
        return raw_var["feature_types"].astype(str)
    if "feature_types" not in adata.var:
        return None
    # A name that occurs here once and there twice, as of a gene and its protein, does not tell which of them it is.
    position = _numbered(adata.var_names).get_indexer(_numbered(raw_var.index))
    types = adata.var["feature_types"].astype(str).to_numpy(dtype=object)
    return pd.Series(np.where(position >= 0, types[position], ""), index=raw_var.index)


def _raw_features(adata: AnnData, modality: str, name: str, messages: list[str]) -> np.ndarray | None:
    """Mask of the features of raw to take; None for all of them."""
    types = _types_of_raw(adata)
    keep = None if types is None else _of_type(types, modality, name)
    if types is None or keep is None:
        return None
    unknown = (types == "").to_numpy()
    said = f"{int(keep.sum()):,} of {len(keep):,} features are {FEATURE_TYPES[modality]!r} and were taken"
    if unknown.any():
        # Raw is mostly kept for the genes that a selection took out of var; panels of antibodies are kept whole.
        intervals = np.array([bool(INTERVAL.fullmatch(str(n))) for n in types.index])
        guessed = {"rna": unknown & ~intervals, "atac": unknown & intervals}.get(modality, np.zeros_like(unknown))
        keep |= guessed
        said += (
            f" from raw; {int(unknown.sum()):,} others of raw are not in var, which has the types: "
            f"{int(guessed.sum()):,} of them were taken, too"
        )
    if keep.all():
        return None
    messages.append(f"{said}.")
    return keep


def _wanted_types(adata: AnnData, modality: str, name: str) -> np.ndarray | None:
    """Mask of the features of the wanted 10x type; None where all are, or var does not say of which type they are."""
    if "feature_types" not in adata.var:
        return None
    return _of_type(adata.var["feature_types"].astype(str), modality, name)


def from_anndata(
    adata: AnnData,
    modality: str,
    name: str = "the AnnData",
    *,
    messages: Sequence[str] = (),
    number_duplicates: bool = False,
    find: CountsFinder = find_counts,
) -> AnnData:
    """One modality in the form that every reader gives, from an AnnData as people have it.

    Parameters
    ----------
    adata
        Cells x features; not changed.
    modality
        Canonical name or alias.
    name
        What to call it in messages.
    messages
        What was noticed before.
    number_duplicates
        Number repeated feature names instead of refusing them.
    find
        What finds the counts, and says where they are or what is wrong with them.

    Returns
    -------
    AnnData
        ``X`` and ``layers["counts"]``: the same float32 CSR matrix of raw counts (cytometry: dense float32 ``X``
        only); ``obs`` and ``var`` of the input; ``obsm["spatial"]`` if there; ``uns["scmodal"]`` with
        ``modality``, ``counts_from`` and ``messages``.

    Raises
    ------
    InputError
        Empty, no counts, values that cannot be, duplicated names. All of them at once where that is possible.
    """
    from anndata import AnnData

    if adata.isbacked:
        adata = adata.to_memory()
    checked = check_modality(adata, modality, name, messages, number_duplicates, find)
    matrix = checked.matrix if checked.columns is None else checked.matrix[:, checked.columns]
    if checked.own["modality"] == "cytometry":
        result = AnnData(X=matrix, obs=checked.obs, var=checked.var)
    else:
        counts = to_csr(matrix)
        result = AnnData(X=counts, obs=checked.obs, var=checked.var, layers={"counts": counts})
    for key, value in checked.obsm.items():
        result.obsm[key] = value
    result.uns["scmodal"] = checked.own
    return result


def check_modality(
    adata: AnnData,
    modality: str,
    name: str,
    messages: Sequence[str],
    number_duplicates: bool = False,
    find: CountsFinder = find_counts,
) -> Checked:
    """Find the counts, check names and values: the part of :func:`from_anndata` that reads matrices but makes none."""
    modality = canonical_modality(modality)
    notes = list(messages)
    keep = _wanted_types(adata, modality, name)
    n_cells, n_features = adata.shape
    if n_features == 0 and adata.raw is not None:
        n_features = adata.raw.shape[1]
    if n_cells == 0 or n_features == 0:
        raise InputError(empty_matrix(n_cells, n_features, modality, name))

    problems: list[str] = []
    var = adata.var.copy()
    columns = None
    matrix: Any = None
    where = "X"
    if modality == "cytometry":
        if adata.X is None:
            raise InputError(f"{name}: no X inside; put the intensities into X")
        matrix = adata.X.toarray() if sp.issparse(adata.X) else np.asarray(adata.X)
        matrix = matrix.astype(np.float32)
        flaw = find_flaw(matrix)
        if flaw is not None and flaw.kind in ("nan", "infinite"):
            problems.append(
                f"{name}: {flaw.text(adata.obs_names, adata.var_names)}; "
                "remove these cells or channels, or fill them in"
            )
    else:
        try:
            matrix, where = find(adata, name)
        except InputError as exc:
            problems += exc.problems
        if keep is not None:
            var = var.loc[keep]
        if where == "raw":
            keep = _raw_features(adata, modality, name, notes)
            raw_var = adata.raw.var if keep is None else adata.raw.var.loc[keep]
            extra = [c for c in var.columns if c not in raw_var.columns]
            var = raw_var.join(var[extra]) if var.index.is_unique and raw_var.index.is_unique else raw_var.copy()
        elif keep is not None:
            notes.append(
                f"{int(keep.sum()):,} of {len(keep):,} features are {FEATURE_TYPES[modality]!r} and were taken."
            )
        columns = None if keep is None else np.flatnonzero(keep)
        if where != "X":
            notes.append(
                f"Raw counts were taken from {'raw.X' if where == 'raw' else 'layers[' + repr('counts') + ']'}."
            )

    var.index = text_index(var.index)
    obs_names = text_index(adata.obs_names)
    if repeated := repeated_names(obs_names):
        problems.append(
            f"{name}: {len(repeated):,} duplicated cell names ({some(repeated)}); "
            "make them unique, for instance with adata.obs_names_make_unique()"
        )
    renamed = False
    if modality in ("rna", "protein"):
        wanted = {"rna": "gene expression", "protein": "antibody counts"}[modality]
        intervals = sum(bool(INTERVAL.fullmatch(n)) for n in var.index)
        if intervals > 0.5 * len(var.index):
            problems.append(
                f"{name}: the features are genomic intervals ({some(list(var.index), 2)}); these are peaks: give them "
                f"modality 'atac', or {wanted} for modality {modality!r}"
            )
    if modality == "rna" or (modality == "atac" and not any(INTERVAL.fullmatch(n) for n in var.index[:10])):
        var, renamed = use_symbols(var, notes)
    if renamed or number_duplicates:
        var.index = unique_names(var.index, notes, "feature names")
    elif repeated := repeated_names(var.index):
        problems.append(
            f"{name}: {len(repeated):,} duplicated feature names ({some(repeated)}); "
            "make them unique, for instance with adata.var_names_make_unique(), or sum their columns"
        )
    if problems:
        raise InputError(problems)

    obs = adata.obs.copy()
    obs.index = obs_names
    spatial = adata.obsm.get("spatial")
    own: dict[str, Any] = {"modality": modality, "counts_from": where, "messages": notes}
    if modality == "cytometry" and isinstance(adata.uns.get("instrument"), str):
        own["instrument"] = adata.uns["instrument"]
    return Checked(obs, var, matrix, columns, {"spatial": spatial} if isinstance(spatial, np.ndarray) else {}, own)
