"""Diagonal integration of single-cell multi-omics; the names below load on first use, because torch takes seconds."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from scmodal._version import __version__

if TYPE_CHECKING:
    from scmodal.links import LinkTable, build_links
    from scmodal.model import ScModal
    from scmodal.presets import PRESETS, Preset, get_preset

_HOMES = {
    "LinkTable": "scmodal.links",
    "build_links": "scmodal.links",
    "ScModal": "scmodal.model",
    "PRESETS": "scmodal.presets",
    "Preset": "scmodal.presets",
    "get_preset": "scmodal.presets",
}

__all__ = ["PRESETS", "LinkTable", "Preset", "ScModal", "__version__", "build_links", "get_preset"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'scmodal' has no attribute {name!r}")
