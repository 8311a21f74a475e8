"""A module on its own, as another pipeline would include it: none of this pipeline's configuration."""

from __future__ import annotations

import re
from pathlib import Path

import anndata as ad
import pytest
import yaml

from .conftest import REPO, TESTDATA, run_workflow

pytestmark = pytest.mark.pipeline

MODULES = sorted(path.parent for path in REPO.glob("modules/nf-scmodal/scmodal/*/main.nf"))

LABEL_KEY = "donor's cell type"
"""A column name that a shell would take apart."""


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
