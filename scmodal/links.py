"""Which feature of one modality varies with which feature of the next.

A *link* is a pair of features that are said to vary together, such as the protein CD20 and the gene *MS4A1*. Without a
table of the user's own, links come from the antigen table in ``data/antigens.tsv`` (public nomenclature, human and
mouse) for proteins and cytometry channels, and from equal feature names for everything else.

Names of antibodies come in many spellings: :func:`normalise_antigen` takes off what panels, vendors, R and mass
cytometers add to them. Only additions that cannot be part of a name are taken off blindly; all others (``.1``, clone
names, fluorochromes) only where what remains is a name the table knows, so that ``CD3.1`` is CD3 but never CD31.
"""

from __future__ import annotations

import difflib
import functools
import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData

from scmodal.contracts import InputError, canonical_modality, nearest
from scmodal.presets import TOPOLOGIES, pairs_of

COLUMNS = ["feature_a", "feature_b", "modality_a", "modality_b", "weight"]
"""Columns of a links table, in the order in which they are written."""

COVERAGE_COLUMNS = ["modality", "feature", "matched", "partner", "nearest", "note"]
"""Columns of the coverage report."""

MIN_LINKS = 3
"""Fewer links than this between two modalities cannot carry an integration."""

ISOTYPE = "isotype control"
"""What :func:`normalise_antigen` returns for an isotype control."""

SPECIES = ("human", "mouse")

_GENE_ID = r"ENS[A-Z]*G\d{6,}"
_ANTIBODY = frozenset({"protein", "cytometry"})
_GENES = frozenset({"rna", "atac"})

# --------------------------------------------------------------------------------------------------------------------
# spelling


_GREEK = str.maketrans(
    {"α": "a", "β": "b", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "κ": "k", "λ": "l", "μ": "m", "Α": "a", "Β": "b"}
)
_GREEK_WORDS = re.compile("alpha|beta|gamma|delta|epsilon|kappa|lambda")
_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])[^a-z0-9]+(?=[0-9])")
_PUNCTUATION = re.compile(r"[^a-z0-9-]|(?<![0-9])-|-(?![0-9])")


def _key(name: str) -> str:
    """Spelling without case, Greek letters and punctuation; a separator between two digits stays, as '-'."""
    if name.isascii():
        text = name.lower()
    else:
        text = unicodedata.normalize("NFKC", name).lower().translate(_GREEK)
    if not (text.isascii() and text.isalnum()):
        text = _PUNCTUATION.sub("", _BETWEEN_DIGITS.sub("-", text))
    return _GREEK_WORDS.sub(lambda m: m.group()[0], text)


_SEP = r"[\s_.\-:]"
_METALS = "La|Ce|Pr|Nd|Sm|Eu|Gd|Tb|Dy|Ho|Er|Tm|Yb|Lu|In|Pd|Rh|Ir|Pt|Bi|Xe|Ba|Ag|Os|Ru"
# Cadmium is in no case-insensitive pattern and never without 'Di': its isotopes 106 to 116 read like CD106 to CD116.
_ISOTOPE = (
    rf"(?:(?:{_METALS})\d{{3}}|Y89|I127|Cd1\d\dD[id]|\d{{3}}(?:{_METALS}|{_METALS.lower()}|{_METALS.upper()}|Cd|I)|89Y)"
    r"(?:D[id])?"
)
_SPECIES_WORD = r"(?:human|mouse|rat|hu|ms|rt|mu|mo)"

# Taken off wherever they stand, because none can be part of the name of an antigen.
_ALWAYS = [
    re.compile(rf"{_SEP}*\(?total{_SEP}?seq[\s_.\-]*[a-d]?\)?$", re.I),
    re.compile(rf"{_SEP}+total[a-d]$", re.I),
    re.compile(rf"^total{_SEP}?seq[\s_.\-]*[a-d]?{_SEP}+", re.I),
    re.compile(rf"^(?:adt|prot|protein|antibody|ab|cite|anti){_SEP}+", re.I),
    re.compile(rf"^(?:{_SPECIES_WORD}[/&,\s]*)+{_SEP}+", re.I),
    re.compile(rf"^(?:{_SPECIES_WORD}[/&,]*)+\s+", re.I),
    re.compile(rf"{_SEP}+\(?(?:human|mouse)\)?$", re.I),
    re.compile(rf"{_SEP}+[a-d]\d{{4}}$", re.I),
    re.compile(rf"^[a-d]\d{{4}}{_SEP}+", re.I),
    re.compile(rf"{_SEP}+[acgt]{{10,}}$", re.I),
    re.compile(rf"^X?\(?{_ISOTOPE}\)?(?:D[id])?{_SEP}+"),
    re.compile(rf"(?:{_SEP}*\({_ISOTOPE}\)|{_SEP}+{_ISOTOPE}){_SEP}*(?:D[id])?{_SEP}*$"),
    re.compile(r"^[\s_\-:.]+|[\s_\-:.]+$"),
    # the last, so that 'ADT_Prion protein' is looked up as 'Prion protein' first
    re.compile(rf"{_SEP}+(?:adt|prot|protein|antibody)$", re.I),
]

_FLUOROCHROMES = re.compile(
    r"^(?:fitc|pe|apc|percp|pacificblue|pacificorange|v\d{3}|bv\d{3}|bb\d{3}|buv\d{3}|rb\d{3}|ry\d{3}|af\d{3}"
    r"|alexa(?:fluor)?\d{3}|efluor\d{3}|super?bright\d{3}|sb\d{3}|qd\d{3}|texasred|pedazzle\d*|krome?orange"
    r"|(?:pe|apc|percp)(?:cy|fire|vio|h|r|ef|efluor|cf|alexafluor|af)?[\d-]*|biotin|spark\w*|cf\d{3})$"
)
# What follows a name and makes another molecule of it: CD40-L, IL7 receptor, TCR-Vb8, STAT3-pY705.
_NOT_A_CLONE = re.compile(
    r"^(?:l|lg|ligand|r|r[a-ei]*\d*|receptor.*|like.*|v[abgdαβγδ]?\d.*|p[sty]\d+.*|phospho.*|.*chain.*|cd\d+.*"
    r"|alpha.*|beta.*|gamma.*|delta.*|[abgd]\d*|[αβγδ]\d*|dr|dp|dq|neg.*|pos.*|fc|type.*|subunit.*|and.*|or.*)$",
    re.I,
)
# Spellings that stand for one member of a family on some panels, and for the family's name on others: 'Cadherin-6' is
# not 'Cadherin' with a duplicate's number.
_FAMILY_NAMES = frozenset({"cadherin", "folate", "folatereceptor", "tcr", "vegf", "fcri", "ly49"})

