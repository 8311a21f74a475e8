"""A wrong samplesheet: every problem in one message, and nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .conftest import TESTDATA, pipeline

pytestmark = pytest.mark.pipeline


def test_every_problem_at_once(tmp_path: Path) -> None:
    shutil.copy(TESTDATA / "rna.h5ad", tmp_path / "rna.h5ad")
    (tmp_path / "broken.h5ad").write_text("not an h5ad")
    (tmp_path / "sheet.csv").write_text(
        "sample,modality,path,label_key\n"
        "a,rnaa,rna.h5ad,\n"
        "a,protein,gone.h5ad,\n"
        "bad name,rna,rna.h5ad,\n"
        "b,rna,rna.h5ad,cell_type\n"
        "b,protein,broken.h5ad,\n"
    )
    run = pipeline(tmp_path, "--input", "sheet.csv")
    assert run.code != 0
    for text in ("rnaa", "gone.h5ad", "bad name", "cell_type", "celltype", "broken.h5ad"):
        assert text in run.text, run.text
    assert run.trace == {"VALIDATE (samplesheet)": "FAILED"}
    assert "exit status:\n  2" in run.text
    assert run.published() == set()


def test_two_bad_files_are_both_told(tmp_path: Path) -> None:
    """Without the first look, each file's own step complains; the other still gets to say its piece."""
    for name in ("one.h5ad", "two.h5ad"):
        (tmp_path / name).write_text("not an h5ad")
    (tmp_path / "sheet.csv").write_text("sample,modality,path\na,rna,one.h5ad\na,protein,two.h5ad\n")
    run = pipeline(tmp_path, "--input", "sheet.csv", "--validate_files", "false")
    assert run.code != 0
    failed = {name: status for name, status in run.trace.items() if name.startswith("PREPROCESS")}
    assert failed == {"PREPROCESS (a rna)": "FAILED", "PREPROCESS (a protein)": "FAILED"}
    assert run.published() == set()
