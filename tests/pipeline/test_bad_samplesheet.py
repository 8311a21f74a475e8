"""A wrong samplesheet: every problem in one message, and nothing left behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from anndata import read_h5ad

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


def test_keys_of_the_whole_sheet_are_checked_with_it(tmp_path: Path) -> None:
    """--label_key and --batch_key stand for what the rows do not name: two files of one modality have their batch."""
    for name in ("one.h5ad", "two.h5ad"):
        shutil.copy(TESTDATA / "rna.h5ad", tmp_path / name)
    shutil.copy(TESTDATA / "adt.h5ad", tmp_path / "adt.h5ad")
    (tmp_path / "sheet.csv").write_text("sample,modality,path\na,rna,one.h5ad\na,rna,two.h5ad\na,protein,adt.h5ad\n")
    run = pipeline(tmp_path, "--input", "sheet.csv", "--label_key", "cell_typ", "--batch_key", "celltype")
    assert run.code != 0
    assert run.trace == {"VALIDATE (samplesheet)": "FAILED"}
    assert run.text.count("'cell_typ'") >= 3, run.text
    assert "without batch_key" not in run.text


@pytest.mark.slow
def test_a_column_whose_name_is_a_number(tmp_path: Path) -> None:
    """Nextflow makes a number of it, 0 among them."""
    for name in ("rna.h5ad", "adt.h5ad"):
        adata = read_h5ad(TESTDATA / name)
        adata.obs["0"] = adata.obs["celltype"]
        adata.write_h5ad(tmp_path / name)
    (tmp_path / "sheet.csv").write_text("sample,modality,path\na,rna,rna.h5ad\na,protein,adt.h5ad\n")
    run = pipeline(tmp_path, "--input", "sheet.csv", "--label_key", "0", "--steps", "2", "--device", "cpu")
    assert run.code == 0, run.text
    assert read_h5ad(tmp_path / "out" / "a" / "preprocess" / "rna.h5ad").uns["scmodal"]["label_key"] == "0"
    assert (tmp_path / "out" / "a" / "transfer").is_dir()


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


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        ("cp1252", "not a text file in UTF-8; save it as CSV in UTF-8"),
        ("utf-16", "row 2 (line 3): gone_ä.h5ad: not found"),
    ],
)
def test_sheet_in_another_encoding(tmp_path: Path, encoding: str, said: str) -> None:
    """The workflow reads the sheet before `scmodal validate` does and must leave the word to it."""
    shutil.copy(TESTDATA / "rna.h5ad", tmp_path / "rna.h5ad")
    text = "sample,modality,path\na,rna,rna.h5ad\na,protein,gone_ä.h5ad\n"
    (tmp_path / "sheet.csv").write_bytes(text.encode(encoding))
    run = pipeline(tmp_path, "--input", "sheet.csv")
    assert run.code != 0
    assert said in run.text
    assert run.trace == {"VALIDATE (samplesheet)": "FAILED"}
    assert "rna.h5ad: not found" not in run.text
    assert run.published() == set()


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        (
            "sheet.csv",
            'sample,modality,path,note\na,rna,\u00a0rna.h5ad,"line one\nline ""two"""\n'
            'a, protein, "gone, 2.h5ad","x" y\n',
            "row 2 (line 4): gone, 2.h5ad: not found",
        ),
        (
            "sheet.txt",
            "sample\tmodality\tpath\ta,b,c,d,e\na\trna\trna.h5ad\t\na\tprotein\tgone.h5ad\t\n",
            "row 2 (line 3): gone.h5ad: not found",
        ),
    ],
)
def test_both_readers_of_the_sheet_read_the_same(tmp_path: Path, name: str, text: str, said: str) -> None:
    """What spreadsheets write: line breaks and quotes in fields, commas in a header with tabs, odd white space."""
    shutil.copy(TESTDATA / "rna.h5ad", tmp_path / "rna.h5ad")
    (tmp_path / name).write_text(text, encoding="utf-8")
    run = pipeline(tmp_path, "--input", name)
    assert run.code != 0
    assert run.trace == {"VALIDATE (samplesheet)": "FAILED"}
    assert said in run.text
    assert "rna.h5ad: not found" not in run.text


def test_file_that_cannot_be_fetched(tmp_path: Path) -> None:
    shutil.copy(TESTDATA / "rna.h5ad", tmp_path / "rna.h5ad")
    (tmp_path / "sheet.csv").write_text(
        "sample,modality,path\na,rna,rna.h5ad\na,protein,https://localhost:9/protein.h5ad\n"
    )
    run = pipeline(tmp_path, "--input", "sheet.csv")
    assert run.code != 0
    assert "Stopped. Can't stage file https://localhost:9/protein.h5ad" in run.text
    assert run.published() == set()


@pytest.mark.parametrize("options", [(), ("--validate_files", "false")])
def test_a_folder_is_no_samplesheet(tmp_path: Path, options: tuple[str, ...]) -> None:
    run = pipeline(tmp_path, "--input", ".", *options)
    assert run.code != 0
    assert "--input . is a folder: give the samplesheet" in run.text
    assert run.published() == set()


def test_label_column_under_another_name(tmp_path: Path) -> None:
    """A column that the workflow would not look at is refused, where a note on it would be read by nobody."""
    for name in ("rna.h5ad", "adt.h5ad"):
        shutil.copy(TESTDATA / name, tmp_path / name)
    (tmp_path / "sheet.csv").write_text("sample,modality,path,label\na,rna,rna.h5ad,celltype\na,protein,adt.h5ad,\n")
    run = pipeline(tmp_path, "--input", "sheet.csv")
    assert run.code != 0
    assert "unknown column 'label'; did you mean 'label_key'?" in run.text
    assert run.trace == {"VALIDATE (samplesheet)": "FAILED"}
