"""Tables of text: cells x features, or features x cells."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..contracts import InputError
from .counts import CHUNK, CORRECTED, find_flaw, looks_corrected
from .kinds import BARCODE, ENSEMBL_ID, open_text
from .modality import from_anndata
from .names import repeated_names, text_index
from .wording import empty_matrix, reading, some

if TYPE_CHECKING:
    from anndata import AnnData


def table_header(path: Path, name: str) -> tuple[str, list[str], list[str]]:
    """Delimiter, fields of the first line and of the second line of a table."""
    suffixes = [s.lower() for s in path.suffixes if s.lower() != ".gz"]
    preferred = "," if suffixes[-1:] == [".csv"] else "\t"
    try:
        with open_text(path) as handle:
            head = [handle.readline(), handle.readline()]
    except UnicodeDecodeError as exc:
        raise InputError(_not_utf8(name, exc)) from exc
    first = head[0]
    delimiter = preferred if preferred in first else max((",", "\t", ";"), key=first.count)
    if first.count(delimiter) == 0:
        raise InputError(
            f"{name}: neither commas nor tabs in the first line; a table has cells in rows, features in columns and "
            "names in its first line and first column"
        )
    fields = list(csv.reader(head, delimiter=delimiter))
    header = [f.strip() for f in fields[0]]
    return delimiter, header, ([f.strip() for f in fields[1]] if len(fields) > 1 else [])


def _not_utf8(name: str, exc: UnicodeDecodeError) -> str:
    return (
        f"{name}: not a text table in UTF-8 ({exc.reason}; perhaps Latin-1, as some spreadsheets write it); "
        "save it as .csv or .tsv in UTF-8"
    )


def _chunks(path: Path, name: str, delimiter: str, header: Sequence[str]) -> Iterator[pd.DataFrame]:
    """The lines after the first in pieces, the first column as text as it stands there."""
    names = [f"c{i}" for i in range(len(header))]
    try:
        for chunk in pd.read_csv(
            path,
            sep=delimiter,
            header=None,
            skiprows=1,
            names=names,
            index_col=False,
            # A cell may be called 0001 or NA; no type and no list of missing values leaves both alone.
            converters={names[0]: str},
            chunksize=max(1, CHUNK // len(header)),
            encoding="utf-8-sig",
            low_memory=False,
            skipinitialspace=True,
        ):
            chunk.columns = pd.Index(header)
            yield chunk
    except UnicodeDecodeError as exc:
        raise InputError(_not_utf8(name, exc)) from exc


def read_table(path: Path, modality: str, name: str, obs_columns: Collection[str]) -> AnnData:
    """A table of cells x features, or of features x cells; text columns and `obs_columns` become annotation."""
    from anndata import AnnData

    delimiter, header, second = table_header(path, name)
    if not second:
        raise InputError(empty_matrix(0, len(header) - 1, modality, name))
    # R writes no name for the column of row names: the header is then one field short.
    if len(second) == len(header) + 1:
        header = ["", *header]
    repeated = repeated_names(pd.Index(header if header[0] else header[1:]))
    if repeated:
        raise InputError(
            f"{name}: {len(repeated):,} duplicated feature names ({some(repeated)}); rename or sum these columns"
        )
    if "" in header[1:]:
        raise InputError(f"{name}: column {header[1:].index('') + 2} has no name in the first line; name it")

    annotation: list[str] | None = None
    cells: list[np.ndarray] = []
    parts: list[Any] = []
    notes_frames: list[pd.DataFrame] = []
    first_is_name = True
    dense = modality == "cytometry"
    with reading(name, "a table"):
        start = 0
        for chunk in _chunks(path, name, delimiter, header):
            if annotation is None:
                first_is_name = not _is_measurement(chunk.iloc[:, 0], header[0])
            if not first_is_name:
                chunk[header[0]] = _as_numbers(chunk.iloc[:, 0])
            if annotation is None:
                candidates = header[1:] if first_is_name else header
                text = [c for c in candidates if chunk[c].dtype.kind not in "biuf" and _is_text(chunk[c])]
                _refuse_decimal_commas(chunk[[c for c in text if c not in obs_columns]], name)
                annotation = [c for c in candidates if c in obs_columns or c in text]
            values = chunk.drop(columns=annotation)
            if first_is_name:
                values = values.iloc[:, 1:]
            columns = [values[c].to_numpy() if values[c].dtype.kind in "biuf" else _numbers(values[c], name, start)
                       for c in values.columns]  # fmt: skip
            block = np.column_stack(columns).astype(np.float32 if not dense else np.float64) if columns else np.empty(
                (len(chunk), 0))  # fmt: skip
            parts.append(block if dense else sp.csr_matrix(block))
            cells.append(chunk.iloc[:, 0].to_numpy(dtype=object) if first_is_name else np.empty(0))
            notes_frames.append(chunk[annotation])
            start += len(chunk)
    annotation = annotation or []
    features = [c for c in (header[1:] if first_is_name else header) if c not in annotation]
    if start == 0 or not features:
        raise InputError(empty_matrix(start, len(features), modality, name))
    obs = pd.concat(notes_frames, ignore_index=True)
    names = np.concatenate(cells) if first_is_name else np.array([f"cell{i + 1}" for i in range(start)], dtype=object)
    obs.index = text_index(pd.Index(names))
    matrix = np.vstack(parts) if dense else sp.vstack(parts, format="csr")
    adata = AnnData(X=matrix, obs=obs, var=pd.DataFrame(index=pd.Index(features, dtype=object)))
    down, across, annotated = "cells", "features", "cell"
    if first_is_name and _features_in_rows([str(n) for n in names], features):
        adata = AnnData(X=matrix.T if dense else sp.csr_matrix(matrix.T), obs=adata.var, var=adata.obs)
        down, across, annotated = "features", "cells", "feature"
    notes = [
        f"The table was read with {down} in rows and {across} in columns: {adata.n_obs:,} cells, "
        f"{adata.n_vars:,} features."
    ]
    if not first_is_name:
        notes.append("Its first column is a measurement, not cell names: the cells were numbered.")
    if annotation:
        notes.append(f"Columns taken as {annotated} annotation, not as {across}: {some(annotation, 20)}.")
    find = functools.partial(_table_counts, across="column" if across == "features" else "row")
    return from_anndata(adata, modality, name, messages=notes, find=find)


def _table_counts(adata: AnnData, name: str, across: str) -> tuple[Any, str]:
    """The values of a table, if they are counts; `across` says what of the table a feature is: a column or a row."""
    flaw = find_flaw(adata.X)
    if flaw is None:
        return adata.X, "X"
    feature = str(adata.var_names[flaw.column])
    told = f"{name}: {flaw.text(adata.obs_names, adata.var_names)} of the table"
    if flaw.kind in ("nan", "infinite"):
        raise InputError(f"{told}; raw counts are needed: fill the gaps in, or remove the {across} {feature!r}")
    bad = (adata.X.data < 0) | (adata.X.data != np.rint(adata.X.data))
    wrong = np.unique(adata.X.indices[bad])
    where = f"in {len(wrong):,} of {adata.n_vars:,} {across}s ({some(list(adata.var_names[wrong]))})"
    if len(wrong) < 0.5 * adata.n_vars:
        mend = f"remove these {across}s if they are no features, else give raw counts in them"
    elif flaw.kind == "fraction" and looks_corrected(adata.X):
        mend = f"they {CORRECTED}: round them, or give the counts from before the correction"
    else:
        mend = "no raw counts (already normalised or scaled?): give the table of raw counts"
    raise InputError(f"{told}, {where}; {mend}")


_LOOKED_AT = 1000  # names on each side of a table that tell its orientation


def _features_in_rows(rows: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether the rows of a table are named like genes or proteins, and the columns rather not: those are cells."""
    rows, columns = (names[:: max(1, len(names) // _LOOKED_AT)] for names in (rows, columns))

    def barcodes(names: Sequence[str]) -> float:
        return float(np.mean([bool(BARCODE.fullmatch(name)) for name in names]))

    if barcodes(rows) >= 0.1:
        return False
    if barcodes(columns) > 0.9:
        return True
    down, across = _known(rows), _known(columns)
    # By number as well as by share: a few cells may be named after what they were sorted by, and a whole transcriptome
    # has known genes in a few of a hundred names.
    return down >= 3 and down > across and down / len(rows) >= max(0.01, 3 * across / len(columns))


def _known(names: Sequence[str]) -> int:
    """How many different genes and antigens are among the names; none among names that merely count (V0, V1, ...)."""
    from ..antigens import antigen_genes

    genes = {
        (name,) if ENSEMBL_ID.fullmatch(name) else antigen_genes(name, "human") or antigen_genes(name, "mouse")
        for name in names
    } - {()}
    # V28 and C33 are antigens, too, and so are wells of a plate such as F3 and H2.
    forms = {re.sub(r"\d+", "0", re.sub(r"(?<![A-Za-z])[A-P](?=\d\d?$)", "A", name)) for name in names}
    counting = len(forms) <= max(1, 0.1 * len(names))
    return 0 if counting and len(genes) < 0.5 * len(names) else len(genes)


_MISSING = frozenset({"", "#N/A", "N/A", "NA", "NULL", "NaN", "None", "nan", "null"})


def _as_numbers(first: pd.Series) -> pd.Series:
    """The first column of a table, read as text, as the values it holds; what is none is left as it is."""
    values = first.str.strip().mask(first.str.strip().isin(_MISSING))
    numbers = pd.to_numeric(values, errors="coerce")
    return numbers if numbers.notna().equals(values.notna()) else values


def _is_measurement(first: pd.Series, header: str) -> bool:
    """Whether the first column of a table holds values rather than cell names."""
    values = _as_numbers(first)
    if values.dtype.kind not in "iuf" or header == "":
        return False
    if header.lower() in ("cell", "barcode", "index", "cell_id", "id") or first.str.match(r"-?0\d").any():
        return False
    whole = first.str.fullmatch(r"\s*[-+]?\d+\s*").all()
    return bool(not whole or values.duplicated().any())


def _refuse_decimal_commas(text: pd.DataFrame, name: str) -> None:
    """Refuse a table with a column whose values are all numbers but for commas within them."""
    for column in text.columns:
        values = text[column].dropna().astype(str).str.strip()
        commas = values.str.contains(",", regex=False)
        if commas.any() and values.str.fullmatch(r"[-+]?\d*([.,]\d+)*([eE][-+]?\d+)?").all():
            raise InputError(
                f"{name}: decimal commas ({values[commas].iloc[0]!r} in column {column!r}); "
                "save the table with decimal points, and without marks between thousands"
            )


def _is_text(column: pd.Series) -> bool:
    """Whether (nearly) nothing in a column is a number: annotation, not a feature with a typing error."""
    return bool(pd.to_numeric(column, errors="coerce").notna().mean() < 0.5)


def _numbers(column: pd.Series, name: str, start: int) -> np.ndarray:
    numbers = pd.to_numeric(column, errors="coerce")
    bad = np.flatnonzero((numbers.isna() & column.notna()).to_numpy())
    if len(bad):
        raise InputError(
            f"{name}: {str(column.iloc[bad[0]])!r} in column {column.name!r}, data row {start + int(bad[0]) + 1}, "
            "is not a number; correct it, or use a point for decimals"
        )
    return numbers.to_numpy(dtype=np.float64)
