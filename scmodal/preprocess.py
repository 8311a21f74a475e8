"""One function a modality: raw counts (or intensities) in, prepared data out.

Prepared data keep the raw counts beside log-normalised values, and the mean and spread of every column, so that a
sparse matrix never has to be made dense to be scaled.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from . import io
from ._version import __version__
from .contracts import INTEGRATED_MODALITIES, SCHEMA_VERSION, InputError, canonical_modality

if TYPE_CHECKING:
    from anndata import AnnData

COFACTORS = {"mass": 5.0, "fluorescence": 150.0}
"""Cofactor of the arcsinh transform by kind of cytometer."""

RAW_MAXIMUM = 100.0
"""Cytometry values above this are raw: arcsinh- and log-scaled ones stay below 15."""

_SPANS = (0.3, 0.6, 1.0)  # of the loess fit behind seurat_v3; wider ones hold where data are few
_MIN_BATCH = 3  # cells a batch must have to rank genes within it


# ---------------------------------------------------------------------------------------------------------------------
# what the modalities share


def _start(adata: AnnData, modality: str) -> tuple[AnnData, dict[str, Any]]:
    """A copy in the readers' form to work on, and the notes about it."""
    own = adata.uns.get("scmodal")
    if own is None or own.get("modality") != modality or "schema_version" in own:
        adata = io.from_anndata(adata, modality)
    else:
        adata = adata.copy()
    own = adata.uns["scmodal"]
    return adata, {
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
    }


def _source(info: dict[str, Any]) -> str:
    return ", ".join(info["source"]) or f"the {info['modality']} data"


