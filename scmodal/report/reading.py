"""Everything the report is made of, read from the files of a result folder into plain data."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from scmodal.contracts import MODALITIES, MODALITY_TITLES, InputError
from scmodal.presets import pairs_of
from scmodal.report.contents import metrics_problem, selection_problem
from scmodal.transfer import clean_labels

Direction = tuple[str, str]
"""(from, to), canonical modality names."""

_DIRECTION = re.compile(
    rf"(?:^|\.)({'|'.join(MODALITIES)})_to_({'|'.join(MODALITIES)})\.(?:labels\.tsv(?:\.gz)?|h5ad)$"
)


@dataclass
class Modality:
    """One modality of the first run; the big matrix stays in its file until it is asked for."""

    name: str
    file: Path
    cells: np.ndarray
    obs: pd.DataFrame
    features: np.ndarray
    z: np.ndarray
    info: dict[str, Any]

    @property
    def title(self) -> str:
        """Name as it is written in a sentence."""
        return MODALITY_TITLES.get(self.name, self.name)

    @property
    def label_key(self) -> str:
        """Column of obs with the labels, empty where there is none."""
        key = str(self.info.get("label_key") or "")
        return key if key in self.obs else ""

    def measured(self, recipe: Mapping[str, Any], rows: np.ndarray) -> tuple[np.ndarray, list[str]]:
        """Measured values in the units of imputed ones.

        Parameters
        ----------
        recipe
            The modality's entry of ``recipes`` in ``model.json``: how the model normalises it.
        rows
            Sorted numbers of the cells wanted.

        Returns
        -------
        Log-normalised values, cells x features, and the names of the features.
        """
        from anndata import AnnData
        from anndata.io import read_elem

        from scmodal.inputs import Recipe

        how = Recipe.from_dict(dict(recipe))
        with h5py.File(self.file, "r") as store:
            group = store[f"mod/{self.name}"]
            layer = None if self.name == "cytometry" else "counts"
            values = read_elem(group["X"] if layer is None else group["layers"][layer])[rows]
        part = AnnData(
            values if layer is None else None,
            layers=None if layer is None else {layer: values},
            obs=pd.DataFrame(index=self.cells[rows]),
            var=pd.DataFrame(index=self.features),
        )
        return how.per_feature(how.normalised(part)), how.features


@dataclass
class Run:
    """Training record of one seed."""

    folder: Path
    history: pd.DataFrame
    metrics: dict[str, Any]
    model: dict[str, Any]

    @property
    def seed(self) -> int | None:
        """Seed of the training, where it is known."""
        seed = self.model.get("seed", self.metrics.get("seed"))
        return None if seed is None else int(seed)


@dataclass
class ReportData:
    """What the sections of the report draw from."""

    sample: str
    modalities: list[Modality]
    runs: list[Run]
    coverage: pd.DataFrame | None = None
    evaluations: list[dict[str, Any]] = field(default_factory=list)
    transfers: dict[Direction, pd.DataFrame] = field(default_factory=dict)
    imputed: dict[Direction, Path] = field(default_factory=dict)
    peakgene: list[Path] = field(default_factory=list)
    selection: dict[str, Any] = field(default_factory=dict)
    params: dict[str, Any] = field(default_factory=dict)

    def modality(self, name: str) -> Modality:
        """Modality by name."""
        return next(m for m in self.modalities if m.name == name)

    def recipe(self, name: str) -> Mapping[str, Any]:
        """How the first run's model normalises a modality."""
        recipe: Mapping[str, Any] = self.runs[0].model["recipes"][name]
        return recipe

    @property
    def paired(self) -> bool:
        """Whether equal cell names are known to be the same cell."""
        return any(e.get("paired") for e in self.evaluations)

    @property
    def topology(self) -> str:
        """Topology of the first run; a result that names none is a chain."""
        preset: Mapping[str, Any] = self.runs[0].model.get("preset") or {}
        return str(preset.get("topology", "chain"))

    @property
    def matched(self) -> list[Direction]:
        """Pairs of modalities that the first run matched with each other."""
        names = [m.name for m in self.modalities]
        return [(names[i], names[j]) for i, j in pairs_of(self.topology, len(names))]

    @property
    def n_pairs_of_modalities(self) -> int:
        """Number of these pairs, over which the losses are summed."""
        return max(1, len(self.matched))

    def labels(self, modality: Modality) -> np.ndarray | None:
        """Known label of every cell, empty text where a cell has none; None where no cell has one.

        A modality without labels takes those of its partner cells in paired data.
        """
        if modality.label_key:
            return clean_labels(modality.obs[modality.label_key])[0]
        if self.paired:
            known: dict[str, str] = {}
            for other in self.modalities:
                if other.label_key:
                    known.update(zip(other.cells, clean_labels(other.obs[other.label_key])[0]))
            text = np.array([known.get(c, "") for c in modality.cells], dtype=object)
            return text if any(text) else None
        return None


