"""From prepared data sets and links to the matrices that the engine trains on, and the recipe to make them again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from anndata import AnnData
from numpy.typing import NDArray
from scipy import sparse

from scmodal.batches import Batches
from scmodal.components import joint_components, principal_components
from scmodal.contracts import DataError, InputError
from scmodal.io import in_memory_limit
from scmodal.links import LinkTable
from scmodal.presets import Preset, pairs_of
from scmodal.rows import BLOCK, CountView, LazyRows, Rows, RowStore, column_moments, column_ranges, row_chunks, row_sums

if TYPE_CHECKING:
    from scmodal.matching import Side

MIN_LINKS = 3
"""Fewest links between two data sets."""

MIN_DISTINCT = 2
"""Fewest distinct features of each of them in these links: one alone, brought to its own total, says nothing."""

_CONSTANT = 1e-6  # standard deviation of a column that only rounding moves, relative to its mean


@dataclass
class Block:
    """Columns that are normalised together."""

    features: list[str]
    """Names; the same name may stand several times in a linked block, once a link."""
    target_sum: float | None
    """Total to which a cell's counts in the block are brought before log1p; None takes values as they are."""
    linked: bool
    """Whether these are the linked columns of a pair of data sets, or the rest."""

    @property
    def single(self) -> bool:
        """Whether it is one feature, whose share of the block's total would be all of it in every cell."""
        return self.target_sum is not None and len(set(self.features)) == 1


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
    cofactor
        Of the arcsinh that a cytometer's values were transformed with in preparation; 0 where they were taken as they
        are; None where that is not known (other modalities, models of earlier versions).
    """

    modality: str
    blocks: list[Block]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    clip: float
    cofactor: float | None = None

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

    def view(self, adata: AnnData) -> tuple[CountView, NDArray[np.bool_]]:
        """The input's columns in `adata`, unscaled, and which of them are not there.

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
        columns = np.array([position.get(name, 0) for name in self.columns])
        absent = set(missing)
        return CountView(source_matrix(adata, self.modality), columns=columns), np.array(
            [name in absent for name in self.columns]
        )

    def log_normalise(self, counts: sparse.csr_matrix) -> NDArray[np.float32]:
        """log1p of the stored values, each cell's total in each block brought to the block's target.

        Of a block of a single feature (one protein without a link) the counts are taken as they are before log1p.

        Parameters
        ----------
        counts
            Cells x columns, CSR.

        Returns
        -------
        One value a stored value, in the same order; those of blocks without a target as they are.
        """
        targets = np.array([np.nan if b.target_sum is None else b.target_sum for b in self.blocks], np.float32)
        if np.isnan(targets).all():
            return np.asarray(counts.data)
        n_blocks = len(self.blocks)
        block = np.repeat(np.arange(n_blocks), [len(b.features) for b in self.blocks])
        place = np.repeat(np.arange(counts.shape[0]) * n_blocks, np.diff(counts.indptr)) + block[counts.indices]
        # exact in double precision, in whichever order the columns are stored
        totals = np.bincount(place, weights=counts.data, minlength=counts.shape[0] * n_blocks).astype(np.float32)
        factors = np.divide(np.tile(targets, counts.shape[0]), totals, out=np.zeros_like(totals), where=totals > 0)
        factors[np.tile([b.single for b in self.blocks], counts.shape[0])] = 1.0
        values = np.log1p(counts.data * factors[place])
        return np.where(np.isnan(targets)[block[counts.indices]], counts.data, values)

    def scale(self, counts: sparse.csr_matrix) -> NDArray[np.float32]:
        """Scaled engine input (dense, float32) of some cells' counts (CSR, the input's columns)."""
        zero = np.clip((np.zeros_like(self.mean) - self.mean) / self.std, -self.clip, self.clip)
        scaled = (self.log_normalise(counts) - self.mean[counts.indices]) / self.std[counts.indices]
        return _scatter(counts, np.clip(scaled, -self.clip, self.clip), zero)

    def normalised(self, adata: AnnData) -> NDArray[np.float32]:
        """Log-normalised values, cells x columns; a feature that `adata` lacks stands at its training mean.

        Raises
        ------
        InputError
            More than half of the features are not in `adata`.
        """
        view, absent = self.view(adata)
        zero = np.zeros_like(self.mean)
        values = np.concatenate(
            [_scatter(part, self.log_normalise(part), zero) for part in blanked(view, absent, BLOCK)]
        )
        values[:, absent] = self.mean[absent]
        return values

    def chunks(self, adata: AnnData, size: int = BLOCK) -> Iterator[NDArray[np.float32]]:
        """Scaled engine input of all cells in order, `size` at a time; a feature that `adata` lacks stands at 0.

        Raises
        ------
        InputError
            More than half of the features are not in `adata`.
        """
        view, absent = self.view(adata)
        for part in blanked(view, absent, size):
            scaled = self.scale(part)
            scaled[:, absent] = 0.0
            yield scaled

    def transform(self, adata: AnnData) -> NDArray[np.float32]:
        """Scaled engine input, cells x columns; see :meth:`chunks`."""
        return np.concatenate(list(self.chunks(adata)))

    def unscale(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """From scaled back to log-normalised units, cells x columns."""
        return values * self.std + self.mean

    @classmethod
    def unfitted(cls, adata: AnnData, blocks: list[Block], preset: Preset) -> Recipe:
        """A recipe whose columns are known, but whose means and deviations are not learnt yet."""
        p = sum(len(block.features) for block in blocks)
        modality = modality_of(adata)
        cofactor = float(adata.uns["scmodal"].get("cofactor", 0.0)) if modality == "cytometry" else None
        return cls(modality, blocks, np.zeros(p, np.float32), np.ones(p, np.float32), preset.scale_clip, cofactor)

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
            cofactor=data.get("cofactor"),
        )


