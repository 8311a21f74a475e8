"""Which feature of one modality varies with which feature of the next.

A *link* is a pair of features that are said to vary together, such as the protein CD20 and the gene *MS4A1*. Without a
table of the user's own, links come from the antigens' genes (:mod:`scmodal.antigens`) for proteins and cytometry
channels, and from equal feature names for everything else.
"""

from __future__ import annotations

import functools
import itertools
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from anndata import AnnData

from scmodal.antigens import (
    ANTIBODY,
    ISOTYPE,
    antigen_genes,
    antigen_table,
    canonical_antigen,
    guess_species,
    known_genes,
    nearest_antigens,
    normalise_antigen,
    resolve_name,
    spelling_key,
    undecorated,
)
from scmodal.contracts import InputError, canonical_modality, nearest
from scmodal.coverage import COVERAGE_COLUMNS, NOT_IN_DATA, coverage_summary, coverage_text
from scmodal.io import symbol_column
from scmodal.link_table import COLUMNS, LinkTable, check_table, few
from scmodal.presets import TOPOLOGIES, pairs_of

__all__ = [
    "COLUMNS",
    "COVERAGE_COLUMNS",
    "ISOTYPE",
    "MIN_LINKS",
    "LinkTable",
    "antigen_genes",
    "build_links",
    "check_pairs",
    "coverage_summary",
    "coverage_text",
    "guess_species",
    "known_genes",
    "normalise_antigen",
]

MIN_LINKS = 3
"""Fewer links than this between two modalities cannot carry an integration."""

_GENE_ID = r"ENS[A-Z]*G\d{6,}"

_GENES = frozenset({"rna", "atac"})
_LARGE_PANEL = 300  # few panels of antibodies have more features


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
        column = symbol_column(adata.var)
        if column is not None:
            symbols = [str(s) for s in adata.var[column]]
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
        antigen = antigen_table().antigens.get(canonical)
        if antigen is None:
            own = resolve_name(name, gene_called)
            if own is not None:
                found.links.append((name, own, 1.0))
                notes[name] = "gene of the same name"
            else:
                notes[name] = "not in the antigen table"
                close[name] = list(nearest_antigens(undecorated(name)[-1]))
            continue
        of_species = antigen.genes[species]
        if not antigen.linkable:
            symbols = ", ".join(g[0] for g in of_species) or "a gene"
            notes[name] = f"{antigen.note} of {symbols}: the gene's counts do not show it"
            continue
        if not of_species:
            notes[name] = f"{canonical}: no {species} gene" + (f" ({antigen.note})" if antigen.note else "")
            continue
        written = undecorated(name.strip())[-1].upper()
        if any(written == symbol.upper() for gene in of_species for symbol in gene) and genes.find(written) is not None:
            of_species = tuple(gene for gene in of_species if written in {s.upper() for s in gene})
        absent = []
        for gene in of_species:
            at = next((i for i in map(genes.find, gene) if i is not None), None)
            if at is None:
                absent.append(gene[0])
            else:
                found.links.append((name, genes.names[at], 1.0))
        said = [f"antigen {canonical}"] if spelling_key(canonical) != spelling_key(name) else []
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
    keys = [[spelling_key(c) for c in names] for names in canonical]
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
            elif canonical[s][i] in antigen_table().antigens:
                found.notes[s][name] = f"antigen {canonical[s][i]} not in the {_data(sides[1 - s])}"
            else:
                found.notes[s][name] = "not in the antigen table"
                found.nearest[s][name] = list(nearest_antigens(canonical[s][i]))
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
    if a.modality in ANTIBODY and b.modality in ANTIBODY:
        return _by_antigen(a, b)
    if a.modality in ANTIBODY and b.modality in _GENES:
        return _protein_to_genes(a, b, species)
    if a.modality in _GENES and b.modality in ANTIBODY:
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
    if _mostly(side.names, _BARCODE if side.modality in ANTIBODY else rf"(?:\w+[_#:-])?{_BARCODE}"):
        return f"the {side.modality} features are named like cells ({few(side.names, 2)})"
    if _mostly(side.cells, _GENE_ID):
        like = side.cells
    else:
        # two characters may be a well of a plate (C5), and a number of a cell is none of an antigen
        like = [name for name in side.cells if len(name) > 2 and not name.isdigit() and name in _all_genes()]
        if side.modality in ANTIBODY:
            antigens = [
                name for name in side.cells if re.match(r"(?i)(?:anti-)?cd\d", name) and canonical_antigen(name)
            ]
            like = max(like, antigens, key=len)
        if len(like) < max(_FEW_GENES, len(side.cells) / 100):
            return None
    what = "proteins" if side.modality in ANTIBODY else "genes"
    return f"the {side.modality} cells are named like {what} ({few(like, 2)})"


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
        A faulty table; fewer than two modalities, or one twice; genes given as proteins; an unknown topology; fewer
        than 3 links between two matched modalities (with the coverage report and, of three or more, the order or
        topology that would do).
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
        user, said = check_table(table, "links table")
        messages += said

    else:
        _check_panels(pairs)

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
    elif any({row[2], row[3]} & ANTIBODY and {row[2], row[3]} & _GENES for row in rows):
        messages.append(f"the gene names look {species}")

    frame = pd.DataFrame(rows, columns=COLUMNS)
    frame["weight"] = frame["weight"].astype(float)
    result = LinkTable(frame, messages)

    records: list[tuple[str, str, bool, str, str, str]] = []
    for side in sorted(sides, key=lambda s: s.modality not in ANTIBODY):
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
        records.append((modality, name, False, "", ";".join(names[:3]), NOT_IN_DATA))
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


def _check_panels(pairs: Sequence[tuple[_Side, _Side]]) -> None:
    """Refuse a panel of antibodies that can only be the genes: names of genes are antigens, too, and were linked."""
    problems = []
    for pair in pairs:
        a, b = sorted(pair, key=lambda side: side.modality not in ANTIBODY)
        if a.modality not in ANTIBODY or b.modality not in _GENES:
            continue
        n_a, n_b, n_both = len(a.names), len(b.names), len(set(a.names) & set(b.names))
        if n_both > _LARGE_PANEL and n_both > n_b / 2:
            problems.append(
                f"{n_both:,} of the {n_a:,} {a.modality} features are {b.modality} features, too: is one file given "
                f"for both? Give the {a.modality} data of their own"
            )
        elif n_a > 3 * _LARGE_PANEL and n_a > 5 * n_b:
            problems.append(
                f"the {a.modality} data have {n_a:,} features and the {b.modality} data {n_b:,}: are the two files "
                "exchanged? (If not, name the links in a table)"
            )
    if problems:
        raise InputError(problems)


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
        messages.append(f"links table: {len(missing)} names are not in the data: {few(shown, 10)}")
