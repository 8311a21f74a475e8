"""Samplesheets with everything people do to them, and what prepared data must hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from anndata import AnnData

from scmodal.contracts import (
    InputError,
    SampleRow,
    canonical_modality,
    check_prepared,
    continuous_problem,
    read_samplesheet,
    sample_problem,
    write_samplesheet,
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with an RNA and a protein file."""
    for name, features in (("rna.h5ad", ["CD4", "CD8A", "CD3E"]), ("adt.h5ad", ["CD4", "CD8"])):
        obs = pd.DataFrame({"label": list("aabb"), "batch": list("xyxy")}, index=[f"c{i}" for i in range(4)])
        AnnData(
            np.arange(4 * len(features), dtype="f4").reshape(4, -1), obs=obs, var=pd.DataFrame(index=features)
        ).write_h5ad(tmp_path / name)
    return tmp_path


def sheet(folder: Path, text: str | bytes, name: str = "sheet.csv") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


GOOD = "sample,modality,path,label_key,batch_key\np1,rna,rna.h5ad,label,\np1,adt,adt.h5ad,label,batch\n"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (GOOD, "a.csv"),
        (GOOD.replace(",", "\t"), "a.tsv"),
        (GOOD.replace(",", "\t"), "a.csv"),  # tabs under the wrong suffix
        (GOOD.replace(",", ";"), "a.csv"),  # as some spreadsheets write it
        (GOOD.replace("\n", "\r\n"), "a.csv"),
        ("\ufeff" + GOOD, "a.csv"),
        (GOOD.encode("utf-16"), "a.csv"),
        (GOOD.replace("sample,modality", " Sample ,MODALITY"), "a.csv"),
        (GOOD.replace("\np1,rna", "\n\n   \n,,,,\n p1 , RNA").replace("label,batch\n", "label , batch  \n\n"), "a.csv"),
        (GOOD.replace("batch_key", "batch_key,notes").replace("batch\n", 'batch,"a, b"\n'), "a.csv"),
    ],
)
def test_sheets_that_are_fine(files: Path, text: str | bytes, name: str) -> None:
    rows = read_samplesheet(sheet(files, text, name))
    assert rows == [
        SampleRow(sample="p1", modality="rna", path="rna.h5ad", label_key="label"),
        SampleRow(sample="p1", modality="protein", path="adt.h5ad", label_key="label", batch_key="batch"),
    ]


@pytest.mark.parametrize(
    ("column", "meant"),
    [
        ("celltype_key", "label_key"),
        ("lable_key", "label_key"),
        ("labelkey", "label_key"),
        ("Label-Key", "label_key"),
        ("batchkey", "batch_key"),
        ("batch-key", "batch_key"),
        ("bach_key", "batch_key"),
        ("donor_key", "batch_key"),
        ("label", "label_key"),
        ("Labels", "label_key"),
        ("batch", "batch_key"),
        ("batches", "batch_key"),
        ("donor", "batch_key"),
    ],
)
def test_misspelt_optional_columns(files: Path, column: str, meant: str) -> None:
    text = f"sample,modality,path,{column}\np1,rna,rna.h5ad,label\np1,adt,adt.h5ad,label\n"
    with pytest.raises(InputError, match=f"unknown column '{column.lower()}'; did you mean '{meant}'") as caught:
        read_samplesheet(sheet(files, text))
    assert len(caught.value.problems) == 1


def test_other_columns_are_ignored_and_told(files: Path) -> None:
    said: list[str] = []
    text = "sample,modality,path,notes,batch_no,order,sample_id\np1,rna,rna.h5ad,x,b,0,1\np1,adt,adt.h5ad,,b,1,2\n"
    assert len(read_samplesheet(sheet(files, text), say=said.append)) == 2
    assert len(said) == 1
    assert said[0].endswith("ignored columns 'notes', 'batch_no', 'sample_id'")
    both = "sample,modality,path,batch,batch_key\np1,rna,rna.h5ad,x,batch\np1,adt,adt.h5ad,y,batch\n"
    assert len(read_samplesheet(sheet(files, both))) == 2  # nothing else can be meant
    said.clear()
    read_samplesheet(sheet(files, GOOD), say=said.append)
    assert said == []