@dataclass
class EngineInput:
    """One data set as the engine sees it.

    Attributes
    ----------
    x
        Scaled input, cells x columns, float32: in memory, or for large data rows that are made when taken.
    linked
        For each pair that the data set is in (by the pair's position) what anchors are sought on, cells x columns: the
        linked columns in the order of the pair's links, components of them, or matched coordinates.
    weights
        For each of these pairs how much each link counts, 1 on average; no entry where all count alike.
    counterpart
        For each of these pairs how much of a counterpart each cell has (:mod:`scmodal.counterpart`); empty where cells
        are not matched before training.
    sides
        For each of these pairs what to match cells anew by in training; empty where they are not.
    batches, told
        The batches that the networks are told of, and what they are told of each cell (cells x batches); or None.
    """

    modality: str
    recipe: Recipe
    x: Rows
    linked: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    weights: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    counterpart: dict[int, NDArray[np.float32]] = field(default_factory=dict)
    sides: dict[int, Side] = field(default_factory=dict)
    batches: Batches | None = None
    told: NDArray[np.float32] | None = None


def source_matrix(adata: AnnData, modality: str) -> Any:
    """Matrix the engine's input is computed from: raw counts, or the measured values of a cytometer."""
    return adata.X if modality == "cytometry" else adata.layers["counts"]


def _scatter(counts: sparse.csr_matrix, values: NDArray[np.float32], zero: NDArray[np.float32]) -> NDArray[np.float32]:
    """Dense matrix with `values` where `counts` has stored ones, and each column's `zero` elsewhere."""
    dense = np.tile(zero, (counts.shape[0], 1))
    rows = np.repeat(np.arange(counts.shape[0]) * counts.shape[1], np.diff(counts.indptr))
    dense.reshape(-1)[rows + counts.indices] = values
    return dense


def blanked(view: CountView, absent: NDArray[np.bool_], size: int) -> Iterator[sparse.csr_matrix]:
    """Blocks of rows with nothing in the columns that are absent."""
    for part in view.blocks(size):
        if absent.any():
            part.data[absent[part.indices]] = 0.0
            part.eliminate_zeros()
        yield part


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


def _pair_targets(
    a: CountView, b: CountView, modalities: tuple[str, str], preset: Preset
) -> tuple[float | None, float | None]:
    """Totals to which the two linked blocks of a pair are normalised.

    Counts on both sides: one target, the median total of the RNA side (the first side where neither or both are RNA).
    A cytometer's values are used as they are, and its partner is brought to the median of their back-transformed sum.
    """
    if "cytometry" in modalities:
        if modalities[0] == modalities[1]:
            return None, None
        first = modalities[0] == "cytometry"
        sums = [np.expm1(part.toarray()).sum(1) for part in (a if first else b).blocks()]
        target = float(np.median(np.concatenate(sums)))
        # values of which most are negative (logs of fractions, z-scores) have no such sum
        target = target if target > 0.0 else preset.min_target_sum
        return (None, target) if first else (target, None)
    reference = b if modalities[1] == "rna" and modalities[0] != "rna" else a
    target = max(float(np.median(row_sums(reference.blocks()))), preset.min_target_sum)
    return target, target


