"""Sentences about files that more than one reader says."""

from __future__ import annotations

import contextlib
import importlib
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..contracts import InputError, nearest

FEATURE_TYPES = {"rna": "Gene Expression", "protein": "Antibody Capture", "atac": "Peaks"}
"""What 10x calls the features of each modality."""

_SHOWN = 5  # names quoted in a message before "and N more"


def some(names: Sequence[Any], shown: int = _SHOWN) -> str:
    """The first few names, quoted, and how many more there are."""
    text = ", ".join(repr(str(name)) for name in names[:shown])
    return text + (f" and {len(names) - shown:,} more" if len(names) > shown else "")


def as_text(value: Any) -> str:
    """The name of a group (a label, a batch) as text; a whole number is written without a point, so 1.0 is ``1``.

    Gaps and some programs make decimal numbers of a column of whole ones, which means the same groups.
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value).strip()


def cannot_open(path: str | Path, exc: OSError) -> str:
    """Why a file cannot be opened, and the mend."""
    if isinstance(exc, FileNotFoundError):
        return f"{path}: not found (check the spelling, and that relative paths start where you think)"
    if isinstance(exc, PermissionError):
        return f"{path}: may not be read (permission denied: chmod +r, or ask its owner)"
    if isinstance(exc, IsADirectoryError):
        return f"{path}: is a folder, not a file"
    return f"{path}: cannot be read ({exc.strerror or exc})"


def wrong_types(types: Sequence[str], modality: str, name: str) -> str:
    """Sentence that says that a 10x matrix has no features of the modality, and which it has."""
    wanted = FEATURE_TYPES.get(modality)
    mend = "give the row the modality that is there, or another file"
    if wanted is None:
        return f"{name}: {modality} is not read from a 10x matrix (it holds {some(types)} features); {mend}"
    return f"{name}: no {wanted!r} features for modality {modality!r} (there: {some(types) or 'none'}); {mend}"


def empty_matrix(n_cells: int | None, n_features: int | None, modality: str, name: str) -> str:
    """Sentence that says that there are no cells or no features."""
    what = "no cells" if n_cells == 0 else "no features"
    shape = f"{'?' if n_cells is None else n_cells} x {'?' if n_features is None else n_features}"
    return (
        f"{name}: empty matrix for modality {modality!r}, {what} ({shape}); check how the file was filtered and saved"
    )


def only_atac(modality: str, name: str) -> None:
    """Refuse a fragments file as another modality."""
    if modality != "atac":
        raise InputError(f"{name}: a fragments file, which is read as modality 'atac', not {modality!r}")


def only_cytometry(modality: str, name: str) -> None:
    """Refuse an FCS file as another modality."""
    if modality != "cytometry":
        raise InputError(f"{name}: an FCS file is cytometry, not {modality}; set its modality to 'cytometry'")


def missing_key(key: str, columns: Sequence[str], what: str, name: str) -> str:
    """Sentence that says that the column `key` is not there, which ones are, and the nearest one."""
    if not columns:
        return f"{name}: {what} {key!r} is not there (the file has no cell annotation at all); leave {what} empty"
    close = nearest(key, list(columns))
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{name}: {what} {key!r} is not a column of obs (there: {some(list(columns), 20)}){hint}"


def _registry_error() -> type[Exception]:
    """What anndata raises for an encoding that it does not know (it has no public name)."""
    try:
        module = importlib.import_module("anndata._io.specs.registry")
    except ImportError:
        return OSError
    return getattr(module, "IORegistryError", OSError)


@contextlib.contextmanager
def reading(name: str, kind: str) -> Iterator[None]:
    """Turn whatever a library says about a damaged file into an InputError that names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except (
        OSError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        IndexError,
        EOFError,
        zlib.error,
        _registry_error(),
    ) as exc:
        first = (str(exc).strip() or type(exc).__name__).splitlines()[0]
        raise InputError(f"{name}: cannot be read as {kind} ({first}); write or download it again") from exc