@pytest.mark.parametrize("new_cells_of", [None, ["rna", "protein"]])
def test_samples_that_differ_by_case_alone(files: Path, new_cells_of: list[str] | None) -> None:
    text = "sample,modality,path\np,rna,rna.h5ad\nP,protein,adt.h5ad\nq,rna,rna.h5ad\nq,protein,adt.h5ad\n"
    with pytest.raises(InputError, match="sample names 'p', 'P' differ by case alone") as caught:
        read_samplesheet(sheet(files, text), new_cells_of=new_cells_of)
    assert len(caught.value.problems) == 1
    assert "row 1 (line 2), row 2 (line 3): " in caught.value.problems[0]


def test_keys_for_rows_that_name_none(files: Path) -> None:
    (files / "rna2.h5ad").write_bytes((files / "rna.h5ad").read_bytes())
    text = "sample,modality,path,label_key,batch_key\np,rna,rna.h5ad,,\np,rna,rna2.h5ad,,\np,adt,adt.h5ad,batch,label\n"
    path = sheet(files, text)
    with pytest.raises(InputError, match="without batch_key"):
        read_samplesheet(path)
    rows = read_samplesheet(path, label_key="label", batch_key="batch")
    assert [(row.label_key, row.batch_key) for row in rows] == [("label", "batch")] * 2 + [("batch", "label")]
    with pytest.raises(InputError) as caught:
        read_samplesheet(path, label_key="lable", batch_key="batsch")
    problems = caught.value.problems
    assert [("row 1" in p, "row 2" in p) for p in problems] == [(True, False)] * 2 + [(False, True)] * 2
    assert "label_key 'lable'" in problems[0]
    assert "did you mean 'label'" in problems[0]
    assert "batch_key 'batsch'" in problems[1]


@pytest.mark.parametrize("key", ["label_key", "batch_key"])
def test_a_measured_value_tells_no_groups(tmp_path: Path, key: str) -> None:
    rng = np.random.default_rng(0)
    obs = pd.DataFrame({"depth": rng.normal(size=120), "score": np.arange(120) % 50 / 2.0})
    obs.index = [f"c{i}" for i in range(120)]
    for name in ("rna", "adt"):
        AnnData(np.ones((120, 2), "f4"), obs=obs, var=pd.DataFrame(index=["CD4", "CD8A"])).write_h5ad(
            tmp_path / f"{name}.h5ad"
        )
    text = "sample,modality,path,label_key,batch_key\np1,rna,rna.h5ad,,\np1,adt,adt.h5ad,,\n"
    path = sheet(tmp_path, text)
    assert len(read_samplesheet(path, **{key: "score"})) == 2
    with pytest.raises(InputError) as caught:
        read_samplesheet(path, **{key: "depth"})
    assert len(caught.value.problems) == 2
    assert f"rna.h5ad: {key} 'depth' holds 120 different numbers in 120 cells" in caught.value.problems[0]


@pytest.mark.parametrize("kind", ["category", "object"])
def test_names_of_single_cells_are_no_groups(tmp_path: Path, kind: str) -> None:
    """In the file, too, as the columns of all kinds are stored."""
    cells = [f"c{i}" for i in range(120)]
    obs = pd.DataFrame({"barcode": pd.Series(cells, dtype=kind), "ncount": np.arange(120) * 7, "cluster": 0})
    obs["half"] = pd.Series(np.arange(120)).where(np.arange(120) > 50).astype("Int64")
    obs["depth"] = pd.Categorical(np.arange(120) / 7)
    obs["type"] = pd.Series([f"type {i % 40}" for i in range(120)], dtype=kind)
    obs.index = pd.Index(cells)
    for name in ("rna", "adt"):
        AnnData(np.ones((120, 2), "f4"), obs=obs, var=pd.DataFrame(index=["CD4", "CD8A"])).write_h5ad(
            tmp_path / f"{name}.h5ad"
        )
    path = sheet(tmp_path, "sample,modality,path\np1,rna,rna.h5ad\np1,adt,adt.h5ad\n")
    for key in ("cluster", "type"):
        assert len(read_samplesheet(path, label_key=key)) == 2
    for key, said in (
        ("barcode", "120 different texts in 120 cells, as names of single cells are: no groups"),
        ("ncount", "120 different numbers in 120 cells, a count or a number of its own for each cell: no groups"),
        ("half", "69 different numbers in 69 cells"),
        ("depth", "120 different numbers in 120 cells, a measured value"),
    ):
        with pytest.raises(InputError) as caught:
            read_samplesheet(path, label_key=key)
        assert len(caught.value.problems) == 2
        assert f"rna.h5ad: label_key {key!r} holds {said}" in caught.value.problems[0]


