"""What a samplesheet, a links table and a prepared file must hold, and the two errors a user can cause.

Every problem with what the user gave is an :class:`InputError` (exit code 2); data that are well-formed but cannot
be integrated are a :class:`DataError` (exit code 3).
"""

from __future__ import annotations

import csv
import difflib
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, field_validator

if TYPE_CHECKING:
    from anndata import AnnData

MODALITIES = ("rna", "protein", "atac", "cytometry")
"""Canonical modality names, in the order in which they are listed to users."""

MODALITY_TITLES = {"rna": "RNA", "protein": "protein", "atac": "ATAC", "cytometry": "cytometry"}
"""How a modality is written in a sentence."""

MODALITY_ALIASES = {
    "gex": "rna",
    "gene expression": "rna",
    "transcriptome": "rna",
    "mrna": "rna",
    "adt": "protein",
    "prot": "protein",
    "cite": "protein",
    "proteins": "protein",
    "antibody": "protein",
    "antibody capture": "protein",
    "surface": "protein",
    "peaks": "atac",
    "peak": "atac",
    "chromatin": "atac",
    "cytof": "cytometry",
    "flow": "cytometry",
    "fcs": "cytometry",
}
"""Spellings accepted on input, lower case."""


class InputError(Exception):
    """The user's input or options are wrong: every problem, each with the mend (exit code 2)."""

    exit_code = 2

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems = [problems] if isinstance(problems, str) else list(problems)
        super().__init__("\n".join(self.problems))


class DataError(Exception):
    """The data cannot be integrated: why, and what to try (exit code 3)."""

    exit_code = 3


def nearest(name: str, known: Sequence[str], n: int = 1, cutoff: float = 0.5) -> list[str]:
    """Up to `n` of `known` most alike to `name`, ignoring case, best first."""
    lower = {k.lower(): k for k in reversed(known)}
    return [lower[m] for m in difflib.get_close_matches(name.lower(), list(lower), n=n, cutoff=cutoff)]


MANY_VALUES = 50
"""More different values than this may be too many to name groups of cells; fewer never are."""

CELLS_A_VALUE = 2
"""Fewer cells than this for each of many different values, on average, are no groups."""

CELLS_A_NUMBER = ((1000, 50), (MANY_VALUES, 5))
"""The same for more different numbers than the first one says, where they leave out most of those between.

Clusters are numbered one by one, even if some of them are left out; counts of molecules and measured values are not.
"""


def continuous_problem(values: Any, where: str) -> str | None:
    """What is wrong with a column that should tell groups of cells (labels, batches) but holds something else.

    Parameters
    ----------
    values
        One value a cell: numbers, text or categories, with gaps.
    where
        What to call the column in the message.

    Returns
    -------
    str or None
        None where the column may tell groups: few of its values differ, or each has cells enough.
    """
    import numpy as np
    import pandas as pd

    there = pd.Series(np.asarray(pd.Series(values).dropna())).infer_objects()
    different = there.drop_duplicates()
    if len(different) <= MANY_VALUES:
        return None
    kind, meaning, needed = "texts", "as names of single cells are", CELLS_A_VALUE
    if pd.api.types.is_numeric_dtype(there):
        kind = "numbers"
        meaning, needed = _meaning_of_numbers(different.to_numpy(np.float64))
    if len(there) >= needed * len(different):
        return None
    return f"{where} holds {len(different):,} different {kind} in {len(there):,} cells, {meaning}: no groups"


def _meaning_of_numbers(different: Any) -> tuple[str, int]:
    """What many different numbers may be if no groups, and how many cells each must have to be groups all the same."""
    whole = bool((different % 1 == 0).all())
    meaning = "a count or a number of its own for each cell" if whole else "a measured value"
    if whole and different.max() - different.min() < 2 * len(different):
        return meaning, CELLS_A_VALUE
    return meaning, next(cells for many, cells in CELLS_A_NUMBER if len(different) > many)


def _known_modality(name: str) -> str | None:
    """Canonical name of a modality; None for what is none."""
    key = re.sub(r"[\s_-]+", " ", name.strip().lower())
    return key if key in MODALITIES else MODALITY_ALIASES.get(key)


