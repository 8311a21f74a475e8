"""A module on its own, as another pipeline would include it: none of this pipeline's configuration."""

from __future__ import annotations

import os
import re
from pathlib import Path

import anndata as ad
import pytest
import yaml

from .conftest import REPO, TESTDATA, Run, nextflow

pytestmark = pytest.mark.pipeline

MODULES = sorted(path.parent for path in REPO.glob("modules/nf-scmodal/scmodal/*/main.nf"))

LABEL_KEY = "donor's cell type"
"""A column name that a shell would take apart."""


def run_workflow(folder: Path, script: str, *arguments: str) -> Run:
    """Run a small workflow that includes modules of this repository; the checkout's launcher is on PATH."""
    (folder / "bin").mkdir()
    os.symlink(REPO / "bin" / "scmodal", folder / "bin" / "scmodal")
    (folder / "nextflow.config").write_text("process.publishDir = 'out'\n")
    (folder / "main.nf").write_text(script.replace("MODULES", str(REPO / "modules" / "nf-scmodal" / "scmodal")))
    return nextflow(folder, "run", "main.nf", *arguments)


def test_preprocess_joins_files_and_quotes_column_names(tmp_path: Path) -> None:
    rna = ad.read_h5ad(TESTDATA / "rna.h5ad")
    rna.obs[LABEL_KEY] = rna.obs["celltype"]
    for name, cells in (("first half.h5ad", slice(0, 600)), ("second half.h5ad", slice(600, None))):
        rna[cells].write_h5ad(tmp_path / name)
    script = f"""
    include {{ SCMODAL_PREPROCESS as PREPROCESS }} from 'MODULES/preprocess'
    workflow {{
        meta = [id: 'pbmc', modality: 'rna', label_key: "{LABEL_KEY}", batch_key: 'batch']
        PREPROCESS([meta, [file('first half.h5ad'), file('second half.h5ad')]], [], [])
    }}
    """
    run = run_workflow(tmp_path, script)
    assert run.code == 0, run.text
    prepared = ad.read_h5ad(tmp_path / "out" / "pbmc.rna.h5ad")
    assert prepared.n_obs == 1200
    assert prepared.uns["scmodal"]["label_key"] == LABEL_KEY
    assert prepared.uns["scmodal"]["batch_key"] == "batch"


def test_a_wrong_column_stops_with_status_2(tmp_path: Path) -> None:
    script = f"""
    include {{ SCMODAL_PREPROCESS as PREPROCESS }} from 'MODULES/preprocess'
    workflow {{
        PREPROCESS([[id: 'pbmc', modality: 'rna', label_key: 'cell_type'], file('{TESTDATA / "rna.h5ad"}')], [], [])
    }}
    """
    run = run_workflow(tmp_path, script)
    assert run.code != 0
    assert "exit status (2)" in run.text
    assert "celltype" in run.text
    assert not (tmp_path / "out").exists()


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


def test_the_example_in_the_documentation(tmp_path: Path) -> None:
    """The workflow that docs/usage.md shows for other pipelines, as it stands there."""
    section = (REPO / "docs" / "usage.md").read_text().split("## Modules in other pipelines")[1]
    ((includes, calls),) = re.findall(r"```groovy\n(.*?)\n\n(.*?)```", section, re.DOTALL)
    for name in ("rna.h5ad", "adt.h5ad"):
        (tmp_path / name).symlink_to(TESTDATA / name)
    script = f"{includes}\nworkflow {{\n{calls}\n}}\n".replace("'../", f"'{REPO}/")
    run = run_workflow(tmp_path, script, "-stub-run", "-with-trace", "trace.txt")
    assert run.code == 0, run.text
    assert (tmp_path / "trace.txt").read_text().count("COMPLETED") == 5
    assert (tmp_path / "out" / "pbmc.seed_0.rna_to_protein.labels.tsv").is_file()


def names(channel: dict | list[dict]) -> list[str]:
    """Names of a channel's elements in a meta.yml: a mapping for one alone, a list of them for a tuple."""
    return [name for element in (channel if isinstance(channel, list) else [channel]) for name in element]


def declared(text: str, block: str, until: str) -> list[str]:
    """The lines of a main.nf that declare channels, without their comments."""
    lines = text.split(f"    {block}:\n")[1].split(f"    {until}:\n")[0].splitlines()
    return [line.split(" // ")[0] for line in lines if re.match(r"    (tuple|path|val)\b", line)]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_meta_yml_tells_every_channel(module: Path) -> None:
    """What `nf-core modules lint` compares, which is not installed where these tests run."""
    text = (module / "main.nf").read_text()
    told = yaml.safe_load((module / "meta.yml").read_text())
    inputs = [re.findall(r"(?:val|path)[( ](\w+)", line) for line in declared(text, "input", "output")]
    assert [names(channel) for channel in told["input"]] == inputs
    outputs = {}
    for line in declared(text, "output", "script"):
        elements = re.findall(r"""(?:val|path|eval)\((\w+|"[^"]*"|'[^']*')""", line)
        outputs[re.findall(r"emit: (\w+)", line)[0]] = [
            re.sub("^[\"'](.*)[\"']$", r"\1", element) for element in elements
        ]
    assert {name: names(items[0]) for name, items in told["output"].items()} == outputs


def test_every_module_has_its_parts() -> None:
    assert len(MODULES) == 11
    for module in MODULES:
        for part in ("meta.yml", "environment.yml", "tests/main.nf.test"):
            assert (module / part).is_file(), module / part
        text = (module / "main.nf").read_text()
        for part in ("stub:", "topic: versions", "task.ext.args", "task.ext.prefix", "label 'process_"):
            assert part in text, (module, part)
        assert "params." not in text, module
        tests = (module / "tests" / "main.nf.test").read_text()
        assert tests.count("    test(") >= 3, module
        for part in ('test("stub")', 'test("bad input")', *(['tag "gpu"'] if "process_gpu" in text else [])):
            assert part in tests, (module, part)
        # the name by which nf-core tools find the module that a subworkflow includes
        assert text.startswith(f"process SCMODAL_{module.name.upper()} {{\n"), module
