"""Peaks: their names in the usual spellings, what is wrong with them, and which of them lie where genes are."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from . import io
from .contracts import InputError

_PEAK = r"^(.+)[:_-]([\d,]+)[-_:]([\d,]+)$"
_COLUMNS = {
    "chrom": ("chrom", "chr", "chromosome", "seqnames", "seqname", "seqid", "contig"),
    "start": ("start", "chromstart", "chrom_start", "peak_start"),
    "end": ("end", "chromend", "chrom_end", "stop", "peak_end"),
}
_MITOCHONDRIA = {"chrM": "MT", "MT": "chrM", "M": "chrM", "chrMT": "MT"}


def _split_names(names: Sequence[str]) -> pd.DataFrame:
    """Contig, start and end of each name (missing where it is no interval); the contig may hold any separator."""
    parts = pd.Series(np.asarray(names, dtype=object)).str.extract(_PEAK)
    parts.columns = pd.Index(["chrom", "start", "end"])
    return parts


def are_peaks(names: Sequence[str]) -> bool:
    """Whether most of some features' names are genomic intervals."""
    some = [str(n) for n in names[:: max(1, len(names) // 500)]]
    return bool(some) and sum(re.match(_PEAK, name) is not None for name in some) > 0.5 * len(some)


def _own_columns(var: pd.DataFrame) -> pd.DataFrame | None:
    """Contig, start and end from columns of `var`, if they are all there."""
    lower = {str(c).lower(): c for c in reversed(list(var.columns))}
    found = {what: next((lower[n] for n in names if n in lower), None) for what, names in _COLUMNS.items()}
    if any(column is None for column in found.values()):
        return None
    frame = pd.DataFrame({what: var[column].astype(str).to_numpy(dtype=object) for what, column in found.items()})
    numbers = frame[["start", "end"]].apply(lambda c: c.str.fullmatch(r"\d+(\.0+)?"))
    return frame if bool(numbers.all(axis=None)) else None


def has_peaks(var: pd.DataFrame) -> bool:
    """Whether the features of an annotation are peaks: by their names, else by columns with their places."""
    return are_peaks(list(var.index)) or (_own_columns(var) is not None and not _looks_like_genes(var))


def _looks_like_genes(var: pd.DataFrame) -> bool:
    """Gene annotation has places, too: names that are words are symbols, not numbers of peaks."""
    names = [str(n) for n in var.index[:: max(1, len(var) // 200)]]
    numbered = re.compile(r"(?:.*(?:peak|region|tile|bin|interval))?[ _.-]?\d+[a-z]?", re.IGNORECASE)
    return sum(numbered.fullmatch(name) is None for name in names) > 0.5 * len(names)


def parse_peaks(var: pd.DataFrame, name: str) -> pd.DataFrame:
    """Where the peaks are.

    Parameters
    ----------
    var
        Annotation of the features: named ``chr1:1-2``, ``chr1-1-2`` or ``chr1_1_2`` (contigs may hold any of these
        signs themselves), or with columns such as ``chrom``, ``start`` and ``end``.
    name
        What to call the data in messages.

    Returns
    -------
    DataFrame
        ``chrom``, ``start`` and ``end`` (base pairs, taken to be 0-based and half-open as in BED), in the same order.

    Raises
    ------
    InputError
        Features that are no intervals, or end before they start, or are there twice.
    """
    names = [str(n) for n in var.index]
    own = None if are_peaks(names) else _own_columns(var)
    parts = _split_names(names) if own is None else own
    wrong = parts["start"].isna().to_numpy()
    if wrong.any():
        listed = [n for n, bad in zip(names, wrong) if bad]
        raise InputError(
            f"{name}: {len(listed):,} of {len(names):,} features are no peaks ({io.some(listed)}); name peaks "
            "chrom:start-end, and remove other features"
        )
    frame = pd.DataFrame({"chrom": parts["chrom"].to_numpy(dtype=object)})
    for column in ("start", "end"):
        text = parts[column].str.replace(",", "", regex=False)
        frame[column] = pd.to_numeric(text).astype(np.int64).to_numpy()
    problems = []
    turned = (frame["end"] < frame["start"]).to_numpy()
    if turned.any():
        listed = [n for n, bad in zip(names, turned) if bad]
        problems.append(
            f"{name}: {len(listed):,} peaks end before they start ({io.some(listed)}); correct or remove them"
        )
    empty = (frame["end"] == frame["start"]).to_numpy()
    if empty.any():
        listed = [n for n, bad in zip(names, empty) if bad]
        problems.append(f"{name}: {len(listed):,} peaks have no length ({io.some(listed)}); correct or remove them")
    repeated = frame.duplicated().to_numpy()
    if repeated.any():
        listed = [n for n, bad in zip(names, repeated) if bad]
        problems.append(
            f"{name}: {len(listed):,} peaks are the same interval as another one ({io.some(listed)}); sum their "
            "columns, or remove one"
        )
    if problems:
        raise InputError(problems)
    return frame


def peak_names(peaks: pd.DataFrame) -> np.ndarray:
    """Names ``chrom:start-end`` of peaks, as an object array."""
    joined = peaks["chrom"].astype(str) + ":" + peaks["start"].astype(str) + "-" + peaks["end"].astype(str)
    return joined.to_numpy(dtype=object)


def read_peaks(path: str) -> pd.DataFrame:
    """Peaks of a BED file (chrom, start, end; further columns are ignored), sorted, each once.

    Raises
    ------
    InputError
        Not a BED file, empty, or peaks that end before they start.
    """
    rows: list[tuple[str, str, str]] = []
    with io.reading(path, "a BED file of peaks"), io.open_text(Path(path)) as handle:
        for number, line in enumerate(handle, start=1):
            fields = line.split()
            if not fields or fields[0].startswith(("#", "track", "browser")):
                continue
            if len(fields) < 3 or not (fields[1].isdigit() and fields[2].isdigit()):
                if not rows and len(fields) >= 3 and fields[1].lower() in _COLUMNS["start"]:
                    continue  # a header
                raise InputError(
                    f"{path}: line {number} ({line.strip()[:60]!r}) is no line of a BED file; give the peaks as chrom, "
                    "start and end separated by tabs"
                )
            rows.append((fields[0], fields[1], fields[2]))
    if not rows:
        raise InputError(f"{path}: no peaks in it; give a BED file with chrom, start and end")
    unique = list(dict.fromkeys(rows))
    frame = parse_peaks(pd.DataFrame(index=pd.Index([f"{c}:{s}-{e}" for c, s, e in unique], dtype=object)), path)
    return frame.sort_values(["chrom", "start", "end"], kind="stable").reset_index(drop=True)


def other_spelling(chrom: str) -> str:
    """The same chromosome in the other of the two customs: ``chr1`` for ``1`` and back, ``chrM`` for ``MT``."""
    if chrom in _MITOCHONDRIA:
        return _MITOCHONDRIA[chrom]
    return chrom[3:] if chrom.startswith("chr") else f"chr{chrom}"


def fit_names(chroms: Iterable[str], genes: Iterable[str]) -> dict[str, str]:
    """New names for the contigs of data that are spelt differently from those of the genes; empty if none need any.

    A contig is renamed if the genes do not know it and do know its other spelling, and no other contig bears that one.
    """
    known, own = set(genes), set(chroms)
    return {chrom: other for chrom in own - known if (other := other_spelling(chrom)) in known and other not in own}


def overlapping(
    start: np.ndarray, end: np.ndarray, target_start: np.ndarray, target_end: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """All pairs of overlapping intervals on one chromosome.

    Parameters
    ----------
    start, end
        Queries, half-open, in any order.
    target_start, target_end
        Targets, half-open, in any order; they may overlap each other.

    Returns
    -------
    Positions of query and target of each pair, ordered by query.
    """
    order = np.argsort(target_start, kind="stable")
    starts, ends = target_start[order], target_end[order]
    # The furthest end so far never falls: the first target that can reach a query is found by bisection, even where
    # targets lie within each other.
    first = np.searchsorted(np.maximum.accumulate(ends), start, side="right") if len(ends) else np.zeros_like(start)
    last = np.searchsorted(starts, end, side="left")
    n = np.maximum(last - first, 0)
    query = np.repeat(np.arange(len(start)), n)
    within = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    target = np.repeat(first, n) + within
    hit = ends[target] > start[query] if len(ends) else np.zeros(0, bool)
    return query[hit], order[target[hit]]


def overlapping_pairs(queries: pd.DataFrame, targets: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """As :func:`overlapping`, over all chromosomes: tables with ``chrom``, ``start`` and ``end``."""
    found_q: list[Any] = [np.zeros(0, np.int64)]
    found_t: list[Any] = [np.zeros(0, np.int64)]
    places = targets.groupby("chrom", sort=False, observed=True).indices
    for chrom, own in queries.groupby("chrom", sort=False, observed=True).indices.items():
        there = places.get(chrom)
        if there is None:
            continue
        q, t = overlapping(
            queries["start"].to_numpy()[own],
            queries["end"].to_numpy()[own],
            targets["start"].to_numpy()[there],
            targets["end"].to_numpy()[there],
        )
        found_q.append(own[q])
        found_t.append(there[t])
    return np.concatenate(found_q), np.concatenate(found_t)
