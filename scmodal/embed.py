"""New cells on an existing model: read in any format, put into its latent space, labelled from a reference."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal import io
from scmodal._version import __version__
from scmodal.contracts import SCHEMA_VERSION, InputError, canonical_modality, continuous_problem
from scmodal.inputs import modality_of
from scmodal.transfer import LATENT, clean_labels, find_label_key, find_modality, label_columns, transfer_labels

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

    from scmodal.chromatin import AtacOptions
    from scmodal.inputs import Recipe
    from scmodal.model import ScModal

EMBEDDING = "X_emb"
"""Second key of the latent in ``obsm`` of embedded cells, where benchmarks and viewers look for it."""

LABEL_COLUMNS = {"label": "scmodal_label", "confidence": "scmodal_confidence", "second_label": "scmodal_second_label"}
"""Column of ``obs`` for each column of a table of transferred labels."""

# Cells of the reference that are embedded again to see whether it is of this model, and how far apart they may lie.
_CHECKED = 100
_SAME = 1e-2
_BLOCK = 4096  # rows that are summed at a time


def is_prepared(adata: AnnData) -> bool:
    """Whether an AnnData says that preprocessing made it."""
    own = adata.uns.get("scmodal")
    return isinstance(own, Mapping) and "schema_version" in own


def new_cells(
    adata: AnnData, modality: str, atac_options: AtacOptions | None = None, cofactor: float | None = None
) -> AnnData:
    """Cells in the form a model's recipe takes: raw counts in ``layers["counts"]``, a cytometer's values in ``X``.

    Unlike in preparation for training, no cell and no counted feature is dropped: a gene without a count in these
    cells was measured all the same, and a single cell is enough.

    Parameters
    ----------
    adata
        Prepared, or raw in any of the forms that :func:`scmodal.io.from_anndata` takes; not changed.
    modality
        Canonical name.
    atac_options
        Genes to which peaks are summed, and how; needed where ATAC data are raw peaks.
    cofactor
        With which a cytometer's training cells were transformed (:attr:`scmodal.inputs.Recipe.cofactor`); None tells it
        from the values.

    Returns
    -------
    AnnData, cells in their order; prepared data as they are.

    Raises
    ------
    InputError
        Prepared as another modality, empty, no counts, or values that cannot be.
    """
    own = adata.uns.get("scmodal")
    told = own.get("modality") if isinstance(own, Mapping) else None
    if told is not None and told != modality:
        raise InputError(
            f"the cells are {told} data, not {modality}; give their own modality, or the data of the other one"
        )
    if is_prepared(adata):
        known = own.get("cofactor") if isinstance(own, Mapping) else None
        if cofactor is not None and known is not None and not np.isclose(float(known), cofactor):
            raise InputError(
                f"the cells were prepared with arcsinh(x / {float(known):g}), those of the model with {cofactor:g} (0: "
                "taken as they are); give the raw file"
            )
        return adata
    if modality == "cytometry":
        from scmodal.preprocess import cytometry, cytometry_cells

        return cytometry(adata) if cofactor is None else cytometry_cells(adata, cofactor)
    read = adata if told is not None and "counts" in adata.layers else io.from_anndata(adata, modality)
    summed = isinstance(own, Mapping) and "genome" in own  # as :func:`read_new_cells` gives it
    if modality != "atac" or summed:
        return read
    from scmodal.chromatin import AtacOptions, to_gene_activity

    return to_gene_activity(read, atac_options or AtacOptions())


def read_new_cells(path: str | Path, modality: str, atac_options: AtacOptions | None = None) -> AnnData:
    """Read cells to embed: prepared ``.h5ad``, or any raw file that ``scmodal preprocess`` reads.

    Parameters
    ----------
    path
        File, or 10x matrix folder.
    modality
        Canonical name or alias.
    atac_options
        See :func:`new_cells`; fragments are read with them, too.

    Returns
    -------
    AnnData, see :func:`new_cells`.

    Raises
    ------
    InputError
        Missing, damaged, empty, of another modality, or without counts.
    """
    modality = canonical_modality(modality)
    path = Path(path)
    if io.sniff(path) == "h5ad":
        with h5py.File(path) as file:
            prepared = "uns/scmodal/schema_version" in file
        if prepared:
            return new_cells(io.read_prepared(path), modality)
    if modality == "atac":
        from scmodal.chromatin import AtacOptions, read_atac

        atac_options = atac_options or AtacOptions()
        atac_options = replace(atac_options, genes=atac_options.table())
        return new_cells(read_atac(path, atac_options), modality, atac_options)
    read = io.read_modality(path, modality)
    # a cytometer's values stay raw until the model is there, which knows how they are to be transformed
    return read if modality == "cytometry" else new_cells(read, modality)


def embed_cells(
    model: ScModal, adata: AnnData, modality: str | None = None, atac_options: AtacOptions | None = None
) -> AnnData:
    """New cells with their place in a model's latent space.

    Parameters
    ----------
    model
        A trained model.
    adata
        Cells, prepared or raw; features in any order, other features are no matter.
    modality
        Needed where `adata` does not say it itself.
    atac_options
        See :func:`new_cells`.

    Returns
    -------
    AnnData
        The cells in prepared form, which :meth:`ScModal.impute` takes: raw counts in ``layers["counts"]``, ``X``
        log-normalised, ``obsm["X_scmodal"]`` and, the same, ``obsm["X_emb"]``; ``var["linked"]`` and ``var["used"]``
        tell the features the model was trained on; ``uns["scmodal"]["messages"]`` what was missing.

    Raises
    ------
    InputError
        As :meth:`ScModal.embed`.
    """
    modality = model.known_modality(modality or modality_of(adata))
    recipe = model.recipes[modality]
    adata = new_cells(adata, modality, atac_options, recipe.cofactor)
    z = model.embed(adata, modality)
    result = _own_copy(adata)
    messages = [*result.uns["scmodal"].get("messages", []), *unlike_training(model, result, modality)]
    used = result.var_names.isin(recipe.features)
    if not is_prepared(result):
        _complete(result, recipe, used)
    result.var["linked"] = result.var_names.isin(list(recipe.linked_features))
    result.var["used"] = used
    result.uns["scmodal"]["messages"] = messages
    result.obsm[LATENT] = z
    result.obsm[EMBEDDING] = z.copy()
    return result


def unlike_training(model: ScModal, adata: AnnData, modality: str) -> list[str]:
    """What cells lack that the model was trained on, a sentence each.

    Parameters
    ----------
    model
        A trained model.
    adata
        Cells in prepared form, or with raw counts in ``layers["counts"]``.
    modality
        Of the cells.

    Returns
    -------
    Sentences on features that are not there, unknown batches, and cells without a count; none where all is well.
    """
    recipe = model.recipes[modality]
    messages = []
    missing = _missing(recipe, adata)
    if missing:
        messages.append(
            f"{len(missing):,} of the {len(recipe.features):,} {modality} features the model was trained on "
            f"({len(missing) / len(recipe.features):.1%}) are not in the data ({io.some(missing)}): they count as not "
            "measured and stand at their training mean."
        )
    batches = model.batches.get(modality)
    if batches is not None and (said := batches.unknown(adata)):
        messages.append(said)
    if modality != "cytometry":
        empty = _totals(adata.layers["counts"], adata.var_names.isin(recipe.features)) == 0
        if empty.any():
            messages.append(
                f"{int(empty.sum()):,} cells have no count in the features of the model "
                f"({io.some(list(adata.obs_names[empty]))}): their place in the latent space says nothing."
            )
    return messages


def _own_copy(adata: AnnData) -> AnnData:
    """A copy of all but the matrices that are still in their file: those stay there."""
    from anndata import AnnData

    if not any(io.is_on_disk(matrix) for matrix in (adata.X, *adata.layers.values())):
        return adata.copy()
    return AnnData(
        X=adata.X,
        layers=dict(adata.layers),
        obs=adata.obs.copy(),
        var=adata.var.copy(),
        obsm=dict(adata.obsm),
        uns=deepcopy(dict(adata.uns)),
    )


def _totals(counts: Any, used: np.ndarray) -> np.ndarray:
    """Sum over the used columns of every row."""
    starts = range(0, counts.shape[0], _BLOCK)
    return np.concatenate([np.asarray(counts[s : s + _BLOCK][:, used].sum(axis=1)).ravel() for s in starts])


def _missing(recipe: Recipe, adata: AnnData) -> list[str]:
    """Features of the model that the data lack."""
    return [name for name in recipe.features if name not in adata.var_names]


def _complete(adata: AnnData, recipe: Recipe, used: np.ndarray) -> None:
    """Log-normalise raw counts and add, in place, what else prepared data have; nothing is dropped."""
    from sklearn.utils.sparsefuncs import mean_variance_axis

    counts = adata.layers["counts"]
    total = np.asarray(counts.sum(axis=1, dtype=np.float64)).ravel()
    target = float(np.median(total))
    factor = np.divide(target, total, out=np.zeros_like(total), where=total > 0)
    adata.X = sp.csr_matrix(sp.diags(factor.astype(np.float32)) @ counts).log1p()
    mean, variance = mean_variance_axis(adata.X, axis=0)
    adata.var["mean"], adata.var["std"] = mean, np.sqrt(variance)
    adata.var["highly_variable"] = used
    if recipe.modality in ("rna", "atac"):
        adata.var["highly_variable_rank"] = np.nan
    own = adata.uns["scmodal"]
    adata.uns["scmodal"] = {
        "schema_version": SCHEMA_VERSION,
        "scmodal_version": __version__,
        "modality": recipe.modality,
        "source": list(own.get("source", [])),
        "counts_from": str(own.get("counts_from", "X")),
        "label_key": "",
        "batch_key": "",
        "n_cells": int(adata.n_obs),
        "n_features": int(adata.n_vars),
        "target_sum": target,
        **{key: own[key] for key in ("genome", "gene_activity", "peaks") if key in own},
    }


def embed_file(model: ScModal, path: str | Path, modality: str, atac_options: AtacOptions | None = None) -> AnnData:
    """Read cells (:func:`read_new_cells`) and embed them (:func:`embed_cells`); errors name the file."""
    modality = model.known_modality(modality)
    try:
        return embed_cells(model, read_new_cells(path, modality, atac_options), modality)
    except InputError as error:
        known = [problem if str(path) in problem else f"{path}: {problem}" for problem in error.problems]
        raise InputError(known) from error


def embedding_table(adata: AnnData) -> pd.DataFrame:
    """Latents of embedded cells as a table: `cell`, `modality`, `scmodal_0` ..., one row a cell."""
    z = adata.obsm[LATENT]
    table = pd.DataFrame(z, columns=[f"scmodal_{i}" for i in range(z.shape[1])])
    table.insert(0, "cell", adata.obs_names.to_numpy())
    table.insert(1, "modality", modality_of(adata))
    return table


def label_cells(
    model: ScModal,
    adata: AnnData,
    reference: MuData,
    source: str | None = None,
    label_key: str | None = None,
    k: int = 15,
) -> pd.DataFrame:
    """Label embedded cells by their nearest cells in the integration that the model is of.

    Parameters
    ----------
    model
        The model that embedded the cells.
    adata
        What :func:`embed_cells` gave; the labels are added to its ``obs`` (:data:`LABEL_COLUMNS`).
    reference
        ``integrated.h5mu`` of the same run.
    source
        Modality of the reference whose labels are used; by default the cells' own if it has labels, else the first
        that has.
    label_key
        Column of its ``obs``; by default the one it was prepared with.
    k
        Neighbours that vote, see :func:`scmodal.transfer.transfer_labels`.

    Returns
    -------
    DataFrame
        `cell`, `label`, `confidence` (share of the votes), `second_label`, `entropy`; one row per cell.

    Raises
    ------
    InputError
        The reference is of another model, the modality or column is not there, or there is no label.
    """
    name, key = _labelled(reference, modality_of(adata), source, label_key)
    labelled = reference.mod[name]
    _check_reference(model, labelled, name)
    if not clean_labels(labelled.obs[key])[1].any():
        raise InputError(f"column {key!r} of {name} in the reference has no labels at all; give another --label-key")
    problem = continuous_problem(labelled.obs[key], f"column {key!r} of {name} in the reference")
    if problem:
        raise InputError(f"{problem}; give another --label-key")
    labels = transfer_labels(labelled.obsm[LATENT], labelled.obs[key], adata.obsm[LATENT], k, adata.obs_names)
    for column, own in LABEL_COLUMNS.items():
        adata.obs[own] = labels[column].to_numpy()
    return labels


def _labelled(reference: MuData, modality: str, source: str | None, label_key: str | None) -> tuple[str, str]:
    """Modality and column of the labels to use."""
    if source is not None:
        name = find_modality(reference, source)
        key = find_label_key(reference.mod[name], name, label_key)
        if key is None:
            raise InputError(f"{name} of the reference was prepared without labels; give their column: --label-key")
        return name, key
    for name in sorted(reference.mod, key=lambda name: name != modality):
        adata = reference.mod[name]
        if label_key and label_key not in adata.obs.columns:
            continue
        key = find_label_key(adata, name, label_key)
        if key is not None:
            return name, key
    columns = "; ".join(f"{name}: {', '.join(label_columns(mod)) or 'none'}" for name, mod in reference.mod.items())
    wanted = f"a column {label_key!r}" if label_key else "labels recorded"
    raise InputError(f"no modality of the reference has {wanted}; give --label-key one of its columns ({columns})")


def _check_reference(model: ScModal, adata: AnnData, name: str) -> None:
    """Make sure that a modality of the reference lies where this model puts it."""
    if LATENT not in adata.obsm:
        raise InputError(
            f"{name} of the reference has no obsm[{LATENT!r}]; give the integrated.h5mu of the model's run"
        )
    if not same_run(model, adata, adata.obsm[LATENT], name):
        raise InputError(
            f"the reference's {name} cells do not lie where this model puts them: it is the result of another run; "
            "give the integrated.h5mu beside the model/ folder"
        )


def same_run(model: ScModal, adata: AnnData, z: np.ndarray, modality: str) -> bool:
    """Whether latents are those that a model gives these cells.

    Parameters
    ----------
    model
        A trained model.
    adata
        Prepared cells; some of them are embedded again.
    z
        Their latents in the result of a run, cells x n_latent.
    modality
        Of the cells.
    """
    if modality not in model.modalities or z.shape[1] != model.preset.n_latent:
        return False
    few = adata[:_CHECKED].to_memory()
    there = np.asarray(z[:_CHECKED])
    here = model.embed(few, modality)
    return bool(np.abs(here - there).max() <= _SAME * max(1.0, float(np.abs(there).max())))
