"""Where the genes are: a BED file or a GTF in, one row a gene out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from . import io
from .contracts import InputError

GENE_COLUMNS = ("chrom", "start", "end", "gene", "gene_id", "strand", "tss")
"""Columns of a table of genes. ``start`` and ``end`` are 0-based and half-open, as in BED; ``tss`` is the 0-based
position of the first transcribed base: ``start`` on the + strand, ``end - 1`` on the - strand."""

LONGEST = 5_000_000
"""Base pairs: twice the longest gene known; what is longer is a slip of the file."""

_SHOWN = 5  # flawed lines quoted in a message
_NOT_MAIN = re.compile(r"[_.]|random|^(?:chr)?Un|^[A-Z]{2}\d{6}|^(?:GL|KI|JH|KZ|KN|KQ)\d+", re.IGNORECASE)
_ATTRIBUTE = re.compile(r'(?:^|;)\s*([A-Za-z_]\w*)(?:\s+"([^"]*)"|\s*=\s*"?([^";]*)"?|\s+([^";\s]+))')
_NAME_KEYS = ("gene_name", "gene", "gene_symbol", "Name")


def is_main_chromosome(name: str) -> bool:
    """Whether a contig is a whole chromosome (``chr1``, ``X``, ``2L``) and not an alternate, fix or unplaced piece."""
    return not _NOT_MAIN.search(name)


@dataclass
class _Flaws:
    """Lines that are wrong, by what is wrong with them."""

    lines: dict[str, list[str]] = field(default_factory=dict)

    def add(self, what: str, line: int, text: str = "") -> None:
        self.lines.setdefault(what, []).append(f"line {line}" + (f" ({text})" if text else ""))

    def problems(self, name: str) -> list[str]:
        found = []
        for what, lines in self.lines.items():
            more = f" and {len(lines) - _SHOWN:,} lines more" if len(lines) > _SHOWN else ""
            found.append(f"{name}: {', '.join(lines[:_SHOWN])}{more}: {what}")
        return found


@dataclass
class _Rows:
    """What was read of every gene, before genes with the same name are brought together."""

    chrom: list[str] = field(default_factory=list)
    start: list[int] = field(default_factory=list)
    end: list[int] = field(default_factory=list)
    gene: list[str] = field(default_factory=list)
    gene_id: list[str] = field(default_factory=list)
    strand: list[str] = field(default_factory=list)

    def add(self, chrom: str, start: int, end: int, gene: str, gene_id: str, strand: str) -> None:
        self.chrom.append(chrom)
        self.start.append(start)
        self.end.append(end)
        self.gene.append(gene)
        self.gene_id.append(gene_id)
        self.strand.append(strand)

    def frame(self) -> pd.DataFrame:
        text = ("chrom", "gene", "gene_id", "strand")
        columns = {key: np.array(value, dtype=object if key in text else np.int64) for key, value in vars(self).items()}
        return pd.DataFrame(columns)


def _lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Numbered lines with something in them; comments and the lines for a genome browser are left out."""
    with io.reading(name, "a table of genes"), io.open_text(path) as handle:
        for number, line in enumerate(handle, start=1):
            if line.strip() and not line.startswith(("#", "track", "browser")):
                yield number, line.rstrip("\r\n")


def _position(text: str) -> int | None:
    return int(text) if text.isdigit() else None


def _place(
    flaws: _Flaws, number: int, start: int | None, end: int | None, strand: str, texts: Sequence[str], first: int
) -> tuple[int, int] | None:
    """Start and end of a gene, None where they are none; `first` is the base that the format counts from."""
    if start is None or end is None:
        flaws.add("start and end must be whole numbers, not negative", number, " ".join(texts))
        return None
    if end <= start:
        if end == start and first == 0:
            flaws.add("the gene has no length; correct its end", number, " ".join(texts))
        else:
            flaws.add("the end is before the start; swap the two, or correct them", number, " ".join(texts))
        return None
    if strand not in ("+", "-"):
        flaws.add("the strand must be + or - (it says where a gene starts)", number, repr(strand))
        return None
    return start, end


