"""A table of links: pairs of features that are said to vary together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from scmodal.contracts import InputError, canonical_modality, nearest

COLUMNS = ["feature_a", "feature_b", "modality_a", "modality_b", "weight"]
"""Columns of a links table, in the order in which they are written."""


@dataclass
class LinkTable:
    """Links between features of two or more modalities.

    Attributes
    ----------
    frame
        One row a link, columns ``feature_a, feature_b, modality_a, modality_b, weight``. The modalities are empty in a
        user's table that does not name them; :func:`build_links` fills them in.
    messages
        What was noticed on the way.
    """

    frame: pd.DataFrame
    messages: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frame)

    @classmethod
    def read(cls, path: str | Path, modalities: Sequence[str] | None = None) -> LinkTable:
        """Read a links table (TSV or CSV).

        Parameters
        ----------
        path
            File with columns feature_a and feature_b, and optionally modality_a and modality_b (both or neither) and
            weight (1 where there is none).
        modalities
            Modalities of the data; links of other modalities are left out (said in ``messages``).

        Raises
        ------
        InputError
            No such file, not a table, missing columns, unknown modalities, empty names, weights that are no number or
            negative: all at once; no link of these modalities.
        """
        path = Path(path)
        if path.is_dir():
            raise InputError(f"{path}: a folder; give the links table (TSV or CSV)")
        if not path.is_file():
            raise InputError(f"{path}: no such links table")
        try:
            raw = _read_text_table(path)
        except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, EOFError, OSError) as error:
            raise InputError(f"{path}: not a table that can be read ({error}); give a TSV or CSV") from error
        frame, messages = check_table(raw, str(path))
        if modalities is not None:
            names = [canonical_modality(m) for m in modalities]
            other = ~frame["modality_a"].isin([*names, ""]) | ~frame["modality_b"].isin([*names, ""])
            if other.all():
                theirs = sorted({*frame["modality_a"], *frame["modality_b"]} - {""})
                raise InputError(
                    f"{path}: all {len(frame):,} links are of other modalities ({', '.join(theirs)}) than the data "
                    f"({', '.join(names)}); correct modality_a and modality_b, or leave both columns out"
                )
            if other.any():
                messages.append(f"{path}: {other.sum()} links of other modalities than {', '.join(names)} left out")
                frame = frame[~other].reset_index(drop=True)
        return cls(frame, messages)

    def write(self, path: str | Path) -> None:
        """Write the table as TSV (gzipped if the name ends in .gz)."""
        from scmodal.io import write_tsv

        write_tsv(self.frame[COLUMNS], Path(path))

    def between(self, modality_a: str, modality_b: str) -> pd.DataFrame:
        """Links of two modalities, turned so that feature_a is of the first.

        Parameters
        ----------
        modality_a, modality_b
            Modalities (aliases accepted).

        Returns
        -------
        DataFrame
            Columns as in `frame`; no rows where the two are not linked. A link that names no modalities comes in both
            orientations: keep those whose features are in the data, or let :func:`build_links` find out.
        """
        a, b = canonical_modality(modality_a), canonical_modality(modality_b)
        frame = self.frame
        unnamed = frame["modality_a"] == ""
        direct = frame[unnamed | ((frame["modality_a"] == a) & (frame["modality_b"] == b))]
        turned = frame[unnamed | ((frame["modality_a"] == b) & (frame["modality_b"] == a))]
        turned = turned.rename(columns={"feature_a": "feature_b", "feature_b": "feature_a"})
        both = pd.concat([direct[COLUMNS], turned[COLUMNS]], ignore_index=True)
        both["modality_a"], both["modality_b"] = a, b
        return both.drop_duplicates(["feature_a", "feature_b"], ignore_index=True)


def _read_text_table(path: Path) -> pd.DataFrame:
    def read(separator: str) -> pd.DataFrame:
        return pd.read_csv(path, sep=separator, dtype=str, keep_default_na=False, encoding="utf-8-sig")

    frame = read("\t")
    header = str(frame.columns[0])
    if frame.shape[1] == 1 and ("," in header or ";" in header):
        return read("," if "," in header else ";")
    return frame


def check_table(raw: pd.DataFrame, where: str) -> tuple[pd.DataFrame, list[str]]:
    """A user's table in our columns; InputError with every problem."""
    problems: list[str] = []
    raw = raw.rename(columns=lambda c: str(c).strip())
    for column in ("feature_a", "feature_b"):
        if column not in raw.columns:
            close = nearest(column, [c for c in raw.columns if c not in COLUMNS])
            hint = f"; did you mean {close[0]!r}?" if close else ""
            problems.append(f"{where}: no column {column!r}{hint} (columns: {', '.join(raw.columns) or 'none'})")
    modal = [c for c in ("modality_a", "modality_b") if c in raw.columns]
    if len(modal) == 1:
        problems.append(f"{where}: has a column {modal[0]!r} only: give both modality_a and modality_b, or neither")
    if problems:
        raise InputError(problems)
    if raw.empty:
        raise InputError(f"{where}: holds no links")

    def text(column: str) -> pd.Series:
        return raw[column].map(lambda v: "" if v is None or v != v else str(v).strip()).astype(object)

    frame = pd.DataFrame({"feature_a": text("feature_a"), "feature_b": text("feature_b")}, index=raw.index)
    rows = pd.Series(np.arange(1, len(raw) + 1), index=raw.index)
    for column in ("feature_a", "feature_b"):
        empty = frame[column] == ""
        if empty.any():
            problems.append(f"{where}: empty {column} in data row {few(rows[empty])}")
    for column in ("modality_a", "modality_b"):
        frame[column] = text(column) if modal else ""
        for value in frame[column].unique():
            if not value:
                continue
            try:
                frame.loc[frame[column] == value, column] = canonical_modality(value)
            except InputError as error:
                problems.append(f"{where}: column {column}, data row {few(rows[frame[column] == value])}: {error}")
    half = (frame["modality_a"] == "") != (frame["modality_b"] == "")
    if half.any():
        problems.append(f"{where}: only one of modality_a and modality_b filled in data row {few(rows[half])}")
    if "weight" in raw.columns:
        given = text("weight")
        weight = pd.to_numeric(given.where(given != "", "nan"), errors="coerce").astype(float)
        bad = ~np.isfinite(weight) | (weight < 0)
        if bad.any():
            values = ", ".join(repr(v) for v in given[bad].unique()[:5])
            problems.append(f"{where}: weight must be a number of 0 or more; data row {few(rows[bad])}: {values}")
        frame["weight"] = weight
    else:
        frame["weight"] = 1.0
    if problems:
        raise InputError(problems)
    messages = []
    again = frame.duplicated(COLUMNS[:4])
    if again.any():
        messages.append(f"{where}: {again.sum()} duplicate links dropped (data row {few(rows[again])})")
    return frame[~again].reset_index(drop=True), messages


def few(values: Iterable[Any], n: int = 5) -> str:
    """The first few values, and how many more there are."""
    items = [str(v) for v in values]
    more = f" and {len(items) - n} more" if len(items) > n else ""
    return ", ".join(items[:n]) + more
