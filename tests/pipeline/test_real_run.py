"""`-profile test` for real, checked by content; and what takes its results."""

from __future__ import annotations

import json
import re
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest

from .conftest import TESTDATA, Run, pipeline, run_workflow

pytestmark = pytest.mark.pipeline


def test_everything_is_published(real_run: Run) -> None:
    files = real_run.published()
    expected = {
        *("pbmc/preprocess/rna.h5ad", "pbmc/preprocess/protein.h5ad"),
        *("pbmc/link/links.tsv", "pbmc/link/coverage.tsv", "pbmc/link/coverage.json"),
        *("pbmc/integrate/integrated.h5mu", "pbmc/integrate/embedding.parquet", "pbmc/integrate/history.parquet"),
        *("pbmc/integrate/metrics.json", "pbmc/integrate/model/model.json", "pbmc/integrate/model/weights.safetensors"),
        *("pbmc/impute/rna_to_protein.h5ad", "pbmc/impute/protein_to_rna.h5ad"),
        *("pbmc/transfer/rna_to_protein.labels.tsv", "pbmc/transfer/protein_to_rna.labels.tsv"),
        *("pbmc/evaluate/metrics.json", "report/pbmc.html"),
        *("pbmc/select/selection.json", "pbmc/select/selection.tsv"),
    }
    assert expected <= files
    assert {path for path in files - expected if not path.startswith("multiqc/")} == set()
    assert any(path.startswith("multiqc/") for path in files)


def test_prepared_data(real_run: Run) -> None:
    rna = ad.read_h5ad(real_run.folder / "out/pbmc/preprocess/rna.h5ad")
    assert rna.n_obs == 1200
    assert "counts" in rna.layers
    assert rna.uns["scmodal"]["modality"] == "rna"
    assert rna.uns["scmodal"]["label_key"] == "celltype"


def test_latent_space(real_run: Run) -> None:
    table = pd.read_parquet(real_run.folder / "out/pbmc/integrate/embedding.parquet")
    assert list(table.columns) == ["cell", "modality", *(f"scmodal_{i}" for i in range(20))]
    assert table["modality"].value_counts().to_dict() == {"rna": 1200, "protein": 1200}
    assert np.isfinite(table.filter(like="scmodal_").to_numpy()).all()


def test_labels_and_imputed_features(real_run: Run) -> None:
    labels = pd.read_csv(real_run.folder / "out/pbmc/transfer/rna_to_protein.labels.tsv", sep="\t")
    assert list(labels.columns) == ["cell", "label", "confidence", "second_label", "entropy"]
    assert len(labels) == 1200
    assert labels["confidence"].between(0, 1).all()
    imputed = ad.read_h5ad(real_run.folder / "out/pbmc/impute/rna_to_protein.h5ad")
    assert imputed.n_obs == 1200
    assert imputed.n_vars > 200
    assert "scaled" in imputed.layers


def test_metrics_are_in_their_bands(real_run: Run) -> None:
    metrics = json.loads((real_run.folder / "out/pbmc/evaluate/metrics.json").read_text())
    assert metrics["n_cells"] == {"rna": 1200, "protein": 1200}
    assert metrics["n_pairs"] == 800
    for direction in ("rna_to_protein", "protein_to_rna"):
        assert metrics["label_transfer"][direction]["accuracy"] > 0.84
    assert metrics["foscttm"]["rna|protein"] < 0.16
    assert metrics["imputation"]["rna_to_protein"]["pearson_mean"] > 0.42


def test_report(real_run: Run) -> None:
    page = (real_run.folder / "out/report/pbmc.html").read_text()
    assert "pbmc" in page
    assert "n_top_genes" in page
    assert real_run.text.count("report/pbmc.html") == 1


def test_resume_repeats_nothing(real_run: Run) -> None:
    again = pipeline(real_run.folder, "-profile", "test", "-resume")
    assert again.code == 0, again.text
    assert set(again.trace.values()) == {"CACHED"}


@pytest.mark.slow
def test_a_late_parameter_does_not_train_again(real_run: Run) -> None:
    later = pipeline(real_run.folder, "-profile", "test", "-resume", "--neighbours", "5")
    assert later.code == 0, later.text
    repeated = {name.split()[0] for name, status in later.trace.items() if status != "CACHED"}
    assert repeated == {"TRANSFER", "REPORT"}


def test_a_gpu_asked_for_and_missing(real_run: Run) -> None:
    """`task.accelerator` alone makes INTEGRATE ask for CUDA; without one it stops at once and says the mend."""
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    run = pipeline(real_run.folder, "-profile", "test,gpu", "--seed", "7", "-resume")
    assert run.code != 0
    assert {name for name, status in run.trace.items() if status == "FAILED"} == {"INTEGRATE (pbmc seed 7)"}
    assert "--device cuda" in run.text
    assert "exit status (2)" in run.text