def canonical_modality(name: str) -> str:
    """Canonical name of a modality.

    Parameters
    ----------
    name
        A canonical name or an alias, any case.

    Raises
    ------
    InputError
        Unknown name; the message has the nearest known one.
    """
    known = _known_modality(name)
    if known is not None:
        return known
    close = nearest(name.strip().lower(), [*MODALITIES, *MODALITY_ALIASES])
    hint = f"; did you mean {close[0]!r}?" if close else ""
    raise InputError(f"unknown modality {name!r}{hint} (known: {', '.join(MODALITIES)})")


# ---------------------------------------------------------------------------------------------------------------------
# samplesheet

SHEET_COLUMNS = ("sample", "modality", "path", "label_key", "batch_key")
REQUIRED_COLUMNS = ("sample", "modality", "path")
OPTIONAL_COLUMNS = ("label_key", "batch_key")
RESERVED_SAMPLES = ("report", "multiqc", "pipeline_info")
"""Folders of the result folder that are no samples."""

REMOTE = re.compile(r"(https?|ftp|s3|gs|az)://", re.IGNORECASE)
"""Paths that are not opened here: the workflow stages them."""

_SAMPLE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")


def sample_problem(name: str) -> str | None:
    """What is wrong with a sample's name, with the mend; None if nothing is.

    A name becomes part of folder and file names on every system the workflow runs on, so letters, digits and
    ``_ . + -`` are allowed, not starting with ``-``, ``+`` or a dot and not ending with one.
    """
    if not name:
        return "the sample has no name"
    mend = "-".join(re.findall(r"[A-Za-z0-9_+]+(?:[.-][A-Za-z0-9_+]+)*", name)).lstrip("+-.") or "sample1"
    if not _SAMPLE.fullmatch(name) or ".." in name or name.endswith("."):
        return (
            f"sample name {name!r} is not allowed: only letters, digits, '_', '.', '+' and '-', not starting with '-', "
            f"'+' or '.', not ending with '.' and without '..'; for instance {mend!r}"
        )
    if len(name) > 100:
        return f"sample name {name[:20] + '...'!r} is longer than 100 characters; shorten it"
    if name.lower() in RESERVED_SAMPLES:
        return f"sample name {name!r} is the name of a folder of the results; for instance {name + '1'!r}"
    return None


class SampleRow(BaseModel):
    """One row of a samplesheet: where one modality of one sample is."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sample: str
    modality: str
    """Canonical name."""
    path: str
    """As written in the sheet."""
    label_key: str | None = None
    batch_key: str | None = None

    @field_validator("sample")
    @classmethod
    def _sample(cls, value: str) -> str:
        problem = sample_problem(value)
        if problem:
            raise ValueError(problem)
        return value

    @field_validator("modality")
    @classmethod
    def _modality(cls, value: str) -> str:
        try:
            return canonical_modality(value)
        except InputError as exc:
            raise ValueError(str(exc)) from exc


def _sheet_text(path: Path) -> str:
    """Text of a samplesheet, without a byte order mark."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as exc:
        raise InputError(f"samplesheet {path}: not found") from exc
    except IsADirectoryError as exc:
        raise InputError(f"samplesheet {path}: a folder; give the samplesheet") from exc
    except OSError as exc:
        raise InputError(f"samplesheet {path}: cannot be read ({exc.strerror or exc})") from exc
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        encoding = "utf-16"  # what some spreadsheets call "Unicode text"
    else:
        encoding = "utf-8-sig"
    if data.startswith(b"PK"):
        raise InputError(f"samplesheet {path}: an Excel or zip file; save it as CSV")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as exc:
        raise InputError(f"samplesheet {path}: not a text file in UTF-8; save it as CSV in UTF-8") from exc
    if "\x00" in text:
        raise InputError(f"samplesheet {path}: not a text file; save it as CSV")
    return text


def _header(line: str, delimiter: str) -> list[str]:
    """Names of the columns in the first line of a samplesheet, lower case; none of what is no table."""
    try:
        names = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])
    except csv.Error:  # told when the rows are read
        return []
    return [name.strip().lower() for name in names]


