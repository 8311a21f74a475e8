"""From prepared data sets and links to the matrices that the engine trains on, and the recipe to make them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from scmodal.contracts import DataError, InputError
from scmodal.links import LinkTable
from scmodal.presets import Preset, pairs_of

MIN_LINKS = 3


@dataclass
class Block:
    """Columns that are normalised together."""

    features: list[str]
    """Names; the same name may stand several times in a linked block, once a link."""
    target_sum: float | None
    """Total to which a cell's counts in the block are brought before log1p; None takes values as they are."""
    linked: bool
    """Whether these are the linked columns of a pair of data sets, or the rest."""


@dataclass
class Recipe:
    """How one data set's engine input is computed from its counts, with the numbers learnt in training.

    Attributes
    ----------
    blocks
        One linked block for each data set that this one is matched with, then the rest.
    mean, std
        Of the normalised columns over the training cells (ddof 1), float32, length = number of columns.
    clip
        Scaled values are clipped to plus or minus this value.
    """

    modality: str
    blocks: list[Block]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    clip: float

    @property
    def columns(self) -> list[str]:
        """Feature of every input column."""
        return [name for block in self.blocks for name in block.features]

    @property
    def features(self) -> list[str]:
        """The distinct features, in order of first appearance."""
        return list(dict.fromkeys(self.columns))

    @property
    def linked_features(self) -> set[str]:
        """Features that have a link."""
        return {name for block in self.blocks if block.linked for name in block.features}

    def per_feature(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Average the columns of each distinct feature: cells x columns -> cells x features."""
        codes, _ = pd.factorize(np.asarray(self.columns, dtype=object))
        if len(codes) == codes.max() + 1:
            return values
        weights = sparse.csr_matrix((np.ones(len(codes), np.float32), (np.arange(len(codes)), codes)))
        weights = weights.multiply(1.0 / np.bincount(codes)[None, :]).tocsr().astype(np.float32)
        return np.asarray((weights.T @ values.T).T, dtype=np.float32)

    def normalised(self, adata: AnnData) -> NDArray[np.float32]:
        """Log-normalised values, cells x columns.

        Raises
        ------
        InputError
            More than half of the features are not in `adata`.
        """
        position = {name: i for i, name in enumerate(adata.var_names)}
        missing = [name for name in self.features if name not in position]
        if len(missing) > len(self.features) / 2:
            raise InputError(
                f"{len(missing)} of the {len(self.features)} {self.modality} features the model was trained on are not "
                f"in the data (for example {', '.join(missing[:5])}): are these the same feature names?"
            )
        source = _source(adata, self.modality)
        absent = set(missing)
        parts = []
        for block in self.blocks:
            columns = _take(source, [position.get(name, 0) for name in block.features])
            if absent:
                columns[:, [name in absent for name in block.features]] = 0.0
            parts.append(_log_normalise(columns, block.target_sum))
        values = np.concatenate(parts, axis=1)
        if absent:  # a feature that was not measured says nothing: it stands at its training mean
            gone = np.array([name in absent for name in self.columns])
            values[:, gone] = self.mean[gone]
        return values

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Scaled engine input, cells x columns."""
        values = self.normalised(adata)
        values -= self.mean
        values /= self.std
        return np.clip(values, -self.clip, self.clip, out=values)

    def unscale(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """From scaled back to log-normalised units, cells x columns."""
        return values * self.std + self.mean

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form (numbers as float lists)."""
        out = dataclasses.asdict(self)
        out["mean"], out["std"] = self.mean.tolist(), self.std.tolist()
        return out

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Recipe:
        """Back from :meth:`to_dict`."""
        return cls(
            modality=data["modality"],
            blocks=[Block(**block) for block in data["blocks"]],
            mean=np.asarray(data["mean"], np.float32),
            std=np.asarray(data["std"], np.float32),
            clip=float(data["clip"]),
        )


@dataclass
class EngineInput:
    """One data set as the engine sees it.

    Attributes
    ----------
    x
        Scaled input, cells x columns, float32.
    linked
        For each pair that the data set is in (by the pair's position) the linked columns anchors are sought on,
        cells x links, in the order of the pair's links.
    """

    modality: str
    recipe: Recipe
    x: NDArray[np.float32]
    linked: dict[int, NDArray[np.float32]] = field(default_factory=dict)


def _source(adata: AnnData, modality: str) -> Any:
    """Matrix the engine's input is computed from: raw counts, or the measured values of a cytometer."""
    return adata.X if modality == "cytometry" else adata.layers["counts"]


def _take(matrix: Any, index: Sequence[int]) -> NDArray[np.float32]:
    """Dense float32 copy of some columns."""
    columns = matrix[:, np.asarray(index, dtype=int)]
    return np.array(columns.toarray() if sparse.issparse(columns) else columns, dtype=np.float32)


def _log_normalise(values: NDArray[np.float32], target_sum: float | None) -> NDArray[np.float32]:
    """Bring every row to the same total and take log1p; rows without a count stay zero."""
    if target_sum is None:
        return values
    total = values.sum(1, keepdims=True)
    values *= np.divide(np.float32(target_sum), total, out=np.zeros_like(total), where=total > 0)
    return np.log1p(values, out=values)


def _varies(matrix: Any) -> NDArray[np.bool_]:
    """Whether a column takes more than one value."""
    if sparse.issparse(matrix):
        low, high = matrix.min(0).toarray().ravel(), matrix.max(0).toarray().ravel()
    else:
        low, high = np.min(matrix, 0), np.max(matrix, 0)
    return np.asarray(high > low)


def modality_of(adata: AnnData) -> str:
    """Modality that `preprocess` wrote into a prepared data set.

    Raises
    ------
    InputError
        The data set was not prepared.
    """
    settings = adata.uns.get("scmodal")
    if not isinstance(settings, dict) or "modality" not in settings:
        raise InputError(
            "data set has no uns['scmodal']['modality']: run `scmodal preprocess` (scmodal.preprocess) first"
        )
    return str(settings["modality"])


def _pair_targets(a: Any, b: Any, modalities: tuple[str, str], preset: Preset) -> tuple[float | None, float | None]:
    """Totals to which the two linked blocks of a pair are normalised.

    Counts on both sides: one target, the median total of the RNA side (the first side where neither or both are RNA).
    A cytometer's values are used as they are, and its partner is brought to the median of their back-transformed sum.
    """
    if "cytometry" in modalities:
        if modalities[0] == modalities[1]:
            return None, None
        first = modalities[0] == "cytometry"
        target = float(np.median(np.expm1(a if first else b).sum(1)))
        return (None, target) if first else (target, None)
    reference = b if modalities[1] == "rna" and modalities[0] != "rna" else a
    target = max(float(np.median(reference.sum(1))), preset.min_target_sum)
    return target, target


def _rest_features(adata: AnnData, modality: str, linked: set[str], varies: NDArray[np.bool_], n_top: int) -> list[str]:
    """Features beside the linked ones: for RNA the most variable, else all that vary."""
    free = pd.Series(varies, index=adata.var_names)
    free &= ~adata.var_names.isin(list(linked))
    if modality != "rna":
        return list(free.index[free])
    rank = adata.var["highly_variable_rank"][free].dropna().sort_values(kind="stable")
    chosen = set(rank.index[:n_top])
    return [name for name in adata.var_names if name in chosen]


def build_inputs(adatas: Sequence[AnnData], links: LinkTable, preset: Preset) -> list[EngineInput]:
    """Engine inputs of prepared data sets.

    Parameters
    ----------
    adatas
        Prepared data sets (two or more), in their order.
    links
        Links between the features of the data sets that the preset's topology pairs.
    preset
        Topology, number of further genes, clipping, least normalisation target and smoothing are taken from it.

    Returns
    -------
    One input a data set; ``linked[k]`` has as many columns in the one data set of pair k as in the other.

    Raises
    ------
    InputError
        Fewer than two data sets, unprepared ones, or fewer than three usable links between two of them.
    DataError
        A data set has fewer than two cells.
    """
    if len(adatas) < 2:
        raise InputError("integration needs two or more data sets")
    modalities = [modality_of(adata) for adata in adatas]
    for adata, modality in zip(adatas, modalities):
        if adata.n_obs < 2:
            raise DataError(f"the {modality} data set has {adata.n_obs} cell(s); integration needs at least two")
    varies = [_varies(_source(adata, modality)) for adata, modality in zip(adatas, modalities)]
    blocks: list[list[Block]] = [[] for _ in adatas]
    values: list[list[NDArray[np.float32]]] = [[] for _ in adatas]

    pairs = pairs_of(preset.topology, len(adatas))
    for i, j in pairs:
        usable = [set(adatas[side].var_names[varies[side]]) for side in (i, j)]
        table = links.between(modalities[i], modalities[j])
        table = table[table["feature_a"].isin(usable[0]) & table["feature_b"].isin(usable[1])]
        if len(table) < MIN_LINKS:
            raise InputError(
                f"{len(table)} of {len(links)} links join {modalities[i]} to {modalities[j]} features that are in "
                f"the data and vary; at least {MIN_LINKS} are needed. Check the feature names with `scmodal link`, "
                "or give a table of links."
            )
        names = (list(table["feature_a"]), list(table["feature_b"]))
        raw = [
            _take(_source(adatas[k], modalities[k]), adatas[k].var_names.get_indexer(features))
            for k, features in zip((i, j), names)
        ]
        targets = _pair_targets(raw[0], raw[1], (modalities[i], modalities[j]), preset)
        for k, features, columns, target in zip((i, j), names, raw, targets):
            blocks[k].append(Block(features, target, linked=True))
            values[k].append(_log_normalise(columns, target))

    inputs = []
    for k, (adata, modality) in enumerate(zip(adatas, modalities)):
        linked = {name for block in blocks[k] for name in block.features}
        n_top = min(preset.n_top_genes, int(adata.uns["scmodal"].get("n_top_genes", 0)) or preset.n_top_genes)
        rest = _rest_features(adata, modality, linked, varies[k], n_top)
        if rest:
            raw_rest = _take(_source(adata, modality), adata.var_names.get_indexer(rest))
            target = None
            if modality != "cytometry":
                totals = raw_rest.sum(1)
                target = float(np.median(totals[totals > 0]))
            blocks[k].append(Block(rest, target, linked=False))
            values[k].append(_log_normalise(raw_rest, target))
        inputs.append(_scale(modality, blocks[k], values[k], preset))

    _add_linked(inputs, pairs, preset)
    return inputs


def _scale(modality: str, blocks: list[Block], values: list[NDArray[np.float32]], preset: Preset) -> EngineInput:
    """Scale the joined blocks; a column that became constant by normalisation stays, at zero."""
    x = np.concatenate(values, axis=1)
    mean = x.mean(0, dtype=np.float64)
    std = x.std(0, ddof=1, dtype=np.float64)
    std[std < 1e-12] = 1.0
    recipe = Recipe(modality, blocks, mean.astype(np.float32), std.astype(np.float32), preset.scale_clip)
    x -= recipe.mean
    x /= recipe.std
    np.clip(x, -recipe.clip, recipe.clip, out=x)
    return EngineInput(modality, recipe, x)


def _add_linked(inputs: list[EngineInput], pairs: Sequence[tuple[int, int]], preset: Preset) -> None:
    """Cut out (and smooth) the linked columns of every pair."""
    from scmodal.anchors import smooth

    for k, item in enumerate(inputs):
        start = 0
        # blocks stand in the order of the pairs, then the rest
        for pair, block in zip([p for p, members in enumerate(pairs) if k in members], item.recipe.blocks):
            item.linked[pair] = item.x[:, start : start + len(block.features)]
            start += len(block.features)
        joined = np.concatenate(list(item.linked.values()), axis=1)
        joined = smooth(joined, item.x, preset.smoothing, preset.smoothing_neighbours, preset.smoothing_components)
        cuts = np.cumsum([part.shape[1] for part in item.linked.values()])[:-1]
        item.linked = dict(zip(item.linked, np.split(joined, cuts, axis=1)))