def depths(n: int, mean: float) -> np.ndarray:
    """Molecules of n cells, as they are counted."""
    return np.random.default_rng(0).lognormal(np.log(mean), 0.6, n).astype(int)


@pytest.mark.parametrize(
    "values",
    [
        np.arange(200.0),
        np.arange(200),
        np.arange(200).astype(object),
        pd.Categorical([f"AAAC{i}-1" for i in range(300)]),
        [f"AAAC{i}-1" for i in range(300)] + [None] * 3000,
        np.array([f"AAAC{i}-1" for i in range(300)]),
        depths(300, 4000),
        depths(10_000, 4000),
        depths(100_000, 4000),
        depths(100_000, 4000).astype(float),
        np.random.default_rng(0).normal(size=500).round(2),
    ],
)
def test_what_is_continuous(values: Any) -> None:
    assert continuous_problem(values, "x")


@pytest.mark.parametrize(
    "values",
    [
        np.arange(40.0),
        np.arange(300.0) // 2.5,
        np.arange(200) % 61,
        pd.Categorical(np.arange(150) % 61),
        np.arange(1000) % 5 == 0,
        pd.array([1, 2, None], dtype="Int64"),
        [f"type {i % 600}" for i in range(100_000)],
        np.arange(100_000) % 5000,  # numbered clusters of an atlas
        np.array([1.0, 2.0, np.nan] * 100),
        np.random.default_rng(0).choice(5300, 600)[np.arange(12_000) % 600],  # those of a region of it
        np.array(["a", "b"]),
        [],
    ],
)
def test_what_names_groups(values: Any) -> None:
    assert continuous_problem(values, "x") is None


def test_optional_columns_may_be_left_out(files: Path) -> None:
    rows = read_samplesheet(sheet(files, "path,sample,modality\nrna.h5ad,p1,rna\nadt.h5ad,p1,protein\n"))
    assert [(row.label_key, row.batch_key) for row in rows] == [(None, None)] * 2


