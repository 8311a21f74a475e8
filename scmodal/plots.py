"""Paper figures (matplotlib), and the data behind every picture, shared with the HTML report.

The upper half prepares: colours, orders, samples, UMAP coordinates, confusion tables, binned histories. It needs only
numpy and pandas at import. The lower half draws; each ``*_figure`` function writes one file whose suffix (``.png``,
``.svg``, ``.pdf``) chooses the format.
"""

from __future__ import annotations

import colorsys
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from scmodal.contracts import MODALITY_TITLES, InputError, nearest

if TYPE_CHECKING:
    from anndata import AnnData
    from mudata import MuData

MODALITY_COLOURS = {"rna": "#0072B2", "protein": "#D55E00", "atac": "#009E73", "cytometry": "#CC79A7"}
"""One colour a modality, the same in every figure (from Okabe and Ito's colour-blind-safe set)."""

NO_LABEL = "no label"
NO_LABEL_COLOUR = "#9A9A9A"

# Okabe and Ito's eight without black (lost on a dark page), their yellow darkened to be seen on white.
_FEW = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#A89200", "#7B4FA3")
# matplotlib's tab20: the ten strong colours first, their ten light partners after them, greys left out until last.
_MANY = (
    "#1F77B4", "#FF7F0E", "#2CA02C", "#D62728", "#9467BD", "#8C564B", "#E377C2", "#BCBD22", "#17BECF", "#AEC7E8",
    "#FFBB78", "#98DF8A", "#FF9896", "#C5B0D5", "#C49C94", "#F7B6D2", "#DBDB8D", "#9EDAE5", "#7F7F7F", "#C7C7C7",
)  # fmt: skip

TWO_LN_TWO = 2 * math.log(2)
"""Discriminator loss at which it cannot tell the two modalities apart, per pair of modalities."""


@dataclass(frozen=True)
class LossTerm:
    """A column of ``history.parquet`` and how it is read."""

    column: str
    title: str
    meaning: str
    log: bool = False


