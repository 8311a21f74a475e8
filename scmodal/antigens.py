"""Names of antigens, in the many spellings that there are, and the genes that encode them.

The table is ``data/antigens.tsv`` (public nomenclature, human and mouse). :func:`normalise_antigen` takes off what
panels, vendors, R and mass cytometers add to a name. Only additions that cannot be part of a name are taken off
blindly; all others (``.1``, clone names, fluorochromes) only where what remains is a name the table knows, so that
``CD3.1`` is CD3 but never CD31.
"""

from __future__ import annotations

import difflib
import functools
import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import resources

from scmodal.contracts import InputError

ISOTYPE = "isotype control"
"""What :func:`normalise_antigen` returns for an isotype control."""

SPECIES = ("human", "mouse")
"""Species of the table."""

ANTIBODY = frozenset({"protein", "cytometry"})
"""Modalities whose features are antigens."""

_GREEK = str.maketrans(
    {"α": "a", "β": "b", "γ": "g", "δ": "d", "ε": "e", "ζ": "z", "κ": "k", "λ": "l", "μ": "m", "Α": "a", "Β": "b"}
)

_GREEK_WORDS = re.compile("alpha|beta|gamma|delta|epsilon|kappa|lambda")

_BETWEEN_DIGITS = re.compile(r"(?<=[0-9])[^a-z0-9]+(?=[0-9])")

_PUNCTUATION = re.compile(r"[^a-z0-9-]|(?<![0-9])-|-(?![0-9])")


def spelling_key(name: str) -> str:
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
    # BD AbSeq: CD3:UCHT1|CD3E|AHS0231|pAbO; FlowJo: Comp-FITC-A :: CD19
    re.compile(r"(?::[^:|]*)?\|[^|]*\|AHS\d{4}(?:\|pAbO)?$", re.I),
    re.compile(r"^.*?\s*::\s*"),
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
    re.compile(rf"{_SEP}+(?:adt|prot|protein|antibody|abseq)$", re.I),
    re.compile(r"[\s_]+ab$", re.I),  # I-Ab is an antigen of the mouse
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
    return _ISOTYPE_KEY.search(spelling_key(name)) is not None


def undecorated(name: str) -> list[str]:
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
        any(c.isdigit() for c in text)
        or (text.isupper() and len(text) > 1)
        or bool(_FLUOROCHROMES.match(spelling_key(text)))
    )


def resolve_name(name: str, known: Callable[[str], str | None], depth: int = 3) -> str | None:
    """What `known` says of the name, or of what is left of it without its decorations; None if nothing does."""
    # A CD name carries no separator before a number of its own: CD158b.1 is CD158b once more, not CD158b1.
    duplicate = re.fullmatch(r"(?i)(cd\d+[a-z]{0,2})[._\-]\d", name)
    if duplicate and (found := known(duplicate[1])):
        return found
    if found := known(name):
        return found
    if depth == 0:
        return None
    stages = undecorated(name)
    if len(stages) > 1:
        return resolve_name(stages[1], known, depth)
    for pattern in (r"[\s._\-]+\d{1,2}$", r"[\s_\-]+[AHW]$", r"[+]$"):
        shorter = re.sub(pattern, "", name)
        if (
            shorter != name
            and spelling_key(shorter) not in _FAMILY_NAMES
            and (found := resolve_name(shorter, known, depth - 1))
        ):
            return found
    bracket = re.fullmatch(r"(.*?)[\s_.\-]*[(\[]([^()\[\]]*)[)\]]?", name)
    if bracket and bracket[1]:
        found = resolve_name(bracket[1], known, depth - 1) or resolve_name(bracket[2], known, depth - 1)
        if found:
            return found
    for separator in reversed(list(re.finditer(r"[\s_.\-/,|:]+", name))):
        left, right = name[: separator.start()], name[separator.end() :]
        if not left or not right:
            continue
        on_left, on_right = known(left), known(right)
        if on_left and on_right:
            return on_left if on_left == on_right else None
        if on_left and (
            spelling_key(left) not in _FAMILY_NAMES or re.search(r"[A-Za-z].{2,}\d|\d.{2,}[A-Za-z]", right)
        ):
            within = resolve_name(right, known, depth - 1)
            if within == on_left or (within is None and _clone_like(right)):
                return on_left
        if on_right and (_FLUOROCHROMES.match(spelling_key(left)) or re.fullmatch(r"\d{1,4}", left)):
            return on_right
    letter = re.match(r"(?:hu|ms|h|m)(?=[A-Z])|[hm](?=cd\d)", name)
    return resolve_name(name[letter.end() :], known, depth - 1) if letter else None


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
def antigen_table() -> _Table:
    """The built-in table, read once."""
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
            spellings.setdefault(spelling_key(spelling), name)
            written.setdefault(spelling_key(spelling), spelling)
        if antigen.linkable:
            for of_species in genes.values():
                for symbols in of_species:
                    for symbol in symbols:
                        # a gene of several antigens stands for the one with fewest genes
                        entry = (len(of_species), name)
                        key = spelling_key(symbol)
                        if key not in by_gene or entry[0] < by_gene[key][0]:
                            by_gene[key] = entry
    for key, (_, name) in by_gene.items():
        spellings.setdefault(key, name)
    return _Table(antigens, spellings, written)


def canonical_antigen(name: str) -> str | None:
    """Name in the table of this very spelling, case and punctuation aside; None where there is none."""
    return antigen_table().spellings.get(spelling_key(name))


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
    plain = undecorated(name)[-1]
    if not canonical_antigen(name) and (_is_isotype(name) or _is_isotype(plain)):
        return ISOTYPE
    return resolve_name(name, canonical_antigen) or plain


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
    antigen = antigen_table().antigens.get(normalise_antigen(name))
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
        for antigen in antigen_table().antigens.values()
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
def nearest_antigens(name: str, n: int = 3) -> tuple[str, ...]:
    """Up to `n` known spellings most alike to the name, of different antigens."""
    table = antigen_table()
    found: dict[str, str] = {}
    for key in difflib.get_close_matches(spelling_key(name), list(table.written), n=4 * n, cutoff=0.6):
        found.setdefault(table.spellings[key], table.written[key])
    return tuple(found.values())[:n]