@pytest.mark.slow
def test_options_of_ones_own_are_added(real_run: Run) -> None:
    """`ext.args2` goes beside what the parameters set; nothing but that step and the report is done again."""
    (real_run.folder / "own.config").write_text("process { withName: TRANSFER { ext.args2 = '--unknown 0.7' } }\n")
    own = pipeline(real_run.folder, "-profile", "test", "-resume", "-c", "own.config", "--outdir", "own")
    assert own.code == 0, own.text
    trace = pd.read_csv(real_run.folder / "own" / "pipeline_info" / "trace.txt", sep="\t")
    again = trace.loc[trace["status"] != "CACHED", "name"]
    assert set(again.str.extract(r":(\w+) \(")[0]) == {"TRANSFER", "REPORT"}
    commands = [path.read_text() for path in real_run.folder.glob("work/*/*/.command.sh")]
    assert [c for c in commands if "scmodal transfer" in c and "--neighbours 15 --unknown 0.7" in c]


BAD_INPUT = """
include { SCMODAL_VALIDATE   as VALIDATE   } from 'MODULES/validate'
include { SCMODAL_PREPROCESS as PREPROCESS } from 'MODULES/preprocess'
include { SCMODAL_LINK       as LINK       } from 'MODULES/link'
include { SCMODAL_INTEGRATE  as INTEGRATE  } from 'MODULES/integrate'
include { SCMODAL_EMBED      as EMBED      } from 'MODULES/embed'
include { SCMODAL_IMPUTE     as IMPUTE     } from 'MODULES/impute'
include { SCMODAL_TRANSFER   as TRANSFER   } from 'MODULES/transfer'
include { SCMODAL_EVALUATE   as EVALUATE   } from 'MODULES/evaluate'
include { SCMODAL_SELECT     as SELECT     } from 'MODULES/select'
include { SCMODAL_REPORT     as REPORT     } from 'MODULES/report'

workflow {
    raw      = file('TESTDATA/rna.h5ad')
    folder   = file('TESTDATA')
    prepared = file('RESULT/preprocess/rna.h5ad')
    model    = file('RESULT/integrate/model')
    both     = file('RESULT/integrate/integrated.h5mu')
    meta     = [id: 'pbmc', modality: 'rna', from: 'rna', to: 'protein', seed: 0]
    VALIDATE([meta, file('TESTDATA/samplesheet.csv'), [1], [raw]], [], [])
    PREPROCESS([meta + [label_key: 'cell_type'], raw], [], [])
    LINK([meta, prepared], [])
    INTEGRATE([meta, prepared, []])
    EMBED([meta + [modality: 'atac'], raw, model, []], [])
    IMPUTE([meta + [to: 'atac'], prepared, model])
    TRANSFER([meta + [label_key: 'cell_type'], both])
    EVALUATE([meta, folder])
    SELECT([meta, [folder], [prepared], []])
    REPORT([meta, folder, [], [], [], [], [], []], [])
}
"""

SAID = {
    "VALIDATE": "adt.h5ad: not found",
    "PREPROCESS": "celltype",
    "LINK": "at least two modalities",
    "INTEGRATE": "at least two modalities",
    "EMBED": "the model has no atac data",
    "IMPUTE": "atac",
    "TRANSFER": "celltype",
    "EVALUATE": "integrated.h5mu",
    "SELECT": "at least two modalities",
    "REPORT": "integrated.h5mu",
}
"""What each step names in its error; PEAKGENE's is in test_peakgene.py."""


def test_bad_input_ends_every_module_with_status_2(real_run: Run, tmp_path: Path) -> None:
    """The bad inputs of the .nf.test files in one run; errors are ignored so that every module has its turn."""
    (tmp_path / "ignore.config").write_text("process.errorStrategy = 'ignore'\n")
    script = BAD_INPUT.replace("TESTDATA", str(TESTDATA)).replace("RESULT", str(real_run.folder / "out" / "pbmc"))
    run = run_workflow(tmp_path, script, "-c", "ignore.config", "-with-trace", "trace.txt")
    header, *lines = ((tmp_path / "trace.txt").read_text()).splitlines()
    tasks = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    said = {}
    for task in tasks:
        (folder,) = (tmp_path / "work").glob(f"{task['hash']}*")
        name = re.split(r"[ :]", task["name"])[0]
        assert task["exit"] == "2", (name, run.text)
        said[name] = (folder / ".command.err").read_text()
    assert sorted(said) == sorted(SAID), run.text
    for name, text in SAID.items():
        assert "Error: " in said[name], said[name]
        assert text in said[name], said[name]
    assert not (tmp_path / "out").exists()
