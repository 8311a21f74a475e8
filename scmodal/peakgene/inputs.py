"""What a search for links is made from, read from the files of a run and checked against each other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from anndata import AnnData

from scmodal.contracts import InputError, check_prepared
from scmodal.embed import same_run
from scmodal.genes import read_genes
from scmodal.inputs import modality_of
from scmodal.io import in_memory_limit, one_index_type, plain, reading, sniff, some
from scmodal.model import LATENT_KEY, ScModal
from scmodal.peakgene.link import check_chromosomes
from scmodal.peakgene.pairs import parse_peaks, same_names
from scmodal.transfer import clean_labels, transfer_labels

PEAKS_KEY = "peaks"
"""Key in ``obsm`` of the raw peak counts, and in ``uns["scmodal"]`` of the peaks' names."""

SAME_BUILD = 0.5
"""Share of the genes that the gene activity and the genes file have in common which must lie at the same place."""


@dataclass
class PeakGeneData:
    """Cells of ATAC with all that is known of them.

    Attributes
    ----------
    atac
        Prepared ATAC without X; gene-activity counts in ``layers["counts"]``.
    counts
        Raw peak counts, cells x peaks: CSR, or in the open file.
    peaks
        Places of the peaks (:func:`~scmodal.peakgene.pairs.parse_peaks`).
    genes
        Places of the genes that can be imputed.
    z
        Latents of the ATAC cells.
    model
        The trained model.
    rna
        Path of the prepared RNA.
    messages
        What was noticed.
    """

    atac: AnnData
    counts: Any
    peaks: pd.DataFrame
    genes: pd.DataFrame
    z: np.ndarray
    model: ScModal
    rna: Path
    messages: list[str] = field(default_factory=list)


def read_inputs(
    rna: Path, atac: Path, integrated: Path, genes: Path, model: Path | None = None, device: str = "auto"
) -> PeakGeneData:
    """Read the files of a run.

    Parameters
    ----------
    rna, atac
        Prepared data sets of the integration.
    integrated
        ``integrated.h5mu``.
    genes
        Gene coordinates, BED or GTF.
    model
        ``model/`` folder; the one beside `integrated` by default.
    device
        Where to impute.

    Raises
    ------
    InputError
        Files that are missing, damaged, of other data, of another run, or of another genome build.
    DataError
        All peaks are on one chromosome.
    """
    table = read_genes(genes)
    prepared, counts = read_atac(atac)
    if read_annotation(rna, "rna").n_obs == 0:
        raise InputError(f"{rna}: no cells")
    model_folder = model or integrated.parent / "model"
    trained = ScModal.load(model_folder, device=device)
    for name in ("rna", "atac"):
        if name not in trained.modalities:
            raise InputError(
                f"{model_folder}: the model has no {name} data (it has: {', '.join(trained.modalities)}); peak-gene "
                "links need an integration of RNA and ATAC"
            )
    messages = list(table.attrs.get("messages", []))
    z = read_latent(integrated, "atac", prepared.obs_names, atac)
    if not same_run(trained, prepared, z, "atac"):
        raise InputError(
            f"{integrated}: the ATAC cells do not lie where the model in {model_folder} puts them: it is of another "
            "run, or the data were prepared anew since; give results, model and prepared data of one run"
        )
    peaks = parse_peaks(prepared.uns["scmodal"][PEAKS_KEY], str(atac))
    table["chrom"], turned = same_names(table["chrom"], list(pd.unique(peaks["chrom"])))
    if turned:
        messages.append(f'{genes}: chromosome names differed from the peaks\' by a "chr" in front; that was mended.')
    check_chromosomes(table, peaks, str(genes))
    check_build(table, prepared.var, str(genes), str(atac))
    table, said = imputed_genes(table, trained.imputed_features("rna").index, str(genes))
    return PeakGeneData(prepared, counts, peaks, table, z, trained, rna, messages + said)