def _rest_features(
    adata: AnnData, modality: str, linked: set[str], varies: NDArray[np.bool_], n_top: int | None
) -> list[str]:
    """Features beside the linked ones: of genes (RNA, gene activity) the `n_top` most variable, else all that vary.

    None takes all ranked genes.
    """
    free = pd.Series(varies, index=adata.var_names)
    free &= ~adata.var_names.isin(list(linked))
    if modality not in ("rna", "atac"):
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
    sources = [source_matrix(adata, modality) for adata, modality in zip(adatas, modalities)]
    ranges = [_Range(*column_ranges(CountView(source).blocks())) for source in sources]
    varies = [found.high > found.low for found in ranges]
    blocks: list[list[Block]] = [[] for _ in adatas]
    weights: dict[int, NDArray[np.float32]] = {}

    pairs = pairs_of(preset.topology, len(adatas))
    for pair, (i, j) in enumerate(pairs):
        usable = [set(adatas[side].var_names[varies[side]]) for side in (i, j)]
        table = links.between(modalities[i], modalities[j])
        what = "features that are in the data and vary"  # for the message if there are too few
        if preset.chromatin_genes and _with_chromatin(modalities[i], modalities[j]):
            what += f", among the {preset.chromatin_genes:,} most variable genes of each (chromatin_genes)"
            usable = [
                names & _first_ranked(adatas[side], preset.chromatin_genes) for names, side in zip(usable, (i, j))
            ]
        if (table["weight"] == 0).any():
            what += " and have a weight above 0"
        table = table[table["feature_a"].isin(usable[0]) & table["feature_b"].isin(usable[1]) & (table["weight"] > 0)]
        if len(table) < MIN_LINKS:
            raise InputError(
                f"{len(table)} of {len(links)} links join {modalities[i]} to {modalities[j]} {what}; at least "
                f"{MIN_LINKS} are needed. Check the feature names with `scmodal link`, or give a table of links."
            )
        for k, column in ((i, "feature_a"), (j, "feature_b")):
            distinct = table[column].nunique()
            if distinct < MIN_DISTINCT:
                raise InputError(
                    f"the {len(table)} links between {modalities[i]} and {modalities[j]} hold {distinct} distinct "
                    f"{modalities[k]} feature(s) that vary; at least {MIN_DISTINCT} are needed. Give a table of links "
                    "with more of them."
                )
        if (table["weight"] != table["weight"].iloc[0]).any():
            weights[pair] = (table["weight"] / table["weight"].mean()).to_numpy(np.float32)
        names = (list(table["feature_a"]), list(table["feature_b"]))
        views = [
            CountView(sources[k], columns=adatas[k].var_names.get_indexer(features))
            for k, features in zip((i, j), names)
        ]
        targets = _pair_targets(views[0], views[1], (modalities[i], modalities[j]), preset)
        for k, features, target in zip((i, j), names, targets):
            blocks[k].append(Block(features, target, linked=True))

    inputs = []
    for k, (adata, modality) in enumerate(zip(adatas, modalities)):
        linked = {name for block in blocks[k] for name in block.features}
        # more are ranked than were asked for, see scmodal.preprocess
        n_top = preset.n_top_genes if preset.n_top_genes >= 0 else adata.uns["scmodal"].get("n_top_genes")
        usable_rest = varies[k]
        if preset.chromatin_genes and all(
            _with_chromatin(modalities[i], modalities[j]) for i, j in pairs if k in (i, j)
        ):
            usable_rest = usable_rest & adata.var_names.isin(_first_ranked(adata, preset.chromatin_genes))
        rest = _rest_features(adata, modality, linked, usable_rest, n_top)
        if rest:
            target = None
            if modality != "cytometry":
                totals = row_sums(CountView(sources[k], columns=adata.var_names.get_indexer(rest)).blocks())
                target = float(np.median(totals[totals > 0]))
            blocks[k].append(Block(rest, target, linked=False))
        inputs.append(_scale(adata, ranges[k], Recipe.unfitted(adata, blocks[k], preset)))
        inputs[-1].weights = {pair: values for pair, values in weights.items() if k in pairs[pair]}

    if preset.batch_covariate:
        for item, adata in zip(inputs, adatas):
            item.batches = Batches.of(adata)
            item.told = item.batches.rows(adata) if item.batches else None
    _add_linked(inputs, adatas, pairs, preset)
    return inputs


def _with_chromatin(first: str, second: str) -> bool:
    """Whether two modalities are RNA and chromatin."""
    return {first, second} == {"rna", "atac"}


def _first_ranked(adata: AnnData, n: int) -> set[str]:
    """The `n` most variable of a data set's genes."""
    return set(adata.var_names[(adata.var["highly_variable_rank"] < n).to_numpy()])


@dataclass
class _Range:
    """Least and greatest value of each column, and whether all are whole numbers."""

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    whole: bool