def read_report_data(
    sample: str,
    runs: Sequence[str | Path],
    coverage: pd.DataFrame | str | Path | None,
    evaluations: Sequence[Mapping[str, Any] | str | Path],
    transfers: Sequence[str | Path],
    imputed: Sequence[str | Path],
    params: Mapping[str, Any] | str | Path | None,
    peakgene: Sequence[str | Path] = (),
    selection: Mapping[str, Any] | str | Path | None = None,
) -> ReportData:
    """Read all inputs of a report.

    Parameters
    ----------
    sample
        Name of the sample.
    runs
        Result folders of ``integrate``, one a seed; what is shown is of the chosen one, else the first.
    coverage
        Link coverage, as table or file.
    evaluations
        Contents or files of ``metrics.json`` of ``evaluate``, one a seed.
    transfers, imputed
        Files named ``<anything>.<from>_to_<to>.labels.tsv`` and ``….h5ad``; the first of a direction is used.
    params
        Parameters to list, as mapping or JSON file.
    peakgene
        Folders of ``scmodal peakgene``, one a seed.
    selection
        Content or file of ``selection.json``.

    Raises
    ------
    InputError
        Every missing file, every name that tells no direction and every file that is not what it is given as, in one
        go.
    """
    problems = [] if runs else ["a report needs at least one result folder of `scmodal integrate` (--run)"]
    folders = [Path(r) for r in runs]
    selected = _tried(problems, _read_selection, selection) or {}
    first, unknown_seed = _position_of_chosen(folders, selected)
    problems += unknown_seed
    for i, folder in enumerate(folders):
        needed = ["history.parquet", "metrics.json", "model/model.json", *(["integrated.h5mu"] if i == first else [])]
        problems += [
            f"{folder / name}: not found; is {folder} a result of `scmodal integrate`?"
            for name in needed
            if not (folder / name).is_file()
        ]
    given: list[Any] = [coverage, params, selection, *evaluations, *transfers, *imputed]
    problems += [f"{g}: not found" for g in given if isinstance(g, str | Path) and not Path(g).is_file()]
    problems += [
        f"{Path(p) / name}: not found; is {p} a result of `scmodal peakgene`?"
        for p in peakgene
        for name in ("peak_gene.tsv.gz", "peak_gene.json")
        if not (Path(p) / name).is_file()
    ]
    directions: dict[str, Direction] = {}
    for path in (*transfers, *imputed):
        match = _DIRECTION.search(Path(path).name)
        if match:
            directions[str(path)] = (match[1], match[2])
        else:
            problems.append(f"{path}: the name must end in <from>_to_<to>.labels.tsv or <from>_to_<to>.h5ad")
    reached = _tried(problems, _read_coverage, coverage)
    measured = [_tried(problems, _read_metrics, e) for e in evaluations]
    for path in transfers:
        _tried(problems, _check_labels, path)
    for path in imputed:
        _tried(problems, _check_imputed, path)
    listed = _tried(problems, _read_mapping, params) or {}
    if problems:
        raise InputError(problems)

    folders, peakgene = (_brought_forward(items, first, len(runs)) for items in (folders, peakgene))
    data = ReportData(
        sample=sample,
        selection=selected,
        modalities=_read_modalities(folders[0] / "integrated.h5mu"),
        runs=[_read_run(folder) for folder in folders],
        coverage=reached,
        peakgene=[Path(p) for p in peakgene],
        params=listed,
    )
    data.evaluations = _of_these_runs(data, [e for e in measured if e is not None], first)
    recipes = data.runs[0].model.get("recipes") or {}
    bare = sorted({directions[str(p)][1] for p in imputed} - set(recipes))
    if bare:
        raise InputError(f"{folders[0] / 'model' / 'model.json'}: no recipe for {', '.join(bare)} in it")
    known = {m.name for m in data.modalities}
    unknown = [p for p, d in directions.items() if not set(d) <= known]
    if unknown:
        raise InputError([f"{p}: the integration has only the modalities {', '.join(sorted(known))}" for p in unknown])
    order = [m.name for m in data.modalities]

    def place(path: str | Path) -> tuple[list[int], int]:
        """Both directions of a pair beside each other, in the order of the modalities."""
        at = [order.index(name) for name in directions[str(path)]]
        return sorted(at), at[0]

    for direction, paths in _by_direction(sorted(transfers, key=place), directions).items():
        source, target = (data.modality(name) for name in direction)
        data.transfers[direction] = _at_level(
            _read_labels(_brought_forward(paths, first, len(runs))[0]), target.label_key or source.label_key
        )
    for direction, paths in _by_direction(sorted(imputed, key=place), directions).items():
        data.imputed[direction] = Path(_brought_forward(paths, first, len(runs))[0])
    return data