def read_annotation(path: Path, modality: str, in_memory: bool = False) -> AnnData:
    """Annotation of a prepared file, without X and obsm.

    Parameters
    ----------
    path
        The file.
    modality
        What it must have been prepared as.
    in_memory
        Whether the counts are read, if they are not too large; else they stay in the file, and their rows are read when
        they are sliced.

    Raises
    ------
    InputError
        Missing, damaged, not prepared, or of another modality.
    """
    from anndata.io import read_elem

    kind = sniff(path)
    if kind != "h5ad":
        raise InputError(
            f"{path}: a prepared .h5ad is needed here, this is {kind}; run `scmodal preprocess` on it first"
        )
    with reading(str(path), "h5ad"):
        file = h5py.File(path, "r")
        layers = {}
        if "layers/counts" in file:
            stored = file["layers/counts"]
            small = not hasattr(stored, "keys") or 8 * stored["data"].shape[0] <= in_memory_limit()
            layers["counts"] = read_elem(stored) if in_memory and small else _on_disk(stored)
        adata = AnnData(
            obs=read_elem(file["obs"]),
            var=read_elem(file["var"]),
            uns=read_elem(file["uns"]) if "uns" in file else {},
            layers=layers,
        )
        if "scmodal" in adata.uns:
            adata.uns["scmodal"] = plain(dict(adata.uns["scmodal"]))
    check_prepared(adata, str(path))
    if modality_of(adata) != modality:
        raise InputError(f"{path}: prepared as {modality_of(adata)}, but {modality} data are needed here")
    return adata


def _on_disk(stored: Any) -> Any:
    """A stored matrix that is read when it is sliced."""
    from anndata.io import sparse_dataset

    return sparse_dataset(stored) if hasattr(stored, "keys") else stored


def read_atac(path: Path) -> tuple[AnnData, Any]:
    """Prepared ATAC and its raw peak counts, which stay in the file where they are large.

    Raises
    ------
    InputError
        As :func:`read_annotation`; or there are no peaks in it.
    """
    from anndata.io import read_elem

    adata = read_annotation(path, "atac", in_memory=True)
    names = adata.uns["scmodal"].get(PEAKS_KEY)
    with reading(str(path), "h5ad"):
        file = h5py.File(path, "r")
        stored = file.get(f"obsm/{PEAKS_KEY}")
        if names is None or stored is None:
            raise InputError(
                f"{path}: no peaks in it (obsm['{PEAKS_KEY}']), only gene activity, so that no peak can be linked to a "
                "gene: prepare the peak matrix or the fragments with `scmodal preprocess --modality atac --genes`"
            )
        lazy = hasattr(stored, "keys") and 8 * stored["data"].shape[0] > in_memory_limit()
        counts = _on_disk(stored) if lazy else one_index_type(read_elem(stored))
    if counts.shape[1] != len(names):
        raise InputError(f"{path}: {counts.shape[1]:,} columns of peaks but {len(names):,} names; prepare it again")
    return adata, counts


def read_latent(integrated: Path, modality: str, cells: pd.Index, source: Path) -> np.ndarray:
    """Latents of the cells of a prepared file, in their order.

    Raises
    ------
    InputError
        No integration in the file, the modality is not there, or cells are not in it.
    """
    from anndata.io import read_elem

    kind = sniff(integrated)
    if kind != "h5mu":
        raise InputError(f"{integrated}: an .h5mu (MuData) is needed here, this is {kind}")
    with reading(str(integrated), "h5mu"), h5py.File(integrated, "r") as file:
        there = list(file["mod"])
        if modality not in there:
            raise InputError(f"{integrated}: no {modality} in it (there are: {', '.join(there)})")
        group = file["mod"][modality]
        if LATENT_KEY not in group.get("obsm", {}):
            raise InputError(f"{integrated}: {modality} has no obsm[{LATENT_KEY!r}]; give the result of an integration")
        names = pd.Index(read_elem(group["obs"]).index.astype(str))
        z = np.asarray(read_elem(group["obsm"][LATENT_KEY]), np.float32)
    at = names.get_indexer(cells.astype(str))
    if (at < 0).any():
        raise InputError(
            f"{source}: {int((at < 0).sum()):,} of its {len(cells):,} cells are not in {integrated} "
            f"({some(list(cells[at < 0]))}): give the prepared file that was integrated"
        )
    return z[at]


