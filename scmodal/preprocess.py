"""One function a modality: raw counts (or intensities) in, prepared data out.

Prepared data keep the raw counts beside log-normalised values, and the mean and spread of every column, so that a
sparse matrix never has to be made dense to be scaled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from . import io
from ._version import __version__
from .channels import COFACTORS, METAL, METAL_TAG, kind_of_instrument, technical_channel
from .chromatin import LSI, PEAKS, AtacOptions, read_atac, to_gene_activity
from .contracts import SCHEMA_VERSION, InputError, canonical_modality, continuous_problem
from .lsi import lsi
from .rows import CountView, RowStore, column_moments, column_ranges, join_blocks, row_sums
from .variable_genes import SPANS, seurat_v3

if TYPE_CHECKING:
    from anndata import AnnData


RAW_MAXIMUM = 100.0
"""Cytometry values above this are raw: arcsinh- and log-scaled ones stay below 15."""

_GENES = ("rna", "atac")  # modalities whose features are genes

_MIN_BATCH = 3  # cells a batch must have to rank genes within it


@dataclass
class _Work:
    """A data set on its way: annotation, the counts wherever they are, and the notes about it."""

    annotation: AnnData
    """Without matrices."""
    counts: CountView
    info: dict[str, Any]
    factors: np.ndarray = field(default_factory=lambda: np.empty(0, np.float32))
    """By which the counts of each cell are multiplied before log1p."""

    def normalised(self) -> Iterator[sp.csr_matrix]:
        """log1p of the counts, each cell brought to the median total, in blocks of rows."""
        start = 0
        for part in self.counts.blocks():
            factors = self.factors[start : start + part.shape[0]]
            start += part.shape[0]
            data = part.data * np.repeat(factors, np.diff(part.indptr))
            yield sp.csr_matrix((np.log1p(data, out=data), part.indices, part.indptr), shape=part.shape)

    def to_anndata(self) -> AnnData:
        """The prepared data in memory."""
        adata = self.annotation
        adata.layers["counts"] = self.counts.to_memory()
        adata.X = join_blocks(self.normalised(), adata.n_vars)
        return adata


def _read(adata: AnnData, modality: str) -> AnnData:
    """The data in the readers' form."""
    own = adata.uns.get("scmodal")
    if own is None or own.get("modality") != modality or "schema_version" in own:
        return io.from_anndata(adata, modality)
    return adata


def _notes(adata: AnnData, modality: str) -> dict[str, Any]:
    """What is noted about a data set, before anything is done."""
    own = adata.uns["scmodal"]
    return {
        "schema_version": SCHEMA_VERSION,
        "scmodal_version": __version__,
        "modality": modality,
        "source": list(own.get("source", [])),
        "counts_from": str(own.get("counts_from", "X")),
        "label_key": "",
        "batch_key": "",
        "n_cells_in": int(adata.n_obs),
        "n_cells": int(adata.n_obs),
        "n_features_in": int(adata.n_vars),
        "n_features": int(adata.n_vars),
        "n_top_genes": 0,
        "target_sum": 0.0,
        "instrument": str(own.get("instrument", "")),
        "messages": list(own.get("messages", [])),
        **{key: own[key] for key in ("genome", "gene_activity", PEAKS) if key in own},
    }


def _start(adata: AnnData, modality: str) -> _Work:
    """Work on the counts of an AnnData, which is not changed."""
    from anndata import AnnData

    adata = _read(adata, modality)
    annotation = AnnData(obs=adata.obs.copy(), var=adata.var.copy(), obsm=dict(adata.obsm))
    return _Work(annotation, CountView(adata.layers["counts"]), _notes(adata, modality))


def _start_stored(checked: io.Checked) -> tuple[_Work, RowStore]:
    """Work on counts that stay on disk: in a copy that is read many times over."""
    from anndata import AnnData

    annotation = AnnData(obs=checked.obs, var=checked.var, obsm=checked.obsm, uns={"scmodal": checked.own})
    view = CountView(checked.matrix, columns=checked.columns)
    _, high, whole = column_ranges(view.blocks())
    store = RowStore(view.blocks(), view.shape[1], float(high.max()), whole)
    return _Work(annotation, CountView(store), _notes(annotation, checked.own["modality"])), store