_ISOTYPE_KEY = re.compile(
    r"isotype|^(?:anti)?(?:mouse|ms|rat|rt|hu|human|armenian|armen|arm|syrian|hamster|ham|ah|rabbit|goat|m|r)*igg[123]"
    r"|(?:^|adt)(?:rat|armenian|armen|syrian|hamster|ham|rabbit|goat)+ig[gma]|^(?:mouse|ms)igg"
    r"|^ig[gma].*(?:ctrl|control)|^(?:mopc-?\d+|mpc11|mpc-11|rtk\d{4}|htk888)"
)


def _is_isotype(name: str) -> bool:
    return _ISOTYPE_KEY.search(_key(name)) is not None


def _take_off(name: str) -> list[str]:
    """The name, then what is left of it each time something that is never part of a name is taken off."""
    stages = [name]
    changed = True
    while changed:
        changed = False
        for pattern in _ALWAYS:
            shorter = pattern.sub("", stages[-1], count=1)
            if shorter != stages[-1] and re.search(r"[^\W_]", shorter):
                stages.append(shorter)
                changed = True
                break
    return stages


def _clone_like(text: str) -> bool:
    """Whether what follows a name may be its clone, fluorochrome or number."""
    if not re.fullmatch(r"[A-Za-z0-9][\w./\- ]{0,24}", text) or _NOT_A_CLONE.match(text):
        return False
    return (
        any(c.isdigit() for c in text) or (text.isupper() and len(text) > 1) or bool(_FLUOROCHROMES.match(_key(text)))
    )


def _resolve(name: str, known: Callable[[str], str | None], depth: int = 3) -> str | None:
    """What `known` says of the name, or of what is left of it without its decorations; None if nothing does."""
    # A CD name carries no separator before a number of its own: CD158b.1 is CD158b once more, not CD158b1.
    duplicate = re.fullmatch(r"(?i)(cd\d+[a-z]{0,2})[._\-]\d", name)
    if duplicate and (found := known(duplicate[1])):
        return found
    if found := known(name):
        return found
    if depth == 0:
        return None
    stages = _take_off(name)
    if len(stages) > 1:
        return _resolve(stages[1], known, depth)
    for pattern in (r"[\s._\-]+\d{1,2}$", r"[\s_\-]+[AHW]$", r"[+]$"):
        shorter = re.sub(pattern, "", name)
        if shorter != name and _key(shorter) not in _FAMILY_NAMES and (found := _resolve(shorter, known, depth - 1)):
            return found
    bracket = re.fullmatch(r"(.*?)[\s_.\-]*[(\[]([^()\[\]]*)[)\]]?", name)
    if bracket and bracket[1]:
        found = _resolve(bracket[1], known, depth - 1) or _resolve(bracket[2], known, depth - 1)
        if found:
            return found
    for separator in reversed(list(re.finditer(r"[\s_.\-/,|]+", name))):
        left, right = name[: separator.start()], name[separator.end() :]
        if not left or not right:
            continue
        on_left, on_right = known(left), known(right)
        if on_left and on_right:
            return on_left if on_left == on_right else None
        if on_left and (_key(left) not in _FAMILY_NAMES or re.search(r"[A-Za-z].{2,}\d|\d.{2,}[A-Za-z]", right)):
            within = _resolve(right, known, depth - 1)
            if within == on_left or (within is None and _clone_like(right)):
                return on_left
        if on_right and (_FLUOROCHROMES.match(_key(left)) or re.fullmatch(r"\d{1,4}", left)):
            return on_right
    letter = re.match(r"(?:hu|ms|h|m)(?=[A-Z])|[hm](?=cd\d)", name)
    return _resolve(name[letter.end() :], known, depth - 1) if letter else None


# --------------------------------------------------------------------------------------------------------------------
# antigen table


@dataclass(frozen=True)
class _Antigen:
    name: str
    genes: Mapping[str, tuple[tuple[str, ...], ...]]
    """For each species the genes; each a tuple of its present symbol and former ones."""
    note: str

    @property
    def linkable(self) -> bool:
        return not self.note.startswith(("isoform", "modified form"))


@dataclass(frozen=True)
class _Table:
    antigens: dict[str, _Antigen]
    """Antigen by canonical name."""
    spellings: dict[str, str]
    """Canonical name by key of each spelling."""
    written: dict[str, str]
    """Spelling as written in the table by key."""


@functools.cache
def _table() -> _Table:
    text = resources.files("scmodal").joinpath("data", "antigens.tsv").read_text(encoding="utf-8")
    antigens: dict[str, _Antigen] = {}
    spellings: dict[str, str] = {}
    written: dict[str, str] = {}
    by_gene: dict[str, tuple[int, str]] = {}
    for line in text.splitlines()[1:]:
        name, aliases, human, mouse, note = line.split("\t")
        genes = {
            species: tuple(tuple(gene.split("/")) for gene in column.split(";") if gene)
            for species, column in zip(SPECIES, (human, mouse), strict=True)
        }
        antigen = _Antigen(name, genes, note)
        antigens[name] = antigen
        for spelling in [name, *filter(None, aliases.split(";"))]:
            spellings.setdefault(_key(spelling), name)
            written.setdefault(_key(spelling), spelling)
        if antigen.linkable:
            for of_species in genes.values():
                for symbols in of_species:
                    for symbol in symbols:
                        # a gene of several antigens stands for the one with fewest genes
                        entry = (len(of_species), name)
                        key = _key(symbol)
                        if key not in by_gene or entry[0] < by_gene[key][0]:
                            by_gene[key] = entry
    for key, (_, name) in by_gene.items():
        spellings.setdefault(key, name)
    return _Table(antigens, spellings, written)


def _canonical(name: str) -> str | None:
    return _table().spellings.get(_key(name))