def check_build(genes: pd.DataFrame, activity: pd.DataFrame, source: str, atac: str) -> None:
    """Make sure that the genes lie where they lay when the gene activity was computed.

    Parameters
    ----------
    genes
        `gene`, `chrom`, `start`, `end`.
    activity
        ``var`` of the prepared ATAC; without places in it nothing is checked.
    source, atac
        Names of the files.

    Raises
    ------
    InputError
        More than half of the genes with the same name lie elsewhere: another build or species.
    """
    if not {"chrom", "start", "end"} <= set(activity):
        return
    other = activity[["chrom", "start", "end"]].copy()
    other["gene"] = activity.index.astype(str)
    other["chrom"] = other["chrom"].astype(str)
    both = genes.merge(other, on="gene", suffixes=("", "_activity"))
    if len(both) == 0:
        return
    same = both["chrom"].str.removeprefix("chr") == both["chrom_activity"].str.removeprefix("chr")
    same &= (both["start"] < both["end_activity"]) & (both["end"] > both["start_activity"])
    at_home = same.groupby(both["gene"]).any()
    if at_home.mean() < SAME_BUILD:
        raise InputError(
            f"{source}: {int((~at_home).sum()):,} of the {len(at_home):,} genes that are also in {atac} lie at another "
            "place there: this is another genome build or species; give the genes file that the data were prepared with"
        )


def imputed_genes(genes: pd.DataFrame, features: pd.Index, source: str) -> tuple[pd.DataFrame, list[str]]:
    """Genes that the model imputes and whose place is known; and what is to be said about the others.

    Raises
    ------
    InputError
        No gene in common.
    """
    known = genes[genes["gene"].isin(features)]
    if len(known) == 0:
        raise InputError(
            f"{source}: none of its {len(genes):,} genes ({some(list(genes['gene']))}) is among the "
            f"{len(features):,} that the model imputes ({some(list(features))}): give the genes of the same species, "
            "named alike (symbols, not identifiers)"
        )
    messages = []
    table = known.reset_index(drop=True)
    missing = features[~features.isin(table["gene"])]
    if len(missing):
        messages.append(
            f"{len(missing):,} of the {len(features):,} genes that the model imputes have no place in {source} "
            f"({some(list(missing))}): they were not tested."
        )
    return table, messages


def cell_groups(data: PeakGeneData, integrated: Path, key: str | None) -> tuple[np.ndarray | None, str]:
    """Label of every ATAC cell ("" without one), or None where there are no labels; and where they are from.

    The column of the ATAC cells is taken; where they have none, that of the RNA cells, carried over through the latent
    space.

    Parameters
    ----------
    data
        The cells.
    integrated
        Where the latents of the RNA cells are.
    key
        Column of obs; without it, the one that the data were prepared with, if any.

    Raises
    ------
    InputError
        `key` is in neither.
    """
    rna = read_annotation(data.rna, "rna")
    for adata, own in ((data.atac, True), (rna, False)):
        column = key or str(adata.uns["scmodal"].get("label_key") or "")
        if not column or column not in adata.obs:
            continue
        labels, present = clean_labels(adata.obs[column])
        if not present.any():
            continue
        if own:
            return labels, f"groups of cells: column {column!r} of the ATAC cells."
        z = read_latent(integrated, "rna", rna.obs_names, data.rna)
        table = transfer_labels(z, adata.obs[column], data.z)
        return (
            table["label"].to_numpy(dtype=object),
            f"groups of cells: column {column!r} of the RNA cells, carried to the ATAC cells through the latent space.",
        )
    if key:
        raise InputError(
            f"--group-key {key!r}: neither the ATAC cells (columns: {some(list(data.atac.obs.columns), 20)}) nor the "
            f"RNA cells (columns: {some(list(rna.obs.columns), 20)}) have labels in such a column"
        )
    return None, ""
