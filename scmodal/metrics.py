"""How good an integration is: one plain function a number, and :func:`evaluate`, which asks them all.

Higher is better for label transfer, imputation and mixing; lower is better for FOSCTTM (0 perfect, 0.5 chance) and
matching distance (0 perfect, 1 chance).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from scmodal.contracts import DataError, InputError, continuous_problem, nearest
from scmodal.neighbours import EXACT_PAIRS, distance_blocks, nearest_neighbours
from scmodal.transfer import LATENT, clean_labels, find_label_key, label_columns

if TYPE_CHECKING:
    from mudata import MuData

# Entries of a block of the cell x cell distance matrix: 64 MB in double precision, whatever the number of cells.
_BLOCK_ENTRIES = 2**23
# Of |a|^2 + |b|^2: distances from a matrix product are exact to some 1e-15 of it, so ties are looked for in this band.
_TIE = 1e-12


def label_transfer(
    z_ref: np.ndarray, labels_ref: Any, z_query: np.ndarray, labels_query: Any, k: int = 1
) -> dict[str, float | int]:
    """How well the labels of the query are found from its nearest neighbours in the reference.

    Parameters
    ----------
    z_ref, z_query
        Latents, n_ref x d and n_query x d.
    labels_ref, labels_query
        One label per cell, without gaps.
    k
        Neighbours (Euclidean) that vote, each one vote; of labels with equal votes the one with the nearest cell
        wins. 1 by definition of the metric.

    Returns
    -------
    dict
        `accuracy`; `macro_f1`, the unweighted mean of F1 over the labels that the query has; `n_cells` (query).

    Raises
    ------
    ValueError
        Lengths or widths do not fit, or there are no cells.
    """
    from sklearn.metrics import f1_score

    ref, query = np.asarray(labels_ref).astype(str), np.asarray(labels_query).astype(str)
    if len(ref) != len(z_ref) or len(query) != len(z_query):
        raise ValueError(f"{len(z_ref)} and {len(z_query)} cells but {len(ref)} and {len(query)} labels")
    if len(query) == 0:
        raise ValueError("the query has no cells")
    classes, codes = np.unique(ref, return_inverse=True)
    indices, _ = nearest_neighbours(_finite(z_ref, "z_ref"), _finite(z_query, "z_query"), k)
    votes = codes[indices]
    winner = votes[:, 0]
    if votes.shape[1] > 1:
        n = len(votes)
        slots = np.arange(n)[:, None] * len(classes) + votes
        counts = np.bincount(slots.ravel(), minlength=n * len(classes)).reshape(n, len(classes))
        of_each = np.take_along_axis(counts, votes, axis=1)
        # Neighbours are nearest first, so the first with the highest count carries the winning label.
        winner = votes[np.arange(n), of_each.argmax(axis=1)]
    predicted = classes[winner]
    macro = f1_score(query, predicted, labels=np.unique(query), average="macro", zero_division=0)
    return {"accuracy": float(np.mean(predicted == query)), "macro_f1": float(macro), "n_cells": len(query)}


def query_cells(n: int) -> np.ndarray:
    """Cells over which FOSCTTM and matching distance of n pairs are taken: all, or a fixed random choice.

    All n x n distances would take hours for a million cells. Up to 2.5e9 of them (50,000 cells) are computed; above,
    as many cells as make about that number are drawn, always the same, and each is compared with all n.

    Parameters
    ----------
    n
        Paired cells.

    Returns
    -------
    Row numbers, ascending.
    """
    if n * n <= EXACT_PAIRS:
        return np.arange(n)
    return np.sort(np.random.default_rng(0).choice(n, size=max(1, EXACT_PAIRS // n), replace=False))


def foscttm(z_a: np.ndarray, z_b: np.ndarray) -> float:
    """Fraction of samples closer than the true match: 0 is perfect, 0.5 is chance.

    For each cell of A, the fraction of the n - 1 cells of B other than its partner that are strictly closer to it
    (Euclidean) than the partner is, those at the same distance counting one half; the same for each cell of B;
    the mean over both. With more than 50,000 cells the mean is over the cells of :func:`query_cells` only.

    Parameters
    ----------
    z_a, z_b
        Latents of the same n cells in the two modalities, n x d, row i of both being cell i.

    Raises
    ------
    ValueError
        Shapes differ, fewer than 2 cells, or values that are not finite.
    """
    a, b = _paired(z_a, z_b)
    n = len(a)
    chosen = query_cells(n)
    true = np.square(a[chosen] - b[chosen]).sum(axis=1)
    band = _TIE * (np.square(a[chosen]).sum(axis=1) + np.square(b[chosen]).sum(axis=1))
    low, high = true - band, true + band
    total = 0
    for queries, others in ((a[chosen], b), (b[chosen], a)):
        for rows, squared in distance_blocks(queries, others, _BLOCK_ENTRIES):
            # "<" plus "<=" counts every closer cell twice and every tie once: twice the number wanted.
            total += int(np.count_nonzero(squared < low[rows, None]) + np.count_nonzero(squared <= high[rows, None]))
    # Each cell's own partner was counted once, as a tie, in either direction.
    total -= 2 * len(chosen)
    return total / (4 * len(chosen) * (n - 1))


def matching_distance(z_a: np.ndarray, z_b: np.ndarray) -> float:
    """Mean distance of the true pairs over the mean distance of all n x n cross pairs: 0 is perfect, 1 is chance.

    Parameters
    ----------
    z_a, z_b
        Latents of the same n cells in the two modalities, n x d, row i of both being cell i. With more than 50,000,
        the cross pairs are those of the cells of A in :func:`query_cells` with all of B.

    Returns
    -------
    float
        NaN if all cells of both modalities are at one place.

    Raises
    ------
    ValueError
        Shapes differ, fewer than 2 cells, or values that are not finite.
    """
    a, b = _paired(z_a, z_b)
    # After centring, a distance of this order is rounding, not distance.
    if max(np.abs(a).max(), np.abs(b).max()) <= 1e-12 * max(np.abs(z_a).max(), np.abs(z_b).max()):
        return float("nan")
    chosen = query_cells(len(a))
    total = 0.0
    for _, squared in distance_blocks(a[chosen], b, _BLOCK_ENTRIES):
        np.maximum(squared, 0.0, out=squared)
        np.sqrt(squared, out=squared)
        total += float(squared.sum())
    return float(np.sqrt(np.square(a - b).sum(axis=1)).mean() / (total / (len(chosen) * len(a))))


def imputation_pearson(imputed: np.ndarray, measured: np.ndarray) -> np.ndarray:
    """Pearson correlation over cells of each feature's imputed with its measured values.

    Parameters
    ----------
    imputed, measured
        Cells x features, the same cells and features in the same order.

    Returns
    -------
    ndarray
        One value per feature; NaN where either is constant or has values that are not finite.

    Raises
    ------
    ValueError
        Shapes differ.
    """
    x, y = np.asarray(imputed), np.asarray(measured)
    if x.ndim != 2 or x.shape != y.shape:
        raise ValueError(f"imputed {x.shape} and measured {y.shape} must be one table of cells x features each")
    r = np.full(x.shape[1], np.nan)
    if x.shape[0] < 2:
        return r
    # By groups of columns: double precision for thousands of features at once would need several copies of the data.
    step = max(1, _BLOCK_ENTRIES // x.shape[0])
    for start in range(0, x.shape[1], step):
        columns = slice(start, start + step)
        u, v = x[:, columns].astype(np.float64), y[:, columns].astype(np.float64)
        usable = np.isfinite(u).all(axis=0) & np.isfinite(v).all(axis=0)
        u, v = np.where(usable, u, 0.0), np.where(usable, v, 0.0)
        # Constant means one value: the standard deviation of a constant column is not 0 after rounding.
        usable &= (u.max(axis=0) > u.min(axis=0)) & (v.max(axis=0) > v.min(axis=0))
        u -= u.mean(axis=0)
        v -= v.mean(axis=0)
        # Scaled first, so that squares of very small or very large values neither vanish nor overflow.
        with np.errstate(divide="ignore", invalid="ignore"):
            u /= np.abs(u).max(axis=0)
            v /= np.abs(v).max(axis=0)
            value = (u * v).sum(axis=0) / np.sqrt(np.square(u).sum(axis=0) * np.square(v).sum(axis=0))
        r[columns] = np.where(usable, np.clip(value, -1.0, 1.0), np.nan)
    return r


def neighbour_mixing(z_a: np.ndarray, z_b: np.ndarray, k: int = 50) -> float:
    """How well the cells of two modalities mix: 1 is fully mixed, 0 is fully apart.

    Let f(i) be the fraction of cells of the other modality among the k nearest neighbours (Euclidean, cell i itself
    left out) of cell i in the joint space of all n_a + n_b cells. If modalities were given at random, f of a cell
    of A would be n_b / (n_a + n_b - 1) on average. The result is ::

        1/2 * ( mean_A f / (n_b / (n_a + n_b - 1)) + mean_B f / (n_a / (n_a + n_b - 1)) )

    so both modalities count the same, however many cells they have. Sampling can take it a little above 1; values
    well above 1 mean that cells prefer the other modality. Where the modalities hold different kinds of cells, full
    mixing is neither possible nor wanted.

    Parameters
    ----------
    z_a, z_b
        Latents, n_a x d and n_b x d; no pairing.
    k
        Neighbours; all other cells where there are fewer.

    Raises
    ------
    ValueError
        Widths differ, a side has no cells, values that are not finite, or k is below 1.
    """
    a, b = _finite(z_a, "z_a"), _finite(z_b, "z_b")
    if a.shape[1] != b.shape[1]:
        raise ValueError(f"z_a has {a.shape[1]} columns and z_b {b.shape[1]}")
    if len(a) == 0 or len(b) == 0:
        raise ValueError("both modalities need cells")
    if k < 1:
        raise ValueError(f"k must be 1 or more, not {k}")
    joint = np.concatenate([a, b])
    n = len(joint)
    k = min(k, n - 1)
    is_b = np.arange(n) >= len(a)
    neighbours, _ = nearest_neighbours(joint, None, k)
    other = (is_b[neighbours] != is_b[:, None]).mean(axis=1)
    share_a = other[: len(a)].mean() / (len(b) / (n - 1))
    share_b = other[len(a) :].mean() / (len(a) / (n - 1))
    return float((share_a + share_b) / 2)


def evaluate(
    mdata: MuData,
    paired: bool,
    label_key: str | None = None,
    model: Any = None,
    seed: int | None = None,
    scib: bool = False,
) -> dict[str, Any]:
    """All metrics of an integrated data set.

    Parameters
    ----------
    mdata
        Result of an integration: ``obsm["X_scmodal"]`` in every modality. Pairs of modalities are named in the
        order of the chain, ``uns["scmodal"]["modalities"]`` (else the order of ``mdata.mod``).
    paired
        Cells of the same name in two modalities are the same cell. FOSCTTM, matching distance and imputation are
        taken over these cells only.
    label_key
        Column of ``obs`` with the labels; by default each modality's ``uns["scmodal"]["label_key"]``. Label
        transfer is over all cells of both modalities that have a label. If `paired`, a modality without the column
        takes the labels of its cells from the partners of the same name.
    model
        Trained model with ``impute(source, target, adata=)`` and ``scaled(adata, modality)``, for the imputation
        metrics (only if `paired`).
    seed
        Copied to the result.
    scib
        Also the scores of scib-metrics (:func:`scmodal.scib.scib_scores`), as `scib`.

    Returns
    -------
    dict
        Plain Python values, ready for JSON: `sample` (None), `n_cells`, `paired`, `n_pairs` (cell names that are
        in more than one modality, or None), `seed`, `foscttm`, `matching_distance`, `label_transfer`, `imputation`,
        `neighbour_mixing`. Pairs of modalities are ``"rna|protein"``, directions ``"rna_to_protein"``. What needs
        pairs, labels (some of the same name on both sides) or a model is absent without them. `label_transfer` also
        counts the query cells left out for want of a label (`n_unlabelled`), and `imputation` the features left out
        because the imputed or the measured values are constant (`n_constant`), and tells the mean correlation that
        was expected and how far it is from the measured one on average (:mod:`scmodal.predictability`). Where two
        modalities share more than 50,000 cells, `n_queries` says for how many of them FOSCTTM and matching distance
        were taken (see :func:`query_cells`).

    Raises
    ------
    InputError
        Fewer than two modalities, no latent, `label_key` in no modality, `paired` with fewer than 2 cell names in
        common, or `scib` without scib-metrics or cells enough.
    DataError
        The latent has values that are not finite: training failed.
    """
    if scib:
        from scmodal.scib import check_installed, scib_scores

        check_installed()
    order = _modalities(mdata)
    cells = {name: _cell_names(mdata, name) for name in order}
    latents = {name: np.asarray(mdata.mod[name].obsm[LATENT], dtype=np.float64) for name in order}
    for name, z in latents.items():
        if not np.isfinite(z).all():
            raise DataError(
                f"obsm[{LATENT!r}] of {name} has values that are not finite: training did not converge. "
                "Train again with another --seed or a lower learning rate"
            )
    pairs = list(itertools.combinations(order, 2))
    shared = _shared_cells(cells, pairs) if paired else {}
    labels = _labels(mdata, order, label_key, cells if paired else None)

    result: dict[str, Any] = {
        "sample": None,
        "n_cells": {name: len(cells[name]) for name in order},
        "paired": bool(paired),
        "n_pairs": len(set().union(*(names.tolist() for names in shared.values()))) if paired else None,
        "seed": seed,
    }
    if paired:
        result["foscttm"], result["matching_distance"] = {}, {}
        sampled = {}
        for (a, b), names in shared.items():
            z_a, z_b = latents[a][cells[a].get_indexer(names)], latents[b][cells[b].get_indexer(names)]
            result["foscttm"][f"{a}|{b}"] = foscttm(z_a, z_b)
            result["matching_distance"][f"{a}|{b}"] = matching_distance(z_a, z_b)
            if len(query_cells(len(names))) < len(names):
                sampled[f"{a}|{b}"] = len(query_cells(len(names)))
        if sampled:
            result["n_queries"] = sampled
    transfer = {}
    for a, b in pairs:
        for source, target in ((a, b), (b, a)):
            scores = _transfer_scores(latents, labels, source, target)
            if scores is not None:
                transfer[f"{source}_to_{target}"] = scores
    if transfer:
        result["label_transfer"] = transfer
    if paired and model is not None:
        result["imputation"] = {
            f"{source}_to_{target}": _imputation_scores(model, mdata, source, target, names)
            for (a, b), names in shared.items()
            for source, target in ((a, b), (b, a))
        }
    result["neighbour_mixing"] = {f"{a}|{b}": neighbour_mixing(latents[a], latents[b]) for a, b in pairs}
    if scib:
        result["scib"] = scib_scores(latents, {name: text for name, (_, text, _) in labels.items()})
    return result


def _modalities(mdata: MuData) -> list[str]:
    """Modalities in the order of the chain, each with a latent."""
    there = list(mdata.mod)
    recorded = mdata.uns.get("scmodal", {})
    chain = recorded.get("modalities") if isinstance(recorded, Mapping) else None
    order = [str(name) for name in chain] if chain is not None and len(chain) else there
    problems = [
        f"no modality {name!r} in these data (there are: {', '.join(there)})" for name in order if name not in there
    ]
    if len(order) < 2:
        problems.append(f"evaluation needs two modalities or more, and there is only {', '.join(order) or 'none'}")
    problems += [
        f"modality {name!r} has no obsm[{LATENT!r}]; give the integrated.h5mu of `scmodal integrate`"
        for name in order
        if name in there and LATENT not in mdata.mod[name].obsm
    ]
    if problems:
        raise InputError(problems)
    return order


def _cell_names(mdata: MuData, name: str) -> pd.Index:
    """Cell names of a modality, which must be unique to pair by."""
    names = pd.Index(mdata.mod[name].obs_names.astype(str))
    if not names.is_unique:
        twice = names[names.duplicated()].unique()[:3]
        raise InputError(f"cell names of {name} are not unique, e.g. {', '.join(map(repr, twice))}; make them unique")
    return names


def _shared_cells(cells: Mapping[str, pd.Index], pairs: list[tuple[str, str]]) -> dict[tuple[str, str], pd.Index]:
    """Cells that two modalities share, in the order of the first; pairs of modalities that share none are left out."""
    shared = {}
    for a, b in pairs:
        names = cells[a][cells[a].isin(cells[b])]
        if len(names) >= 2:
            shared[a, b] = names
    if not shared:
        examples = "; ".join(f"{name}: {', '.join(map(repr, index[:3]))}" for name, index in cells.items())
        raise InputError(
            "--paired says that cells of the same name are the same cell, but fewer than 2 cell names are in more than "
            f"one modality ({examples}). Give the cells the same names in every modality (mind suffixes such as '-1'), "
            "or leave out --paired"
        )
    return shared


def _labels(
    mdata: MuData, order: list[str], label_key: str | None, pair_by: Mapping[str, pd.Index] | None
) -> dict[str, tuple[str, np.ndarray, np.ndarray]]:
    """(column, labels, present) of each modality that has labels, its own or by way of its paired cells."""
    labels: dict[str, tuple[str, np.ndarray, np.ndarray]] = {}
    problems: list[str] = []
    for name in order:
        adata = mdata.mod[name]
        if label_key and label_key not in adata.obs.columns:
            continue
        key = find_label_key(adata, name, label_key)
        if key is not None:
            labels[name] = (key, *clean_labels(adata.obs[key]))
            problem = continuous_problem(adata.obs[key], f"column {key!r} of {name}")
            problems += [f"{problem}; give --label-key a column with labels"] if problem else []
    if problems:
        raise InputError(problems)
    if label_key and not labels:
        columns = {name: label_columns(mdata.mod[name]) for name in order}
        close = nearest(label_key, list(dict.fromkeys(itertools.chain.from_iterable(columns.values()))))
        hint = f"; did you mean {close[0]!r}?" if close else ""
        listed = "; ".join(f"{name}: {', '.join(cols) or 'none'}" for name, cols in columns.items())
        raise InputError(f"no modality has a column {label_key!r} in obs{hint} (columns of {listed})")
    if label_key and not any(present.any() for _, _, present in labels.values()):
        raise InputError(f"column {label_key!r} has no labels at all; give --label-key another one")
    if pair_by is not None:
        own = dict(labels)
        for name in order:
            for partner, (key, text, _) in own.items():
                if name in labels:
                    break
                at = pair_by[partner].get_indexer(pair_by[name])
                if (at >= 0).any():
                    labels[name] = (key, *clean_labels(np.where(at >= 0, text[at], "")))
    return labels


def _transfer_scores(
    latents: Mapping[str, np.ndarray],
    labels: Mapping[str, tuple[str, np.ndarray, np.ndarray]],
    source: str,
    target: str,
) -> dict[str, Any] | None:
    """Scores of one direction over the labelled cells of both sides; None if no label is on both."""
    if source not in labels or target not in labels:
        return None
    key, ref_labels, ref_present = labels[source]
    _, query_labels, query_present = labels[target]
    # Where the sides name their labels differently (clusters here, cell types there), right and wrong have no meaning.
    if not set(ref_labels[ref_present]) & set(query_labels[query_present]):
        return None
    scores: dict[str, Any] = dict(
        label_transfer(
            latents[source][ref_present],
            ref_labels[ref_present],
            latents[target][query_present],
            query_labels[query_present],
        )
    )
    return {**scores, "label_key": key, "n_unlabelled": int((~query_present).sum())}


def _imputation_scores(model: Any, mdata: MuData, source: str, target: str, names: pd.Index) -> dict[str, Any]:
    """Pearson of imputed with measured scaled values of the paired cells, over the target's features that vary."""
    measured, features = model.scaled(mdata.mod[target], target)
    imputed = model.impute(source, target, adata=mdata.mod[source])
    features = pd.Index([str(f) for f in features])
    predicted = pd.Index(imputed.var_names.astype(str))
    common = features[features.isin(predicted)]
    if len(common) == 0:
        raise DataError(
            f"the model imputes no feature of {target} that is in these data; was it trained on other data?"
        )
    x = _rows(imputed.layers["scaled"], pd.Index(imputed.obs_names.astype(str)).get_indexer(names))
    y = _rows(measured, pd.Index(mdata.mod[target].obs_names.astype(str)).get_indexer(names))
    if not common.equals(predicted):
        x = x[:, predicted.get_indexer(common)]
    if not common.equals(features):
        y = y[:, features.get_indexer(common)]
    r = imputation_pearson(x, y)
    varies = np.isfinite(r)
    scores = {
        "pearson_mean": float(r[varies].mean()) if varies.any() else float("nan"),
        "pearson_median": float(np.median(r[varies])) if varies.any() else float("nan"),
        "n_features": int(varies.sum()),
        "n_constant": int((~varies).sum()),
        "per_feature": {str(f): float(value) for f, value in zip(common[varies], r[varies])},
    }
    if "expected_r" in imputed.var and varies.any():
        expected = imputed.var["expected_r"].to_numpy(np.float64)[predicted.get_indexer(common)][varies]
        scores["expected_mean"] = float(expected.mean())
        scores["expected_error"] = float(np.abs(expected - r[varies]).mean())
    return scores


def _rows(matrix: Any, rows: np.ndarray) -> np.ndarray:
    """Rows of a matrix, dense."""
    if (rows < 0).any():
        raise DataError("the model's values are not of the cells of these data; give the model trained on them")
    picked = matrix[rows]
    return picked.toarray() if sp.issparse(picked) else np.asarray(picked)


def _finite(z: Any, name: str) -> np.ndarray:
    """Finite two-dimensional float64 array."""
    array = np.ascontiguousarray(z, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be cells x dimensions, not of shape {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} has values that are not finite")
    return array


def _paired(z_a: Any, z_b: Any) -> tuple[np.ndarray, np.ndarray]:
    """Both latents about their common mean, where distances from matrix products lose the fewest digits."""
    a, b = _finite(z_a, "z_a"), _finite(z_b, "z_b")
    if a.shape != b.shape:
        raise ValueError(f"rows must be paired: z_a is {a.shape} and z_b {b.shape}")
    if len(a) < 2:
        raise ValueError("at least 2 paired cells are needed")
    centre = (a.mean(axis=0) + b.mean(axis=0)) / 2
    return a - centre, b - centre
