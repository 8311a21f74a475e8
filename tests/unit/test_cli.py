"""The commands as a user types them: results, exit codes, and nothing left under a final name."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from scmodal import cli
from scmodal.contracts import InputError
from scmodal.io import read_h5mu, write_h5mu
from scmodal.model import pick_device


def run(*arguments: object) -> int:
    """Exit code of a command."""
    try:
        cli.main([str(a) for a in arguments])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    """Simulated data, prepared, linked and integrated by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    assert run("simulate", "--output", folder / "raw", "--cells", 200, "--genes", 150, "--proteins", 25) == 0
    for name in ("rna", "protein"):
        raw, out = folder / "raw" / f"{name}.h5ad", folder / f"{name}.h5ad"
        options = ("--modality", name, "--label-key", "cell_type", "--output", out)
        assert run("preprocess", "--input", raw, *options) == 0
    both = ("--input", folder / "rna.h5ad", "--input", folder / "protein.h5ad")
    extra = ("--coverage", folder / "coverage.tsv", "--summary", folder / "coverage.json")
    assert run("link", *both, "--output", folder / "links.tsv", *extra) == 0
    settings = ("--steps", 40, "--batch-size", 80, "--set", "n_hidden=64", "--device", "cpu")
    assert run("integrate", *both, "--links", folder / "links.tsv", "--output", folder / "run", *settings) == 0
    return folder


def test_help_and_version_load_no_heavy_package():
    for option, expected in (("--version", "scmodal "), ("--help", "integrate")):
        done = subprocess.run([sys.executable, "-m", "scmodal.cli", option], capture_output=True, text=True, check=True)
        assert expected in done.stdout
    code = "import sys, scmodal.cli; print([m for m in ('torch', 'scanpy', 'anndata', 'numpy') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_validate(work: Path, capsys):
    assert run("validate", "--input", work / "raw" / "samplesheet.csv", "--output", work / "validated.csv") == 0
    assert "all fine" in capsys.readouterr().err
    assert list(pd.read_csv(work / "validated.csv")["modality"]) == ["rna", "protein"]
    sheet = work / "raw" / "samplesheet.csv"
    assert run("validate", "--input", sheet, "--output", sheet) == 2
    assert "is an input as well" in capsys.readouterr().err
    (work / "long.csv").write_text("x" * 200_000)
    assert run("validate", "--input", work / "long.csv") == 2
    assert "not a table" in capsys.readouterr().err


def test_link_writes_coverage(work: Path):
    links = pd.read_csv(work / "links.tsv", sep="\t")
    assert list(links.columns[:2]) == ["feature_a", "feature_b"]
    assert len(links) >= 3
    assert {"modality", "feature", "matched", "nearest"} <= set(pd.read_csv(work / "coverage.tsv", sep="\t").columns)
    assert json.loads((work / "coverage.json").read_text())


def test_impute_transfer_and_evaluate(work: Path, capsys):
    out = work / "x.rna_to_protein.h5ad"
    ways = ("--from", "rna", "--to", "protein")
    assert run("impute", "--model", work / "run/model", *ways, "--input", work / "rna.h5ad", "--output", out) == 0
    assert anndata.read_h5ad(out).shape == (200, 25)

    labels = work / "x.rna_to_protein.labels.tsv"
    integrated = ("--integrated", work / "run/integrated.h5mu")
    assert run("transfer", *integrated, *ways, "--output", labels) == 0
    table = pd.read_csv(labels, sep="\t")
    assert list(table.columns) == ["cell", "label", "confidence", "second_label", "entropy"]
    assert len(table) == 200
    assert table["confidence"].between(0, 1).all()
    assert "unknown" not in capsys.readouterr().err

    # more of a counterpart than any cell has, and labels of two levels (a batch is no cell type, but a column)
    keys = ("--label-key", "batch", "--label-key", "cell_type")
    assert run("transfer", *integrated, *ways, *keys, "--unknown", "9", "--output", labels) == 0
    nested = pd.read_csv(labels, sep="\t")
    assert list(nested.columns) == [*table.columns, "label_batch", "confidence_batch"]
    strange = nested["label"] == "unknown"
    assert f"200 cells, {strange.sum()} unknown" in capsys.readouterr().err
    assert strange.any()
    assert nested.loc[strange, "confidence"].isna().all()
    assert (nested.loc[strange, "label_batch"] == "unknown").all()

    assert run("evaluate", *integrated, "--paired", "--output", work / "metrics.json") == 0
    metrics = json.loads((work / "metrics.json").read_text())
    assert metrics["n_pairs"] == 200
    assert metrics["foscttm"]["rna|protein"] < 0.5
    assert metrics["imputation"]["rna_to_protein"]["n_features"] > 5
    assert "FOSCTTM" in capsys.readouterr().err
    mdata = read_h5mu(work / "run/integrated.h5mu")
    for adata in mdata.mod.values():
        adata.uns["scmodal"]["label_key"] = ""
    write_h5mu(mdata, work / "unlabelled.h5mu")
    unlabelled = ("--integrated", work / "unlabelled.h5mu", "--model", work / "run/model")
    assert run("evaluate", *unlabelled, "--output", work / "mixing.json") == 0
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in said] == ["neighbour mixing rna / protein"]