LOSS_TERMS = (
    LossTerm(
        "loss_discriminator",
        "discriminator",
        "how well the discriminator tells the modalities apart: near the dashed line (2 ln 2 = 1.386 a pair of"
        " modalities) it can only guess, which is full mixing; near zero it always knows, which is no mixing",
    ),
    LossTerm("loss_autoencoder", "autoencoder", "squared error of rebuilding each cell from its own latent", log=True),
    LossTerm("loss_cycle", "latent cycle", "squared change of a latent sent to the other modality and back", log=True),
    LossTerm("loss_anchor", "anchors", "squared latent distance between mutual nearest neighbours", log=True),
    LossTerm(
        "loss_geometry",
        "geometry",
        "minus the agreement of cell-cell similarities before and after encoding, at best near −1 a modality",
    ),
    LossTerm("loss_total", "total", "the weighted sum that encoders and generators minimise", log=True),
)
"""The recorded losses in the order in which they are drawn."""


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which ``CD8`` comes before ``CD16`` and case does not matter."""
    parts = re.findall(r"\d+|\D+", text)
    return tuple((0, int(p), "") if p.isdecimal() else (1, 0, p.lower()) for p in parts)


def label_colours(labels: Iterable[Any]) -> dict[str, str]:
    """Colour of every label.

    Parameters
    ----------
    labels
        Labels, repeated or not; missing values are ignored.

    Returns
    -------
    dict
        Label to ``#RRGGBB``, labels in natural order; the same set of labels always gets the same colours. Up to 8
        labels: Okabe-Ito; up to 20: tab20; more: evenly turned hues of three lightnesses.
    """
    names = sorted({str(v) for v in labels if not pd.isna(v)} - {NO_LABEL}, key=lambda n: (natural_key(n), n))
    if len(names) <= len(_FEW):
        colours: Sequence[str] = _FEW
    elif len(names) <= len(_MANY):
        colours = _MANY
    else:
        colours = [_turned_hue(i) for i in range(len(names))]
    return dict(zip(names, colours))


def _turned_hue(index: int) -> str:
    """Colour number `index` of an endless list: golden-angle hues, lightness cycling through three values."""
    rgb = colorsys.hls_to_rgb((index * 0.61803398875) % 1.0, (0.42, 0.55, 0.68)[index % 3], 0.62)
    return "#" + "".join(f"{round(255 * c):02X}" for c in rgb)


def stratified_sample(sizes: Sequence[int], limit: int, seed: int = 0) -> list[np.ndarray]:
    """Draw at most `limit` rows in all, from every group in proportion to its size.

    Parameters
    ----------
    sizes
        Number of rows of each group.
    limit
        Largest number of rows in all. Every non-empty group keeps at least one row.
    seed
        Seed of the draw.

    Returns
    -------
    list of ndarray
        Sorted row numbers, one array a group; every row where nothing needs to be left out.
    """
    total = sum(sizes)
    if total <= limit:
        return [np.arange(n) for n in sizes]
    rng = np.random.default_rng(seed)
    keep = [min(n, max(1, n * limit // total)) for n in sizes]
    return [np.sort(rng.choice(n, size=k, replace=False)) for n, k in zip(sizes, keep)]


def umap_coordinates(z: np.ndarray, seed: int = 0) -> np.ndarray:
    """Two UMAP coordinates of every row of a latent space.

    Parameters
    ----------
    z
        Latent, cells x dimensions.
    seed
        Seed; the same latent and seed give the same coordinates.

    Returns
    -------
    ndarray
        Cells x 2, float32. Fewer than five cells are too few for neighbours: their first two centred columns.
    """
    z = np.ascontiguousarray(z, dtype=np.float32)
    if len(z) < 5:
        plain = np.zeros((len(z), 2), dtype=np.float32)
        columns = (z - z.mean(axis=0, keepdims=True))[:, :2] if len(z) else z[:, :2]
        plain[:, : columns.shape[1]] = columns
        return plain
    import warnings

    from sklearn.neighbors import NearestNeighbors
    from umap import UMAP

    # Exact neighbours by matrix products: in 20 dimensions quicker than umap's own approximate search.
    n_neighbours = min(15, len(z) - 1)
    distances, neighbours = NearestNeighbors(n_neighbors=n_neighbours, algorithm="brute").fit(z).kneighbors(z)
    with warnings.catch_warnings():
        # Without an index of its own umap could not place further cells, which nobody asks it to.
        warnings.filterwarnings("ignore", message="precomputed_knn")
        model = UMAP(
            n_neighbors=n_neighbours,
            min_dist=0.3,
            init="pca",
            random_state=seed,
            n_jobs=1,
            precomputed_knn=(neighbours, distances, None),
        )
        return np.asarray(model.fit_transform(z), dtype=np.float32)


def confusion_table(truth: Sequence[Any], predicted: Sequence[Any], offered: Iterable[Any] = ()) -> pd.DataFrame:
    """Count cells by true and transferred label.

    Parameters
    ----------
    truth, predicted
        Labels of the same cells in the same order; cells without one of the two are left out.
    offered
        Labels that could have been transferred: true labels among them have a column even if no cell got them.

    Returns
    -------
    DataFrame
        Counts; rows are true labels, columns transferred ones, both in natural order. Labels found on both sides come
        first and in the same order, so that agreement lies on the diagonal.
    """
    pair = pd.DataFrame({"truth": pd.Series(list(truth)), "predicted": pd.Series(list(predicted))}).dropna().astype(str)
    rows, columns = set(pair["truth"]), set(pair["predicted"])
    columns |= rows & {str(v) for v in offered}
    both = sorted(rows & columns, key=natural_key)
    row_names = both + sorted(rows - columns, key=natural_key)
    column_names = both + sorted(columns - rows, key=natural_key)
    counts = pair.groupby(["truth", "predicted"], observed=True).size().unstack(fill_value=0)  # noqa: PD010
    return counts.reindex(index=row_names, columns=column_names, fill_value=0).astype(int)


def row_fractions(counts: pd.DataFrame) -> pd.DataFrame:
    """Divide every row of a count table by its sum; an empty row stays zero."""
    return counts.div(counts.sum(axis=1).replace(0, 1), axis=0)


def binned_history(steps: np.ndarray, values: np.ndarray, bins: int = 100) -> pd.DataFrame:
    """Shorten a curve of thousands of noisy steps to what can be seen.

    Parameters
    ----------
    steps, values
        One entry a step. Entries that are not finite are left out.
    bins
        Largest number of points returned; fewer where a point would be the mean of less than five steps.

    Returns
    -------
    DataFrame
        Columns ``step`` (middle of the bin), ``mean``, ``low`` and ``high`` (10th and 90th percentile in the bin).
    """
    finite = np.isfinite(values)
    steps, values = np.asarray(steps)[finite], np.asarray(values, dtype=float)[finite]
    rows = []
    for chunk in np.array_split(np.arange(len(values)), min(bins, max(1, len(values) // 5))):
        if len(chunk):
            low, high = np.percentile(values[chunk], [10, 90])
            rows.append((float(np.mean(steps[chunk])), float(np.mean(values[chunk])), float(low), float(high)))
    return pd.DataFrame(rows, columns=["step", "mean", "low", "high"])


def pearson(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson correlation of two vectors; NaN where one of them does not vary."""
    x = np.asarray(x, dtype=float) - np.mean(x)
    y = np.asarray(y, dtype=float) - np.mean(y)
    size = math.sqrt(float(x @ x) * float(y @ y))
    return float(x @ y) / size if size > 0 else math.nan


