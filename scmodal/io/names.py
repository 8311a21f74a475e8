"""Names of features and cells: gene symbols wherever they are, and each name once."""

from __future__ import annotations

import re
import warnings
from collections import Counter

import numpy as np
import pandas as pd

from .kinds import ENSEMBL_ID
from .wording import some

SYMBOL_COLUMNS = (
    "gene_symbols",
    "gene_symbol",
    "symbol",
    "hgnc_symbol",
    "gene_name",
    "gene_names",
    "gene_short_name",
    "external_gene_name",
    "feature_name",
    "gene",
    "name",
)
"""Columns of ``var``, in any case, in which gene symbols are looked for when the names are Ensembl ids."""

_MOST = 0.9  # share of the names that must have a form for it to be taken off

_GENOME = re.compile(
    r"((?:GRC[a-z]\d+|hg\d\d|mm\d\d?|rn\d|Rnor_6\.0|mRatBN7\.2|human|mouse)(?:[-_]+))(?=[A-Za-z0-9])", re.IGNORECASE
)

_ID_BEHIND = re.compile(rf"(?P<symbol>.+?)[-_|:]+(?P<id>{ENSEMBL_ID.pattern})", re.IGNORECASE)

_ID_IN_FRONT = re.compile(rf"(?P<id>{ENSEMBL_ID.pattern})[-_|:]+(?P<symbol>.+)", re.IGNORECASE)


def repeated_names(names: pd.Index) -> list[str]:
    """Names that occur more than once, each once."""
    return [str(n) for n in names[names.duplicated()].unique()]


def symbol_column(var: pd.DataFrame) -> str | None:
    """The column of var that holds gene symbols; None where none does."""
    by_name = {re.sub(r"[\W_]+", "_", str(c).strip().lower()): c for c in reversed(var.columns)}
    for name in SYMBOL_COLUMNS:
        column = by_name.get(name)
        if column is None or var[column].dtype.kind in "biuf":
            continue
        values = var[column].dropna().astype(str).str.strip()
        # Some call the column of the ids like that of the symbols.
        if (values != "").any() and not values.map(lambda v: bool(ENSEMBL_ID.fullmatch(v))).mean() > 0.5:
            return str(column)
    return None


def _without_genome(names: pd.Index, messages: list[str]) -> pd.Index:
    """Names without the genome that stands in front of nearly all of them, as where two were mapped to."""
    found = [_GENOME.match(n) for n in names]
    prefixes = Counter(match[1] for match in found if match)
    if not prefixes or prefixes.total() < _MOST * len(names):
        return names
    messages.append(
        f"The genome was taken off {prefixes.total():,} of {len(names):,} feature names ({some(list(prefixes))})."
    )
    return pd.Index(np.array([n[m.end() :] if m else n for n, m in zip(names, found)], dtype=object))


def _split_ids(var: pd.DataFrame, messages: list[str]) -> pd.DataFrame:
    """Gene symbols as names where nearly all names are a symbol and an Ensembl id."""
    for pattern in (_ID_BEHIND, _ID_IN_FRONT):
        found = [pattern.fullmatch(n) for n in var.index]
        n = sum(match is not None for match in found)
        if n and n >= _MOST * len(found):
            messages.append(
                f"{n:,} of {len(found):,} feature names are a gene symbol and an Ensembl id ({some([var.index[0]])}): "
                "the symbols are used as names."
            )
            var = var.copy()
            var["gene_id"] = np.array([m["id"] if m else n for n, m in zip(var.index, found)], dtype=object)
            var.index = pd.Index(np.array([m["symbol"] if m else n for n, m in zip(var.index, found)], dtype=object))
            break
    return var


def use_symbols(var: pd.DataFrame, messages: list[str]) -> tuple[pd.DataFrame, bool]:
    """Gene symbols as names where the names are Ensembl ids or hold more than a symbol; also whether names changed."""
    before = var.index
    var = var.set_axis(_without_genome(before, messages), axis=0)
    var = _symbols_of_ids(_split_ids(var, messages), messages)
    return var, not var.index.equals(before)


def _symbols_of_ids(var: pd.DataFrame, messages: list[str]) -> pd.DataFrame:
    """Gene symbols of a column of var as names where the names are Ensembl ids."""
    names = var.index.astype(str)
    ensembl = np.array([bool(ENSEMBL_ID.fullmatch(n)) for n in names])
    if len(names) == 0 or ensembl.mean() < 0.5:
        return var
    column = symbol_column(var)
    if column is None:
        messages.append(
            "The features are Ensembl ids and no gene symbols were found in var (looked for "
            f"{', '.join(SYMBOL_COLUMNS)}, in any case); the built-in links go by symbol."
        )
        return var
    symbols = var[column].astype(object)
    usable = symbols.notna().to_numpy() & (symbols.astype(str).str.strip() != "").to_numpy()
    var = var.copy()
    var["gene_id"] = np.asarray(names, dtype=object)
    var.index = pd.Index(np.where(usable, symbols.astype(str).str.strip(), names).astype(object))
    left = int((~usable).sum())
    messages.append(
        f"The features were Ensembl ids: gene symbols of var[{column!r}] are used as names"
        + (f", {left:,} without a symbol kept their id." if left else ".")
    )
    var.index = _without_genome(var.index, messages)
    return var


def unique_names(index: pd.Index, messages: list[str], what: str) -> pd.Index:
    """Names of which repeated ones are numbered."""
    from anndata.utils import make_index_unique

    repeated = repeated_names(index)
    if not repeated:
        return index
    messages.append(f"{len(repeated):,} {what} occur more than once and were numbered: {some(repeated)}.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return make_index_unique(index)


def text_index(index: pd.Index) -> pd.Index:
    """An index of plain str objects: numbers as text, no extension type."""
    return pd.Index(np.array([str(n) for n in index], dtype=object), dtype=object)
