"""Whether data and genes are of the same genome build: told before anything is computed from both."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from . import io
from .contracts import InputError
from .genes import is_main_chromosome
from .intervals import fit_names, other_spelling

NEAR_TSS = 2000
"""Base pairs: a peak at most as far from a transcription start counts as near it."""

_SHIFTS = np.array([-7, -5, -3, -2, 2, 3, 5, 7]) * 37_411
"""By how much peaks are moved to see what chance gives: beyond promoters, within the same stretch of genes."""

MIN_ENRICHMENT = 1.4
"""Least ratio, in the middle one of the genome's stretches, of the peaks near a start to those by chance.

Measured: 2.0 to 5.6 where data and genes are of one build; 0.9 to 1.1 where they are not, also for two builds of one
species, whose coordinates agree where chromosomes begin: hence stretches, and not the genome as a whole."""

_STRETCH = 12  # intervals near a start by chance in a stretch
_MIN_STRETCHES = 4  # fewer say nothing
_SITE = 500  # base pairs within which fragments count once
_FAR = 3_000_000  # beyond the last gene of a chromosome by this much: not a place of this build
_FAR_SHARE = 0.002
_MANY_GENES = 100  # of a chromosome, so that its last gene is near its end
_LONE = 5  # chromosomes named in a message

# Lengths of the chromosomes 1 ... n, X and Y, as the Genome Reference Consortium gives them.
_LENGTHS = {
    "hg19": (
        "249250621 243199373 198022430 191154276 180915260 171115067 159138663 146364022 141213431 135534747 135006516 "
        "133851895 115169878 107349540 102531392 90354753 81195210 78077248 59128983 63025520 48129895 51304566 "
        "155270560 59373566"
    ),
    "hg38": (
        "248956422 242193529 198295559 190214555 181538259 170805979 159345973 145138636 138394717 133797422 135086622 "
        "133275309 114364328 107043718 101991189 90338345 83257441 80373285 58617616 64444167 46709983 50818468 "
        "156040895 57227415"
    ),
    "mm10": (
        "195471971 182113224 160039680 156508116 151834684 149736546 145441459 129401213 124595110 130694993 122082543 "
        "120129022 120421639 124902244 104043685 98207768 94987271 90702639 61431566 171031299 91744698"
    ),
    "mm39": (
        "195154279 181755017 159745316 156860686 151758149 149588044 144995196 130127694 124359700 130530862 121973369 "
        "120092757 120883175 125139656 104073951 98008968 95294699 90720763 61420004 169476592 91455967"
    ),
}


def _chromosome_lengths(build: str) -> dict[str, int]:
    lengths = [int(n) for n in _LENGTHS[build].split()]
    names = [str(i) for i in range(1, len(lengths) - 1)] + ["X", "Y"]
    return {f"chr{name}": length for name, length in zip(names, lengths)}


def likely_build(chrom: np.ndarray, end: np.ndarray) -> str:
    """The build that some intervals are of, told by how well they fill its chromosomes; ``""`` if it cannot be told.

    A build is out if an interval ends behind the end of its chromosome, or a chromosome is not one of its own. Of those
    left, the one is taken whose chromosomes end closest behind the last intervals, if there is a clear one.

    Parameters
    ----------
    chrom, end
        Chromosome and end (base pairs) of each interval.
    """
    furthest = pd.Series(end).groupby(np.asarray(chrom, dtype=object)).max()
    furthest.index = pd.Index([c if str(c).startswith("chr") else other_spelling(str(c)) for c in furthest.index])
    main = furthest[[is_main_chromosome(str(c)) and c not in ("chrM", "chrMT") for c in furthest.index]]
    gaps: dict[str, float] = {}
    for build in _LENGTHS:
        lengths = pd.Series(_chromosome_lengths(build))
        shared = lengths.index.intersection(main.index)
        if len(shared) == 0 or len(main.index.difference(lengths.index)):
            continue
        gap = lengths[shared] - main[shared]
        if (gap < 0).any():
            continue
        gaps[build] = float(gap.median())
    if not gaps:
        return ""
    ranked = sorted(gaps, key=gaps.__getitem__)
    clear = gaps[ranked[0]] < _FAR and (len(ranked) == 1 or gaps[ranked[0]] < 0.7 * gaps[ranked[1]])
    return ranked[0] if clear else ""


def near_starts(chrom: np.ndarray, start: np.ndarray, end: np.ndarray, genes: pd.DataFrame) -> pd.DataFrame:
    """How many intervals lie near a transcription start, and how many would by chance, stretch by stretch.

    Chance: the same intervals moved by 70 to 260 kb, which keeps them in the same neighbourhood of many or few genes.

    Parameters
    ----------
    chrom, start, end
        The intervals.
    genes
        From :func:`scmodal.genes.read_genes`.

    Returns
    -------
    A row for each stretch of a chromosome (of as many intervals as give :data:`_STRETCH` near a start by chance):
    ``near``, within :data:`NEAR_TSS` of a start; ``chance``; ``n``, the number of intervals.
    """
    starts = {c: np.sort(own.to_numpy()) for c, own in genes.groupby("chrom", sort=False)["tss"]}
    parts = [pd.DataFrame({"near": [], "chance": [], "n": []})]
    for name, own in pd.Series(np.arange(len(start))).groupby(np.asarray(chrom, dtype=object), sort=False):
        tss = starts.get(str(name))
        if tss is None:
            continue
        index = own.to_numpy()
        index = index[np.argsort(start[index], kind="stable")]
        near = _near(start[index], end[index], tss)
        chance = np.mean([_near(start[index] + shift, end[index] + shift, tss) for shift in _SHIFTS], axis=0)
        stretch = (np.cumsum(chance) // _STRETCH).astype(np.int64)
        frame = pd.DataFrame({"near": near, "chance": chance, "n": 1}).groupby(stretch).sum()
        parts.append(frame)
    return pd.concat([part for part in parts if len(part)] or parts, ignore_index=True)


def _near(start: np.ndarray, end: np.ndarray, tss: np.ndarray) -> np.ndarray:
    """Whether each interval lies within :data:`NEAR_TSS` of one of the sorted starts."""
    first = np.searchsorted(tss, start - NEAR_TSS, side="left")
    return np.asarray(np.searchsorted(tss, end + NEAR_TSS, side="left") > first)


@dataclass
class _Evidence:
    """What speaks for data and genes of one build, or of two."""

    share: float
    """Of the intervals near a transcription start."""
    chance: float
    ratio: float
    """Of the two in the middle one of the stretches."""
    n_stretches: int
    n_far: int
    """Intervals far behind the last gene of their chromosome."""
    far_share: float
    far: list[str]

    @property
    def different(self) -> bool:
        if self.n_stretches >= _MIN_STRETCHES:
            return self.ratio < MIN_ENRICHMENT
        return self.n_far >= 3 and self.far_share >= _FAR_SHARE


def _evidence(chrom: np.ndarray, start: np.ndarray, end: np.ndarray, genes: pd.DataFrame) -> _Evidence:
    by_chrom = genes.groupby("chrom", sort=False)["end"]
    last = by_chrom.max()[by_chrom.size() >= _MANY_GENES]
    limit = pd.Series(chrom).map(last.to_dict()).to_numpy(dtype=float) + _FAR
    beyond = start > limit  # False where there is no limit
    far = sorted({str(c) for c in chrom[beyond]})
    stretches = near_starts(chrom, start, end, genes)
    n = max(float(stretches["n"].sum()), 1.0)
    whole = stretches[stretches["chance"] > _STRETCH / 2]
    ratio = float((whole["near"] / whole["chance"]).median()) if len(whole) else 0.0
    share, chance = float(stretches["near"].sum() / n), float(stretches["chance"].sum() / n)
    return _Evidence(share, chance, ratio, len(whole), int(beyond.sum()), float(beyond.mean()), far)


def match_genome(
    chrom: np.ndarray, start: np.ndarray, end: np.ndarray, genes: pd.DataFrame, name: str, what: str, check: bool = True
) -> tuple[np.ndarray, list[str]]:
    """Bring chromosome names into line with those of the genes, and make sure that both are of one genome build.

    Parameters
    ----------
    chrom, start, end
        Peaks, or a sample of fragments.
    genes
        From :func:`scmodal.genes.read_genes`.
    name
        What to call the data in messages.
    what
        ``"peaks"`` or ``"fragments"``.
    check
        Refuse different builds; else only say what was seen.

    Returns
    -------
    Chromosome of each interval in the genes' spelling, and what was noticed, in sentences.

    Raises
    ------
    InputError
        No chromosome in common, or (with `check`) too few intervals near transcription starts, or intervals far
        behind the last genes.
    """
    messages: list[str] = []
    chrom = np.asarray(chrom, dtype=object)
    codes, names = pd.factorize(chrom)
    renamed = fit_names([str(c) for c in names], set(genes["chrom"]))
    if renamed:
        new = np.array([renamed.get(str(c), str(c)) for c in names], dtype=object)
        chrom = new[codes]
        first = min(renamed)
        messages.append(
            f"{name}: {len(renamed)} chromosomes were spelt differently in the {what} and in the genes and were "
            f"renamed as in the genes ({first!r} is now {renamed[first]!r})."
        )
        names = pd.Index(new)
    with_genes = set(genes["chrom"])
    unknown = [str(c) for c in names if c not in with_genes]
    if len(unknown) == len(names):
        raise InputError(
            f"{name}: no chromosome of the {what} ({io.some(sorted(unknown), _LONE)}) is in the genes file "
            f"({io.some(sorted(with_genes, key=lambda c: (len(c), c)), _LONE)}); give the genes of the genome that the "
            f"{what} were mapped to"
        )
    if unknown:
        share = np.isin(chrom, unknown).mean()
        messages.append(
            f"{name}: {share:.1%} of the {what} are on {len(unknown)} contigs without genes in the genes file "
            f"({io.some(sorted(unknown), _LONE)})."
        )
    per_chrom = genes["chrom"].value_counts()
    there = {str(c) for c in names}
    missing = [
        str(c)
        for c in per_chrom.index[per_chrom >= _MANY_GENES]
        if c not in there and is_main_chromosome(str(c)) and str(c).removeprefix("chr") not in ("Y", "M", "MT")
    ]
    if missing:
        messages.append(
            f"{name}: no {what} on {len(missing)} chromosomes of the genes file "
            f"({io.some(sorted(missing, key=lambda c: (len(c), c)), _LONE)}); their genes are left out."
        )
    if what == "fragments":
        sites = pd.DataFrame({"chrom": chrom, "start": (start + end) // (2 * _SITE) * _SITE}).drop_duplicates()
        found = _evidence(
            sites["chrom"].to_numpy(), sites["start"].to_numpy(), sites["start"].to_numpy() + _SITE, genes
        )
    else:
        found = _evidence(chrom, start, end, genes)
    if found.different:
        text = _different(found, chrom, end, genes, name, what)
        if check:
            raise InputError(text)
        messages.append(text)
    elif found.n_stretches < _MIN_STRETCHES:
        messages.append(f"{name}: too few {what} to tell whether the genes are of the same genome build.")
    else:
        messages.append(
            f"{name}: {found.share:.1%} of the {what} lie within {NEAR_TSS:,} bp of a transcription start, against "
            f"{found.chance:.1%} by chance: the genes are of the same genome build."
        )
    return chrom, messages


def _different(found: _Evidence, chrom: np.ndarray, end: np.ndarray, genes: pd.DataFrame, name: str, what: str) -> str:
    """That data and genes are of different builds, why, and of which if that can be told."""
    own = likely_build(chrom, end)
    theirs = likely_build(genes["chrom"].to_numpy(), genes["end"].to_numpy())
    reasons = []
    if found.n_stretches >= _MIN_STRETCHES:
        reasons.append(
            f"{found.share:.1%} of the {what} lie within {NEAR_TSS:,} bp of a transcription start where chance gives "
            f"{found.chance:.1%}, and over most of the genome {found.ratio:.1f} times as many as by chance (the right "
            f"genes give more than {MIN_ENRICHMENT})"
        )
    if found.n_far:
        reasons.append(
            f"{found.n_far:,} {what} lie more than {_FAR / 1e6:.0f} million bp behind the last gene of their "
            f"chromosome ({io.some(found.far, _LONE)})"
        )
    told = []
    if own and own != theirs:
        told.append(f"the {what} look like {own}")
    if theirs and own != theirs:
        told.append(f"the genes look like {theirs}")
    return (
        f"{name}: the {what} and the genes are not of the same genome build: {'; '.join(reasons)}"
        + (f" ({', '.join(told)})" if told else "")
        + f"; give the genes of the build that the {what} were mapped to"
        + (f", {own}" if own and own != theirs else "")
        + " (if they are right all the same, for instance because promoters were left out, turn the check off: "
        "--no-check-build)"
    )