def _scale(adata: AnnData, found: _Range, recipe: Recipe) -> EngineInput:
    """Learn the recipe's means and deviations; a column that became constant by normalisation stays, at zero."""
    view, _ = recipe.view(adata)
    counts: RowStore | sparse.csr_matrix
    large = 4.0 * view.shape[0] * view.shape[1] > in_memory_limit()
    if large:
        whole = found.whole and bool(found.low.min() >= 0)
        counts = RowStore(view.blocks(), view.shape[1], float(found.high.max()), whole)
    else:
        counts = view.to_memory()
    blocks = CountView(counts).blocks

    def normalised() -> Iterator[sparse.csr_matrix]:
        for part in blocks():
            yield sparse.csr_matrix((recipe.log_normalise(part), part.indices, part.indptr), shape=part.shape)

    mean, std = column_moments(normalised, view.shape)
    std[std <= _CONSTANT * np.maximum(np.abs(mean), _CONSTANT)] = 1.0
    recipe.mean, recipe.std = mean.astype(np.float32), std.astype(np.float32)
    if isinstance(counts, RowStore):
        return EngineInput(recipe.modality, recipe, LazyRows(counts, recipe.scale))
    x = np.empty(view.shape, np.float32)
    start = 0
    for part in blocks():
        x[start : start + part.shape[0]] = recipe.scale(part)
        start += part.shape[0]
    return EngineInput(recipe.modality, recipe, x)


def own_components(item: EngineInput, adata: AnnData, n_components: int) -> NDArray[np.float32]:
    """What a data set's own neighbourhoods are sought in: of chromatin its LSI, of all else principal components."""
    if item.modality == "atac" and "X_lsi" in adata.obsm:
        return np.asarray(adata.obsm["X_lsi"], np.float32)[:, :n_components]
    return principal_components(item.x, n_components)


def without_batches(values: NDArray[np.float32], told: NDArray[np.float32] | None) -> NDArray[np.float32]:
    """Values (cells x columns) with the mean of each cell's batch taken off, where the networks are told of batches.

    A batch's shift would make cells of one batch each other's neighbours, and some of them the other side's.
    """
    if told is None:
        return values
    means = (told.T @ values) / told.sum(0)[:, None]
    return np.asarray(values - told @ means, np.float32)


def _add_linked(
    inputs: list[EngineInput], adatas: Sequence[AnnData], pairs: Sequence[tuple[int, int]], preset: Preset
) -> None:
    """Cut out the linked columns of every pair, then what the preset makes of them for anchors to be sought on."""
    from scmodal.anchors import smooth
    from scmodal.counterpart import counterparts
    from scmodal.matching import matched, sides_of

    components = []
    for k, (item, adata) in enumerate(zip(inputs, adatas)):
        # blocks stand in the order of the pairs, then the rest
        own = [pair for pair, members in enumerate(pairs) if k in members]
        widths = [len(block.features) for block in item.recipe.blocks[: len(own)]]
        joined = np.empty((len(item.x), sum(widths)), np.float32)
        for rows, values in row_chunks(item.x, BLOCK):
            joined[rows] = values[:, : joined.shape[1]]
        if preset.smoothing > 0.0 or preset.matching_rounds > 0:
            # as many whether cells are matched or not: those of `scmodal select` are to be the same ones
            n_components = max(preset.smoothing_components, preset.matching_components)
            components.append(without_batches(own_components(item, adata, n_components), item.told))
            joined = without_batches(joined, item.told)
            size = max(preset.smoothing_neighbours, min(preset.smoothing_neighbours_most, len(item.x) // 50))
            joined = smooth(joined, components[-1][:, : preset.smoothing_components], preset.smoothing, size)
        item.linked = dict(zip(own, np.split(joined, np.cumsum(widths)[:-1], axis=1)))
    if preset.matching_rounds > 0:
        for pair, (i, j) in enumerate(pairs):
            both, of_own = (inputs[i].linked[pair], inputs[j].linked[pair]), (components[i], components[j])
            weights = inputs[i].weights.get(pair)
            sides = sides_of(both, of_own, weights)
            found = matched(sides, preset.matching_rounds, preset.matching_share)
            if preset.rematching_every > 0:
                inputs[i].sides[pair], inputs[j].sides[pair] = sides
            inputs[i].linked[pair], inputs[j].linked[pair] = found
            inputs[i].counterpart[pair], inputs[j].counterpart[pair] = counterparts(found, of_own)
        return
    for pair, (i, j) in enumerate(pairs):
        a, b = inputs[i].linked[pair], inputs[j].linked[pair]
        if pair in inputs[i].weights:
            # of products of two such values, as the cosine is made of, each link's has its weight
            a, b = (values * np.sqrt(inputs[i].weights[pair]) for values in (a, b))
        with_chromatin = _with_chromatin(inputs[i].modality, inputs[j].modality)
        if with_chromatin and 0 < preset.chromatin_components < a.shape[1]:
            a, b = joint_components(a, b, preset.chromatin_components)
        inputs[i].linked[pair], inputs[j].linked[pair] = a, b