def _source(info: dict[str, Any]) -> str:
    return ", ".join(info["source"]) or f"the {info['modality']} data"


def _keys(adata: AnnData, info: dict[str, Any], label_key: str | None, batch_key: str | None) -> None:
    """Check the annotation columns; the batch becomes categorical, a label's gaps are counted and may not be all."""
    problems = [
        io.missing_key(key, [str(c) for c in adata.obs.columns], what, _source(info))
        for key, what in ((label_key, "label_key"), (batch_key, "batch_key"))
        if key and key not in adata.obs
    ]
    problems = problems or [
        f"{problem}; name another column"
        for key, what in ((label_key, "label_key"), (batch_key, "batch_key"))
        if key and (problem := continuous_problem(adata.obs[key], f"{_source(info)}: {what} {key!r}"))
    ]
    if problems:
        raise InputError(problems)
    if label_key:
        from .transfer import clean_labels

        info["label_key"] = label_key
        gaps = int((~clean_labels(adata.obs[label_key])[1]).sum())
        if gaps == adata.n_obs:
            raise InputError(
                f"{_source(info)}: no cell has a label in label_key {label_key!r}; name another column of obs (there: "
                f"{io.some([str(c) for c in adata.obs.columns], 20)}), or leave label_key empty"
            )
        if gaps:
            info["messages"].append(f"{gaps:,} cells have no label in {label_key!r}.")
    if batch_key:
        info["batch_key"] = batch_key
        gaps = int(adata.obs[batch_key].isna().sum())
        if gaps:
            raise InputError(
                f"{_source(info)}: {gaps:,} cells have no value in batch_key {batch_key!r}; fill them in or drop them"
            )
        adata.obs[batch_key] = pd.Categorical([io.as_text(value) for value in adata.obs[batch_key]])


def _tidy_obs(obs: pd.DataFrame) -> pd.DataFrame:
    """Columns of obs or var that can be written: text as categories, mixtures as text."""
    obs = obs.copy()
    for column in obs.columns:
        values = obs[column]
        if isinstance(values.dtype, pd.CategoricalDtype):
            categories = values.cat.categories
            if categories.dtype.kind not in "biuf":
                obs[column] = values.cat.rename_categories([str(c) for c in categories]).cat.remove_unused_categories()
        elif values.dtype == object or isinstance(values.dtype, pd.StringDtype):
            text = np.array([None if missing else str(v) for v, missing in zip(values, values.isna())], dtype=object)
            # A category per row would be no category; gaps in plain text could not be written.
            plain = not values.isna().any() and values.is_unique
            obs[column] = text if plain else pd.Categorical(text)
    return obs