def test_impute_says_what_the_cells_lack(work: Path, tmp_path: Path, capsys):
    ways = ("--model", work / "run/model", "--from", "rna", "--to", "protein", "--output", tmp_path / "out.h5ad")
    assert run("impute", *ways, "--input", work / "rna.h5ad") == 0
    assert "not in the data" not in capsys.readouterr().err
    cells = anndata.read_h5ad(work / "rna.h5ad")
    cells[:, 40:].write_h5ad(tmp_path / "few.h5ad")
    assert run("impute", *ways, "--input", tmp_path / "few.h5ad") == 0
    assert "rna features the model was trained on" in capsys.readouterr().err


def test_evaluate_takes_the_model_of_the_run(work: Path, tmp_path: Path, capsys):
    both = ("--input", work / "rna.h5ad", "--input", work / "protein.h5ad", "--links", work / "links.tsv")
    settings = ("--steps", 3, "--batch-size", 80, "--set", "n_hidden=64", "--device", "cpu", "--seed", 5)
    assert run("integrate", *both, "--output", tmp_path / "other", *settings) == 0
    asked = ("evaluate", "--integrated", work / "run/integrated.h5mu", "--paired", "--output", tmp_path / "m.json")
    assert run(*asked, "--model", tmp_path / "other/model") == 2
    assert "is not of the model" in capsys.readouterr().err
    assert run(*asked, "--model", work / "run/model") == 0
    bare = read_h5mu(work / "run/integrated.h5mu")
    for adata in bare.mod.values():
        del adata.obsm["X_scmodal"]
    write_h5mu(bare, tmp_path / "bare.h5mu")
    capsys.readouterr()
    bad = ("--integrated", tmp_path / "bare.h5mu", "--paired", "--model", work / "run/model")
    assert run("evaluate", *bad, "--output", tmp_path / "b.json") == 2
    assert "has no obsm['X_scmodal']" in capsys.readouterr().err


def test_impute_takes_cells_of_its_modality(work: Path, tmp_path: Path, capsys):
    ways = ("--model", work / "run/model", "--from", "rna", "--to", "protein", "--output", tmp_path / "x.h5ad")
    assert run("impute", *ways, "--input", work / "protein.h5ad") == 2
    assert "the cells are of modality protein, not rna" in capsys.readouterr().err
    anndata.read_h5ad(work / "rna.h5ad")[:0].copy().write_h5ad(tmp_path / "none.h5ad")
    assert run("impute", *ways, "--input", tmp_path / "none.h5ad") == 2
    assert "empty" in capsys.readouterr().err
    assert not (tmp_path / "x.h5ad").exists()


QUICK = ("--steps", 2, "--batch-size", 80, "--set", "n_hidden=64", "--device", "cpu")