def normalise_antigen(name: str) -> str:
    """Canonical name of an antigen, whatever the panel, the vendor, R or a mass cytometer made of it.

    Takes off TotalSeq suffixes and barcodes (``CD3_TotalSeqB``, ``ADT_CD3_A0034``), prefixes (``anti-human CD3``,
    ``Hu.CD3``, ``prot_CD3``), metals (``141Pr_CD3``, ``CD3(Nd142)Di``), clones (``CD3-UCHT1``, ``CD3 (UCHT1)``),
    fluorochromes (``CD3 FITC-A``), duplicate numbers (``CD3.1``) and understands names mangled by R (``HLA.DR``,
    ``integrin.7``), Greek letters and gene symbols (``MS4A1``).

    Parameters
    ----------
    name
        Name of a protein or of a cytometry channel.

    Returns
    -------
    str
        The antigen's name in the table; ``"isotype control"`` for isotype controls; a name that the table does not
        know comes back without the decorations that can never be part of a name. Applying the function twice
        changes nothing.
    """
    name = name.strip()
    plain = _take_off(name)[-1]
    if not _canonical(name) and (_is_isotype(name) or _is_isotype(plain)):
        return ISOTYPE
    return _resolve(name, _canonical) or plain


def antigen_genes(name: str, species: str) -> tuple[str, ...]:
    """Genes that encode an antigen (or, for a carbohydrate, the enzyme that makes it).

    Parameters
    ----------
    name
        Name of a protein in any spelling.
    species
        "human" or "mouse".

    Returns
    -------
    tuple of str
        Present gene symbols; empty for names the table does not know, for antigens without a gene in the species, and
        for splice isoforms and modified forms (CD45RA, CD45RO), whose level the gene's counts do not show.

    Raises
    ------
    InputError
        Unknown species.
    """
    _check_species(species)
    antigen = _table().antigens.get(normalise_antigen(name))
    if antigen is None or not antigen.linkable:
        return ()
    return tuple(symbols[0] for symbols in antigen.genes[species])


def known_genes(species: str) -> frozenset[str]:
    """All genes, by present and former symbols, that encode an antigen of the table.

    Parameters
    ----------
    species
        "human" or "mouse".

    Raises
    ------
    InputError
        Unknown species.
    """
    _check_species(species)
    return frozenset(
        symbol
        for antigen in _table().antigens.values()
        if antigen.linkable
        for symbols in antigen.genes[species]
        for symbol in symbols
    )


def guess_species(gene_names: Iterable[str]) -> str:
    """Species by the case of gene symbols: *CD3E* is human, *Cd3e* mouse.

    Parameters
    ----------
    gene_names
        Gene symbols or Ensembl identifiers.

    Returns
    -------
    str
        "human" or "mouse"; "human" where the names do not say.
    """
    human = mouse = 0
    for name in gene_names:
        if re.match(r"ENSMUSG\d", name):
            mouse += 1
        elif re.match(r"ENSG\d", name):
            human += 1
        elif re.fullmatch(r"[A-Z][a-z0-9]*[a-z][a-z0-9]*(?:[-.].*)?", name):
            mouse += 1
        elif re.fullmatch(r"[A-Z][A-Z0-9]+(?:[-.].*|orf\d+.*)?", name):
            human += 1
    return "mouse" if mouse > human else "human"


def _check_species(species: str) -> None:
    if species not in SPECIES:
        raise InputError(f"unknown species {species!r} (known: {', '.join(SPECIES)})")


@functools.lru_cache(maxsize=4096)
def _nearest_antigens(name: str, n: int = 3) -> tuple[str, ...]:
    """Up to `n` known spellings most alike to the name, of different antigens."""
    table = _table()
    found: dict[str, str] = {}
    for key in difflib.get_close_matches(_key(name), list(table.written), n=4 * n, cutoff=0.6):
        found.setdefault(table.spellings[key], table.written[key])
    return tuple(found.values())[:n]


# --------------------------------------------------------------------------------------------------------------------
# links


@dataclass
class LinkTable:
    """Links between features of two or more modalities.

    Attributes
    ----------
    frame
        One row a link, columns ``feature_a, feature_b, modality_a, modality_b, weight``. The modalities are empty in a
        user's table that does not name them; :func:`build_links` fills them in.
    messages
        What was noticed on the way.
    """

    frame: pd.DataFrame
    messages: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def read(cls, path: str | Path, modalities: Sequence[str] | None = None) -> LinkTable:
        """Read a links table (TSV or CSV).

        Parameters
        ----------
        path
            File with columns feature_a and feature_b, and optionally modality_a and modality_b (both or neither) and
            weight (1 where there is none).
        modalities
            Modalities of the data; links of other modalities are left out (said in ``messages``).

        Raises
        ------
        InputError
            No such file, not a table, missing columns, unknown modalities, empty names, weights that are no number or
            negative: all at once.
        """
        path = Path(path)
        if not path.is_file():
            raise InputError(f"{path}: no such links table")
        try:
            raw = _read_text_table(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, EOFError, OSError) as error:
            raise InputError(f"{path}: not a table that can be read ({error}); give a TSV or CSV") from error
        frame, messages = _check_table(raw, str(path))
        if modalities is not None:
            names = [canonical_modality(m) for m in modalities]
            other = ~frame["modality_a"].isin([*names, ""]) | ~frame["modality_b"].isin([*names, ""])
            if other.any():
                messages.append(f"{path}: {other.sum()} links of other modalities than {', '.join(names)} left out")
                frame = frame[~other].reset_index(drop=True)
        return cls(frame, messages)

    def write(self, path: str | Path) -> None:
        """Write the table as TSV (gzipped if the name ends in .gz)."""
        from scmodal.io import write_tsv

        write_tsv(self.frame[COLUMNS], Path(path))

    def between(self, modality_a: str, modality_b: str) -> pd.DataFrame:
        """Links of two modalities, turned so that feature_a is of the first.

        Parameters
        ----------
        modality_a, modality_b
            Modalities (aliases accepted).

        Returns
        -------
        DataFrame
            Columns as in `frame`; no rows where the two are not linked. A link that names no modalities comes in both
            orientations: keep those whose features are in the data, or let :func:`build_links` find out.
        """
        a, b = canonical_modality(modality_a), canonical_modality(modality_b)
        frame = self.frame
        unnamed = frame["modality_a"] == ""
        direct = frame[unnamed | ((frame["modality_a"] == a) & (frame["modality_b"] == b))]
        turned = frame[unnamed | ((frame["modality_a"] == b) & (frame["modality_b"] == a))]
        turned = turned.rename(columns={"feature_a": "feature_b", "feature_b": "feature_a"})
        both = pd.concat([direct[COLUMNS], turned[COLUMNS]], ignore_index=True)
        both["modality_a"], both["modality_b"] = a, b
        return both.drop_duplicates(["feature_a", "feature_b"], ignore_index=True)