def _keys(adata: AnnData, info: dict[str, Any], label_key: str | None, batch_key: str | None) -> None:
    """Check the annotation columns; the batch becomes categorical, a label's gaps are counted and may not be all."""
    problems = [
        io.missing_key(key, [str(c) for c in adata.obs.columns], what, _source(info))
        for key, what in ((label_key, "label_key"), (batch_key, "batch_key"))
        if key and key not in adata.obs
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
        adata.obs[batch_key] = pd.Categorical(adata.obs[batch_key].astype(str))


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


def _column_moments(matrix: Any) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation (ddof 1) of each column, n_vars each, without a dense or double copy of a CSR."""
    n, p = matrix.shape
    total = np.zeros(p)
    # Two passes: a sum of squares alone loses the spread of columns with a large mean.
    if not sp.issparse(matrix):
        mean = matrix.mean(axis=0, dtype=np.float64)
        for start in range(0, n, 65536):
            total += np.square(matrix[start : start + 65536].astype(np.float64) - mean).sum(axis=0)
        return mean, np.sqrt(total / max(n - 1, 1))
    stored = np.zeros(p)
    step = 1 << 22
    for start in range(0, matrix.nnz, step):
        columns = matrix.indices[start : start + step]
        total += np.bincount(columns, weights=matrix.data[start : start + step], minlength=p)
        stored += np.bincount(columns, minlength=p)
    mean = total / n
    squares = (n - stored) * np.square(mean)
    for start in range(0, matrix.nnz, step):
        columns = matrix.indices[start : start + step]
        deviation = matrix.data[start : start + step] - mean[columns]
        squares += np.bincount(columns, weights=np.square(deviation), minlength=p)
    return mean, np.sqrt(squares / max(n - 1, 1))


def _constant_columns(counts: sp.csr_matrix) -> np.ndarray:
    """Columns that have the same value in every cell."""
    columns = counts.tocsc()
    stored = np.diff(columns.indptr)
    constant = stored == 0
    for j in np.flatnonzero(stored == counts.shape[0]):
        values = columns.data[columns.indptr[j] : columns.indptr[j + 1]]
        constant[j] = bool((values == values[0]).all())
    return constant


def _log_normalise(counts: sp.csr_matrix) -> tuple[sp.csr_matrix, float]:
    """log1p of the counts, each cell brought to the median total; also that total."""
    totals = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    target = float(np.median(totals))
    factors = (target / totals).astype(np.float32)
    data = counts.data * np.repeat(factors, np.diff(counts.indptr))
    np.log1p(data, out=data)
    return sp.csr_matrix((data, counts.indices.copy(), counts.indptr.copy()), shape=counts.shape), target


def _drop(adata: AnnData, info: dict[str, Any], cells: np.ndarray | None, features: np.ndarray | None) -> AnnData:
    """Drop cells and features (boolean, True goes), and say which."""
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
            raise InputError(
                f"{_source(info)}: no feature varies between the cells ({adata.n_obs:,} cells); "
                "at least two cells that differ are needed"
            )
        adata = adata[:, ~features].copy()
    return adata


def _counted(adata: AnnData, info: dict[str, Any]) -> AnnData:
    """Steps of every modality with counts: drop empty cells and constant columns, normalise, log."""
    counts = adata.layers["counts"]
    empty = np.diff(counts.indptr) == 0
    adata = _drop(adata, info, empty, None)
    adata = _drop(adata, info, None, _constant_columns(adata.layers["counts"]))
    # Dropped columns that were constant but not zero may have held the only counts of a cell.
    adata = _drop(adata, info, np.diff(adata.layers["counts"].indptr) == 0, None)
    while True:
        values, target = _log_normalise(adata.layers["counts"])
        mean, std = _column_moments(values)
        # With few features a column may vary in counts and not any more relative to the total.
        flat = ~(std > 1e-6 * np.maximum(np.abs(mean), 1e-6))
        if not flat.any():
            break
        adata = _drop(adata, info, None, flat)
        adata = _drop(adata, info, np.diff(adata.layers["counts"].indptr) == 0, None)
    adata.X = values
    adata.var["mean"] = mean
    adata.var["std"] = std
    info["target_sum"] = target
    info["messages"].append(
        f"Counts were brought to {target:,.0f} per cell (the median of the cells' totals) and log1p was taken."
    )
    return adata


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
        if info["modality"] == "rna":
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


# ---------------------------------------------------------------------------------------------------------------------
# RNA


def _seurat_v3(counts: AnnData, n_top: int, batch_key: str | None) -> tuple[pd.DataFrame | None, float]:
    """Ranking of scanpy's seurat_v3 with the narrowest span of the fit that works; None if none does."""
    import scanpy as sc

    groups = [np.ones(counts.n_obs, dtype=bool)]
    if batch_key:
        groups = [(counts.obs[batch_key] == batch).to_numpy() for batch in counts.obs[batch_key].unique()]
    varying = min(int((_column_moments(counts.X[rows])[1] > 0).sum()) for rows in groups)
    for span in _SPANS:
        # The compiled fit ends the whole process, without an exception, when its window holds no point.
        if int(varying * span) < 3:
            continue
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                frame = sc.pp.highly_variable_genes(
                    counts,
                    flavor="seurat_v3",
                    n_top_genes=n_top,
                    batch_key=batch_key,
                    span=span,
                    inplace=False,
                    check_values=False,
                )
        except (ValueError, ZeroDivisionError, FloatingPointError, np.linalg.LinAlgError):
            continue  # the fit has no solution with so few different means: widen it
        frame = frame.reindex(counts.var_names)
        if np.isfinite(frame["variances_norm"].to_numpy()).all():
            return frame, span
    return None, 0.0


def _rank_genes(adata: AnnData, info: dict[str, Any], n_marked: int, batch_key: str | None) -> None:
    """Fill var["highly_variable"] and var["highly_variable_rank"].

    Linked genes are used anyway, so as many more are ranked: `n_marked` others remain whichever links are made.
    """
    from anndata import AnnData

    n_top = min(n_marked + int(adata.var["linked"].sum()), adata.n_vars)

    source = AnnData(X=adata.layers["counts"], obs=adata.obs[[batch_key]] if batch_key else None)
    source.var_names = adata.var_names
    key = batch_key
    if batch_key:
        sizes = adata.obs[batch_key].value_counts()
        small = [str(b) for b in sizes.index[sizes < _MIN_BATCH]]
        if small:
            info["messages"].append(f"Batches of fewer than {_MIN_BATCH} cells do not rank genes: {io.some(small)}.")
            source = source[~source.obs[batch_key].isin(small)].copy()
        if adata.obs[batch_key].nunique() - len(small) < 2:
            source, key = AnnData(X=adata.layers["counts"]), None
            source.var_names = adata.var_names
    frame, span = _seurat_v3(source, n_top, key)
    if frame is None and key is not None:
        info["messages"].append("Genes could not be ranked within the batches and were ranked over all cells.")
        source = AnnData(X=adata.layers["counts"])
        source.var_names = adata.var_names
        key = None
        frame, span = _seurat_v3(source, n_top, None)
    if frame is None:
        info["messages"].append(
            "seurat_v3 could not fit the variance of these data (few cells or few genes): genes were ranked by the "
            "spread of their log-normalised values."
        )
        order = np.argsort(-adata.var["std"].to_numpy(), kind="stable")[:n_top]
    else:
        by = ["highly_variable_rank"] + (["highly_variable_nbatches"] if key else [])
        chosen = frame.reset_index(drop=True)
        chosen = chosen[chosen["highly_variable"]].sort_values(by, ascending=[True, False][: len(by)], kind="stable")
        order = chosen.index.to_numpy()
        how = f"by seurat_v3 on raw counts{f' within each {key!r}' if key else ''}"
        info["messages"].append(
            f"{min(n_marked, len(order)):,} of {adata.n_vars:,} genes were marked as highly variable {how}"
            + (f" (loess span {span:g} instead of {_SPANS[0]:g}, which had no solution)." if span > _SPANS[0] else ".")
        )
    rank = np.full(adata.n_vars, np.nan)
    rank[order] = np.arange(len(order))
    adata.var["highly_variable"] = rank < n_marked
    adata.var["highly_variable_rank"] = rank


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
    adata, info = _start(adata, "rna")
    _keys(adata, info, label_key, batch_key)
    adata = _counted(adata, info)
    info["n_top_genes"] = int(n_top_genes)
    if adata.n_vars <= n_top_genes:
        info["messages"].append(f"There are {adata.n_vars:,} genes, no more than n_top_genes: all of them are kept.")
    _mark_linked(adata, info, linked)
    _rank_genes(adata, info, min(n_top_genes, adata.n_vars), batch_key)
    return _finish(adata, info)


# ---------------------------------------------------------------------------------------------------------------------
# protein


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
    adata, info = _start(adata, "protein")
    _keys(adata, info, label_key, batch_key)
    adata = _counted(adata, info)
    adata.var["highly_variable"] = True
    _mark_linked(adata, info, linked)
    return _finish(adata, info)


# ---------------------------------------------------------------------------------------------------------------------
# cytometry

# Channels of a cytometer that are no markers, as whole names in any case; `tag` is the metal in front of a name.
_TAG = r"(?:\d{2,3}[A-Za-z]{1,2}(?:Di|Dd)?[ _-])?"
_TECHNICAL = {
    what: re.compile(_TAG + f"(?:{pattern})", re.IGNORECASE)
    for what, pattern in {
        "time and event shape": (
            r"time|(?:event|cell)[ _.-]?(?:length|time|number|no|#|id)|width|center|offset|residual|bead[ _.-]?dist"
            r"|file[ _.-]?(?:number|no|id)|sample[ _.-]?id"
        ),
        "scatter": r"(?:fsc|ssc|fs|ss|forward[ _.-]?scatter|side[ _.-]?scatter)(?:[ _.-]\w+)*",
        "DNA": (
            r"dna[ _.-]?\d*(?:\(.*\)(?:d[id])?)?|(?:\d{3}ir|ir\d{3})(?:di|dd)?|\(ir\d{3}\)d[id]|.*intercalator.*"
            r"|.*nucacid.*|cell[ _.-]?id.*|dapi.*|hoechst.*|draq\d.*"
        ),
        "barcode": r"(?:bc|bar[ _.-]?code)[ _.-]?\d*|.*[ _.-]barcode\d*",
        "beads": r"(?:eq[ _.-]?)?beads?[ _.-]?\d*|.*[ _.-](?:eq)?beads?\d*",
        "viability": r"viab(?:ility)?|live[ _./-]?dead(?:[ _.-]\w+)*|l/d|dead|cis(?:platin)?|zombie.*",
        "background": r"bckg|background|environ|.*\d(?:xe|bckg)(?:di|dd)?|(?:xe|bckg)\d{2,3}(?:di|dd)?",
    }.items()
}
# Metals that antibodies, barcodes and intercalators carry; spelled out, for Ki67 and B220 look much like one.
_ELEMENT = "(?:Y|Rh|Pd|Ag|Cd|In|Sn|Te|I|Xe|Cs|Ba|La|Ce|Pr|Nd|Sm|Eu|Gd|Tb|Dy|Ho|Er|Tm|Yb|Lu|Hf|Ta|W|Os|Ir|Pt|Au|Pb|Bi)"
_ISOTOPE = rf"(?:{_ELEMENT}\d{{2,3}}|\d{{2,3}}{_ELEMENT})"
_METAL = re.compile(rf"\(?{_ISOTOPE}\)?(?:D[id])?")
_METAL_TAG = re.compile(rf"^{_ISOTOPE}(?:D[id])?[ _-](?=.)|(?<=.)[ _-]?\({_ISOTOPE}\)(?:D[id])?$")


def _technical(channel: str, marker: str, named: bool) -> str | None:
    """What a channel measures if that is no marker. A marker's name counts, the channel's only where it has none."""
    for what, pattern in _TECHNICAL.items():
        if pattern.fullmatch(marker):
            return what
    if named and marker == channel and _METAL.fullmatch(channel):
        return "metal without a marker"
    return None


def _instrument(channels: Sequence[str], hint: str = "") -> str:
    """``mass``, ``fluorescence`` or ``""`` (cannot tell), from an instrument's name and the channels' names."""
    if hint in COFACTORS:
        return hint
    if re.search(r"cytof|helios|dvs|fluidigm|hyperion", hint, re.IGNORECASE):
        return "mass"
    metals = sum(bool(_METAL.fullmatch(c) or _METAL_TAG.search(c)) for c in channels)
    if metals >= max(3, 0.3 * len(channels)):
        return "mass"
    if any(re.match(r"(fsc|ssc)", c, re.IGNORECASE) for c in channels):
        return "fluorescence"
    return ""


def _clean_channels(adata: AnnData, info: dict[str, Any]) -> AnnData:
    """Keep the markers only, and take the metal off their names."""
    markers = [str(m).strip() for m in adata.var_names]
    channels = [str(c).strip() for c in adata.var.get("channel", adata.var_names)]
    # Only where other channels do have marker names does a bare metal mean that nothing was stained with it.
    named = any(_METAL.fullmatch(c) and m != c for c, m in zip(channels, markers))
    reasons = [_technical(channel, marker, named) for channel, marker in zip(channels, markers)]
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
    short = [_METAL_TAG.sub("", str(m)).strip() for m in adata.var_names]
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
    adata, info = _start(adata, "cytometry")
    _keys(adata, info, label_key, batch_key)
    channels = [str(c) for c in adata.var.get("channel", adata.var_names)]
    kind = _instrument(channels, info["instrument"])
    info["instrument"] = kind
    adata = _clean_channels(adata, info)
    values = np.asarray(adata.X, dtype=np.float32)
    maximum = float(values.max())
    if cofactor is None and maximum > RAW_MAXIMUM:
        cofactor = COFACTORS[kind or "mass"]
        told = f"the channels are those of {kind} cytometry" if kind else "mass cytometry is assumed"
        info["messages"].append(
            f"The intensities look raw (maximum {maximum:,.0f}): arcsinh(x / {cofactor:g}) was taken, as {told}; "
            "give a cofactor if that is wrong."
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


# ---------------------------------------------------------------------------------------------------------------------
# files


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
    batches = obs[batch_key].astype(str).to_numpy()
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
        # What was a number in every file is one again.
        if all(column in part.obs and part.obs[column].dtype.kind in "biuf" for part in parts):
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
        RNA only, see :func:`rna`.
    linked_features
        Names of features in a user's own table of links.
    cofactor
        Cytometry only, see :func:`cytometry`.

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
    if modality not in INTEGRATED_MODALITIES:
        raise InputError(
            f"modality {modality!r} cannot be prepared by this version (it can: {', '.join(INTEGRATED_MODALITIES)})"
        )
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
    for path in paths:
        try:
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
    if modality == "protein":
        return protein(adata, batch_key=batch_key, label_key=label_key, linked=linked_features)
    return cytometry(adata, cofactor, batch_key=batch_key, label_key=label_key, linked=linked_features)