def _sheet_rows(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """Header (lower case) and rows with their line numbers; blank lines are skipped, fields stripped."""
    text = _sheet_text(path)
    first = next((line for line in text.splitlines() if line.strip()), "")
    preferred = "\t" if path.suffix.lower() in (".tsv", ".tab", ".txt") else ","
    candidates = (preferred, ",", "\t", ";")
    delimiter = next((d for d in candidates if "path" in _header(first, d)), max(candidates, key=first.count))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for fields in reader:
            stripped = [field.strip() for field in fields]
            if any(stripped):
                rows.append((reader.line_num, stripped))
    except csv.Error as exc:
        raise InputError(f"samplesheet {path}, line {reader.line_num}: not a table ({exc})") from exc
    if not rows:
        raise InputError(
            f"samplesheet {path}: empty; it needs a header {','.join(REQUIRED_COLUMNS)} and a row per file"
        )
    header = [name.lower() for name in rows[0][1]]
    return header, rows[1:]


def _check_header(header: Sequence[str], path: Path) -> None:
    problems = []
    for column in REQUIRED_COLUMNS:
        if column not in header:
            others = [name for name in header if name not in SHEET_COLUMNS]
            close = nearest(column, others)
            hint = f"; is {close[0]!r} meant?" if close else ""
            problems.append(
                f"samplesheet {path}: column {column!r} is missing (there: {', '.join(filter(None, header))}); "
                f"the header must have {', '.join(REQUIRED_COLUMNS)}{hint}"
            )
    for column, n in Counter(header).items():
        if column in SHEET_COLUMNS and n > 1:
            problems.append(f"samplesheet {path}: column {column!r} is there {n} times; keep one")
    for name in dict.fromkeys(header):
        meant = None if name in SHEET_COLUMNS else _meant_column(name)
        if meant is not None and meant not in header:
            problems.append(
                f"samplesheet {path}: unknown column {name!r}; did you mean {meant!r}? (Rename it; a column that is "
                "to be ignored needs another name.)"
            )
    if problems:
        raise InputError(problems)


_SHORTENED = {
    "label": "label_key",
    "labels": "label_key",
    "batch": "batch_key",
    "batches": "batch_key",
    "donor": "batch_key",
    "donors": "batch_key",
}
"""Columns that are taken for an optional one, whose name they are nearly; as a column of notes they need another."""

_ABOUT_LABELS = re.compile("label|lable|type|annot|cluster|class")
_ABOUT_BATCHES = re.compile("batch|donor|patient|subject")


def _meant_column(name: str) -> str | None:
    """Optional column that a name was probably meant for; other columns are the user's own affair."""
    squeezed = re.sub(r"[^a-z0-9]", "", name)
    if squeezed in _SHORTENED:
        return _SHORTENED[squeezed]
    if "key" in squeezed:
        for column, about in zip(OPTIONAL_COLUMNS, (_ABOUT_LABELS, _ABOUT_BATCHES)):
            if about.search(squeezed):
                return column
    close = nearest(squeezed, [column.replace("_", "") for column in OPTIONAL_COLUMNS], cutoff=0.8)
    return next((column for column in OPTIONAL_COLUMNS if column.replace("_", "") in close), None)


def _local_file(path: str, sheet: Path) -> Path:
    """Where a path of the sheet is: relative ones start at the sheet's folder, else at the working directory."""
    given = Path(path).expanduser()
    beside = sheet.parent / given
    return beside if beside.exists() or not given.exists() else given


def model_modalities(folder: str | Path) -> list[str]:
    """Modalities of a trained model, from its ``model.json`` alone.

    Raises
    ------
    InputError
        The folder holds no model.
    """
    from .io import read_json

    folder = Path(folder)
    if not (folder / "model.json").is_file():
        raise InputError(f"{folder}: no model.json in it; give the model/ folder of an integration result")
    description = read_json(folder / "model.json")
    if not isinstance(description, dict) or not isinstance(description.get("modalities"), list):
        raise InputError(f"{folder}/model.json: names no modalities; give the model/ folder of an integration result")
    return [str(name) for name in description["modalities"]]


def model_topology(folder: str | Path) -> str:
    """Topology of the training of a model, from its ``model.json`` alone.

    Raises
    ------
    InputError
        The folder holds no model, or one that does not tell.
    """
    from .io import read_json

    model_modalities(folder)
    preset = read_json(Path(folder) / "model.json").get("preset")
    if not isinstance(preset, dict) or not isinstance(preset.get("topology"), str):
        raise InputError(f"{folder}/model.json: names no topology; integrate again")
    return str(preset["topology"])


def model_seed(folder: str | Path) -> int | None:
    """Seed of the training of a model, from its ``model.json`` alone; None where it does not tell.

    Raises
    ------
    InputError
        The folder holds no model.
    """
    from .io import read_json

    model_modalities(folder)
    seed = read_json(Path(folder) / "model.json").get("seed")
    return int(seed) if isinstance(seed, int) else None


def _by_sample(rows: Sequence[tuple[str, SampleRow]]) -> dict[str, list[tuple[str, SampleRow]]]:
    """(where, row) of every sample."""
    samples: dict[str, list[tuple[str, SampleRow]]] = {}
    for where, row in rows:
        samples.setdefault(row.sample, []).append((where, row))
    return samples


def _case_problems(rows: Sequence[tuple[str, SampleRow]], path: Path) -> dict[str, str]:
    """What is wrong with samples whose names differ by case alone, by the samples. `rows`: (where, row)."""
    spellings: dict[str, list[str]] = {}
    for sample in _by_sample(rows):
        spellings.setdefault(sample.lower(), []).append(sample)
    problems: dict[str, str] = {}
    for alike in spellings.values():
        if len(alike) > 1:
            places = ", ".join(where for where, row in rows if row.sample in alike)
            told = (
                f"samplesheet {path}, {places}: the sample names {', '.join(map(repr, alike))} differ by case alone: "
                "one folder of results on some file systems; spell them alike if they are one sample, else rename one"
            )
            problems |= dict.fromkeys(alike, told)
    return problems


def _new_cell_problems(rows: Sequence[tuple[str, SampleRow]], path: Path, modalities: Sequence[str]) -> list[str]:
    """Problems of rows that are new cells for a model with these modalities. `rows`: (where, row)."""
    problems = [
        f"samplesheet {path}, {where}: the model has no {row.modality} data (it has: {', '.join(modalities)})"
        for where, row in rows
        if row.modality in MODALITIES and row.modality not in modalities
    ]
    for sample, own in _by_sample(rows).items():
        for modality, n in Counter(row.modality for _, row in own).items():
            if n > 1:
                places = ", ".join(where for where, row in own if row.modality == modality)
                problems.append(
                    f"samplesheet {path}, {places}: sample {sample!r} has {n} rows of modality {modality!r}; new cells "
                    "are one file a sample and modality: give each file a sample name of its own"
                )
    return problems


def _group_problems(rows: Sequence[tuple[str, SampleRow]], path: Path) -> list[str]:
    """Problems that only show when the rows of a sample are seen together. `rows`: (where, row)."""
    problems: list[str] = []
    for sample, own in _by_sample(rows).items():
        places = ", ".join(where for where, _ in own)
        if len(own) == 1:
            problems.append(
                f"samplesheet {path}, {places}: sample {sample!r} has one row only; an integration needs two "
                "modalities or more: add the other row, or correct the sample's name"
            )
            continue
        groups: dict[str, list[tuple[str, SampleRow]]] = {}
        for where, row in own:
            groups.setdefault(row.modality, []).append((where, row))
        if len(groups) == 1:
            problems.append(
                f"samplesheet {path}, {places}: sample {sample!r} has only modality {next(iter(groups))!r}; an "
                "integration needs two modalities or more: add the other one"
            )
        for modality, files in groups.items():
            if len(files) == 1:
                continue
            places = ", ".join(where for where, _ in files)
            start = f"samplesheet {path}, {places}: sample {sample!r} has {len(files)} rows of modality {modality!r}"
            if any(row.batch_key is None for _, row in files):
                problems.append(
                    f"{start} without batch_key; several files of one modality need the obs column that tells their "
                    "batches apart in batch_key, in each row (or --batch-key for all of them)"
                )
            for key in ("label_key", "batch_key"):
                values = sorted({str(getattr(row, key)) for _, row in files if getattr(row, key) is not None})
                if len(values) > 1:
                    problems.append(f"{start} with different {key} ({', '.join(values)}); give all of them the same")
            for file, n in Counter(row.path for _, row in files).items():
                if n > 1:
                    problems.append(f"{start} and {file!r} in {n} of them; remove the repeated row")
    return problems


def read_samplesheet(
    path: str | Path,
    files: Mapping[int, Path] | None = None,
    check_files: bool = True,
    new_cells_of: Sequence[str] | None = None,
    genes: str | Path | bool = True,
    label_key: str | None = None,
    batch_key: str | None = None,
    say: Callable[[str], None] | None = None,
) -> list[SampleRow]:
    """Read and check a samplesheet, and look into the files that it names.

    Parameters
    ----------
    path
        CSV or TSV with the columns sample, modality and path, and optionally label_key and batch_key; any case, any
        order. Other columns are ignored, unless they are named almost like one of the optional ones, as ``label`` and
        ``donor`` are.
    files
        Local file of each data row, by 1-based row number (blank lines do not count). A row that is not in it is "not
        found" unless its path is a URL. Without it, relative paths are looked for in the sheet's folder, then in the
        working directory; URLs are not opened.
    check_files
        Look into the files (lightly: nothing is loaded). Without it, only the sheet itself is checked.
    new_cells_of
        Modalities of a trained model whose new cells the files are: one row is enough for a sample then.
    genes
        File with the genes for ATAC peaks and fragments, which is checked, too; False if there is none, True if that
        is no matter yet.
    label_key, batch_key
        For rows that name none; checked as if they stood there.
    say
        Called with a sentence on columns that are ignored.

    Returns
    -------
    list of SampleRow
        In the order of the sheet.

    Raises
    ------
    InputError
        Every problem of the sheet and of its files at once, with row and line.
    """
    path = Path(path)
    header, lines = _sheet_rows(path)
    _check_header(header, path)
    # `order` is of write_samplesheet: it follows from the rows
    ignored = [name for name in dict.fromkeys(header) if name and name not in (*SHEET_COLUMNS, "order")]
    if ignored and say is not None:
        say(f"samplesheet {path}: ignored column{'s' if len(ignored) > 1 else ''} {', '.join(map(repr, ignored))}")
    if not lines:
        raise InputError(f"samplesheet {path}: no rows under the header; it needs a row per file")
    problems: list[str] = []
    if isinstance(genes, str | Path):
        from .genes import read_genes

        try:
            read_genes(genes)
        except InputError as exc:
            problems += exc.problems
    rows: list[tuple[str, SampleRow]] = []
    file_problems: dict[tuple[str, str, str | None, str | None], list[str]] = {}
    for number, (line, fields) in enumerate(lines, start=1):
        where = f"row {number} (line {line})"
        found: list[str] = []
        if any(fields[len(header) :]):
            found.append(f"has {len(fields)} fields, the header {len(header)}; quote fields that hold the separator")
        record = dict.fromkeys(SHEET_COLUMNS, "") | dict(zip(header, fields))
        if issue := sample_problem(record["sample"]):
            found.append(issue + ("; fill in column 'sample'" if not record["sample"] else ""))
        modality: str | None = None
        if not record["modality"]:
            found.append(f"column 'modality' is empty (known: {', '.join(MODALITIES)})")
        else:
            try:
                modality = canonical_modality(record["modality"])
            except InputError as exc:
                found += exc.problems
        if not record["path"]:
            found.append("column 'path' is empty")
        own_label, own_batch = record["label_key"] or label_key or None, record["batch_key"] or batch_key or None
        if record["path"] and check_files:
            local = _row_file(record["path"], number, path, files)
            if local is None:
                if not REMOTE.match(record["path"]):
                    found.append(f"{record['path']}: not found (relative paths start at the samplesheet's folder)")
            elif not local.exists():
                found.append(f"{record['path']}: not found (relative paths start at the samplesheet's folder)")
            elif modality is not None:
                from .io import check_file

                question = (str(local), modality, own_label, own_batch)
                if question not in file_problems:
                    file_problems[question] = check_file(*question, name=record["path"], genes=bool(genes))
                    file_problems[question] += _continuous_keys(*question, name=record["path"])
                found += file_problems[question]
        problems += [f"samplesheet {path}, {where}: {text}" for text in found]
        if record["sample"] and not sample_problem(record["sample"]):
            # Rows with another flaw still count for their sample: one slip must not look like a second one.
            rows.append(
                (
                    where,
                    SampleRow.model_construct(
                        sample=record["sample"],
                        modality=modality or record["modality"] or f"row {number}",
                        path=record["path"],
                        label_key=own_label,
                        batch_key=own_batch,
                    ),
                )
            )
    by_case = _case_problems(rows, path)
    problems += dict.fromkeys(by_case.values())
    if new_cells_of is None:
        # what is one sample in two spellings lacks nothing
        problems += _group_problems([(where, row) for where, row in rows if row.sample not in by_case], path)
    else:
        problems += _new_cell_problems(rows, path, new_cells_of)
    if problems:
        raise InputError(problems)
    return [SampleRow(**row.model_dump()) for _, row in rows]


def _continuous_keys(path: str, modality: str, label_key: str | None, batch_key: str | None, name: str) -> list[str]:
    """Keys of an AnnData or MuData file that tell no groups; a column that is not there is told elsewhere."""
    import h5py

    if not (label_key or batch_key) or not Path(path).is_file() or not h5py.is_hdf5(path):
        return []
    problems: list[str] = []
    with h5py.File(path, "r") as file:
        obs = file.get("obs")
        for part in file.get("mod", {}):
            if part == modality or _known_modality(part) == modality:
                obs = file["mod"][part].get("obs")
        for what, key in (("label_key", label_key), ("batch_key", batch_key)):
            column = obs.get(key) if key and isinstance(obs, h5py.Group) else None
            values = None if column is None else _column_values(column)
            problem = None if values is None else continuous_problem(values, f"{name}: {what} {key!r}")
            problems += [f"{problem}; name another column of obs"] if problem else []
    return problems


def _column_values(column: Any) -> Any:
    """Values of a column of obs in a file, gaps left out; None for what cannot be told without anndata."""
    import h5py

    if isinstance(column, h5py.Dataset):
        if "categories" in column.attrs:  # before anndata 0.8
            return column.file[column.attrs["categories"]][()][_codes(column)]
        return column[()] if column.dtype.kind in "fiuOS" else None
    if {"codes", "categories"} <= set(column) and isinstance(column["categories"], h5py.Dataset):
        return column["categories"][()][_codes(column["codes"])]
    if {"values", "mask"} <= set(column):
        return column["values"][()][~column["mask"][()]]
    return None


def _codes(column: Any) -> Any:
    """Numbers of the categories, of cells that have one."""
    codes = column[()]
    return codes[codes >= 0]


def _row_file(path: str, number: int, sheet: Path, files: Mapping[int, Path] | None) -> Path | None:
    """Local file of a row; None where there is none to look at."""
    if files is not None:
        return Path(files[number]) if number in files else None
    return None if REMOTE.match(path) else _local_file(path, sheet)


def write_samplesheet(rows: Sequence[SampleRow], path: str | Path) -> None:
    """Write a checked samplesheet: CSV with the columns of :class:`SampleRow` and ``order``.

    ``order`` is the place of the row's modality within its sample, from 0, by first appearance: the order in which
    the modalities are chained.
    """
    from .io import atomic_path

    orders: dict[str, dict[str, int]] = {}
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*SHEET_COLUMNS, "order"])
    for row in rows:
        seen = orders.setdefault(row.sample, {})
        order = seen.setdefault(row.modality, len(seen))
        writer.writerow([row.sample, row.modality, row.path, row.label_key or "", row.batch_key or "", order])
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# prepared data