def _tried(problems: list[str], read: Callable[[Any], Any], given: Any) -> Any:
    """What `read` makes of something given; None, and what is wrong among `problems`, where it cannot.

    None, too, for what is not given, and for a file that is not there: that is told with all others that are not.
    """
    if given is None or (isinstance(given, str | Path) and not Path(given).is_file()):
        return None
    try:
        return read(given)
    except InputError as error:
        problems += error.problems
        return None


def _by_direction(
    paths: Sequence[str | Path], directions: Mapping[str, Direction]
) -> dict[Direction, list[str | Path]]:
    """Files of each direction, in their order."""
    found: dict[Direction, list[str | Path]] = {}
    for path in paths:
        found.setdefault(directions[str(path)], []).append(path)
    return found


def _position_of_chosen(folders: Sequence[Path], selection: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Position of the chosen seed among the runs (0 where none was chosen), and what is wrong with it."""
    descriptions = [folder / "model" / "model.json" for folder in folders]
    if "chosen_seed" not in selection or not all(path.is_file() for path in descriptions):
        return 0, []  # a run without its model is told with all other missing files
    seeds = [_read_mapping(path).get("seed") for path in descriptions]
    chosen = selection["chosen_seed"]
    if chosen not in seeds:
        given = ", ".join(map(str, seeds))
        return 0, [
            f"the selection chose seed {chosen}, but the runs are of {given}: give the runs that it was made from"
        ]
    same = [n for n, seed in enumerate(seeds) if seed == chosen]
    if len(same) > 1:  # settings were compared: runs of one seed are told apart by their folders
        named = [n for n in same if Path(os.path.abspath(folders[n])).name == selection.get("chosen_run")]
        if len(named) != 1:
            return 0, [
                f"several runs are of the chosen seed {chosen}, and not one of them is in a folder called "
                f"{selection.get('chosen_run') or 'as the selection says'!r}: give the runs by the names of their "
                "folders when they were compared"
            ]
        same = named
    return same[0], []


def _brought_forward(items: Sequence[Any], first: int, n: int) -> list[Any]:
    """`items` with the one at `first` before the others, if there is one for each of `n` runs."""
    return [items[first], *items[:first], *items[first + 1 :]] if len(items) == n else list(items)


def _of_these_runs(data: ReportData, evaluations: list[dict[str, Any]], first: int) -> list[dict[str, Any]]:
    """Evaluations with that of the run that is shown first; InputError where they are not of these runs."""
    cells = {m.name: len(m.cells) for m in data.modalities}
    problems = []
    for e in evaluations:
        given = e.get("n_cells")
        if isinstance(given, Mapping) and any(cells.get(name) != n for name, n in given.items()):
            problems.append(f"metrics of other cells ({_counted(given)}) than those of the runs ({_counted(cells)})")
    seeds = [e.get("seed") for e in evaluations]
    shown = data.runs[0].seed
    if shown is not None and seeds and None not in seeds and shown not in seeds:
        problems.append(f"the metrics are of seed {', '.join(map(str, seeds))}, what is shown is of seed {shown}")
    if problems:
        raise InputError([f"{problem}: give those that `scmodal evaluate` wrote of them" for problem in problems])
    if seeds.count(shown) == 1:
        return _brought_forward(evaluations, seeds.index(shown), len(evaluations))
    return _brought_forward(evaluations, first, len(data.runs))


def _counted(cells: Mapping[str, Any]) -> str:
    return ", ".join(f"{n} {name}" for name, n in cells.items())


def read_cells(file: Path) -> np.ndarray:
    """Cell names of an h5ad file."""
    from anndata.io import read_elem

    with h5py.File(file, "r") as store:
        return read_elem(store["obs"]).index.astype(str).to_numpy()


def read_features(file: Path) -> np.ndarray:
    """Feature names of an h5ad file."""
    from anndata.io import read_elem

    with h5py.File(file, "r") as store:
        return read_elem(store["var"]).index.astype(str).to_numpy()


def read_expected(file: Path) -> dict[str, float]:
    """Expected correlation of every feature of an imputation; empty where its file does not tell."""
    from anndata.io import read_elem

    with h5py.File(file, "r") as store:
        var = read_elem(store["var"])
    return {} if "expected_r" not in var else dict(zip(var.index.astype(str), var["expected_r"].astype(float)))


def read_part(file: Path, rows: np.ndarray, features: Sequence[str]) -> np.ndarray:
    """Some cells and features of an imputation, without more of it in memory than needed.

    Parameters
    ----------
    file
        An h5ad file with a dense or sparse X.
    rows
        Numbers of the cells wanted.
    features
        Names that are all in var.

    Returns
    -------
    ndarray
        ``len(rows)`` x ``len(features)``, float32.
    """
    from anndata.io import read_elem

    columns = pd.Index(read_features(file)).get_indexer(list(features))
    with h5py.File(file, "r") as store:
        x = store["X"]
        if isinstance(x, h5py.Group):
            return read_elem(x).tocsr()[rows][:, columns].toarray().astype(np.float32)
        out = np.empty((len(rows), len(columns)), dtype=np.float32)
        block = max(1, 32_000_000 // max(1, x.shape[1]))
        for start in range(0, x.shape[0], block):
            here = (rows >= start) & (rows < start + block)
            if here.any():
                out[here] = x[start : start + block][rows[here] - start][:, columns]
        return out


def _read_modalities(file: Path) -> list[Modality]:
    """Names, annotations and latent of every modality, in the order of the chain."""
    from anndata.io import read_elem

    from scmodal.io.kinds import open_hdf5

    with open_hdf5(file, str(file)) as store:
        if "mod" not in store:
            raise InputError(f"{file}: no h5mu file; is {file.parent} a result of `scmodal integrate`?")
        there = list(store["mod"])
        uns = read_elem(store["uns"]) if "uns" in store else {}
        chain = [str(m) for m in uns.get("scmodal", {}).get("modalities", [])]
        stored = [str(m) for m in store["mod"].attrs.get("mod-order", there)]
        names = chain if sorted(chain) == sorted(there) else stored
        found = []
        for name in names:
            group = store["mod"][name]
            if "X_scmodal" not in group.get("obsm", {}):
                raise InputError(f'{file}: modality {name} has no obsm["X_scmodal"]; is it a result of `integrate`?')
            obs = read_elem(group["obs"])
            own = read_elem(group["uns"]) if "uns" in group else {}
            found.append(
                Modality(
                    name=name,
                    file=file,
                    cells=obs.index.astype(str).to_numpy(),
                    obs=obs,
                    features=read_elem(group["var"]).index.astype(str).to_numpy(),
                    z=np.asarray(read_elem(group["obsm"]["X_scmodal"]), dtype=np.float32),
                    info=dict(own.get("scmodal", {})),
                )
            )
        return found


def _read_run(folder: Path) -> Run:
    from scmodal.io import reading

    with reading(str(folder / "history.parquet"), "the history of a training"):
        history = pd.read_parquet(folder / "history.parquet")
    return Run(
        folder=folder,
        history=history,
        metrics=_read_mapping(folder / "metrics.json"),
        model=_read_mapping(folder / "model" / "model.json"),
    )


def _read_mapping(given: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    if isinstance(given, Mapping):
        return dict(given)

    from scmodal.io import read_json

    content = read_json(Path(given))
    if not isinstance(content, dict):
        raise InputError(f"{given}: expected a JSON object of names and values")
    return content


def _read_selection(given: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    content = _read_mapping(given)
    if not content and isinstance(given, Mapping):  # nothing was chosen
        return {}
    problem = selection_problem(content)
    if problem:
        raise InputError(
            f"{_called(given, 'the selection')}: not a selection ({problem}); give the selection.json of "
            "`scmodal select`"
        )
    return content


def _read_metrics(given: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    content = _read_mapping(given)
    problem = metrics_problem(content)
    if problem:
        raise InputError(
            f"{_called(given, 'the evaluation')}: no metrics of an evaluation ({problem}); give the file that "
            "`scmodal evaluate` wrote"
        )
    return content


def _called(given: Any, otherwise: str) -> str:
    """What to call something given in messages: a file by its path."""
    return str(given) if isinstance(given, str | Path) else otherwise


def _read_text_table(path: str | Path, what: str, mend: str, rows: int | None = None) -> pd.DataFrame:
    """A table of text, tab-separated, or its first rows; whatever is no such table is refused by name."""
    try:
        return pd.read_csv(path, sep="\t", keep_default_na=False, dtype=str, nrows=rows)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file, let alone {what}; {mend}") from error
    except pd.errors.EmptyDataError as error:
        raise InputError(f"{path}: empty, not {what}; {mend}") from error
    except (OSError, EOFError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as {what} ({str(error).strip()}); {mend}") from error


def _lacking(table: pd.DataFrame, needed: Sequence[str]) -> str:
    """Which of the columns a table lacks, as a message says it; empty where none."""
    missing = [column for column in needed if column not in table]
    return f"column{'s' if len(missing) > 1 else ''} {', '.join(missing)}" if missing else ""


def _read_coverage(given: pd.DataFrame | str | Path) -> pd.DataFrame:
    what, mend = "a coverage table", "give the coverage table that `scmodal link --coverage` wrote"
    table = given.copy() if isinstance(given, pd.DataFrame) else _read_text_table(given, what, mend)
    lacking = _lacking(table, ("modality", "feature", "matched"))
    if lacking:
        raise InputError(f"{_called(given, 'the coverage table')}: {what} needs the {lacking}; {mend}")
    table["matched"] = table["matched"].astype(str).str.lower().isin(["true", "1"])
    for column in ("partner", "nearest", "note"):
        table[column] = table[column].fillna("").astype(str) if column in table else ""
    return table


def _check_labels(path: str | Path) -> None:
    """Refuse what is no table of labels by its beginning: of several seeds, only one's tables are read whole."""
    _read_labels(path, rows=10)


def _read_labels(path: str | Path, rows: int | None = None) -> pd.DataFrame:
    what, mend = "a table of transferred labels", "give the table that `scmodal transfer` wrote"
    table = _read_text_table(path, what, mend, rows)
    lacking = _lacking(table, ("cell", "label", "confidence"))
    if lacking:
        raise InputError(f"{path}: {what} needs the {lacking}; {mend}")
    table["confidence"] = pd.to_numeric(table["confidence"], errors="coerce")
    return table


def _at_level(table: pd.DataFrame, key: str) -> pd.DataFrame:
    """A hierarchy's table with the labels of level `key` in the place of the finest, where it has that level."""
    label, confidence = f"label_{key}", f"confidence_{key}"
    if label not in table or confidence not in table:
        return table
    return table.assign(label=table[label], confidence=pd.to_numeric(table[confidence], errors="coerce"))


def _check_imputed(path: str | Path) -> None:
    """Refuse what is no h5ad file; its matrix stays unread until it is drawn."""
    try:
        with h5py.File(path, "r") as store:
            lacking = [name for name in ("X", "obs", "var") if name not in store]
    except OSError as error:
        raise InputError(f"{path}: no h5ad file; give the file that `scmodal impute` wrote") from error
    if lacking:
        raise InputError(f"{path}: no h5ad file (without {', '.join(lacking)}); give the one of `scmodal impute`")
