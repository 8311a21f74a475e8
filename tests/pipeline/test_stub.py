"""The shape of the workflow: samples, seeds, directions, published names and -resume, without computing anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import PARSERS, TESTDATA, pipeline

pytestmark = pytest.mark.pipeline

SHEET = f"""\
path,sample,modality,label_key
{TESTDATA / "rna.h5ad"},s1,rna,celltype
{TESTDATA / "adt.h5ad"},s1,protein,
{TESTDATA / "rna.h5ad"},s.2,rna,celltype

{TESTDATA / "adt.h5ad"},s.2,protein,celltype
"""


def step_files(sample: str, seed: str, labelled: list[str]) -> set[str]:
    """What one seed of a sample publishes."""
    run = ["integrated.h5mu", "embedding.parquet", "history.parquet", "metrics.json"]
    return {
        *(f"{sample}/integrate{seed}/{name}" for name in [*run, "model/model.json", "model/weights.safetensors"]),
        *(f"{sample}/impute{seed}/{direction}.h5ad" for direction in ("rna_to_protein", "protein_to_rna")),
        *(f"{sample}/transfer{seed}/{direction}.labels.tsv" for direction in labelled),
        f"{sample}/evaluate{seed}/metrics.json",
    }


def sample_files(sample: str) -> set[str]:
    """What a sample publishes once."""
    return {
        *(f"{sample}/preprocess/{modality}.h5ad" for modality in ("rna", "protein")),
        *(f"{sample}/link/{name}" for name in ("links.tsv", "coverage.tsv", "coverage.json")),
        *(f"{sample}/select/selection.{suffix}" for suffix in ("json", "tsv")),
        f"report/{sample}.html",
        f"multiqc/{sample}_mqc.json",
    }


@pytest.mark.slow
def test_two_samples_two_seeds_and_resume(tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(SHEET)
    arguments = ("--input", "sheet.csv", "--seeds", "2", "--seed", "4", "-stub-run")
    run = pipeline(tmp_path, *arguments)
    assert run.code == 0, run.text
    both = ["rna_to_protein", "protein_to_rna"]
    expected = sample_files("s1") | sample_files("s.2")
    for seed in ("/seed_4", "/seed_5"):
        expected |= step_files("s1", seed, both[:1]) | step_files("s.2", seed, both)
    assert run.published() == expected
    assert {name.split()[0] for name in run.trace} == {
        *("VALIDATE", "PREPROCESS", "LINK", "INTEGRATE", "IMPUTE", "TRANSFER", "EVALUATE", "SELECT", "REPORT")
    }
    versions = (tmp_path / "out" / "pipeline_info" / "versions.yml").read_text()
    assert "INTEGRATE:\n  scmodal: " in versions
    for name in ("report.html", "timeline.html", "dag.mmd"):
        assert (tmp_path / "out" / "pipeline_info" / name).stat().st_size > 0

    again = pipeline(tmp_path, *arguments, "-resume")
    assert again.code == 0, again.text
    assert set(again.trace.values()) == {"CACHED"}

    # One seed of the two: only what compares the seeds has to be made again.
    fewer = pipeline(tmp_path, "--input", "sheet.csv", "--seed", "4", "-stub-run", "-resume")
    assert fewer.code == 0, fewer.text
    repeated = {name.split()[0] for name, status in fewer.trace.items() if status != "CACHED"}
    assert repeated == {"SELECT", "REPORT"}
    assert step_files("s1", "", both[:1]) <= fewer.published()


@pytest.mark.parametrize("parser", PARSERS)
def test_steps_can_be_left_out(parser: str, tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(SHEET)
    arguments = ("--input", "sheet.csv", "--impute", "false", "--transfer", "false", "-stub-run")
    run = pipeline(tmp_path, *arguments, parser=parser)
    assert run.code == 0, run.text
    steps = {name.split()[0] for name in run.trace}
    assert not steps & {"IMPUTE", "TRANSFER"}
    assert {"report/s1.html", "report/s.2.html"} <= run.published()


@pytest.mark.parametrize("parser", PARSERS)
def test_a_run_can_end_on_the_verdict_once_its_report_is_there(parser: str, tmp_path: Path) -> None:
    (tmp_path / "sheet.csv").write_text(SHEET)
    # the stub's verdict is `trusted`; here one sample gets a worse one
    (tmp_path / "worse.config").write_text(
        "process {\n    withName: SELECT {\n"
        "        afterScript = 'test ! -e s1.selection.json || sed -i s/trusted/doubtful/ s1.selection.json'\n"
        "    }\n}\n"
    )
    arguments = ("--input", "sheet.csv", "-stub-run", "-c", "worse.config")
    assert pipeline(tmp_path, *arguments, "--fail_on", "failed", parser=parser).code == 0
    run = pipeline(tmp_path, *arguments, "--fail_on", "doubtful", "-resume", parser=parser)
    assert run.code != 0
    assert "--fail_on doubtful: sample s1 is doubtful" in run.text
    assert "s.2 is" not in run.text
    # the limit is not a step's: only the report, which lists the parameters, is made anew
    repeated = {name.split()[0] for name, status in run.trace.items() if status != "CACHED"}
    assert repeated == {"REPORT"}
    assert {"report/s1.html", "report/s.2.html", "s1/select/selection.json"} <= run.published()


@pytest.mark.parametrize("parser", PARSERS)
@pytest.mark.slow
def test_the_methods_text_follows_the_data_and_the_parameters(parser: str, tmp_path: Path) -> None:
    for name in ("rna", "adt", "cytof", "atac", "genes.bed"):
        (tmp_path / name).touch()
    chromatin = "c,rna,rna,\nc,atac,atac,\n"
    antibodies = "a,rna,rna,celltype\na,protein,adt,\na,cytometry,cytof,\n"

    def methods(rows: str, *options: str) -> str:
        (tmp_path / "sheet.csv").write_text(f"sample,modality,path,label_key\n{rows}")
        run = pipeline(tmp_path, "--input", "sheet.csv", "-stub-run", *options, parser=parser)
        assert run.code == 0, run.text
        return (tmp_path / "out" / "pipeline_info" / "methods.md").read_text()

    machine = ("--device", "cpu", "--queue", "long", "--gpu_type", "other", "--aws_region", "eu-west-1")
    text = methods(chromatin, "--genes", "genes.bed", "--gene_activity", "weighted", *machine)
    for part in (
        "Gene activity was the sum of the counts of all peaks within 35 kb",
        "TF-IDF",
        "Of the RNA and of the gene activity,",
        "Features were linked by gene name (RNA and gene activity).",
        "with seed 0, on the CPU.",
        "its generator decoded the mean latent place of the 30 cells",
        "Peaks up to 250000 bp",
    ):
        assert part in text, text
    for part in ("proteins", "hyperbolic", "Labels", "GC content"):
        assert part not in text, text
    kept = json.loads((tmp_path / "out" / "pipeline_info" / "params.json").read_text())
    assert kept["gene_activity"] == "weighted"
    assert not [name for name in kept if name.startswith(("aws_", "google_")) or "queue" in name or "gpu" in name]

    # the chain matches antigens with each other and proteins with genes, nothing with the cytometer's genes
    text = methods(antibodies, "--set", "n_latent=10, impute_neighbours=0")
    for part in (
        "Counts, but those of the cytometer, were log-normalised.",
        "inverse hyperbolic sine",
        "Features were linked by the names of antigens, and by the names of proteins and the genes that encode them.",
        "with seed 0. Labels were transferred",
        "its generator decoded the latent place of a cell.",
    ):
        assert part in text, text
    for part in ("ene activity", "Peaks"):
        assert part not in text, text