def ends(ranked: Sequence[str], n: int) -> tuple[list[str], list[str]]:
    """First `n` and last `n` of a ranking, without naming one twice; a short ranking is all 'first'."""
    ranked = list(ranked)
    if len(ranked) <= n:
        return ranked, []
    return ranked[:n], ranked[max(n, len(ranked) - n) :]


# --- figures ---------------------------------------------------------------------------------------------------------


_STYLE: dict[Any, Any] = {
    "font.size": 8,
    "axes.titlesize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "scmodal",
    "savefig.dpi": 200,
    "savefig.bbox": "tight",
    "figure.facecolor": "white",
}


def _new_figure(columns: int, rows: int, width: float, height: float) -> tuple[Any, np.ndarray]:
    """Figure without the window machinery of pyplot, and its axes as an array of rows x columns."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, np.asarray(figure.subplots(rows, columns, squeeze=False))


def _save(figure: Any, path: str | Path) -> Path:
    """Write a figure under its final name in one go, without the date that would make two equal files differ."""
    from scmodal.io import atomic_path

    target = Path(path)
    suffix = target.suffix.lower()
    metadata: dict[str, Any] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}.get(suffix, {})
    with atomic_path(target) as temporary:
        figure.savefig(temporary, format=suffix.lstrip(".") or "png", metadata=metadata)
    return target


def _points(axes: Any, xy: np.ndarray, codes: np.ndarray, colours: Sequence[str]) -> None:
    """Scatter in one shuffled layer, so that no group hides another by being drawn last."""
    order = np.random.default_rng(0).permutation(len(xy))
    shade = np.asarray(colours)[codes[order]] if len(xy) else []
    size = float(np.clip(9000 / max(1, len(xy)), 1.0, 12.0))
    axes.scatter(xy[order, 0], xy[order, 1], c=shade, s=size, linewidths=0, alpha=0.8, rasterized=True)
    axes.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    axes.set_box_aspect(1)


def _legend(axes: Any, colours: Mapping[str, str]) -> None:
    """Round keys to the right of the axes."""
    from matplotlib.lines import Line2D

    keys = [Line2D([], [], marker="o", linestyle="", markersize=5, color=c, label=name) for name, c in colours.items()]
    axes.legend(
        handles=keys,
        loc="center left",
        bbox_to_anchor=(1.01, 0.5),
        handletextpad=0.2,
        borderaxespad=0.2,
        ncols=1 if len(keys) <= 18 else 2,
    )


def latent_figure(
    mdata: MuData,
    label_key: str | Mapping[str, str] | None,
    path: str | Path,
    *,
    seed: int = 0,
    max_cells: int = 20_000,
) -> Path:
    """Draw the shared latent space: UMAP by modality and, side by side, by label.

    Parameters
    ----------
    mdata
        Result of an integration; ``obsm["X_scmodal"]`` (n x d) in every modality.
    label_key
        Column of each modality's obs that holds labels; a mapping modality to column where they differ; None draws
        the modality panel alone. Cells of a modality without that column are grey.
    path
        File to write: ``.png``, ``.svg`` or ``.pdf``.
    seed
        Seed of UMAP and of the draw of cells.
    max_cells
        With more cells than this, so many are drawn, from every modality in proportion.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        A modality without ``obsm["X_scmodal"]``; a column that no modality, or not the one it is given for, has.
    """
    import matplotlib as mpl

    from scmodal.transfer import clean_labels

    lacking = [m for m in mdata.mod if "X_scmodal" not in mdata.mod[m].obsm]
    if lacking:
        raise InputError(f'no obsm["X_scmodal"] in modality {", ".join(lacking)}: integrate the data first')
    _check_label_key(mdata, label_key)
    names = list(mdata.mod)
    rows = stratified_sample([mdata.mod[m].n_obs for m in names], max_cells, seed)
    xy = umap_coordinates(np.concatenate([mdata.mod[m].obsm["X_scmodal"][r] for m, r in zip(names, rows)]), seed)
    modality_codes = np.repeat(np.arange(len(names)), [len(r) for r in rows])
    labels: list[str] = []
    for name, chosen in zip(names, rows):
        key = label_key.get(name) if isinstance(label_key, Mapping) else label_key
        obs = mdata.mod[name].obs
        values = obs[key].iloc[chosen] if key in obs else pd.Series([None] * len(chosen))
        labels += [text or NO_LABEL for text in clean_labels(values)[0]]
    colours = label_colours(labels)
    if NO_LABEL in labels:
        colours[NO_LABEL] = NO_LABEL_COLOUR
    with mpl.rc_context(_STYLE):
        figure, axes = _new_figure(2 if label_key else 1, 1, 8.6 if label_key else 4.2, 3.4)
        by_modality = {MODALITY_TITLES.get(m, m): MODALITY_COLOURS.get(m, "#666666") for m in names}
        _points(axes[0, 0], xy, modality_codes, list(by_modality.values()))
        axes[0, 0].set_title("by modality", loc="left")
        _legend(axes[0, 0], by_modality)
        if label_key:
            order = list(colours)
            codes = np.array([order.index(v) for v in labels], dtype=int)
            _points(axes[0, 1], xy, codes, list(colours.values()))
            axes[0, 1].set_title("by label", loc="left")
            _legend(axes[0, 1], colours)
        return _save(figure, path)


def _check_label_key(mdata: MuData, label_key: str | Mapping[str, str] | None) -> None:
    """Refuse columns of labels that are not there: all cells would be grey."""
    from scmodal.transfer import label_columns

    if isinstance(label_key, Mapping):
        wanted = [(key, [name]) for name, key in label_key.items() if key]
    else:
        wanted = [(label_key, list(mdata.mod))] if label_key else []
    problems: list[str] = []
    for key, names in wanted:
        unknown = [name for name in names if name not in mdata.mod]
        if unknown:
            problems.append(f"no modality {unknown[0]!r} in these data (there are: {', '.join(mdata.mod)})")
            continue
        columns = list(dict.fromkeys(c for name in names for c in label_columns(mdata.mod[name])))
        if not any(key in mdata.mod[name].obs for name in names):
            close = nearest(key, columns)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"no column {key!r} in obs of {', '.join(names)}{hint} (there: {', '.join(columns)})")
    if problems:
        raise InputError(problems)


def confusion_figure(truth: Sequence[Any], predicted: Sequence[Any], path: str | Path, *, title: str = "") -> Path:
    """Draw transferred labels against true ones, each row in per cent of its cells.

    Parameters
    ----------
    truth, predicted
        Labels of the same cells in the same order.
    path
        File to write.
    title
        Title above the matrix.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        No cell has both labels.
    """
    import matplotlib as mpl

    counts = confusion_table(truth, predicted)
    if counts.empty:
        raise InputError("no cell has both a true and a transferred label: there is nothing to compare")
    shares = row_fractions(counts).to_numpy()
    with mpl.rc_context(_STYLE):
        width, height = 1.6 + 0.36 * counts.shape[1], 1.3 + 0.3 * counts.shape[0]
        figure, axes = _new_figure(1, 1, max(2.8, width), max(2.2, height))
        ax = axes[0, 0]
        ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (i, j), share in np.ndenumerate(shares):
            if share > 0:
                ax.text(
                    j,
                    i,
                    "<1" if share < 0.005 else f"{100 * share:.0f}",
                    ha="center",
                    va="center",
                    color="white" if share > 0.55 else "0.2",
                )
        ax.set_xticks(range(counts.shape[1]), counts.columns, rotation=45, ha="right", rotation_mode="anchor")
        ax.set_yticks(range(counts.shape[0]), [f"{n} ({counts.loc[n].sum():,})" for n in counts.index])
        ax.set(xlabel="transferred label", ylabel="true label (cells)")
        ax.set_title(title, loc="left")
        ax.tick_params(length=0)
        ax.spines[:].set_visible(False)
        return _save(figure, path)


def history_figure(history: pd.DataFrame, path: str | Path, *, n_pairs: int = 1) -> Path:
    """Draw every loss over the steps of training, one small panel each.

    Parameters
    ----------
    history
        ``history.parquet``: ``step`` and the ``loss_*`` columns.
    path
        File to write.
    n_pairs
        Number of pairs of modalities that were matched with each other, which the discriminator's loss is summed over.

    Returns
    -------
    Path
        `path`.
    """
    import matplotlib as mpl
    from matplotlib.ticker import LogFormatter

    terms = [t for t in LOSS_TERMS if t.column in history]
    columns = min(3, max(1, len(terms)))
    rows = -(-max(1, len(terms)) // columns)
    with mpl.rc_context(_STYLE):
        figure, axes = _new_figure(columns, rows, 2.5 * columns, 1.8 * rows)
        for ax, term in zip(axes.flat, terms):
            curve = binned_history(history["step"].to_numpy(), history[term.column].to_numpy())
            ax.fill_between(curve["step"], curve["low"], curve["high"], color="#0072B2", alpha=0.18, linewidth=0)
            # a line through one point is not seen
            marker = "." if len(curve) == 1 else ""
            ax.plot(curve["step"], curve["mean"], color="#0072B2", linewidth=1.1, marker=marker)
            if term.log and (curve["low"] > 0).all():
                ax.set_yscale("log")
                ax.yaxis.set_major_formatter(LogFormatter())
                ax.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(1.5, 0.5)))
            if term.column == "loss_discriminator":
                ax.axhline(TWO_LN_TWO * n_pairs, color="0.4", linestyle="--", linewidth=0.8)
                ax.set_ylim(bottom=0)
            ax.set_title(term.title, loc="left")
            ax.set_xlabel("step")
        for ax in axes.flat[len(terms) :]:
            ax.set_visible(False)
        return _save(figure, path)


def imputation_figure(
    measured: AnnData, imputed: AnnData, path: str | Path, *, features: Sequence[str] | None = None, n: int = 4
) -> Path:
    """Draw imputed against measured values, one small panel a feature.

    Parameters
    ----------
    measured, imputed
        Same features by name, same cells by name (others are left out), same units.
    path
        File to write.
    features
        Features to draw; by default the `n` best and the `n` worst by Pearson correlation.
    n
        Number of best and of worst features.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    InputError
        No cell or no feature in common, or an unknown feature.
    """
    import matplotlib as mpl

    cells = measured.obs_names.intersection(imputed.obs_names, sort=False)
    shared = measured.var_names.intersection(imputed.var_names, sort=False)
    if len(cells) == 0 or len(shared) == 0:
        raise InputError("measured and imputed data have no cell or no feature name in common")
    unknown = [f for f in features or () if f not in shared]
    if unknown:
        raise InputError(f"not in both measured and imputed data: {', '.join(unknown)}")
    wanted = list(features) if features else list(shared)
    x = measured[cells, wanted].to_df()
    y = imputed[cells, wanted].to_df()
    r = {f: pearson(x[f].to_numpy(), y[f].to_numpy()) for f in wanted}
    if not features:
        best, worst = ends(sorted((f for f in wanted if np.isfinite(r[f])), key=lambda f: -r[f]), n)
        wanted = best + worst
    columns = min(n, max(1, len(wanted)))
    rows = -(-max(1, len(wanted)) // columns)
    with mpl.rc_context(_STYLE):
        figure, axes = _new_figure(columns, rows, 1.75 * columns, 1.9 * rows)
        for ax, feature in zip(axes.flat, wanted):
            ax.scatter(x[feature], y[feature], s=4, linewidths=0, alpha=0.4, color="#0072B2", rasterized=True)
            ax.set_title(f"{feature}  r = {r[feature]:.2f}", loc="left")
            ax.set_box_aspect(1)
        for ax in axes.flat[len(wanted) :]:
            ax.set_visible(False)
        figure.supxlabel("measured", fontsize=8)
        figure.supylabel("imputed", fontsize=8)
        return _save(figure, path)