def _column_moments(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (ddof 1) of each column of a dense matrix, without a double copy of it."""
    n, p = matrix.shape
    total = np.zeros(p)
    # Two passes: a sum of squares alone loses the spread of columns with a large mean.
    mean = matrix.mean(axis=0, dtype=np.float64)
    for start in range(0, n, 65536):
        total += np.square(matrix[start : start + 65536].astype(np.float64) - mean).sum(axis=0)
    return mean, np.sqrt(total / max(n - 1, 1))


def _none_varies(adata: AnnData, info: dict[str, Any], normalised: bool) -> str:
    """Sentence that says that no feature is left that varies, and why."""
    if not normalised:
        return (
            f"{_source(info)}: no feature varies between the cells ({adata.n_obs:,} cells); "
            "at least two cells that differ are needed"
        )
    if adata.n_vars == 1:
        return (
            f"{_source(info)}: a single feature varies between the cells ({str(adata.var_names[0])!r}), and one alone "
            "becomes constant when each cell's counts are brought to one total; at least two features are needed"
        )
    return (
        f"{_source(info)}: no feature varies between the cells ({adata.n_obs:,} cells) once each cell's counts are "
        "brought to one total: all cells are multiples of one; check how the file was made"
    )


def _drop(
    adata: AnnData,
    info: dict[str, Any],
    cells: np.ndarray | None,
    features: np.ndarray | None,
    normalised: bool = False,
) -> AnnData:
    """Drop cells and features (boolean, True goes), and say which; features maybe for what normalising made of them."""
    if cells is not None and cells.any():
        names = list(adata.obs_names[cells])
        info["messages"].append(f"{len(names):,} cells without a single count were dropped: {io.some(names)}.")
        if cells.all():
            raise InputError(f"{_source(info)}: every cell is without a single count; check how the file was made")
        adata = adata[~cells].copy()
    if features is not None and features.any():
        names = list(adata.var_names[features])
        info["messages"].append(
            f"{len(names):,} features that are the same in every cell were dropped: {io.some(names)}."
        )
        if features.all():
            raise InputError(_none_varies(adata, info, normalised))
        adata = adata[:, ~features].copy()
    return adata


def _drop_counts(
    work: _Work, cells: np.ndarray | None = None, features: np.ndarray | None = None, normalised: bool = False
) -> None:
    """Drop cells and features (boolean, True goes) from annotation and counts, and say which."""
    work.annotation = _drop(work.annotation, work.info, cells, features, normalised)
    work.counts = work.counts.keep(None if cells is None else ~cells, None if features is None else ~features)


def _counted(work: _Work) -> None:
    """Steps of every modality with counts: drop empty cells and constant columns, normalise, log."""
    _drop_counts(work, cells=row_sums(work.counts.blocks()) == 0)
    low, high, _ = column_ranges(work.counts.blocks())
    _drop_counts(work, features=low == high)
    while True:
        # Dropped columns that were constant but not zero may have held the only counts of a cell.
        totals = row_sums(work.counts.blocks())
        if (totals == 0).any():
            _drop_counts(work, cells=totals == 0)
            totals = totals[totals > 0]
        target = float(np.median(totals))
        work.factors = (target / totals).astype(np.float32)
        mean, std = column_moments(work.normalised, work.counts.shape)
        # With few features a column may vary in counts and not any more relative to the total.
        flat = ~(std > 1e-6 * np.maximum(np.abs(mean), 1e-6))
        if not flat.any():
            break
        _drop_counts(work, features=flat, normalised=True)
    work.annotation.var["mean"] = mean
    work.annotation.var["std"] = std
    work.info["target_sum"] = target
    work.info["messages"].append(
        f"Counts were brought to {target:,.0f} per cell (the median of the cells' totals) and log1p was taken."
    )


def _mark_linked(adata: AnnData, info: dict[str, Any], linked: Collection[str] | None) -> None:
    """var["linked"]: named in the user's table, else known to the built-in one."""
    names = [str(n) for n in adata.var_names]
    if linked is not None:
        wanted = {str(n) for n in linked}
        known = [name in wanted for name in names]
        source = "the given links table"
    else:
        from . import links

        source = "the built-in table of antigens and genes"
        if info["modality"] in _GENES:
            genes = links.known_genes(links.guess_species(names))
            known = [name in genes for name in names]
        else:
            known = [bool(links.antigen_genes(n, "human") or links.antigen_genes(n, "mouse")) for n in names]
    adata.var["linked"] = np.array(known, dtype=bool)
    info["messages"].append(f"{sum(known):,} of {len(known):,} features are in {source}.")


def _finish(adata: AnnData, info: dict[str, Any]) -> AnnData:
    info["n_cells"], info["n_features"] = int(adata.n_obs), int(adata.n_vars)
    adata.obs = _tidy_obs(adata.obs)
    adata.var = _tidy_obs(adata.var)
    adata.uns["scmodal"] = info
    return adata


def _rank_genes(work: _Work, n_marked: int, batch_key: str | None) -> None:
    """Fill var["highly_variable"] and var["highly_variable_rank"].

    Linked genes are used anyway, so as many more are ranked: `n_marked` others remain whichever links are made.
    """
    var, obs, info = work.annotation.var, work.annotation.obs, work.info
    n_top = min(n_marked + int(var["linked"].sum()), len(var))
    alone = np.zeros(len(obs), dtype=np.int64)
    batches, key = alone, batch_key
    if batch_key:
        sizes = obs[batch_key].value_counts()
        small = [str(b) for b in sizes.index[sizes < _MIN_BATCH]]
        if small:
            info["messages"].append(f"Batches of fewer than {_MIN_BATCH} cells do not rank genes: {io.some(small)}.")
        large = sorted(str(b) for b in sizes.index[sizes >= _MIN_BATCH])
        batches = pd.Index(large).get_indexer(obs[batch_key].astype(str))
        if len(large) < 2:
            batches, key = alone, None
    order, span = seurat_v3(work.counts, batches, n_top)
    if order is None and key is not None:
        info["messages"].append("Genes could not be ranked within the batches and were ranked over all cells.")
        key = None
        order, span = seurat_v3(work.counts, alone, n_top)
    if order is None:
        info["messages"].append(
            "seurat_v3 could not fit the variance of these data (few cells or few genes): genes were ranked by the "
            "spread of their log-normalised values."
        )
        order = np.argsort(-var["std"].to_numpy(), kind="stable")[:n_top]
    else:
        how = f"by seurat_v3 on raw counts{f' within each {key!r}' if key else ''}"
        info["messages"].append(
            f"{min(n_marked, len(order)):,} of {len(var):,} genes were marked as highly variable {how}"
            + (f" (loess span {span:g} instead of {SPANS[0]:g}, which had no solution)." if span > SPANS[0] else ".")
        )
    rank = np.full(len(var), np.nan)
    rank[order] = np.arange(len(order))
    var["highly_variable"] = rank < n_marked
    var["highly_variable_rank"] = rank


def rna(
    adata: AnnData,
    n_top_genes: int = 3000,
    batch_key: str | None = None,
    label_key: str | None = None,
    linked: Collection[str] | None = None,
) -> AnnData:
    """Prepare RNA counts.

    Cells without a count and constant genes are dropped, totals brought to their median, log1p taken, and genes
    ranked by variability (``seurat_v3`` on raw counts, within batches if there are any).

    Parameters
    ----------
    adata
        Cells x genes with raw counts in ``layers["counts"]``, ``X`` or ``raw``; not changed.
    n_top_genes
        How many genes to mark as highly variable; all of them if there are fewer.
    batch_key, label_key
        Columns of ``obs``; the batch becomes categorical.
    linked
        Names of features in a user's own table of links; default the built-in table.

    Returns
    -------
    AnnData
        ``X`` float32 CSR, log1p of normalised counts; ``layers["counts"]`` float32 CSR; ``var`` with ``linked``,
        ``highly_variable``, ``highly_variable_rank`` (0 is the most variable, NaN is not ranked; as many genes more
        are ranked as there are linked ones, which are used anyway), ``mean`` and
        ``std`` of the columns of ``X``; ``uns["scmodal"]`` with every choice made.

    Raises
    ------
    InputError
        No counts, missing columns, nothing left, or `n_top_genes` below 1.
    """
    if n_top_genes < 1:
        raise InputError(f"n_top_genes is {n_top_genes}; it must be at least 1")
    work = _start(adata, "rna")
    _prepare(work, label_key, batch_key, linked, n_top_genes)
    return work.to_anndata()


def _prepare(
    work: _Work,
    label_key: str | None,
    batch_key: str | None,
    linked: Collection[str] | None,
    n_top_genes: int,
) -> None:
    """All steps of modalities with counts, but for making the matrices."""
    info = work.info
    _keys(work.annotation, info, label_key, batch_key)
    _counted(work)
    n_vars = work.annotation.n_vars
    _mark_linked(work.annotation, info, linked)
    if info["modality"] in _GENES:
        info["n_top_genes"] = int(n_top_genes)
        if n_vars <= n_top_genes:
            info["messages"].append(f"There are {n_vars:,} genes, no more than n_top_genes: all of them are kept.")
        _rank_genes(work, min(n_top_genes, n_vars), batch_key)
    else:
        work.annotation.var["highly_variable"] = True
    _finish(work.annotation, info)


def protein(
    adata: AnnData,
    batch_key: str | None = None,
    label_key: str | None = None,
    linked: Collection[str] | None = None,
) -> AnnData:
    """Prepare counts of antibody tags: normalised to the median total and log1p, as RNA is.

    Parameters
    ----------
    adata
        Cells x proteins with raw counts in ``layers["counts"]``, ``X`` or ``raw``; not changed.
    batch_key, label_key, linked
        As in :func:`rna`.

    Returns
    -------
    AnnData
        As :func:`rna` gives it; every protein counts as highly variable and none is ranked.

    Raises
    ------
    InputError
        No counts, missing columns or nothing left.
    """
    work = _start(adata, "protein")
    _prepare(work, label_key, batch_key, linked, 0)
    return work.to_anndata()


def atac(
    adata: AnnData,
    options: AtacOptions | None = None,
    n_top_genes: int = 3000,
    batch_key: str | None = None,
    label_key: str | None = None,
    linked: Collection[str] | None = None,
) -> AnnData:
    """Prepare chromatin data: gene activity, prepared as RNA is, and the peaks with their components beside it.

    Parameters
    ----------
    adata
        Cells x peaks with raw counts in ``layers["counts"]``, ``X`` or ``raw`` (as people have them, or from
        :func:`scmodal.chromatin.read_atac`); or cells x genes with gene activity. Not changed.
    options
        Genes, and how activity is summed; the genes are needed if the features are peaks.
    n_top_genes, batch_key, label_key, linked
        As in :func:`rna`.

    Returns
    -------
    AnnData
        As :func:`rna` gives it, the features being genes, ``var`` with ``chrom``, ``start`` and ``end`` (0-based,
        half-open), ``strand`` and ``gene_id``, too. From peaks also ``obsm["peaks"]`` (raw counts, CSR),
        ``obsm["X_lsi"]`` (:func:`scmodal.lsi.lsi`) and, in ``uns["scmodal"]``, ``peaks`` (``chrom:start-end``, one a
        column of ``obsm["peaks"]``), ``genome`` and ``gene_activity``.

    Raises
    ------
    InputError
        As for :func:`rna`; peaks without genes, faulty ones, or genes of another genome build.
    """
    if n_top_genes < 1:
        raise InputError(f"n_top_genes is {n_top_genes}; it must be at least 1")
    read = _read(adata, "atac")
    name = ", ".join(read.uns["scmodal"].get("source", [])) or "the ATAC data"
    activity = to_gene_activity(read, options or AtacOptions(), name)
    # Kept aside: with every cell or gene that is dropped they would be copied, and they are by far the largest.
    peaks = activity.obsm.pop(PEAKS, None)
    work = _start(activity, "atac")
    _prepare(work, label_key, batch_key, linked, n_top_genes)
    if peaks is None:
        return work.to_anndata()
    kept = work.annotation.obs_names
    peaks = io.to_csr(peaks if len(kept) == activity.n_obs else peaks[activity.obs_names.get_indexer(kept)])
    # before gene activity is copied and normalised: at no time is there all of it
    components, said = lsi(peaks)
    result = work.to_anndata()
    result.obsm[PEAKS], result.obsm[LSI] = peaks, components
    result.uns["scmodal"]["messages"] += said
    return result


def _clean_channels(adata: AnnData, info: dict[str, Any]) -> AnnData:
    """Keep the markers only, and take the metal off their names."""
    markers = [str(m).strip() for m in adata.var_names]
    channels = [str(c).strip() for c in adata.var.get("channel", adata.var_names)]
    # Only where other channels do have marker names does a bare metal mean that nothing was stained with it.
    named = any(METAL.fullmatch(c) and m != c for c, m in zip(channels, markers))
    reasons = [technical_channel(channel, marker, named) for channel, marker in zip(channels, markers)]
    keep = np.array([reason is None for reason in reasons])
    if not keep.any():
        raise InputError(
            f"{_source(info)}: no marker among the channels ({io.some(markers)}); "
            "name the markers ($PnS in an FCS file, else the columns)"
        )
    if not keep.all():
        dropped: dict[str, list[str]] = {}
        for marker, reason in zip(markers, reasons):
            if reason is not None:
                dropped.setdefault(reason, []).append(marker)
        listed = "; ".join(f"{what}: {io.some(names, 12)}" for what, names in dropped.items())
        info["messages"].append(f"{int((~keep).sum())} channels that are no markers were left out ({listed}).")
        adata = adata[:, keep].copy()
    short = [METAL_TAG.sub("", str(m)).strip() for m in adata.var_names]
    if short != [str(m) for m in adata.var_names] and len(set(short)) == len(short):
        adata.var["channel_label"] = np.array([str(n) for n in adata.var_names], dtype=object)
        adata.var_names = pd.Index(np.array(short, dtype=object))
        info["messages"].append(f"The metal was taken off the marker names (now {io.some(short)}).")
    return adata


def cytometry(
    adata: AnnData,
    cofactor: float | None = None,
    batch_key: str | None = None,
    label_key: str | None = None,
    linked: Collection[str] | None = None,
) -> AnnData:
    """Prepare mass or flow cytometry: markers only, arcsinh where the values are raw.

    Parameters
    ----------
    adata
        Cells x channels with intensities in ``X``; not changed.
    cofactor
        Take ``arcsinh(x / cofactor)``. Default: values that look raw (a maximum above 100) are transformed with 5
        for mass cytometry and 150 for fluorescence, told by the channels' names; others are taken as they are.
    batch_key, label_key, linked
        As in :func:`rna`.

    Returns
    -------
    AnnData
        ``X`` dense float32; ``var`` with ``linked``, ``highly_variable`` (all), ``mean`` and ``std``; no counts;
        ``uns["scmodal"]["cofactor"]`` is 0 where no transform was taken.

    Raises
    ------
    InputError
        Missing or infinite values, missing columns, no marker, a cofactor that is not positive.
    """
    if cofactor is not None and not cofactor > 0:
        raise InputError(f"cofactor is {cofactor}; it must be above 0")
    read = _read(adata, "cytometry")
    adata, info = read.copy(), _notes(read, "cytometry")
    _keys(adata, info, label_key, batch_key)
    channels = [str(c) for c in adata.var.get("channel", adata.var_names)]
    kind = kind_of_instrument(channels, info["instrument"])
    info["instrument"] = kind
    adata = _clean_channels(adata, info)
    values = np.asarray(adata.X, dtype=np.float32)
    maximum = float(values.max())
    if cofactor is None and maximum > RAW_MAXIMUM:
        cofactor = COFACTORS[kind or "mass"]
        told = f"the channels are those of {kind} cytometry" if kind else "mass cytometry is assumed"
        info["messages"].append(
            f"The intensities look raw (maximum {maximum:,.0f}): arcsinh(x / {cofactor:g}) was taken, as {told}; "
            "give another by --cofactor if that is wrong."
        )
    elif cofactor is None:
        info["messages"].append(
            f"The intensities look transformed already (maximum {maximum:.3g}) and are used as they are."
        )
    else:
        info["messages"].append(f"arcsinh(x / {cofactor:g}) was taken, as asked for.")
    if cofactor is not None:
        values = np.arcsinh(values / np.float32(cofactor))
    info["cofactor"] = float(cofactor or 0.0)
    adata.X = values
    mean, std = _column_moments(values)
    adata.var["mean"], adata.var["std"] = mean, std
    adata = _drop(adata, info, None, ~(std > 1e-6 * np.maximum(np.abs(mean), 1e-6)))
    adata.var["highly_variable"] = True
    _mark_linked(adata, info, linked)
    return _finish(adata, info)


def cytometry_cells(adata: AnnData, cofactor: float) -> AnnData:
    """New cells of a cytometer, on the scale of those that a model was trained on.

    Parameters
    ----------
    adata
        Cells x channels with intensities in ``X``; not changed.
    cofactor
        Of the training cells: ``arcsinh(x / cofactor)`` is taken, whatever the new cells' range; 0 takes values as they
        are.

    Returns
    -------
    AnnData
        As :func:`cytometry`, but no marker is dropped: one that is the same in these few cells was measured all the
        same.

    Raises
    ------
    InputError
        Missing or infinite values, no marker, or raw intensities for a model of transformed ones.
    """
    read = _read(adata, "cytometry")
    adata, info = read.copy(), _notes(read, "cytometry")
    adata = _clean_channels(adata, info)
    values = np.asarray(adata.X, dtype=np.float32)
    if cofactor > 0:
        values = np.arcsinh(values / np.float32(cofactor))
        info["messages"].append(f"arcsinh(x / {cofactor:g}) was taken, as of the cells the model was trained on.")
    elif (maximum := float(values.max(initial=0.0))) > RAW_MAXIMUM:
        raise InputError(
            f"{_source(info)}: the intensities look raw (maximum {maximum:,.0f}), but the model was trained on "
            "transformed ones; transform them in the same way"
        )
    info["cofactor"] = float(cofactor)
    adata.X = values
    adata.var["mean"], adata.var["std"] = _column_moments(values)
    adata.var["highly_variable"] = True
    return _finish(adata, info)


def _join(parts: Sequence[AnnData], batch_key: str) -> AnnData:
    """Several files of one modality as one, on the features that all of them have."""
    from anndata import AnnData

    files = [part.uns["scmodal"]["source"][0] for part in parts]
    modality = parts[0].uns["scmodal"]["modality"]
    shared = parts[0].var_names
    for part in parts[1:]:
        shared = shared[shared.isin(part.var_names)]
    if len(shared) == 0:
        examples = "; ".join(f"{file}: {io.some(list(part.var_names), 3)}" for file, part in zip(files, parts))
        raise InputError(
            f"{', '.join(files)}: the {modality} files share no feature ({examples}); name the features alike in "
            "all of them (all symbols or all Ensembl ids)"
        )
    messages: list[str] = []
    for file, part in zip(files, parts):
        messages += [f"{file}: {text}" for text in part.uns["scmodal"]["messages"]]
    lost = ", ".join(f"{part.n_vars - len(shared):,} of {part.n_vars:,} in {file}" for file, part in zip(files, parts))
    messages.append(f"{len(parts)} files were joined on the {len(shared):,} features that all have (left out: {lost}).")

    names = pd.Index(np.concatenate([part.obs_names.to_numpy() for part in parts]))
    obs = pd.concat([part.obs.astype(object) for part in parts], join="outer")
    batches = [io.as_text(value) for value in obs[batch_key]]
    repeated = names.duplicated(keep=False)
    if repeated.any():
        labelled = np.array([f"{n}-{b}" if twice else n for n, b, twice in zip(names, batches, repeated)], dtype=object)
        names = pd.Index(labelled)
        if not names.is_unique:
            again = [str(n) for n in names[names.duplicated()].unique()]
            raise InputError(
                f"{', '.join(files)}: {len(again):,} cells have the same name and the same {batch_key!r} in several of "
                f"the files ({io.some(again)}); if they are not the same cells twice, rename them or their batches"
            )
        messages.append(
            f"{int(repeated.sum()):,} cells whose names occur in several files got '-<{batch_key}>' appended."
        )
    obs.index = names
    for column in obs.columns:
        # What was a number in every file that has it is one again; gaps are NaN, which truth values have none of.
        kinds = [part.obs[column].dtype.kind for part in parts if column in part.obs]
        if all(kind in ("biuf" if len(kinds) == len(parts) else "iuf") for kind in kinds):
            obs[column] = obs[column].infer_objects()
    selected = [part[:, shared] for part in parts]
    var = parts[0].var.loc[shared].copy()
    if modality == "cytometry":
        joined = AnnData(X=np.vstack([part.X for part in selected]), obs=_tidy_obs(obs), var=var)
    else:
        counts = sp.vstack([part.layers["counts"] for part in selected], format="csr")
        joined = AnnData(X=counts, obs=_tidy_obs(obs), var=var, layers={"counts": counts})
    places = list(dict.fromkeys(part.uns["scmodal"]["counts_from"] for part in parts))
    joined.uns["scmodal"] = {
        "modality": modality,
        "counts_from": ", ".join(places),
        "messages": messages,
        "source": files,
        "instrument": next((i for part in parts if (i := part.uns["scmodal"].get("instrument"))), ""),
    }
    return joined


def preprocess_files(
    paths: Sequence[str | Path],
    modality: str,
    label_key: str | None = None,
    batch_key: str | None = None,
    n_top_genes: int = 3000,
    linked_features: Collection[str] | None = None,
    cofactor: float | None = None,
    atac_options: AtacOptions | None = None,
) -> AnnData:
    """Read the files of one modality, join them and prepare them.

    Parameters
    ----------
    paths
        One file or several batches; see :func:`scmodal.io.read_modality` for the formats.
    modality
        Canonical name or alias.
    label_key, batch_key
        Columns of the cell annotation; several files need `batch_key`, in each of them.
    n_top_genes
        RNA and ATAC, see :func:`rna`.
    linked_features
        Names of features in a user's own table of links.
    cofactor
        Cytometry only, see :func:`cytometry`.
    atac_options
        ATAC only, see :func:`atac`.

    Returns
    -------
    AnnData
        Prepared; several files share their common features, and repeated cell names carry the batch.

    Raises
    ------
    InputError
        Whatever is wrong with the files, all of it at once.
    """
    modality = canonical_modality(modality)
    if not paths:
        raise InputError("no input file was given")
    if len(paths) > 1 and not batch_key:
        raise InputError(
            f"{len(paths)} files of modality {modality!r} without batch_key; "
            "give the obs column that tells their batches apart"
        )
    keys = [key for key in (label_key, batch_key) if key]
    parts: list[AnnData] = []
    problems: list[str] = []
    if modality == "atac":
        # The genes are read once for all files, and a fault of theirs is told once.
        atac_options = atac_options or AtacOptions()
        atac_options = replace(atac_options, genes=atac_options.table())
    for path in paths:
        try:
            if atac_options is not None and modality == "atac":
                part = read_atac(path, atac_options, obs_columns=keys)
            else:
                part = io.read_modality(path, modality, obs_columns=keys)
        except InputError as exc:
            problems += exc.problems
            continue
        columns = [str(c) for c in part.obs.columns]
        problems += [
            io.missing_key(key, columns, what, str(path))
            for key, what in ((label_key, "label_key"), (batch_key, "batch_key"))
            if key and key not in columns
        ]
        parts.append(part)
    if problems:
        raise InputError(problems)
    adata = parts[0] if len(parts) == 1 or not batch_key else _join(parts, batch_key)
    if modality == "rna":
        return rna(adata, n_top_genes, batch_key=batch_key, label_key=label_key, linked=linked_features)
    if modality == "atac":
        return atac(adata, atac_options, n_top_genes, batch_key, label_key, linked_features)
    if modality == "protein":
        return protein(adata, batch_key=batch_key, label_key=label_key, linked=linked_features)
    return cytometry(adata, cofactor, batch_key=batch_key, label_key=label_key, linked=linked_features)


def preprocess_to_file(
    paths: Sequence[str | Path],
    modality: str,
    output: str | Path,
    label_key: str | None = None,
    batch_key: str | None = None,
    n_top_genes: int = 3000,
    linked_features: Collection[str] | None = None,
    atac_options: AtacOptions | None = None,
    cofactor: float | None = None,
) -> AnnData:
    """Prepare the files of one modality and write the result.

    A single file with counts too large for memory (:func:`scmodal.io.open_counts`) is read, prepared and written in
    blocks of cells; what is written is the same.

    Parameters
    ----------
    output
        The prepared h5ad.
    paths, modality, label_key, batch_key, n_top_genes, linked_features, atac_options, cofactor
        See :func:`preprocess_files`.

    Returns
    -------
    AnnData
        What was written, without its matrices if they were too large for memory.

    Raises
    ------
    InputError
        Whatever is wrong with the files, or a folder that cannot be written to.
    """
    modality = canonical_modality(modality)
    checked = io.open_counts(paths[0], modality) if len(paths) == 1 else None
    if checked is None:
        adata = preprocess_files(
            paths, modality, label_key, batch_key, n_top_genes, linked_features, cofactor, atac_options
        )
        io.write_h5ad(adata, output)
        return adata
    if n_top_genes < 1 and modality == "rna":
        raise InputError(f"n_top_genes is {n_top_genes}; it must be at least 1")
    work, store = _start_stored(checked)
    try:
        _prepare(work, label_key, batch_key, linked_features, n_top_genes)
        io.write_h5ad_blocks(work.annotation, {"X": work.normalised(), "layers/counts": work.counts.blocks()}, output)
    finally:
        store.close()
    return work.annotation
