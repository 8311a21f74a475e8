"""Fixtures that every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # tests share the cores; before torch is imported

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with the published data sets that may not be copied into this repository."""
    folder = Path(os.environ.get("SCMODAL_DATA", REPO.parent / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"the published data sets are not at {folder} (set SCMODAL_DATA)")
    return folder