def test_paths_start_at_the_sheet_then_at_the_working_directory(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (files / "sub").mkdir()
    path = sheet(files / "sub", GOOD)
    with pytest.raises(InputError, match="not found"):
        read_samplesheet(path)
    monkeypatch.chdir(files)
    assert len(read_samplesheet(path)) == 2


def test_staged_files(files: Path) -> None:
    path = sheet(files, GOOD.replace("rna.h5ad", "s3://bucket/rna.h5ad").replace("adt.h5ad", "elsewhere/adt.h5ad"))
    staged = {1: files / "rna.h5ad", 2: files / "adt.h5ad"}
    assert [row.path for row in read_samplesheet(path, staged)] == ["s3://bucket/rna.h5ad", "elsewhere/adt.h5ad"]
    with pytest.raises(InputError, match=r"row 2 .*elsewhere/adt\.h5ad: not found") as exc:
        read_samplesheet(path, {1: files / "rna.h5ad"})
    assert len(exc.value.problems) == 1
    # What is staged is looked into: the wrong one of the two is noticed.
    (files / "text.h5ad").write_text("text")
    with pytest.raises(InputError, match=r"s3://bucket/rna\.h5ad: named"):
        read_samplesheet(path, staged | {1: files / "text.h5ad"})


def test_urls_are_not_opened(files: Path) -> None:
    path = sheet(files, GOOD.replace("rna.h5ad", "https://example.org/rna.h5ad"))
    assert read_samplesheet(path)[0].path == "https://example.org/rna.h5ad"


def test_files_are_left_alone_when_asked(files: Path) -> None:
    path = sheet(files, GOOD.replace("rna.h5ad", "nowhere.h5ad"))
    assert len(read_samplesheet(path, check_files=False)) == 2


def test_everything_at_once(files: Path) -> None:
    """One slip a row: each is told, with row and line, and none hides or causes another."""
    (files / "text.h5ad").write_text("cell,CD4\n")
    text = (
        "sample,modality,path,label_key,batch_key\n"
        "bad name,rna,rna.h5ad,,\n"
        "\n"
        "p1,rnaa,rna.h5ad,,\n"
        "p1,protein,adt.h5ad,lable,\n"
        "p2,rna,missing.h5ad,,\n"
        "p2,protein,text.h5ad,,\n"
        "p3,rna,rna.h5ad,,\n"
        "p4,rna,rna.h5ad,,\n"
        "p4,rna,adt.h5ad,,\n"
        "p4,protein,adt.h5ad,,\n"
        "p5,,rna.h5ad,,\n"
        "p5,protein,,,\n"
        "p6,protein,adt.h5ad,,\n"
        "p6,rna,rna.h5ad,,,x\n"
        ",rna,rna.h5ad,,\n"
    )
    with pytest.raises(InputError) as exc:
        read_samplesheet(sheet(files, text))
    expected = [
        ("row 1 (line 2)", "'bad name'", "'bad-name'"),
        ("row 2 (line 4)", "unknown modality 'rnaa'", "'rna'"),
        ("row 3 (line 5)", "label_key 'lable'", "did you mean 'label'"),
        ("row 4 (line 6)", "missing.h5ad: not found"),
        ("row 5 (line 7)", "text.h5ad", "not an h5ad"),
        ("row 10 (line 12)", "'modality' is empty"),
        ("row 11 (line 13)", "'path' is empty"),
        ("row 13 (line 15)", "6 fields"),
        ("row 14 (line 16)", "no name", "'sample'"),
        ("row 6 (line 8)", "'p3' has one row only"),
        ("row 7 (line 9), row 8 (line 10)", "'p4' has 2 rows of modality 'rna' without batch_key"),
    ]
    assert len(exc.value.problems) == len(expected), "\n".join(exc.value.problems)
    for words, problem in zip(expected, exc.value.problems):
        for word in words:
            assert word in problem
        assert "sheet.csv" in problem


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["empty"]),
        ("\n \n", ["empty"]),
        ("sample,modality,path\n", ["no rows"]),
        ("sample,modalty,file\nx,rna,a\n", ["'modality' is missing", "is 'modalty' meant", "'path' is missing"]),
        ("sample,sample,modality,path\nx,x,rna,a\n", ["'sample' is there 2 times"]),
        (b"PK\x03\x04rest", ["Excel"]),
        (b"\xe4\xff\xf0\x01", ["UTF-8"]),
        (b"a\x00b", ["not a text file"]),
    ],
)
def test_sheets_that_are_none(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    with pytest.raises(InputError) as exc:
        read_samplesheet(sheet(tmp_path, text))
    for word in words:
        assert word in str(exc.value)


def test_no_sheet(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.csv: not found"):
        read_samplesheet(tmp_path / "none.csv")
    with pytest.raises(InputError, match="a folder; give the samplesheet"):
        read_samplesheet(tmp_path)


def test_several_files_of_a_modality(files: Path) -> None:
    head = "sample,modality,path,label_key,batch_key\np1,protein,adt.h5ad,,\n"
    copy = files / "rna2.h5ad"
    copy.write_bytes((files / "rna.h5ad").read_bytes())
    good = head + "p1,rna,rna.h5ad,label,batch\np1,rna,rna2.h5ad,label,batch\n"
    assert len(read_samplesheet(sheet(files, good))) == 3
    with pytest.raises(InputError, match="different batch_key"):
        read_samplesheet(sheet(files, head + "p1,rna,rna.h5ad,,batch\np1,rna,rna2.h5ad,,label\n"))
    with pytest.raises(InputError, match=r"'rna\.h5ad' in 2 of them"):
        read_samplesheet(sheet(files, head + "p1,rna,rna.h5ad,,batch\np1,rna,rna.h5ad,,batch\n"))
    with pytest.raises(InputError, match="only modality 'rna'"):
        read_samplesheet(sheet(files, good.replace(head, head.splitlines()[0] + "\n")))


@pytest.mark.parametrize("name", ["p1", "PBMC_10k-v3.1", "a+b", "1", "_x", "x" * 100])
def test_sample_names_that_are_fine(name: str) -> None:
    assert sample_problem(name) is None


@pytest.mark.parametrize(
    "name",
    ["", "a b", "a/b", "..", "a..b", "-a", ".a", "a.", "a'b", 'a"b', "a\\b", "a$b", "a;b", "a*", "a\nb", "ä", "x" * 101,
     "report", "MultiQC", "pipeline_info", "a,b", "a:b", "a|b", "~a", "(a)", "+a", "+.a"],
)  # fmt: skip
def test_sample_names_that_are_not(name: str) -> None:
    problem = sample_problem(name)
    assert problem
    if "for instance" in problem:  # what is proposed must itself be allowed
        assert sample_problem(problem.rsplit("for instance ", 1)[1].strip("'")) is None
    with pytest.raises(ValueError, match="sample"):
        SampleRow(sample=name, modality="rna", path="a")


def test_modalities() -> None:
    assert canonical_modality(" ADT ") == "protein"
    for name in ("antibody_capture", "Antibody Capture", "antibody-capture"):
        assert canonical_modality(name) == "protein"
    assert canonical_modality("gene_expression") == "rna"
    with pytest.raises(InputError, match="did you mean 'protein'"):
        canonical_modality("protien")
    assert SampleRow(sample="a", modality="CyTOF", path="x").modality == "cytometry"


def test_written_sheet(tmp_path: Path) -> None:
    rows = [
        SampleRow(sample="a", modality="adt", path="b, c.h5ad", batch_key="batch"),
        SampleRow(sample="b", modality="rna", path="x"),
        SampleRow(sample="a", modality="rna", path="y", label_key="l"),
        SampleRow(sample="a", modality="protein", path="z", batch_key="batch"),
    ]
    write_samplesheet(rows, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == (
        "sample,modality,path,label_key,batch_key,order\n"
        'a,protein,"b, c.h5ad",,batch,0\n'
        "b,rna,x,,,0\n"
        "a,rna,y,l,,1\n"
        "a,protein,z,,batch,0\n"
    )


def prepared() -> AnnData:
    adata = AnnData(np.ones((3, 2), "f4"), layers={"counts": np.ones((3, 2), "f4")})
    for column in ("linked", "highly_variable", "mean", "std", "highly_variable_rank"):
        adata.var[column] = 0.0
    adata.uns["scmodal"] = {"schema_version": 1, "modality": "rna"}
    return adata


def test_check_prepared() -> None:
    check_prepared(prepared(), "x")
    broken = prepared()
    del broken.var["linked"], broken.layers["counts"]
    broken.obs_names = ["a", "a", "b"]
    with pytest.raises(InputError) as exc:
        check_prepared(broken, "x.h5ad")
    assert len(exc.value.problems) == 3
    assert all("x.h5ad" in p and "scmodal preprocess" in p for p in exc.value.problems)
    newer = prepared()
    newer.uns["scmodal"]["schema_version"] = 2
    with pytest.raises(InputError, match="newer scmodal"):
        check_prepared(newer, "x")
    with pytest.raises(InputError, match="not prepared"):
        check_prepared(AnnData(np.ones((1, 1))), "x")
