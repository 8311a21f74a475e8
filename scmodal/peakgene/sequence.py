"""How rich in G and C the peaks are, from a genome in FASTA."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from scmodal.contracts import InputError
from scmodal.io import some

_IS_GC = np.zeros(256, np.uint8)
_IS_GC[list(b"GCgcSs")] = 1  # S: G or C
_IS_BASE = np.zeros(256, np.uint8)
_IS_BASE[list(b"ACGTacgtSsWwRrYyKkMm")] = 1


def gc_content(fasta: str | Path, peaks: pd.DataFrame) -> np.ndarray:
    """Share of G and C among the known bases of every peak.

    Parameters
    ----------
    fasta
        Genome, plain or gzipped. One chromosome is in memory at a time.
    peaks
        `chrom`, `start`, `end` (0-based, half-open).

    Returns
    -------
    ndarray
        One value a peak; peaks without a known base, or on a contig that is not there, have the median of the others.

    Raises
    ------
    InputError
        No FASTA, none of the chromosomes in it, or one that is shorter than its peaks (another build).
    """
    path = Path(fasta)
    share = np.full(len(peaks), np.nan)
    start, end = peaks["start"].to_numpy(), peaks["end"].to_numpy()
    rows_of = {str(name): rows for name, rows in peaks.groupby("chrom").indices.items()}
    other = {_turned(name): name for name in rows_of}
    seen: list[str] = []
    for name, sequence in read_fasta(path):
        seen.append(name)
        rows = rows_of.get(name, rows_of.get(other.get(name, "")))
        if rows is None:
            continue
        if int(end[rows].max()) > len(sequence):
            raise InputError(
                f"{path}: {name} has {len(sequence):,} bases, but a peak there ends at {int(end[rows].max()):,}: give "
                "the genome of the build that the peaks were called on"
            )
        share[rows] = _shares(sequence, start[rows], end[rows])
    if np.isnan(share).all():
        raise InputError(
            f"{path}: none of the peaks' chromosomes ({some(list(rows_of))}) is in it (there: {some(seen)}): give the "
            "genome of the peaks' species"
        )
    share[np.isnan(share)] = np.nanmedian(share)
    return share


def _turned(name: str) -> str:
    """The name with "chr" in front if it has none, without if it has."""
    return name.removeprefix("chr") if name.startswith("chr") else f"chr{name}"


def _shares(sequence: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """GC share of stretches of a sequence (bytes), NaN without a known base."""
    # where one stretch begins and ends in the stretches laid end to end
    length = end - start
    offset = np.cumsum(length) - length
    where = np.arange(length.sum()) - np.repeat(offset - start, length)
    bases = sequence[where]
    known = np.add.reduceat(_IS_BASE[bases], offset, dtype=np.int64)
    found = np.add.reduceat(_IS_GC[bases], offset, dtype=np.int64)
    return np.divide(found, known, out=np.full(len(length), np.nan), where=known > 0)


def read_fasta(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name (up to the first space) and bases (bytes) of every sequence of a FASTA file.

    Raises
    ------
    InputError
        Missing, unreadable or no FASTA.
    """
    try:
        with path.open("rb") as probe:
            packed = probe.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rb") if packed else path.open("rb") as lines:
            name, parts = "", bytearray()
            for line in lines:
                if line.startswith(b">"):
                    if name:
                        yield name, np.frombuffer(bytes(parts), np.uint8)
                    name, parts = line[1:].split()[0].decode() if line[1:].split() else "", bytearray()
                elif not name and line.strip():
                    raise InputError(f"{path}: not a FASTA file (it must begin with '>' and a name)")
                else:
                    parts += line.rstrip()
            if not name:
                raise InputError(f"{path}: not a FASTA file (no sequence in it)")
            yield name, np.frombuffer(bytes(parts), np.uint8)
    except (OSError, EOFError) as exc:
        raise InputError(f"{path}: cannot be read as FASTA ({exc})") from exc
