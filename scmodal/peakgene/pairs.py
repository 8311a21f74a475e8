"""Which peaks are near which genes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from scmodal.contracts import InputError
from scmodal.io import some

_PEAK = re.compile(r"^(.+)[:_-](\d+)[-_](\d+)$")


def parse_peaks(names: Sequence[str], source: str = "the peaks") -> pd.DataFrame:
    """Places of peaks from their names.

    Parameters
    ----------
    names
        ``chrom:start-end`` (also ``chrom-start-end`` and ``chrom_start_end``), 0-based, half-open.
    source
        What to call them in messages.

    Returns
    -------
    DataFrame
        `chrom`, `start`, `end`, `peak` (the name), `middle`; in the order of `names`.

    Raises
    ------
    InputError
        Names that are no places, or peaks that end before they start.
    """
    text = pd.Series(list(names), dtype=object).astype(str)
    parts = text.str.extract(_PEAK)
    wrong = parts[0].isna()
    if wrong.any():
        raise InputError(
            f"{source}: {int(wrong.sum()):,} peak names are no places ({some(list(text[wrong]))}); expected "
            "chrom:start-end, for example chr1:1000-1500"
        )
    start, end = parts[1].astype(np.int64), parts[2].astype(np.int64)
    if (start >= end).any():
        raise InputError(
            f"{source}: {int((start >= end).sum()):,} peaks do not end after their start "
            f"({some(list(text[start >= end]))}); mend the peak file"
        )
    frame = pd.DataFrame({"chrom": parts[0].astype(str), "start": start, "end": end, "peak": text})
    frame["middle"] = (frame["start"] + frame["end"]) // 2
    return frame


def same_names(chroms: pd.Series, wanted: Sequence[str]) -> tuple[pd.Series, bool]:
    """Chromosome names as another file spells them, if a "chr" in front is all that differs.

    Parameters
    ----------
    chroms
        Names to change.
    wanted
        Names as they should be.

    Returns
    -------
    The names, and whether they were changed.
    """
    known = set(wanted)
    if set(chroms) & known:
        return chroms, False
    other = chroms.str.removeprefix("chr") if chroms.str.startswith("chr").all() else "chr" + chroms
    return (other, True) if set(other) & known else (chroms, False)


def pairs_within(genes: pd.DataFrame, peaks: pd.DataFrame, window: int) -> pd.DataFrame:
    """All peaks whose middle is within `window` of a gene's transcription start.

    Parameters
    ----------
    genes
        `chrom`, `tss`, `strand` (``-`` turns the sign of the distance).
    peaks
        `chrom`, `middle`.
    window
        Base pairs to either side.

    Returns
    -------
    DataFrame
        `gene` and `peak` (row numbers of the two tables) and `distance`: from the start of transcription to the middle
        of the peak in base pairs, positive downstream. Sorted by gene, then by place.
    """
    found: list[tuple[np.ndarray, np.ndarray]] = []
    places = peaks["middle"].to_numpy()
    chrom_of_peak = peaks["chrom"].to_numpy()
    tss = genes["tss"].to_numpy()
    for chrom, rows in genes.groupby("chrom", sort=False).indices.items():
        own = np.flatnonzero(chrom_of_peak == chrom)
        own = own[np.argsort(places[own], kind="stable")]
        first = np.searchsorted(places[own], tss[rows] - window, side="left")
        count = np.searchsorted(places[own], tss[rows] + window, side="right") - first
        # the numbers first, first + 1, ... of every gene one after the other
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        found.append((np.repeat(rows, count), own[np.repeat(first, count) + within]))
    gene = np.concatenate([g for g, _ in found]) if found else np.zeros(0, np.intp)
    peak = np.concatenate([p for _, p in found]) if found else np.zeros(0, np.intp)
    order = np.argsort(gene, kind="stable")
    gene, peak = gene[order], peak[order]
    away = places[peak] - tss[gene]
    sign = np.where(genes["strand"].to_numpy()[gene] == "-", -1, 1)
    return pd.DataFrame({"gene": gene, "peak": peak, "distance": away * sign})
