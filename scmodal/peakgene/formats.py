"""Links as files: the table, BEDPE, and a track for the UCSC genome browser."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from scmodal.io import atomic_path, write_tsv

COLUMNS = [
    *("chrom", "start", "end", "peak", "gene_id", "gene", "tss", "strand"),
    *("distance", "r", "z", "p", "fdr", "n_units", "group"),
]
"""First columns of ``peak_gene.tsv.gz``, in this order."""

OPTIONAL_COLUMNS = ["spearman", "r_locus_out", "r_locus_change", "r_paired"]
"""Columns that may follow."""

FIGURES = "figures"
"""Folder of the drawn loci below that of the links, made where genes are to be drawn."""

ALL_CELLS = "all"
"""The group of every cell."""

_DECIMALS = {"r": 4, "z": 3, "spearman": 4, "r_locus_out": 4, "r_locus_change": 4, "r_paired": 4}

_POSITIVE, _NEGATIVE = (178, 24, 43), (33, 102, 172)


def link_table(links: pd.DataFrame, genes: pd.DataFrame, peaks: pd.DataFrame) -> pd.DataFrame:
    """Tested pairs with the places of their peaks and genes.

    Parameters
    ----------
    links
        `gene` and `peak` as row numbers, `distance`, `r`, `z`, `p`, `fdr`, `n_units`, `group`, and further columns.
    genes
        `gene`, `gene_id`, `tss`, `strand`.
    peaks
        `chrom`, `start`, `end`, `peak`.

    Returns
    -------
    DataFrame
        :data:`COLUMNS`, then those of :data:`OPTIONAL_COLUMNS` that there are.
    """
    peak = peaks.iloc[links["peak"].to_numpy()].reset_index(drop=True)
    gene = genes.iloc[links["gene"].to_numpy()].reset_index(drop=True)
    table = pd.concat(
        [
            peak[["chrom", "start", "end", "peak"]],
            gene[["gene_id", "gene", "tss", "strand"]],
            links.drop(columns=["gene", "peak"]).reset_index(drop=True),
        ],
        axis=1,
    )
    return table[[*COLUMNS, *(name for name in OPTIONAL_COLUMNS if name in table)]]


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write all tested pairs (``.tsv.gz``), correlations to four decimals, p-values to four digits."""
    shown = table.copy()
    for name, decimals in _DECIMALS.items():
        if name in shown:
            shown[name] = shown[name].astype(np.float64).round(decimals)
    for name in ("p", "fdr"):
        shown[name] = [f"{value:.4g}" for value in shown[name]]
    write_tsv(shown, path)


def read_table(path: Path) -> pd.DataFrame:
    """Read what :func:`write_table` wrote."""
    text = dict.fromkeys(("chrom", "peak", "gene_id", "gene", "strand", "group"), str)
    table = pd.read_csv(path, sep="\t", dtype=text, keep_default_na=False)
    for name in OPTIONAL_COLUMNS:
        if name in table:
            table[name] = pd.to_numeric(table[name], errors="coerce")
    return table


def _word(text: object) -> str:
    """Text without white space, which would begin another column; a dot for nothing."""
    return "_".join(str(text).split()) or "."


def bedpe(links: pd.DataFrame) -> pd.DataFrame:
    """Links as BEDPE: the peak, then the start of transcription.

    Columns 1 to 10 are those of the format (name ``gene|peak``, score 1000 |r|, strand of the peak unknown); then r,
    fdr and group.
    """
    return pd.DataFrame(
        {
            "chrom1": links["chrom"],
            "start1": links["start"],
            "end1": links["end"],
            "chrom2": links["chrom"],
            "start2": links["tss"],
            "end2": links["tss"] + 1,
            "name": [f"{_word(gene)}|{_word(peak)}" for gene, peak in zip(links["gene"], links["peak"])],
            "score": _score(links["r"]),
            "strand1": ".",
            "strand2": links["strand"],
            "r": links["r"].astype(np.float64).round(4),
            "fdr": [f"{value:.4g}" for value in links["fdr"]],
            "group": [_word(group) for group in links["group"]],
        }
    )


def write_bedpe(links: pd.DataFrame, path: Path) -> None:
    """Write :func:`bedpe` with a commented header line."""
    frame = bedpe(links)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write("#" + "\t".join(frame.columns) + "\n")
        frame.to_csv(file, sep="\t", header=False, index=False, lineterminator="\n")


def _score(r: pd.Series) -> np.ndarray:
    """0 to 1000, as browsers shade it."""
    return np.rint(1000 * np.abs(r.to_numpy(np.float64))).astype(int).clip(0, 1000)


def colour(r: float) -> str:
    """Red for positive and blue for negative links, paler the weaker: ``r,g,b``."""
    strength = 0.35 + 0.65 * min(1.0, abs(r))
    full = _POSITIVE if r >= 0 else _NEGATIVE
    return ",".join(str(round(255 - (255 - part) * strength)) for part in full)


def interact(links: pd.DataFrame) -> pd.DataFrame:
    """Links as items of a UCSC interact track: source is the peak, target the start of transcription.

    The score is 1000 |r|, the value r itself, and the group of cells stands where the format has an experiment.
    """
    tss_end = links["tss"] + 1
    return pd.DataFrame(
        {
            "chrom": links["chrom"],
            "chromStart": np.minimum(links["start"], links["tss"]),
            "chromEnd": np.maximum(links["end"], tss_end),
            "name": [f"{_word(gene)}|{_word(peak)}" for gene, peak in zip(links["gene"], links["peak"])],
            "score": _score(links["r"]),
            "value": links["r"].astype(np.float64).round(4),
            "exp": [_word(group) for group in links["group"]],
            "color": [colour(r) for r in links["r"]],
            "sourceChrom": links["chrom"],
            "sourceStart": links["start"],
            "sourceEnd": links["end"],
            "sourceName": [_word(peak) for peak in links["peak"]],
            "sourceStrand": ".",
            "targetChrom": links["chrom"],
            "targetStart": links["tss"],
            "targetEnd": tss_end,
            "targetName": [_word(gene) for gene in links["gene"]],
            "targetStrand": links["strand"],
        }
    )


def write_interact(links: pd.DataFrame, path: Path, fdr: float) -> None:
    """Write :func:`interact` under a track line, so that the file opens as a custom track of the browser."""
    track = (
        'track type=interact name="peak-gene links" description="Peaks correlated with imputed expression, '
        f'FDR {fdr:g} (red: positive, blue: negative)" interactDirectional=true useScore=on '
        "maxHeightPixels=200:100:50 visibility=full\n"
    )
    frame = interact(links)
    with atomic_path(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        file.write(track)
        file.write("#" + "\t".join(frame.columns) + "\n")
        frame.to_csv(file, sep="\t", header=False, index=False, lineterminator="\n")


def significant(table: pd.DataFrame, fdr: float) -> pd.DataFrame:
    """Tested pairs that count as links, in the order of the genome."""
    return table[table["fdr"] <= fdr].sort_values(["chrom", "start", "gene", "group"], kind="stable")