SCHEMA_VERSION = 1
"""Version of the layout of a prepared file."""


def check_prepared(adata: AnnData, name: str) -> None:
    """Make sure that an AnnData is what preprocessing gives.

    Parameters
    ----------
    adata
        Cells x features.
    name
        What to call it in messages.

    Raises
    ------
    InputError
        Something that prepared data have is not there; everything that is missing at once.
    """
    own: Any = adata.uns.get("scmodal")
    mend = "run `scmodal preprocess` on the raw file (in Python: scmodal.preprocess)"
    if own is None or "schema_version" not in own or "modality" not in own:
        raise InputError(f"{name}: not prepared (no uns['scmodal'] of preprocessing inside); {mend}")
    version = int(own["schema_version"])
    if version > SCHEMA_VERSION:
        raise InputError(
            f"{name}: prepared by a newer scmodal (layout {version}, known is {SCHEMA_VERSION}); update scmodal"
        )
    problems: list[str] = []
    modality = str(own["modality"])
    if modality not in MODALITIES:
        problems.append(f"{name}: unknown modality {modality!r} in uns['scmodal']; {mend}")
    columns = ["linked", "highly_variable", "mean", "std"]
    columns += ["highly_variable_rank"] if modality in ("rna", "atac") else []
    missing = [column for column in columns if column not in adata.var]
    if missing:
        problems.append(f"{name}: var lacks {', '.join(missing)}; {mend}")
    if modality in ("rna", "protein", "atac") and "counts" not in adata.layers:
        problems.append(f"{name}: layers['counts'] is missing; {mend}")
    if adata.n_obs == 0 or adata.n_vars == 0:
        problems.append(f"{name}: empty ({adata.n_obs} x {adata.n_vars}); {mend}")
    for what, index in (("cell", adata.obs_names), ("feature", adata.var_names)):
        if not index.is_unique:
            problems.append(f"{name}: duplicated {what} names; {mend}")
    if problems:
        raise InputError(problems)