def test_the_checkpoint_of_another_run_stays(work: Path, tmp_path: Path, monkeypatch, capsys):
    other = tmp_path / "run.checkpoint.safetensors"
    other.write_bytes(b"of another run")
    assert integrate(work, tmp_path / "run", *QUICK) == 0
    assert other.read_bytes() == b"of another run"

    def fail(*_: object) -> None:
        raise InputError("no space")

    monkeypatch.setattr("scmodal.results.write_run", fail)
    assert integrate(work, tmp_path / "again", *QUICK, "--checkpoint", other) == 2
    assert "nothing is trained again" not in capsys.readouterr().err
    assert integrate(work, tmp_path / "again", *QUICK, "--checkpoint", other, "--checkpoint-every", 0) == 2
    assert "The trained model is kept: with --resume nothing is trained again" in capsys.readouterr().err
    monkeypatch.undo()
    assert integrate(work, tmp_path / "again", *QUICK, "--checkpoint", other, "--resume") == 0
    assert "Training goes on from step 2 of 2" in capsys.readouterr().err
    assert not other.exists()


def test_resume_without_a_checkpoint(work: Path, tmp_path: Path, capsys):
    assert integrate(work, tmp_path / "run", *QUICK, "--resume") == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "run.checkpoint.safetensors") in error
    assert "--resume-or-restart" in error
    assert not (tmp_path / "run").exists()
    assert integrate(work, tmp_path / "run", *QUICK, "--resume-or-restart") == 0


def test_validate_takes_keys_for_rows_that_name_none(work: Path, tmp_path: Path, capsys):
    rows = [
        f"s,rna,{work / 'raw/rna.h5ad'},x",
        f"s,rna,{tmp_path / 'rna2.h5ad'},x",
        f"s,adt,{work / 'raw/protein.h5ad'},x",
    ]
    (tmp_path / "rna2.h5ad").write_bytes((work / "raw/rna.h5ad").read_bytes())
    (tmp_path / "sheet.csv").write_text("\n".join(["sample,modality,path,notes", *rows]))
    command = ("validate", "--input", tmp_path / "sheet.csv", "--output", tmp_path / "out.csv")
    assert run(*command) == 2
    assert run(*command, "--batch-key", "batsch") == 2
    assert "batch_key 'batsch'" in capsys.readouterr().err
    assert run(*command, "--batch-key", "batch", "--label-key", "cell_type") == 0
    assert "ignored column 'notes'" in capsys.readouterr().err
    written = pd.read_csv(tmp_path / "out.csv")
    assert set(written["batch_key"]) == {"batch"}
    assert set(written["label_key"]) == {"cell_type"}


def test_report(work: Path):
    out = work / "report" / "sim.html"
    arguments = ("--sample", "sim", "--run", work / "run", "--coverage", work / "coverage.tsv", "--output", out)
    assert run("report", *arguments, "--multiqc-dir", work / "multiqc") == 0
    assert "<html" in out.read_text()[:500].lower()
    assert list((work / "multiqc").glob("*_mqc.json"))


def test_all_cells_in_one_file_and_the_device_that_was_found(work: Path, tmp_path: Path, capsys):
    both = ("--input", work / "rna.h5ad", "--input", work / "protein.h5ad")
    settings = ("--steps", 2, "--batch-size", 80, "--set", "n_hidden=64", "--device", "auto", "--anndata")
    assert run("integrate", *both, "--output", tmp_path / "run", *settings) == 0
    said = capsys.readouterr().err
    assert f"--device auto: {pick_device('auto').type}" in said
    cells = anndata.read_h5ad(tmp_path / "run" / "latent.h5ad")
    assert cells.n_obs == 400
    assert list(pd.read_parquet(tmp_path / "run" / "X_scmodal.parquet").index) == list(cells.obs_names)
    assert not (work / "run" / "latent.h5ad").exists()


def test_same_seed_same_result(work: Path, tmp_path: Path):
    both = ("--input", work / "rna.h5ad", "--input", work / "protein.h5ad")
    settings = ("--steps", 40, "--batch-size", 80, "--set", "n_hidden=64", "--device", "cpu")
    run("integrate", *both, "--links", work / "links.tsv", "--output", tmp_path / "run", *settings)
    for name in ("embedding.parquet", "history.parquet"):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "run" / name), pd.read_parquet(work / "run" / name))