def _read_text_table(path: Path) -> pd.DataFrame:
    def read(separator: str) -> pd.DataFrame:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")

    frame = read("\t")
    header = str(frame.columns[0])
    if frame.shape[1] == 1 and ("," in header or ";" in header):
        return read("," if "," in header else ";")
    return frame


def _check_table(raw: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """A user's table in our columns; InputError with every problem."""
    problems: list[str] = []
    raw = raw.rename(columns=lambda c: str(c).strip())
    for column in ("feature_a", "feature_b"):
        if column not in raw.columns:
            close = nearest(column, [c for c in raw.columns if c not in COLUMNS])
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"{where}: no column {column!r}{hint} (columns: {', '.join(raw.columns) or 'none'})")
    modal = [c for c in ("modality_a", "modality_b") if c in raw.columns]
    if len(modal) == 1:
        problems.append(f"{where}: has a column {modal[0]!r} only: give both modality_a and modality_b, or neither")
    if problems:
        raise InputError(problems)
    if raw.empty:
        raise InputError(f"{where}: holds no links")

    def text(column: str) -> pd.Series:
        return raw[column].map(lambda v: "" if v is None or v != v else str(v).strip()).astype(object)

    frame = pd.DataFrame({"feature_a": text("feature_a"), "feature_b": text("feature_b")}, index=raw.index)
    rows = pd.Series(np.arange(1, len(raw) + 1), index=raw.index)
    for column in ("feature_a", "feature_b"):
        empty = frame[column] == ""
        if empty.any():
            problems.append(f"{where}: empty {column} in data row {_few(rows[empty])}")
    for column in ("modality_a", "modality_b"):
        frame[column] = text(column) if modal else ""
        for value in frame[column].unique():
            if not value:
                continue
            try:
                frame.loc[frame[column] == value, column] = canonical_modality(value)
            except InputError as error:
                problems.append(f"{where}: column {column}, data row {_few(rows[frame[column] == value])}: {error}")
    half = (frame["modality_a"] == "") != (frame["modality_b"] == "")
    if half.any():
        problems.append(f"{where}: only one of modality_a and modality_b filled in data row {_few(rows[half])}")
    if "weight" in raw.columns:
        given = text("weight")
        weight = pd.to_numeric(given.where(given != "", "nan"), errors="coerce").astype(float)
        bad = ~np.isfinite(weight) | (weight < 0)
        if bad.any():
            values = ", ".join(repr(v) for v in given[bad].unique()[:5])
            problems.append(f"{where}: weight must be a number of 0 or more; data row {_few(rows[bad])}: {values}")
        frame["weight"] = weight
    else:
        frame["weight"] = 1.0
    if problems:
        raise InputError(problems)
    messages = []
    again = frame.duplicated(COLUMNS[:4])
    if again.any():
        messages.append(f"{where}: {again.sum()} duplicate links dropped (data row {_few(rows[again])})")
    return frame[~again].reset_index(drop=True), messages


def _few(values: Iterable[Any], n: int = 5) -> str:
    items = [str(v) for v in values]
    more = f" and {len(items) - n} more" if len(items) > n else ""
    return ", ".join(items[:n]) + more


@dataclass
class _Side:
    """One modality's features as far as links need them."""

    modality: str
    names: list[str]
    symbols: list[str]
    """Gene symbol of each feature: its name, or a column of var where the names are Ensembl identifiers."""
    variable: frozenset[str]
    """Of genes those that are highly variable (all, where that is not known)."""
    cells: list[str] = field(default_factory=list)
    """Names of some cells."""
    by_symbol: dict[str, int] = field(init=False)

    def __post_init__(self) -> None:
        self.by_symbol = {}
        for i, symbol in enumerate(self.symbols):
            self.by_symbol.setdefault(symbol, i)
        for i, symbol in enumerate(self.symbols):
            self.by_symbol.setdefault(_fold(symbol), i)

    def find(self, symbol: str) -> int | None:
        """Position of a gene: as written, else whatever its case and the punctuation that R makes a dot of."""
        i = self.by_symbol.get(symbol)
        return self.by_symbol.get(_fold(symbol)) if i is None else i


def _fold(symbol: str) -> str:
    return "\0" + symbol.upper().replace(".", "-")


