"""Tables of text: cells x features, or features x cells."""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import scipy.sparse as sp

from ..contracts import InputError
from .counts import CHUNK
from .kinds import BARCODE, ENSEMBL_ID, open_text
from .modality import from_anndata, repeated_names, text_index
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
        raise InputError(f"{name}: not a text table in UTF-8 ({exc.reason}); save it as .csv or .tsv in UTF-8") from exc
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


def read_table(path: Path, modality: str, name: str, obs_columns: Collection[str]) -> AnnData:
    """A table of cells x features, or of features x cells; text columns and `obs_columns` become annotation."""
    from anndata import AnnData

    delimiter, header, second = table_header(path, name)
    if not second:
        raise InputError(empty_matrix(0, len(header) - 1, modality, name))
    # R writes no name for the column of row names: the header is then one field short.
    if len(second) == len(header) + 1:
        header = ["", *header]
    repeated = repeated_names(pd.Index(header[1:]))
    if repeated:
        raise InputError(
            f"{name}: {len(repeated):,} duplicated feature names ({some(repeated)}); rename or sum these columns"
        )
    if "" in header[1:]:
        raise InputError(f"{name}: column {header[1:].index('') + 2} has no name in the first line; name it")

    rows = max(1, CHUNK // len(header))
    annotation: list[str] | None = None
    cells: list[np.ndarray] = []
    parts: list[Any] = []
    notes_frames: list[pd.DataFrame] = []
    first_is_name = True
    dense = modality == "cytometry"
    with reading(name, "a table"):
        chunks = pd.read_csv(
            path,
            sep=delimiter,
            header=None,
            skiprows=1,
            names=[f"c{i}" for i in range(len(header))],
            index_col=False,
            chunksize=rows,
            encoding="utf-8-sig",
            low_memory=False,
            skipinitialspace=True,
        )
        start = 0
        for chunk in chunks:
            chunk.columns = pd.Index(header)
            if annotation is None:
                first = chunk.iloc[:, 0]
                first_is_name = not _is_measurement(first, header[0])
                candidates = header[1:] if first_is_name else header
                annotation = [
                    c
                    for c in candidates
                    if c in obs_columns or (chunk[c].dtype.kind not in "biuf" and _is_text(chunk[c]))
                ]
            values = chunk.drop(columns=annotation)
            if first_is_name:
                values = values.iloc[:, 1:]
            columns = [values[c].to_numpy() if values[c].dtype.kind in "biuf" else _numbers(values[c], name, start)
                       for c in values.columns]  # fmt: skip
            block = np.column_stack(columns).astype(np.float32 if not dense else np.float64) if columns else np.empty(
                (len(chunk), 0))  # fmt: skip
            parts.append(block if dense else sp.csr_matrix(block))
            cells.append(chunk.iloc[:, 0].astype(str).to_numpy() if first_is_name else np.empty(0))
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
    return from_anndata(adata, modality, name, messages=notes)


_LOOKED_AT = 1000  # names on each side of a table that tell its orientation


def _features_in_rows(rows: Sequence[str], columns: Sequence[str]) -> bool:
    """Whether the rows of a table are named like genes or proteins and the columns are not, so that those are cells."""
    from ..antigens import antigen_genes

    rows, columns = (names[:: max(1, len(names) // _LOOKED_AT)] for names in (rows, columns))

    def barcodes(names: Sequence[str]) -> float:
        return float(np.mean([bool(BARCODE.fullmatch(name)) for name in names]))

    def known(names: Sequence[str]) -> int:
        return sum(
            bool(ENSEMBL_ID.fullmatch(name) or antigen_genes(name, "human") or antigen_genes(name, "mouse"))
            for name in names
        )

    if barcodes(rows) >= 0.1:
        return False
    return barcodes(columns) > 0.9 or (known(columns) == 0 and known(rows) >= 3)


def _is_measurement(first: pd.Series, header: str) -> bool:
    """Whether the first column of a table holds values rather than cell names."""
    if first.dtype.kind not in "iuf" or header == "" or header.lower() in ("cell", "barcode", "index", "cell_id", "id"):
        return False
    return first.dtype.kind == "f" or bool(first.duplicated().any())


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