def _read_bed(path: Path, name: str) -> _Rows:
    """BED: chrom, start, end, symbol, strand; or with a score before the strand, as in BED6."""
    rows, flaws = _Rows(), _Flaws()
    column: int | None = None  # of the strand
    width = 0
    for number, line in _lines(path, name):
        fields = line.split("\t") if "\t" in line else line.split()
        if column is None and not rows.chrom and len(fields) > 2 and fields[1].lower() in ("start", "chromstart"):
            continue  # a header
        if column is None:
            width = len(fields)
            if width >= 6 and fields[5] in ("+", "-", "."):
                column = 5
            elif width == 5 and fields[4] in ("+", "-", "."):
                column = 4
            else:
                raise InputError(
                    f"{name}: line {number} has {width} columns ({line[:80]!r}), which are not those of a table of "
                    "genes; give chrom, start, end, symbol and strand separated by tabs (BED6, with a score before the "
                    "strand, is fine), or a GTF"
                )
        if len(fields) < column + 1:
            flaws.add(f"there are fewer columns than in the lines before ({width}); complete them", number)
            continue
        chrom, symbol, strand = fields[0].strip(), fields[3].strip(), fields[column].strip()
        start, end = _position(fields[1].strip()), _position(fields[2].strip())
        place = _place(flaws, number, start, end, strand, fields[:4], 0)
        if place is None:
            continue
        if not chrom or not symbol or symbol == ".":
            flaws.add("the chromosome or the gene's symbol is missing; fill it in or remove the line", number)
            continue
        rows.add(chrom, *place, symbol, "", strand)
    if flaws.lines:
        raise InputError(flaws.problems(name))
    return rows


def _attributes(text: str) -> dict[str, str]:
    """Attributes of a GTF or GFF3 line; the first value of a name that is there twice."""
    found: dict[str, str] = {}
    for key, quoted, assigned, bare in _ATTRIBUTE.findall(text):
        found.setdefault(key, (quoted or assigned or bare).strip())
    return found


def _read_gtf(path: Path, name: str, messages: list[str]) -> _Rows:
    """The genes of a GTF (or GFF3); where there is no line of a gene, the span of its transcripts or exons."""
    kept: dict[str, dict[tuple[str, str, str, str], list[int]]] = {"gene": {}, "transcript": {}, "exon": {}}
    flaws = _Flaws()
    unnamed: set[str] = set()
    n_lines = n_named = 0
    best: str | None = None
    ranks = list(kept)
    for number, line in _lines(path, name):
        n_lines += 1
        fields = line.split("\t")
        if len(fields) < 9:
            flaws.add("a GTF has 9 columns separated by tabs; write the file again", number, f"{len(fields)} columns")
            continue
        kind = {"mRNA": "transcript"}.get(fields[2], fields[2])
        if kind not in kept or (best is not None and ranks.index(kind) > ranks.index(best)):
            continue
        first, end = _position(fields[3]), _position(fields[4])
        # Positions of a GTF count from 1 and the last one belongs to the gene.
        start = None if first is None else first - 1
        if start == -1:
            flaws.add("positions of a GTF count from 1; correct the 0", number)
            continue
        place = _place(flaws, number, start, end, fields[6], [fields[0], fields[3], fields[4]], 1)
        if place is None:
            continue
        values = _attributes(fields[8])
        symbol = next((values[key] for key in _NAME_KEYS if values.get(key)), "")
        gene_id = values.get("gene_id") or values.get("ID", "").removeprefix("gene:")
        if not symbol:
            unnamed.add(gene_id or f"line {number}")
            if not gene_id:
                continue
        n_named += bool(symbol)
        if best is None or ranks.index(kind) < ranks.index(best):
            best = kind
        spans = kept[kind].setdefault((fields[0], symbol or gene_id, gene_id, fields[6]), list(place))
        spans[0], spans[1] = min(spans[0], place[0]), max(spans[1], place[1])
    if flaws.lines:
        raise InputError(flaws.problems(name))
    rows = _Rows()
    if best is not None:
        for (chrom, symbol, gene_id, strand), (start, end) in kept[best].items():
            rows.add(chrom, start, end, symbol, gene_id, strand)
    elif n_lines:
        what = "gene_name" if unnamed else "gene, transcript or exon lines"
        raise InputError(f"{name}: a GTF without {what}; give the annotation's full GTF, or a BED file of genes")
    if unnamed and not n_named:
        raise InputError(
            f"{name}: no gene has a gene_name ({io.some(sorted(unnamed))}); use a GTF with gene_name (GENCODE's and "
            "Ensembl's have it), or a BED file with chrom, start, end, symbol and strand"
        )
    if unnamed:
        messages.append(
            f"{len(unnamed):,} genes of {name} have no gene_name and go by their id ({io.some(sorted(unnamed), 3)})."
        )
    if best != "gene" and best is not None:
        messages.append(f"{name} has no gene lines: a gene is the span of its {best}s.")
    return rows