def _side(adata: AnnData, position: int) -> _Side:
    of_ours = adata.uns.get("scmodal")
    if not isinstance(of_ours, Mapping) or "modality" not in of_ours:
        raise InputError(
            f"input {position + 1} names no modality (uns['scmodal']['modality']); prepare it with 'scmodal preprocess'"
        )
    names = [str(n) for n in adata.var_names]
    symbols = names
    if _mostly(names, _GENE_ID):
        for column in ("gene_symbols", "gene_symbol", "gene_name", "feature_name", "symbol", "gene_short_name"):
            if column in adata.var:
                symbols = [str(s) for s in adata.var[column]]
                break
    variable = names
    if "highly_variable" in adata.var:
        variable = [name for name, used in zip(names, adata.var["highly_variable"], strict=True) if used]
    cells = [str(c) for c in adata.obs_names[:: max(1, adata.n_obs // 1000)]]
    return _Side(canonical_modality(str(of_ours["modality"])), names, symbols, frozenset(variable), cells)


def _data(side: _Side) -> str:
    return {"rna": "RNA", "atac": "ATAC"}.get(side.modality, side.modality) + " data"


def _mostly(names: Sequence[str], pattern: str) -> bool:
    some = names[:: max(1, len(names) // 200)]
    return bool(some) and sum(re.match(pattern, n) is not None for n in some) > len(some) / 2


@dataclass
class _Found:
    """Links of one pair and, for each side, what there is to say of single features."""

    links: list[tuple[str, str, float]] = field(default_factory=list)
    notes: tuple[dict[str, str], dict[str, str]] = field(default_factory=lambda: ({}, {}))
    nearest: tuple[dict[str, list[str]], dict[str, list[str]]] = field(default_factory=lambda: ({}, {}))
    missing: list[tuple[str, str, list[str]]] = field(default_factory=list)
    """Names in a user's table that are not in the data: modality (or ""), name, nearest names."""


def _protein_to_genes(proteins: _Side, genes: _Side, species: str) -> _Found:
    """Links of antibodies (side a) to the genes of their antigens (side b)."""
    found = _Found()
    notes, close = found.notes[0], found.nearest[0]

    def gene_called(text: str) -> str | None:
        i = genes.find(text)
        return None if i is None else genes.names[i]

    for name in proteins.names:
        canonical = normalise_antigen(name)
        if canonical == ISOTYPE:
            notes[name] = ISOTYPE
            continue
        antigen = _table().antigens.get(canonical)
        if antigen is None:
            own = _resolve(name, gene_called)
            if own is not None:
                found.links.append((name, own, 1.0))
                notes[name] = "gene of the same name"
            else:
                notes[name] = "not in the antigen table"
                close[name] = list(_nearest_antigens(_take_off(name)[-1]))
            continue
        of_species = antigen.genes[species]
        if not antigen.linkable:
            symbols = ", ".join(g[0] for g in of_species) or "a gene"
            notes[name] = f"{antigen.note} of {symbols}: the gene's counts do not show it"
            continue
        if not of_species:
            notes[name] = f"{canonical}: no {species} gene" + (f" ({antigen.note})" if antigen.note else "")
            continue
        written = _take_off(name.strip())[-1].upper()
        if any(written == symbol.upper() for gene in of_species for symbol in gene) and genes.find(written) is not None:
            of_species = tuple(gene for gene in of_species if written in {s.upper() for s in gene})
        absent = []
        for gene in of_species:
            at = next((i for i in map(genes.find, gene) if i is not None), None)
            if at is None:
                absent.append(gene[0])
            else:
                found.links.append((name, genes.names[at], 1.0))
        said = [f"antigen {canonical}"] if _key(canonical) != _key(name) else []
        if absent:
            several = "s" if len(absent) > 1 else ""
            said.append(f"gene{several} {', '.join(absent)} not in the {_data(genes)}")
        if antigen.note:
            said.append(antigen.note)
        notes[name] = "; ".join(said)
    return found


def _by_antigen(a: _Side, b: _Side) -> _Found:
    """Links of two antibody panels: the same antigen, or one whose genes are among the other's (CD8a and CD8)."""
    found = _Found()
    sides = (a, b)
    canonical = [[normalise_antigen(n) for n in side.names] for side in sides]
    keys = [[_key(c) for c in names] for names in canonical]
    where: dict[str, list[int]] = {}
    for j, key in enumerate(keys[1]):
        where.setdefault(key, []).append(j)
    partnered: tuple[set[int], set[int]] = (set(), set())
    for i, key in enumerate(keys[0]):
        if canonical[0][i] == ISOTYPE or not key:
            continue
        for j in where.get(key, []):
            found.links.append((a.names[i], b.names[j], 1.0))
            partnered[0].add(i)
            partnered[1].add(j)

    def genes(name: str) -> frozenset[str]:
        return frozenset(antigen_genes(name, "human") or antigen_genes(name, "mouse"))

    lone = [[i for i in range(len(side.names)) if i not in done] for side, done in zip(sides, partnered, strict=True)]
    of = [{i: genes(canonical[s][i]) for i in lone[s] if canonical[s][i] != ISOTYPE} for s in (0, 1)]
    for i, genes_a in of[0].items():
        for j, genes_b in of[1].items():
            if genes_a and genes_b and (genes_a <= genes_b or genes_b <= genes_a):
                found.links.append((a.names[i], b.names[j], 1.0))
                shared = ", ".join(sorted(genes_a & genes_b))
                found.notes[0][a.names[i]] = found.notes[1][b.names[j]] = f"through the shared gene {shared}"
                partnered[0].add(i)
                partnered[1].add(j)
    for s in (0, 1):
        for i, name in enumerate(sides[s].names):
            if i in partnered[s]:
                continue
            if canonical[s][i] == ISOTYPE:
                found.notes[s][name] = ISOTYPE
            elif canonical[s][i] in _table().antigens:
                found.notes[s][name] = f"antigen {canonical[s][i]} not in the {_data(sides[1 - s])}"
            else:
                found.notes[s][name] = "not in the antigen table"
                found.nearest[s][name] = list(_nearest_antigens(canonical[s][i]))
    return found


def _by_name(a: _Side, b: _Side) -> _Found:
    """Links of features with the same name; differences of case only where nothing else fits."""
    found = _Found()
    exact = {symbol: i for i, symbol in reversed(list(enumerate(b.symbols)))}
    folded: dict[str, int] = {}
    for i, symbol in reversed(list(enumerate(b.symbols))):
        folded[symbol.casefold()] = i
    taken: set[int] = set()
    unmatched: list[tuple[str, str]] = []
    for name, symbol in zip(a.names, a.symbols, strict=True):
        at = exact.get(symbol)
        if at is None:
            unmatched.append((name, symbol))
        else:
            found.links.append((name, b.names[at], 1.0))
            taken.add(at)
    for name, symbol in unmatched:
        at = folded.get(symbol.casefold())
        if at is not None and at not in taken:
            found.links.append((name, b.names[at], 1.0))
            found.notes[0][name] = "same name but for the case"
            taken.add(at)
    # nearest names only where few names are compared: the time grows with the product
    left = [name for name, symbol in unmatched if symbol.casefold() not in folded]
    if len(left) * len(b.names) <= 200_000:
        for name in left:
            found.nearest[0][name] = nearest(name, b.names, n=3, cutoff=0.7)
    return found


def _rows(frame: pd.DataFrame) -> list[tuple[str, str, str, str, float]]:
    names = [[str(v) for v in frame[column]] for column in COLUMNS[:4]]
    return list(zip(*names, [float(w) for w in frame["weight"]], strict=True))  # type: ignore[arg-type]


def _from_table(a: _Side, b: _Side, frame: pd.DataFrame) -> tuple[_Found, set[int]]:
    """Links of a user's table that belong to this pair; second the rows of the table that do."""
    found = _Found()
    in_a, in_b = set(a.names), set(b.names)
    used: set[int] = set()
    for at, (first, second, modality_a, modality_b, weight) in enumerate(_rows(frame)):
        modal = (modality_a, modality_b)
        if modal == (a.modality, b.modality):
            turns = [(first, second)]
        elif modal == (b.modality, a.modality):
            turns = [(second, first)]
        elif modal == ("", ""):
            turns = [(first, second), (second, first)]
        else:
            continue
        hit = next((turn for turn in turns if turn[0] in in_a and turn[1] in in_b), None)
        if hit:
            found.links.append((*hit, weight))
            used.add(at)
            continue
        if modal != ("", ""):
            used.add(at)
            for side, names, name in ((a, in_a, turns[0][0]), (b, in_b, turns[0][1])):
                if name not in names:
                    found.missing.append((side.modality, name, nearest(name, side.names, n=3)))
    return found, used


def _find(a: _Side, b: _Side, species: str) -> _Found:
    """Built-in links of a pair."""
    if a.modality in _ANTIBODY and b.modality in _ANTIBODY:
        return _by_antigen(a, b)
    if a.modality in _ANTIBODY and b.modality in _GENES:
        return _protein_to_genes(a, b, species)
    if a.modality in _GENES and b.modality in _ANTIBODY:
        turned = _protein_to_genes(b, a, species)
        return _Found(
            [(y, x, w) for x, y, w in turned.links],
            (turned.notes[1], turned.notes[0]),
            (turned.nearest[1], turned.nearest[0]),
        )
    found = _by_name(a, b)
    return _only_variable(found, a, b) if a.modality in _GENES and b.modality in _GENES else found


def _only_variable(found: _Found, a: _Side, b: _Side) -> _Found:
    """Links of genes that vary in the RNA: a genome's twenty thousand would be mostly noise, and slow."""
    s = 1 if b.modality == "rna" and a.modality != "rna" else 0
    variable = (a, b)[s].variable
    kept = [link for link in found.links if link[s] in variable]
    for link in found.links:
        if link[s] not in variable:
            for side, name in enumerate(link[:2]):
                found.notes[side][str(name)] = f"not highly variable in the {_data((a, b)[s])}"
    found.links = kept
    return found


_BARCODE = r"[ACGT]{12,}(?:[-_]\w+)?$"
_FEW_GENES = 3  # so many gene names among the cells are no chance


def _turned(side: _Side) -> str | None:
    """What tells that rows and columns of a data set are exchanged; None if nothing does."""
    # an antibody's own barcode may stand behind its name, a sample's name only before that of a cell
    if _mostly(side.names, _BARCODE if side.modality in _ANTIBODY else rf"(?:\w+[_#:-])?{_BARCODE}"):
        return f"the {side.modality} features are named like cells ({_few(side.names, 2)})"
    if _mostly(side.cells, _GENE_ID):
        like = side.cells
    else:
        # two characters may be a well of a plate (C5), and a number of a cell is none of an antigen
        like = [name for name in side.cells if len(name) > 2 and not name.isdigit() and name in _all_genes()]
        if side.modality in _ANTIBODY:
            antigens = [name for name in side.cells if re.match(r"(?i)(?:anti-)?cd\d", name) and _canonical(name)]
            like = max(like, antigens, key=len)
        if len(like) < max(_FEW_GENES, len(side.cells) / 100):
            return None
    what = "proteins" if side.modality in _ANTIBODY else "genes"
    return f"the {side.modality} cells are named like {what} ({_few(like, 2)})"


@functools.cache
def _all_genes() -> frozenset[str]:
    return known_genes("human") | known_genes("mouse")


def _advice(
    few: Sequence[tuple[_Side, _Side, int]], rows: Sequence[tuple[str, str, str, str, float]], own_table: bool
) -> str:
    """What to do about pairs with too few links; empty where each pair's reason has its mend already."""
    linked = {(a, x, b) for x, _, a, b, _ in rows} | {(b, y, a) for _, y, a, b, _ in rows}
    said = []
    for a, b, _ in few:
        if _why_few(a, b):
            continue
        small, other = sorted((a, b), key=lambda side: len(side.names))
        n = len(small.names)
        if all((small.modality, name, other.modality) in linked for name in small.names):
            start = "The only feature" if n == 1 else f"All {n} features"
            said.append(
                f"{start} of the {_data(small)} {'is' if n == 1 else 'are'} linked already: more features are needed."
            )
        elif own_table:
            said.append("Add links to the table, or correct its names.")
        else:
            said.append("Name the links in a table (feature_a, feature_b).")
    return "".join(f"\n{text}" for text in dict.fromkeys(said))


def _why_few(a: _Side, b: _Side) -> list[str]:
    """Usual reasons for a pair without links."""
    hints = []
    for side in (a, b):
        turned = _turned(side)
        if turned is not None:
            hints.append(f"{turned}: are rows and columns exchanged? Cells are rows; transpose it and prepare it again")
            continue
        if side.modality in _GENES and side.symbols is side.names and _mostly(side.names, _GENE_ID):
            hints.append(
                f"the {side.modality} features are Ensembl identifiers: name them by gene symbol "
                "(or keep the symbols in a column 'gene_symbols' of var)"
            )
        if _mostly(side.names, r"[\w.]+[:-]\d+-\d+$"):
            hints.append(
                f"the {side.modality} features are peaks: give gene activity, or a links table of peaks and genes"
            )
    return hints


def build_links(
    adatas: Sequence[AnnData], table: pd.DataFrame | LinkTable | None = None, topology: str = "chain"
) -> tuple[LinkTable, pd.DataFrame]:
    """Links of each two modalities that are matched with each other, and how much of the data they cover.

    Proteins and cytometry channels are linked to genes (rna, gene activity) by the built-in antigen table, to each
    other by the same antigen, and other pairs by the same feature name. A table of the user's replaces all of this.

    Parameters
    ----------
    adatas
        Prepared data, one a modality (``uns["scmodal"]["modality"]``), in their order.
    table
        The user's own links: columns feature_a, feature_b, and optionally modality_a, modality_b, weight. Without
        modality columns either orientation is understood, and a link serves every pair that has both features.
    topology
        Which modalities are matched, see :func:`scmodal.presets.pairs_of`.

    Returns
    -------
    links
        The links, feature_a and modality_a of the earlier modality.
    coverage
        A row for each feature of each modality (antibody panels first), columns ``modality, feature, matched,
        partner, nearest, note``; then names of the user's table that are not in the data. Where a modality is
        matched with several, a partner is followed by its modality: ``CD3 (protein);CD3 (cytometry)``.

    Raises
    ------
    InputError
        A faulty table; fewer than two modalities, or one twice; an unknown topology; fewer than 3 links between two
        matched modalities (with the coverage report and, of three or more, the order or topology that would do).
    """
    sides = [_side(adata, i) for i, adata in enumerate(adatas)]
    if len(sides) < 2:
        raise InputError("links need at least two modalities: give a prepared data set of each")
    _check_distinct(sides)
    pairs = [(sides[i], sides[j]) for i, j in pairs_of(topology, len(sides))]
    messages: list[str] = []
    user: pd.DataFrame | None = None
    if isinstance(table, LinkTable):
        messages += table.messages
        table = table.frame
    if table is not None:
        user, said = _check_table(table, "links table")
        messages += said

    genes = [name for side in sides if side.modality in _GENES for name in side.symbols]
    species = guess_species(genes)

    rows: list[tuple[str, str, str, str, float]] = []
    partners: dict[tuple[str, str], list[str]] = {}
    notes: dict[tuple[str, str], list[str]] = {}
    close: dict[tuple[str, str], list[str]] = {}
    missing: dict[tuple[str, str], list[str]] = {}
    used: set[int] = set()
    few: list[tuple[_Side, _Side, int]] = []
    n_partners = Counter(side.modality for pair in pairs for side in pair)
    for a, b in pairs:
        if user is None:
            found = _find(a, b, species)
        else:
            found, of_pair = _from_table(a, b, user)
            used |= of_pair
        links: dict[tuple[str, str], float] = {}
        for x, y, w in found.links:
            links.setdefault((x, y), w)
        for (x, y), w in links.items():
            rows.append((x, y, a.modality, b.modality, w))
            _append(partners, (a.modality, x), f"{y} ({b.modality})" if n_partners[a.modality] > 1 else y)
            _append(partners, (b.modality, y), f"{x} ({a.modality})" if n_partners[b.modality] > 1 else x)
        for side, of_side, near in zip((a, b), found.notes, found.nearest, strict=True):
            for name, note in of_side.items():
                if note:
                    _append(notes, (side.modality, name), note)
            for name, names in near.items():
                close.setdefault((side.modality, name), names)
        for modality, name, names in found.missing:
            missing.setdefault((modality, name), names)
        if len(links) < MIN_LINKS:
            few.append((a, b, len(links)))

    if user is not None:
        _unused_rows(user, used, pairs, missing, messages)
    elif any({row[2], row[3]} & _ANTIBODY and {row[2], row[3]} & _GENES for row in rows):
        messages.append(f"the gene names look {species}")

    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["weight"] = frame["weight"].astype(float)
    result = LinkTable(frame, messages)

    records: list[tuple[str, str, bool, str, str, str]] = []
    for side in sorted(sides, key=lambda s: s.modality not in _ANTIBODY):
        for name in dict.fromkeys(side.names):
            at = (side.modality, name)
            matched = at in partners
            records.append(
                (
                    *at,
                    matched,
                    ";".join(partners.get(at, [])),
                    "" if matched else ";".join(close.get(at, [])[:3]),
                    " | ".join(notes.get(at, [])),
                )
            )
    for (modality, name), names in missing.items():
        records.append((modality, name, False, "", ";".join(names[:3]), _NOT_IN_DATA))
    coverage = pd.DataFrame(records, columns=COVERAGE_COLUMNS)
    coverage["matched"] = coverage["matched"].astype(bool)

    if few:
        problems = [
            f"{a.modality} and {b.modality} have {n} link{'' if n == 1 else 's'}; at least {MIN_LINKS} are needed"
            + "".join(f"; {hint}" for hint in _why_few(a, b))
            for a, b, n in few
        ]
        if len(sides) > 2:

            def enough(a: _Side, b: _Side) -> bool:
                found = _find(a, b, species) if user is None else _from_table(a, b, user)[0]
                return len({link[:2] for link in found.links}) >= MIN_LINKS

            linked = {frozenset((a.modality, b.modality)) for a, b in itertools.combinations(sides, 2) if enough(a, b)}
            problems[-1] += f".\n{_other_ways([side.modality for side in sides], topology, linked)}"
        problems[-1] += "\n" + coverage_text(coverage, result) + _advice(few, rows, user is not None)
        raise InputError(problems)
    return result, coverage


def check_pairs(links: LinkTable, modalities: Sequence[str], topology: str) -> None:
    """Make sure that a ready table has links of every two modalities that are matched with each other.

    Parameters
    ----------
    links
        From :func:`build_links`.
    modalities
        Of the data sets, in their order.
    topology
        Which modalities are matched, see :func:`scmodal.presets.pairs_of`.

    Raises
    ------
    InputError
        Fewer than 3 links of a pair: which, and the order or topology that the table would do for.
    """
    n_links = {(a, b): len(links.between(a, b)) for a, b in itertools.combinations(modalities, 2)}
    problems = [
        f"the links table has {n_links[modalities[i], modalities[j]]} links of {modalities[i]} and {modalities[j]}, "
        f"which topology {topology!r} matches; at least {MIN_LINKS} are needed"
        for i, j in pairs_of(topology, len(modalities))
        if n_links[modalities[i], modalities[j]] < MIN_LINKS
    ]
    if problems:
        linked = {frozenset(pair) for pair, n in n_links.items() if n >= MIN_LINKS}
        problems[-1] += f".\nMake the links for this topology (`scmodal link --topology {topology}`).\n" + _other_ways(
            modalities, topology, linked
        )
        raise InputError(problems)


def _check_distinct(sides: Sequence[_Side]) -> None:
    """Refuse a modality that is given twice: its features could not be told apart in a links table."""
    for modality, n in Counter(side.modality for side in sides).items():
        if n > 1:
            at = [str(i) for i, side in enumerate(sides, start=1) if side.modality == modality]
            raise InputError(
                f"inputs {' and '.join(at)} are of one modality, {modality}: join them in `scmodal preprocess` "
                "(several --input and a --batch-key)"
            )


def _other_ways(modalities: Sequence[str], topology: str, linked: set[frozenset[str]]) -> str:
    """Which order or topology matches only modalities that are linked; with the fewest changes to what was asked."""
    ways = [
        (order, way)
        for order in itertools.permutations(modalities)
        for way in TOPOLOGIES
        if all(frozenset((order[i], order[j])) in linked for i, j in pairs_of(way, len(order)))
    ]
    same_order = [f"--topology {way}" for order, way in ways if order == tuple(modalities)]
    same_topology = [f"the order {', '.join(order)}" for order, way in ways if way == topology]
    both = [f"the order {', '.join(order)} with --topology {way}" for order, way in ways]
    found = [*same_order[:1], *same_topology[:1]] or both[:1]
    if found:
        return f"What has enough links: {' or '.join(found)}."
    return "No other order or --topology has links enough to join all of them."


_NOT_IN_DATA = "in the links table, not in the data"


def _append(lists: dict[tuple[str, str], list[str]], at: tuple[str, str], value: str) -> None:
    values = lists.setdefault(at, [])
    if value not in values:
        values.append(value)


def _unused_rows(
    user: pd.DataFrame,
    used: set[int],
    pairs: Sequence[tuple[_Side, _Side]],
    missing: dict[tuple[str, str], list[str]],
    messages: list[str],
) -> None:
    """Say which rows of a user's table fit no pair of matched modalities, and which of their names are unknown."""
    sides = list({side.modality: side for pair in pairs for side in pair}.values())
    everything = {name for side in sides for name in side.names}
    names_of = {side.modality: set(side.names) for side in sides}
    other = 0
    for at, (first, second, modality_a, _, _) in enumerate(_rows(user)):
        if at in used:
            continue
        if modality_a:
            other += 1
            continue
        absent = [name for name in (first, second) if name not in everything]
        if not absent:
            other += 1
        for name in absent:
            partner = second if name == first else first
            # the other name says of which modality this one should have been
            both_ways = [*pairs, *((b, a) for a, b in pairs)]
            homes = [b.modality for a, b in both_ways if partner in names_of[a.modality]]
            candidates = [s for s in sides if not homes or s.modality in homes]
            names = nearest(name, [n for s in candidates for n in s.names], n=3)
            if names and len(set(homes)) != 1:
                homes = [s.modality for s in candidates if names[0] in names_of[s.modality]]
            missing.setdefault((homes[0] if len(set(homes)) == 1 else "", name), names)
    if other:
        matched = ", ".join(f"{a.modality} and {b.modality}" for a, b in pairs)
        messages.append(f"links table: {other} links left out that are not of matched modalities ({matched})")
    if missing:
        shown = [name + (f" (nearest: {', '.join(names)})" if names else "") for (_, name), names in missing.items()]
        messages.append(f"links table: {len(missing)} names are not in the data: {_few(shown, 10)}")


def coverage_summary(coverage: pd.DataFrame, links: LinkTable) -> dict[str, Any]:
    """Numbers of a coverage report, ready for JSON.

    Parameters
    ----------
    coverage
        Second value of :func:`build_links`.
    links
        First value of :func:`build_links`.

    Returns
    -------
    dict
        ``n_links``; ``pairs``: list of modality_a, modality_b, n_links; ``modalities``: for each its n_features,
        n_linked, fraction_linked, and for antibody panels ``unlinked`` (feature -> why); ``not_in_data``: names of the
        user's table that the data lack; ``messages``.
    """
    frame = links.frame
    pairs = [
        {"modality_a": str(a), "modality_b": str(b), "n_links": len(group)}
        for (a, b), group in frame.groupby(["modality_a", "modality_b"], sort=False)
    ]
    stray = coverage["note"] == _NOT_IN_DATA
    modalities: dict[str, Any] = {}
    for modality, group in coverage[~stray].groupby("modality", sort=False):
        n, linked = len(group), int(group["matched"].sum())
        entry: dict[str, Any] = {"n_features": n, "n_linked": linked, "fraction_linked": linked / n}
        if modality in _ANTIBODY:
            lone = group[~group["matched"]]
            entry["unlinked"] = dict(zip(lone["feature"].astype(str), lone["note"].astype(str), strict=True))
        modalities[str(modality)] = entry
    return {
        "n_links": len(links),
        "pairs": pairs,
        "modalities": modalities,
        "not_in_data": [str(name) for name in coverage.loc[stray, "feature"]],
        "messages": list(links.messages),
    }


def coverage_text(coverage: pd.DataFrame, links: LinkTable, max_rows: int = 20) -> str:
    """Coverage report for people.

    Parameters
    ----------
    coverage, links
        What :func:`build_links` returns.
    max_rows
        At most so many features without a link are listed for a modality.

    Returns
    -------
    str
        Lines of text, no line break at the end.
    """
    summary = coverage_summary(coverage, links)
    lines = [f"{p['modality_a']} - {p['modality_b']}: {p['n_links']} links" for p in summary["pairs"]]
    lines = lines or ["no links"]
    for modality, numbers in summary["modalities"].items():
        lines.append(f"{modality}: {numbers['n_linked']} of {numbers['n_features']} features linked")
        if modality not in _ANTIBODY:
            continue
        lone = coverage[(coverage["modality"] == modality) & ~coverage["matched"] & (coverage["note"] != _NOT_IN_DATA)]
        lines += _listed(lone, max_rows)
    stray = coverage[coverage["note"] == _NOT_IN_DATA]
    if len(stray):
        lines.append("in the links table, not in the data:")
        lines += _listed(stray, max_rows)
    lines += summary["messages"]
    return "\n".join(lines)


def _listed(rows: pd.DataFrame, max_rows: int) -> list[str]:
    lines = []
    for feature, close, note in zip(rows["feature"][:max_rows], rows["nearest"], rows["note"], strict=False):
        said = "" if note == _NOT_IN_DATA else f": {note}" if note else ""
        near = f" (nearest: {close.replace(';', ', ')})" if close else ""
        lines.append(f"  {feature}{said}{near}")
    if len(rows) > max_rows:
        lines.append(f"  and {len(rows) - max_rows} more")
    return lines
