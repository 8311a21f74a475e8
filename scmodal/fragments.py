"""Fragments files: read in pieces, whatever their order, into counts of peaks and measures of quality."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from . import io
from .contracts import InputError
from .genome import match_genome
from .intervals import fit_names, overlapping, peak_names

if TYPE_CHECKING:
    from anndata import AnnData

MIN_FRAGMENTS = 1000
"""A barcode with as many fragments is taken for a cell, where no list of cells is given."""

TILE = 5000
"""Base pairs of the tiles that are counted where no peaks are given."""

MIN_TILE_SHARE = 0.005
"""Tiles with a fragment in a smaller share of the cells are left out."""

NUCLEOSOME = (147, 294)
"""Lengths in base pairs from which on fragments span a nucleosome, and two."""

_TSS_CENTRE, _TSS_FLANK, _TSS_REACH = 50, 100, 2000

_ROWS = 2_000_000  # lines that are in memory at a time
_SAMPLE = 300_000  # fragments by which the genome build is told
_BGZF_END = bytes.fromhex("1f8b08040000000000ff0600424302001b0003000000000000000000")


def _check_end(path: Path, name: str) -> None:
    """A bgzip file ends with an empty block; without it, it was cut at the end of another one and reads fine."""
    start = io.beginning(path, 18)
    if start[:4] == b"\x1f\x8b\x08\x04" and start[12:14] == b"BC":
        with path.open("rb") as handle:
            handle.seek(0, 2)
            handle.seek(max(0, handle.tell() - len(_BGZF_END)))
            if handle.read() != _BGZF_END:
                raise InputError(f"{name}: the bgzip file is cut short (its end mark is missing); copy it again")


def _comments(path: Path, name: str) -> int:
    """Lines of comments before the first fragment."""
    with io.reading(name, "a fragments file"), io.open_text(path) as handle:
        return next((i for i, line in enumerate(handle) if not line.startswith("#")), 0)


def _pieces(path: Path, name: str) -> Iterator[pd.DataFrame]:
    """Chromosome, start, end and barcode of the fragments, some lines at a time, checked."""
    types: Any = {"chrom": "category", "start": str, "end": str, "barcode": "category"}
    compression: Any = "gzip" if io.beginning(path, 2) == b"\x1f\x8b" else None
    first = 0
    n_comments = _comments(path, name)
    try:
        reader = pd.read_csv(
            path,
            sep="\t",
            # Not `comment`: a "#" also stands within barcodes, between the sample's name and the cell's.
            skiprows=n_comments,
            header=None,
            usecols=[0, 1, 2, 3],
            names=["chrom", "start", "end", "barcode"],
            index_col=False,
            dtype=types,
            keep_default_na=False,
            compression=compression,
            chunksize=_ROWS,
            engine="c",
            quoting=3,
        )
        with reader:
            for piece in reader:
                yield _checked(piece, first, name)
                first += len(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as exc:
        raise InputError(
            f"{name}: the file is cut short or damaged after about {first:,} fragments ({exc}); copy it again"
        ) from exc
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, ValueError) as exc:
        text = str(exc).strip().splitlines()[0]
        raise InputError(
            f"{name}: not a fragments file ({text}); it has chromosome, start, end and barcode separated by tabs"
        ) from exc


def _checked(piece: pd.DataFrame, first: int, name: str) -> pd.DataFrame:
    """A piece with numbers for numbers."""
    start = pd.to_numeric(piece["start"], errors="coerce", downcast="integer")
    end = pd.to_numeric(piece["end"], errors="coerce", downcast="integer")
    whole = (start % 1 == 0) & (end % 1 == 0)  # False where one is no number
    wrong = (~whole | (piece["barcode"] == "") | (piece["chrom"] == "")).to_numpy()
    problem = "has no chromosome, whole start and end and barcode; the line is damaged, or the file cut short"
    if not wrong.any():
        wrong = ((end <= start) | (start < 0)).to_numpy()
        problem = "ends before it starts; correct or remove it"
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        line = " ".join(str(v) for v in piece.iloc[at])
        raise InputError(
            f"{name}: fragment {first + at + 1:,} ({line[:80]!r}) {problem} ({int(wrong.sum()):,} of them)"
        )
    return piece.assign(start=start.to_numpy(np.int64), end=end.to_numpy(np.int64))


def _survey(path: Path, name: str) -> tuple[pd.Series, pd.DataFrame, pd.Series]:
    """First reading: fragments of each barcode, a sample of fragments, and the furthest end on each chromosome."""
    counts: dict[str, int] = {}
    furthest: dict[str, int] = {}
    samples: list[pd.DataFrame] = []
    for number, piece in enumerate(_pieces(path, name)):
        n = np.bincount(piece["barcode"].cat.codes, minlength=len(piece["barcode"].cat.categories))
        for barcode, more in zip(piece["barcode"].cat.categories, n):
            counts[barcode] = counts.get(barcode, 0) + int(more)
        for chrom, end in piece.groupby("chrom", observed=True)["end"].max().items():
            furthest[str(chrom)] = max(furthest.get(str(chrom), 0), int(end))
        # From each piece a part, or a sorted file would be judged by its first chromosome.
        step = 1 if len(piece) <= _SAMPLE else len(piece) // (_SAMPLE // 10)
        part = piece[["chrom", "start", "end"]].iloc[::step]
        samples.append(part.assign(chrom=part["chrom"].astype(str)))
        if number and number % 50 == 0:
            samples = [pd.concat(samples).iloc[::2]]
    if not counts:
        raise InputError(f"{name}: no fragments in it; copy or make it again")
    return pd.Series(counts), pd.concat(samples, ignore_index=True), pd.Series(furthest)


def read_cells(path: str | Path) -> pd.DataFrame:
    """Annotation of the cells to take: ``obs`` of an h5ad, or a table with their barcodes in the first column.

    Raises
    ------
    InputError
        Missing, empty, damaged, or the same cell twice.
    """
    path = Path(path)
    if io.beginning(path, 8) == io.HDF5_MAGIC:
        import h5py
        from anndata.io import read_elem

        with io.reading(str(path), "h5ad"), h5py.File(path) as file:
            obs: pd.DataFrame = read_elem(file["obs"])
    else:
        with io.reading(str(path), "a table of cells"), io.open_text(path) as handle:
            lines = [line.rstrip("\r\n") for line in handle if line.strip()]
            if not lines:
                raise InputError(f"{path}: no cells in it; give a barcode a line")
            # R quotes by default, and a comma within quotes parts nothing
            rows = list(csv.reader(lines, delimiter="\t" if "\t" in lines[0] else ","))
        has_header = io.BARCODE.fullmatch(rows[0][0]) is None and (
            len(rows[0]) > 1 or rows[0][0].lower() in ("barcode", "barcodes", "cell", "cells", "cell_id", "")
        )
        header = rows[0] if has_header else ["cell", *(f"column_{i}" for i in range(2, len(rows[0]) + 1))]
        body = rows[1:] if has_header else rows
        short = [row[0] for row in body if len(row) != len(header)]
        if short:
            raise InputError(f"{path}: the lines of {io.some(short)} have not the {len(header)} columns of the others")
        obs = pd.DataFrame(body, columns=header, dtype=object).set_index(header[0])
    obs.index = pd.Index(np.array([str(n) for n in obs.index], dtype=object))
    if len(obs) == 0:
        raise InputError(f"{path}: no cells in it; give a barcode a line")
    if not obs.index.is_unique:
        again = list(obs.index[obs.index.duplicated()].unique())
        raise InputError(f"{path}: {len(again):,} cells are there twice ({io.some(again)}); keep one line of each")
    return obs


def _bare(names: Sequence[str], suffix: bool, prefix: bool) -> list[str]:
    """Barcodes without the number of the well (``-1``) behind them and the name of the sample in front of them."""
    bare = pd.Series(list(names), dtype=object)
    if prefix:
        bare = bare.str.replace(r"^.*[#_:/|]", "", regex=True)
    if suffix:
        bare = bare.str.replace(r"[-_.]\d+$", "", regex=True)
    return list(bare)


def match_cells(cells: Sequence[str], barcodes: Sequence[str], name: str) -> tuple[dict[str, str], list[str]]:
    """Which barcode of a file is which cell of a list.

    Tried in this order: as they are; without ``-1`` behind them; without a sample's name in front of the cells; both.
    The first way that finds the most cells is taken. A barcode that would be several cells is none of them.

    Parameters
    ----------
    cells, barcodes
        Names in the list and in the file.
    name
        What to call the file in messages.

    Returns
    -------
    Barcode to cell, and what was noticed, in sentences.

    Raises
    ------
    InputError
        No barcode is in the list.
    """
    best: dict[str, str] = {}
    told = ""
    for suffix, prefix, text in (
        (False, False, ""),
        (True, False, "without the number behind the barcodes"),
        (False, True, "without the name in front of the cells' barcodes"),
        (True, True, "without the names in front of and the numbers behind the barcodes"),
    ):
        own = pd.Series(list(cells), index=_bare(cells, suffix, prefix))
        own = own[~own.index.duplicated(keep=False)]
        there = pd.Series(list(barcodes), index=_bare(barcodes, suffix, False))
        there = there[~there.index.duplicated(keep=False)]
        shared = own.index.intersection(there.index)
        if len(shared) > len(best):
            best, told = dict(zip(there[shared], own[shared])), text
        if len(best) == len(cells):
            break
    if not best:
        raise InputError(
            f"{name}: none of its barcodes ({io.some(list(barcodes), 3)}) is one of the given cells "
            f"({io.some(list(cells), 3)}), with or without '-1' and a sample's name; give the list of the same sample"
        )
    messages = [f"{name}: {len(best):,} of the {len(cells):,} given cells were found{', ' + told if told else ''}."]
    return best, messages


def _tiles(furthest: pd.Series) -> pd.DataFrame:
    """Tiles that cover the chromosomes as far as there are fragments."""
    n = np.ceil(furthest.to_numpy() / TILE).astype(np.int64)
    number = np.arange(n.sum()) - np.repeat(np.cumsum(n) - n, n)
    chrom = np.repeat(furthest.index.to_numpy(dtype=object), n)
    return pd.DataFrame({"chrom": chrom, "start": number * TILE, "end": (number + 1) * TILE})


class _Counter:
    """Sums sparse matrices; the number of additions of large ones stays small."""

    def __init__(self) -> None:
        self._parts: list[sp.csr_matrix] = []

    def add(self, part: sp.csr_matrix) -> None:
        while self._parts and self._parts[-1].nnz <= part.nnz:
            part = part + self._parts.pop()
        self._parts.append(part)

    def total(self) -> sp.csr_matrix:
        total = self._parts.pop()
        while self._parts:
            total = total + self._parts.pop()
        return total


def _count_piece(piece: pd.DataFrame, cell: np.ndarray, peaks: pd.DataFrame, n_cells: int) -> sp.csr_matrix:
    """Fragments of a piece with an end in a peak, each once a peak: cells x peaks."""
    places = peaks.groupby("chrom", sort=False).indices
    rows: list[Any] = [np.zeros(0, np.int64)]
    columns: list[Any] = [np.zeros(0, np.int64)]
    for chrom, own in piece.groupby("chrom", observed=True, sort=False).indices.items():
        there = places.get(str(chrom))
        if there is None:
            continue
        starts, ends = peaks["start"].to_numpy()[there], peaks["end"].to_numpy()[there]
        left, right = piece["start"].to_numpy()[own], piece["end"].to_numpy()[own] - 1
        fragment, peak = zip(overlapping(left, left + 1, starts, ends), overlapping(right, right + 1, starts, ends))
        # Both ends in one peak are one fragment.
        key = np.unique(np.concatenate(fragment) * len(there) + np.concatenate(peak))
        rows.append(cell[own[key // len(there)]])
        columns.append(there[key % len(there)])
    row, column = np.concatenate(rows), np.concatenate(columns)
    return sp.csr_matrix((np.ones(len(row), np.float32), (row, column)), shape=(n_cells, len(peaks)))


class _Quality:
    """Counts behind the measures of quality of each cell."""

    def __init__(self, n_cells: int, genes: pd.DataFrame) -> None:
        self.n_cells = n_cells
        self.free, self.mono, self.centre, self.flank = (np.zeros(n_cells, np.int64) for _ in range(4))
        self.tss = {c: np.sort(own.unique()) for c, own in genes.groupby("chrom", sort=False)["tss"]}

    def add(self, piece: pd.DataFrame, cell: np.ndarray) -> None:
        length = (piece["end"] - piece["start"]).to_numpy()
        self.free += np.bincount(cell[length < NUCLEOSOME[0]], minlength=self.n_cells)
        self.mono += np.bincount(cell[(length >= NUCLEOSOME[0]) & (length < NUCLEOSOME[1])], minlength=self.n_cells)
        for chrom, own in piece.groupby("chrom", observed=True, sort=False).indices.items():
            tss = self.tss.get(str(chrom))
            if tss is None:
                continue
            for ends in (piece["start"].to_numpy()[own], piece["end"].to_numpy()[own] - 1):
                for total, low, high in (
                    (self.centre, -_TSS_CENTRE, _TSS_CENTRE + 1),
                    (self.flank, -_TSS_REACH, -_TSS_REACH + _TSS_FLANK),
                    (self.flank, _TSS_REACH - _TSS_FLANK + 1, _TSS_REACH + 1),
                ):
                    # For how many starts an end lies from `low` up to before `high` behind them.
                    n = np.searchsorted(tss, ends - low, side="right") - np.searchsorted(tss, ends - high, side="right")
                    total += np.bincount(cell[own], weights=n, minlength=self.n_cells).astype(np.int64)

    def columns(self, n_fragments: np.ndarray) -> pd.DataFrame:
        """``n_fragments``, ``tss_enrichment`` and ``nucleosome_signal`` of each cell."""
        # Few cells have enough ends in the flanks to tell: half of the estimate comes from all cells together.
        pooled = self.flank.sum() / max(n_fragments.sum(), 1) * n_fragments
        background = (self.flank + pooled) / 2 / (2 * _TSS_FLANK)
        centre = self.centre / (2 * _TSS_CENTRE + 1)
        enrichment = np.divide(centre, background, out=np.zeros(self.n_cells), where=background > 0)
        return pd.DataFrame(
            {
                "n_fragments": n_fragments.astype(np.int64),
                "tss_enrichment": enrichment.astype(np.float32),
                "nucleosome_signal": (self.mono / np.maximum(self.free, 1)).astype(np.float32),
            }
        )


def read_fragments(
    path: str | Path,
    genes: pd.DataFrame,
    peaks: pd.DataFrame | None = None,
    cells: pd.DataFrame | None = None,
    min_fragments: int = MIN_FRAGMENTS,
    check_build: bool = True,
    name: str | None = None,
) -> AnnData:
    """Counts of peaks, and measures of quality, from a fragments file.

    The file is read twice from front to end, in pieces: it needs no order and no index.

    Parameters
    ----------
    path
        Chromosome, start, end, barcode (and more), tab-separated; gzip, bgzip or plain.
    genes
        From :func:`scmodal.genes.read_genes`.
    peaks
        ``chrom``, ``start``, ``end``; default tiles of :data:`TILE` base pairs, without those that are open in fewer
        than :data:`MIN_TILE_SHARE` of the cells.
    cells
        Annotation of the cells to take, see :func:`match_cells`; default the barcodes with `min_fragments`.
    min_fragments
        Without `cells`.
    check_build
        Refuse genes of another genome build.
    name
        What to call the file in messages; default its path.

    Returns
    -------
    AnnData
        ``layers["counts"]`` and ``X``: fragments with an end in the peak, cells x peaks, float32 CSR. ``var_names`` are
        ``chrom:start-end``. ``obs``: the annotation, and ``n_fragments``, ``tss_enrichment`` (ends within 50 bp of a
        transcription start, per base pair, over those 1.9 to 2 kb away, half of these from the cell and half from the
        mean of all) and ``nucleosome_signal`` (fragments of 147 to 293 bp over shorter ones).

    Raises
    ------
    InputError
        Damaged or cut short, no barcode of a cell, another genome build, no fragment in a peak.
    """
    from anndata import AnnData

    path = Path(path)
    name = name or str(path)
    _check_end(path, name)
    per_barcode, sample, furthest = _survey(path, name)
    messages = [f"{name}: {int(per_barcode.sum()):,} fragments of {len(per_barcode):,} barcodes."]
    _, said = match_genome(
        sample["chrom"].to_numpy(),
        sample["start"].to_numpy(),
        sample["end"].to_numpy(),
        genes,
        name,
        "fragments",
        check_build,
    )
    messages += said
    if cells is None:
        enough = per_barcode[per_barcode >= min_fragments]
        if len(enough) == 0:
            raise InputError(
                f"{name}: no barcode has {min_fragments:,} fragments (the most: {int(per_barcode.max()):,}); give a "
                "list of cells (--cells), or lower --min-fragments (of the pipeline: --min_fragments)"
            )
        obs = pd.DataFrame(index=pd.Index(np.array(sorted(enough.index), dtype=object)))
        cell_of = {barcode: barcode for barcode in obs.index}
        messages.append(f"{name}: {len(obs):,} barcodes with {min_fragments:,} fragments or more are taken for cells.")
    else:
        cell_of, said = match_cells(list(cells.index), list(per_barcode.index), name)
        messages += said
        found = set(cell_of.values())
        obs = cells[[n in found for n in cells.index]].copy()
    renamed = fit_names([str(c) for c in furthest.index], set(genes["chrom"]))
    furthest.index = pd.Index([renamed.get(str(c), str(c)) for c in furthest.index], dtype=object)
    tiled = peaks is None
    if peaks is None:
        peaks = _tiles(furthest)
    else:
        own, said = match_genome(
            peaks["chrom"].to_numpy(),
            peaks["start"].to_numpy(),
            peaks["end"].to_numpy(),
            genes,
            "the given peaks",
            "peaks",
            check_build,
        )
        peaks = peaks.assign(chrom=own)
        messages += said
    counts, quality = _count(path, name, renamed, cell_of, obs.index, peaks, genes)
    if tiled:
        open_in = np.bincount(counts.indices, minlength=counts.shape[1])
        kept = np.flatnonzero(open_in >= max(1, MIN_TILE_SHARE * len(obs)))
        messages.append(
            f"{name}: no peaks were given: {len(kept):,} tiles of {TILE:,} bp with fragments in at least "
            f"{MIN_TILE_SHARE:.1%} of the cells are counted."
        )
        counts, peaks = counts[:, kept], peaks.iloc[kept]
    if counts.nnz == 0:
        raise InputError(f"{name}: no fragment of a cell lies in a peak; give the peaks of these data")
    obs = obs.drop(columns=[c for c in quality.columns if c in obs])
    for column in quality.columns:
        obs[column] = quality[column].to_numpy()
    adata = AnnData(X=counts, obs=obs, var=pd.DataFrame(index=pd.Index(peak_names(peaks))), layers={"counts": counts})
    adata.uns["scmodal"] = {
        "modality": "atac",
        "counts_from": "fragments",
        "messages": messages,
        "source": [path.name],
    }
    return adata


def _count(
    path: Path,
    name: str,
    renamed: dict[str, str],
    cell_of: dict[str, str],
    cells: Collection[str],
    peaks: pd.DataFrame,
    genes: pd.DataFrame,
) -> tuple[sp.csr_matrix, pd.DataFrame]:
    """Second reading: counts (cells x peaks) and quality of the cells."""
    position = {cell: i for i, cell in enumerate(cells)}
    quality = _Quality(len(position), genes)
    counter = _Counter()
    n_fragments = np.zeros(len(position), np.int64)
    for piece in _pieces(path, name):
        categories = piece["barcode"].cat.categories
        of_category = np.array([position[cell_of[b]] if b in cell_of else -1 for b in categories], dtype=np.int64)
        cell = of_category[piece["barcode"].cat.codes.to_numpy()]
        own = piece[cell >= 0].reset_index(drop=True)
        cell = cell[cell >= 0]
        own["chrom"] = own["chrom"].cat.rename_categories(
            [renamed.get(str(c), str(c)) for c in own["chrom"].cat.categories]
        )
        n_fragments += np.bincount(cell, minlength=len(position))
        quality.add(own, cell)
        counter.add(_count_piece(own, cell, peaks, len(position)))
    counts = counter.total()
    counts.sort_indices()
    return counts, quality.columns(n_fragments)