def integrate(work: Path, out: Path, *options: object) -> int:
    both = ("--input", work / "rna.h5ad", "--input", work / "protein.h5ad")
    return run("integrate", *both, "--output", out, *options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--preset", "papre"), "did you mean 'paper'"),
        (("--set", "input_droput=0.1"), "did you mean 'input_dropout'"),
        (("--set", "input_dropout"), "expected NAME=VALUE"),
        (("--steps", "0"), "must be at least 1"),
        (("--device", "gpu0"), "unknown device 'gpu0'"),
        (("--links", "no_such.tsv"), "no such links table"),
        (("--sede", "3"), "--seed"),
        (("--seed", "-1"), "-1 is not in the range x>=0"),
    ],
)
def test_wrong_options(work: Path, tmp_path: Path, capsys, options, message):
    assert integrate(work, tmp_path / "run", *options) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.glob("run/*"))


def test_cuda_asked_for_and_not_there(work: Path, tmp_path: Path, capsys):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert integrate(work, tmp_path / "run", "--device", "cuda") == 2
    assert "--device auto or cpu" in capsys.readouterr().err
    assert not list(tmp_path.glob("run/*"))


def test_too_few_links(work: Path, tmp_path: Path, capsys):
    table = tmp_path / "links.tsv"
    pd.read_csv(work / "links.tsv", sep="\t").head(2).to_csv(table, sep="\t", index=False)
    both = ("--input", work / "rna.h5ad", "--input", work / "protein.h5ad")
    assert run("link", *both, "--table", table, "--output", tmp_path / "out.tsv") == 2
    assert "protein" in capsys.readouterr().err
    assert integrate(work, tmp_path / "run", "--links", table) == 2
    assert "at least 3 are needed" in capsys.readouterr().err
    assert not (tmp_path / "out.tsv").exists()


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Three simulated data sets, prepared by the commands."""
    folder = tmp_path_factory.mktemp("three")
    size = ("--cells", 120, "--genes", 100, "--proteins", 20, "--cytometry", 12)
    assert run("simulate", "--output", folder / "raw", *size) == 0
    for name in ("rna", "protein", "cytometry"):
        options = ("--modality", name, "--label-key", "cell_type", "--output", folder / f"{name}.h5ad")
        assert run("preprocess", "--input", folder / "raw" / f"{name}.h5ad", *options) == 0
    return folder


def inputs(folder: Path, *names: str) -> list[object]:
    return [item for name in names for item in ("--input", folder / f"{name}.h5ad")]


def test_three_data_sets_as_a_star(three: Path, tmp_path: Path, capsys):
    sheet = pd.read_csv(three / "raw" / "samplesheet.csv")
    assert list(sheet["modality"]) == ["rna", "protein", "cytometry"]
    files = inputs(three, "rna", "protein", "cytometry")
    links = tmp_path / "links.tsv"
    assert run("link", *files, "--topology", "star", "--output", links) == 0
    text = capsys.readouterr().err
    assert "rna - protein: 20 links" in text
    assert "rna - cytometry: 12 links" in text
    assert "protein - cytometry" not in text
    settings = ("--steps", 20, "--batch-size", 40, "--set", "n_hidden=32", "--device", "cpu", "--topology", "star")
    assert run("integrate", *files, "--links", links, "--output", tmp_path / "run", *settings) == 0
    model = json.loads((tmp_path / "run" / "model" / "model.json").read_text())
    assert model["preset"]["topology"] == "star"
    assert len(model["links"]) == 32
    metrics = tmp_path / "metrics.json"
    integrated = ("--integrated", tmp_path / "run" / "integrated.h5mu")
    assert run("evaluate", *integrated, "--paired", "--output", metrics) == 0
    measured = json.loads(metrics.read_text())
    assert list(measured["foscttm"]) == ["rna|protein", "rna|cytometry", "protein|cytometry"]
    assert len(measured["imputation"]) == 6
    # without --links those of the runs' topology are made
    again = shutil.copytree(tmp_path / "run", tmp_path / "again")
    latents = pd.read_parquet(again / "embedding.parquet")
    latents["scmodal_0"] += np.random.default_rng(0).normal(0, 1e-3, len(latents)).astype(np.float32)
    latents.to_parquet(again / "embedding.parquet")
    chosen = ("select", *files, "--run", tmp_path / "run", "--output", tmp_path / "selection.json")
    capsys.readouterr()
    assert run(*chosen, "--run", again, "--fail-on", "doubtful") == 3
    error = capsys.readouterr().err
    assert "Error: --fail-on doubtful: the integration is" in error
    assert "cannot be used" not in error
    pairs = json.loads((tmp_path / "selection.json").read_text())["links"]
    assert list(pairs) == ["rna|protein", "rna|cytometry"]
    model["preset"]["topology"] = "chain"
    (again / "model" / "model.json").write_text(json.dumps(model))
    assert run(*chosen, "--run", again, "--run", tmp_path / "none") == 2
    error = capsys.readouterr().err
    assert "the runs differ in topology (chain, star)" in error
    assert f"{tmp_path / 'none'}: no model.json in it" in error


def test_links_of_another_topology(three: Path, tmp_path: Path, capsys):
    files = inputs(three, "rna", "protein", "cytometry")
    links = tmp_path / "links.tsv"
    assert run("link", *files, "--output", links) == 0
    given = ("--links", links, "--output", tmp_path / "run", "--topology", "all")
    assert run("integrate", *files, *given) == 2
    error = capsys.readouterr().err
    assert "has 0 links of rna and cytometry" in error
    assert "scmodal link --topology all" in error
    assert "What has enough links: --topology chain" in error
    assert not list(tmp_path.glob("run/*"))


def test_wrong_topologies_are_told(three: Path, tmp_path: Path, capsys):
    files = inputs(three, "rna", "protein", "cytometry")
    out = tmp_path / "out"
    assert run("link", *files, "--topology", "strar", "--output", out / "links.tsv") == 2
    assert "unknown topology 'strar'; did you mean 'star'?" in capsys.readouterr().err
    assert run("integrate", *files, "--topology", "chian", "--output", out) == 2
    assert "did you mean 'chain'" in capsys.readouterr().err
    assert run("integrate", *files, "--topology", "star", "--set", "topology=all", "--output", out) == 2
    assert "--topology given as an option and by --set: leave out one of the two" in capsys.readouterr().err
    assert run("link", *inputs(three, "rna", "protein", "rna"), "--output", out / "links.tsv") == 2
    assert "inputs 1 and 3 are of one modality, rna" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/*"))


def test_output_that_cannot_be_written(work: Path, tmp_path: Path, capsys):
    (tmp_path / "file").write_text("not a folder")
    out = tmp_path / "file" / "rna.h5ad"
    assert run("preprocess", "--input", work / "raw/rna.h5ad", "--modality", "rna", "--output", out) == 2
    assert str(tmp_path / "file") in capsys.readouterr().err


def test_an_output_in_the_way_leaves_no_other_one(work: Path, tmp_path: Path, capsys):
    """A file or folder of the other kind at a second output is told before the first one is written."""
    folder, file = tmp_path / "folder", tmp_path / "file"
    folder.mkdir()
    file.write_text("mine")
    both = ("--input", work / "rna.h5ad", "--input", work / "protein.h5ad")
    out = tmp_path / "out"
    model = ("--model", work / "run/model", "--input", work / "rna.h5ad", "--modality", "rna")
    for command in (
        ("link", *both, "--output", out, "--coverage", folder),
        ("link", *both, "--output", out, "--summary", folder),
        ("select", *both, "--run", work / "run", "--links", work / "links.tsv", "--output", out, "--table", folder),
        ("embed", *model, "--output", folder, "--table", out),
        ("report", "--sample", "s", "--run", work / "run", "--output", out, "--multiqc-dir", file),
        ("integrate", *both, "--output", file),
    ):
        assert run(*command) == 2, command[0]
        assert "already; choose another name" in capsys.readouterr().err
        assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"], command[0]
    assert run("link", *both, "--output", out, "--coverage", out) == 2
    assert "is given twice" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert not out.exists()


def test_evaluation_without_pairs_needs_no_torch(work: Path, tmp_path: Path, capsys):
    integrated = ("--integrated", work / "run/integrated.h5mu", "--output", tmp_path / "m.json")
    code = (
        "import sys; from scmodal import cli\n"
        "try: cli.main(sys.argv[1:])\n"
        "except SystemExit as end: assert not end.code\n"
        "print('torch' in sys.modules)"
    )
    for command in (
        ("evaluate", *integrated),
        ("transfer", *integrated, "--from", "rna", "--to", "protein", "--label-key", "cell_type"),
    ):
        arguments = [sys.executable, "-c", code, *map(str, command)]
        done = subprocess.run(arguments, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == "False", command[0]
    assert run("evaluate", *integrated, "--model", tmp_path) == 2
    assert "no model.json in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda x: x - 1, "negative"),
        (lambda x: np.where(x == x.max(), np.nan, x), "NaN"),
        (lambda x: np.where(x == x.max(), np.inf, x), "infinite"),
        (lambda x: np.log1p(x) - 0.3 * x.mean(), "counts"),
        (lambda x: x[:0], "no cells"),
    ],
)
def test_matrices_that_are_no_counts(tmp_path: Path, capsys, spoil, message):
    values = spoil(np.random.default_rng(0).poisson(2.0, (20, 30)).astype(np.float32))
    anndata.AnnData(sparse.csr_matrix(values.astype(np.float32))).write_h5ad(tmp_path / "bad.h5ad")
    out = tmp_path / "out.h5ad"
    assert run("preprocess", "--input", tmp_path / "bad.h5ad", "--modality", "rna", "--output", out) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "bad.h5ad" in error
    assert [p.name for p in tmp_path.iterdir()] == ["bad.h5ad"]


def test_every_problem_of_a_samplesheet_at_once(work: Path, tmp_path: Path, capsys):
    (tmp_path / "text.h5ad").write_text("this is no HDF5")
    rows = [
        f"a b,rna,{work / 'raw/rna.h5ad'},",
        f"a b,protien,{work / 'raw/protein.h5ad'},",
        "gone,rna,nowhere.h5ad,",
        f"gone,protein,{tmp_path / 'text.h5ad'},",
        f"single,rna,{work / 'raw/rna.h5ad'},celltyp",
    ]
    (tmp_path / "sheet.csv").write_text("\n".join(["sample,modality,path,label_key", *rows]))
    assert run("validate", "--input", tmp_path / "sheet.csv", "--output", tmp_path / "out.csv") == 2
    error = capsys.readouterr().err
    for expected in ("'a b'", "protein", "nowhere.h5ad", "text.h5ad", "celltyp", "cell_type", "single"):
        assert expected in error
    assert error.count("\n  - ") >= 5
    assert not (tmp_path / "out.csv").exists()


def test_a_defect_is_told_as_one(monkeypatch, capsys, tmp_path: Path):
    monkeypatch.setattr("scmodal.simulate.simulate", lambda *_, **__: 1 / 0)
    assert run("simulate", "--output", tmp_path / "x") == 1
    error = capsys.readouterr().err
    assert "ZeroDivisionError" in error
    assert "defect of scmodal" in error


def test_doctor(capsys):
    assert run("doctor") == 0
    assert "torch" in capsys.readouterr().out


def test_chromatin_by_commands(tmp_path: Path, capsys):
    size = ("--cells", 40, "--genes", 60, "--cell-types", 2)
    assert run("simulate", "--modalities", "gex,peaks", "--output", tmp_path / "raw", *size) == 0
    raw = tmp_path / "raw"
    assert {path.name for path in raw.iterdir()} == {"rna.h5ad", "atac.h5ad", "genes.bed", "samplesheet.csv"}
    assert run("validate", "--input", raw / "samplesheet.csv") == 2
    assert "--genes" in capsys.readouterr().err
    assert run("validate", "--input", raw / "samplesheet.csv", "--genes", raw / "genes.bed") == 0
    command = ("preprocess", "--input", raw / "atac.h5ad", "--modality", "peaks", "--output", tmp_path / "atac.h5ad")
    assert run(*command) == 2
    assert run(*command, "--genes", raw / "genes.bed", "--gene-activity", "tss") == 2
    assert not (tmp_path / "atac.h5ad").exists()
    assert run(*command, "--genes", raw / "genes.bed", "--genome", "toy", "--gene-activity", "weighted") == 0
    own = anndata.read_h5ad(tmp_path / "atac.h5ad").uns["scmodal"]
    assert own["genome"] == "toy"
    assert own["gene_activity"]["mode"] == "weighted"
    assert run("simulate", "--modalities", "atac", "--output", tmp_path / "x") == 2
    assert run("simulate", "--modalities", "rna,atac", "--cytometry", "--output", tmp_path / "x") == 2