def _one_place(frame: pd.DataFrame, name: str, messages: list[str]) -> pd.DataFrame:
    """One row a symbol: on the main chromosome; overlapping rows merged, else the longest."""
    frame = frame.reset_index(drop=True)
    contigs = frame.groupby("gene", sort=False)["chrom"].nunique()
    several = contigs.index[contigs > 1]
    if len(several):
        main = frame["chrom"].map({c: is_main_chromosome(c) for c in frame["chrom"].unique()}).to_numpy(dtype=bool)
        has_main = frame.loc[main, "gene"].unique()
        keep = main | ~frame["gene"].isin(has_main).to_numpy()
        frame = frame[keep]
        messages.append(
            f"{len(several):,} genes of {name} are on several contigs; the main chromosome is used, else the longest "
            f"place ({io.some(list(several), 3)})."
        )
    repeated = frame["gene"].duplicated(keep=False)
    if not repeated.any():
        return frame
    twice = frame[repeated].sort_values(["gene", "chrom", "strand", "start", "end"], kind="stable")
    # A new place begins where a row starts behind everything before it of the same gene, chromosome and strand.
    key = twice["gene"] + "\t" + twice["chrom"] + "\t" + twice["strand"]
    furthest = twice.groupby(key, sort=False)["end"].cummax()
    new = (key != key.shift()) | (twice["start"] >= furthest.shift(fill_value=0))
    merged = twice.groupby(new.cumsum().to_numpy(), sort=False).agg(
        chrom=("chrom", "first"),
        start=("start", "min"),
        end=("end", "max"),
        gene=("gene", "first"),
        gene_id=("gene_id", "first"),
        strand=("strand", "first"),
    )
    merged["length"] = merged["end"] - merged["start"]
    # X before Y: genes of the pseudoautosomal region are on both.
    merged = merged.sort_values(["gene", "length", "chrom", "start"], ascending=[True, False, True, True])
    chosen = merged.drop_duplicates("gene")
    apart = merged.loc[merged["gene"].duplicated(), "gene"].nunique()
    names = list(dict.fromkeys(twice["gene"]))
    messages.append(
        f"{len(names):,} symbols are in {name} more than once ({io.some(names, 3)}): overlapping places were merged"
        + (f"; of {apart:,} genes in places apart from each other the longest is used." if apart else ".")
    )
    return pd.concat([frame[~repeated], chosen.drop(columns="length")])


def read_genes(path: str | Path) -> pd.DataFrame:
    """Read where the genes are.

    Parameters
    ----------
    path
        A BED file (``chrom start end symbol strand``, or BED6 with a score before the strand; no header needed) or a
        GTF; gzipped or not.

    Returns
    -------
    pandas.DataFrame
        One row a gene with the columns of :data:`GENE_COLUMNS`, sorted by chromosome and start: ``start`` and ``end``
        in base pairs, 0-based and half-open; ``tss`` the 0-based first transcribed base; ``gene`` unique;
        ``gene_id`` ``""`` where it is not known. ``attrs["messages"]`` lists what was noticed, in sentences.

    Raises
    ------
    InputError
        Not a table of genes, empty, a GTF without gene_name, an end before its start: all of it at once, with lines.
    """
    path = Path(path)
    name = str(path)
    if path.is_dir():
        raise InputError(f"{name}: is a folder, not a table of genes; give a BED file or a GTF")
    messages: list[str] = []
    first = next(_lines(path, name), None)
    if first is None:
        raise InputError(f"{name}: no genes in it; give a BED file (chrom, start, end, symbol, strand) or a GTF")
    fields = first[1].split("\t")
    is_gtf = len(fields) == 9 and not fields[1].isdigit() and fields[3].isdigit() and fields[4].isdigit()
    rows = _read_gtf(path, name, messages) if is_gtf else _read_bed(path, name)
    frame = rows.frame()
    if frame.empty:
        raise InputError(f"{name}: no genes in it; give a BED file (chrom, start, end, symbol, strand) or a GTF")
    long = (frame["end"] - frame["start"] > LONGEST).to_numpy()
    if long.any():
        listed = list(frame["gene"][long])
        if long.all():
            raise InputError(
                f"{name}: every gene is longer than {LONGEST:,} bp ({io.some(listed)}); correct their ends"
            )
        messages.append(
            f"{len(listed):,} places of genes in {name} are longer than {LONGEST:,} bp, as no gene is, and left out "
            f"({io.some(list(dict.fromkeys(listed)), 3)})."
        )
        frame = frame[~long]
    frame = _one_place(frame, name, messages)
    frame = frame.sort_values(["chrom", "start", "end", "gene"], kind="stable").reset_index(drop=True)
    frame["tss"] = np.where(frame["strand"] == "+", frame["start"], frame["end"] - 1).astype(np.int64)
    frame = frame[list(GENE_COLUMNS)]
    frame.attrs["messages"] = messages
    return frame
