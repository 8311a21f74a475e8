"""Parameters: configuration, schema, help and checks agree."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest

from scmodal import __version__
from scmodal.contracts import sample_problem

from .conftest import REPO, nextflow, pipeline

pytestmark = pytest.mark.pipeline

_spec = importlib.util.spec_from_file_location("make_parameters", REPO / "scripts" / "make_parameters.py")
assert _spec is not None
assert _spec.loader is not None
make_parameters = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(make_parameters)


def schema() -> dict[str, dict]:
    """Name -> entry of nextflow_schema.json."""
    groups = json.loads((REPO / "nextflow_schema.json").read_text())["$defs"].values()
    return {name: entry for group in groups for name, entry in group["properties"].items()}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The configuration as nextflow resolves it."""
    run = nextflow(tmp_path_factory.mktemp("config"), "config", "-flat", str(REPO))
    assert run.code == 0, run.text
    return run.text


def config_value(text: str, name: str) -> str | None:
    """A value of the flat configuration, as written there without quotes; None where it is null."""
    found = re.search(rf"^{re.escape(name)} = (.*)$", text, re.MULTILINE)
    assert found, f"{name} is not in the configuration"
    return None if found[1] == "null" else found[1].strip("'\"")


def test_schema_equals_config(config: str) -> None:
    in_config = set(re.findall(r"^params\.(\w+) = ", config, re.MULTILINE))
    assert in_config == set(schema())
    for name, entry in schema().items():
        default = entry.get("default")
        expected = None if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        assert config_value(config, f"params.{name}") == expected, name


def test_every_parameter_is_explained() -> None:
    usage = (REPO / "docs" / "usage.md").read_text()
    for name, entry in schema().items():
        assert entry["description"].strip()
        assert f"`--{name}`" in usage, f"docs/usage.md does not name --{name}"


def test_tables_of_parameters_are_those_of_the_schema() -> None:
    """scripts/make_parameters.py writes them."""
    usage = (REPO / "docs" / "usage.md").read_text()
    schema_file = json.loads((REPO / "nextflow_schema.json").read_text())
    assert usage == make_parameters.updated(usage, schema_file), "run scripts/make_parameters.py"


def test_versions_agree(config: str) -> None:
    assert config_value(config, "manifest.version") == __version__
    assert config_value(config, "params.container").endswith(f":{__version__}")
    for module in REPO.glob("modules/nf-scmodal/scmodal/*/main.nf"):
        assert f"scmodal:{__version__}'" in module.read_text(), module


@pytest.mark.parametrize(
    "profile", ["docker", "podman", "singularity", "apptainer", "conda", "gpu", "test", "test_full"]
)
def test_profiles_resolve(profile: str, tmp_path: Path) -> None:
    run = nextflow(tmp_path, "config", "-flat", "-profile", profile, str(REPO))
    assert run.code == 0, run.text
    expected = {"gpu": "params.use_gpu = true", "test": "params.paired = true", "test_full": "params.seeds = 3"}
    assert expected.get(profile, f"{profile}.enabled = true") in run.text


CLUSTERS = {
    "slurm": ["process.executor = 'slurm'", "executor.submitRateLimit = '20/1min'"],
    "awsbatch": [
        "process.executor = 'awsbatch'",
        "aws.region = 'eu-west-1'",
        "aws.batch.cliPath = '/opt/aws'",
        "aws.batch.maxSpotAttempts = 5",
        "process.maxRetries = 4",
    ],
    "googlebatch": [
        "process.executor = 'google-batch'",
        "google.project = 'lab'",
        "google.location = 'europe-west4'",
        "google.batch.spot = false",
        "google.batch.maxSpotAttempts = 5",
        "google.batch.installGpuDrivers = true",
        "process.maxRetries = 4",
    ],
}
GIVEN = """params {
    aws_region = 'eu-west-1'
    aws_cli = '/opt/aws'
    google_project = 'lab'
    google_location = 'europe-west4'
    on_demand = true
}
"""


@pytest.mark.parametrize("profile", CLUSTERS)
def test_cluster_and_cloud_profiles_take_their_parameters(profile: str, tmp_path: Path) -> None:
    """As on a command line, parameters are there before the configuration is read."""
    (tmp_path / "nextflow.config").write_text(f"{GIVEN}includeConfig '{REPO}/nextflow.config'\n")
    run = nextflow(tmp_path, "config", "-flat", "-profile", profile)
    assert run.code == 0, run.text
    for line in CLUSTERS[profile]:
        assert line in run.text, line


def test_help_names_every_parameter(tmp_path: Path) -> None:
    run = nextflow(tmp_path, "run", str(REPO), "--help")
    assert run.code == 0, run.text
    for name, entry in schema().items():
        assert re.search(rf"^  --{name} +{re.escape(entry['description'])}", run.text, re.MULTILINE), name


def test_wrong_parameters_are_told_all_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    run = nextflow(
        tmp_path,
        *("run", str(REPO), "--inputt", "x.csv", "--n-top-genes", "5", "--seeds", "0", "--preset", "papr"),
        *("--device", "gpu", "--set", "nonsense", "--steps", "many", "--outdir", "file/below", "--topology", "strar"),
    )
    assert run.code != 0
    for text in (
        "--inputt is no parameter of this pipeline; did you mean --input?",
        "did you mean --n_top_genes?",
        "--input is missing",
        "--seeds 0: must be at least 1",
        "--preset papr: must be one of default, paper; did you mean paper?",
        "--topology strar: must be one of chain, star, all; did you mean star?",
        "--device gpu: must be auto, cpu, mps, cuda or cuda:1",
        "--set nonsense: must look like name=value,name=value",
        "--steps many: must be a whole number",
        "--outdir file/below: no folder can be made there",
    ):
        assert text in run.text, run.text
    assert "Submitted process" not in run.text


def test_values_of_a_params_file_are_told_all_at_once(tmp_path: Path) -> None:
    """It may hold what a command line cannot: nothing, lists and empty text, as templates and forms leave them."""
    given = {"input": ["a.csv"], "outdir": "", "seeds": None, "preset": None, "impute": None, "fail_on": "", "links": 5}
    (tmp_path / "p.json").write_text(json.dumps(given))
    run = nextflow(tmp_path, "run", str(REPO), "-params-file", "p.json")
    assert run.code != 0
    for text in (
        "--input [a.csv]: must be one value, not several",
        "--outdir is given without a value: leave it out (results is the default), or give one",
        "--seeds is given without a value: leave it out (1 is the default)",
        "--preset is given without a value",
        "--impute is given without a value",
        "--links 5: must be a path",
    ):
        assert text in run.text, run.text
    assert "fail_on" not in run.text


def test_a_name_without_a_value(tmp_path: Path) -> None:
    run = nextflow(tmp_path, "run", str(REPO), "--input", "--outdir")
    assert run.code != 0
    assert "--input true: needs a value" in run.text
    assert "--outdir true: needs a value" in run.text


def test_a_setting_with_a_parameter_of_its_own(tmp_path: Path) -> None:
    """`--set` reaches the training alone, and the links would be those of another topology."""
    run = pipeline(tmp_path, "--input", "x.csv", "--set", "topology=star, n_latent=10,steps=5")
    assert run.code != 0
    assert "--set topology=...: give it as --topology" in run.text
    assert "--set steps=...: give it as --steps" in run.text
    assert "n_latent" not in run.text.split("Wrong parameters")[1]


def test_documented_options_of_ones_own_leave_the_parameters(tmp_path: Path) -> None:
    """The examples for `-c` in the documentation add `ext.args2` and replace nothing."""
    texts = [(REPO / name).read_text() for name in ("README.md", "docs/usage.md", "docs/output.md", "docs/cloud.md")]
    examples = [found for text in texts for found in re.findall(r"```groovy\n(process \{.*?)```", text, re.DOTALL)]
    inline = [found for text in texts for found in re.findall(r"`(process\s*\{[^`]*\})`", text)]
    assert len(examples) >= 3
    assert len(inline) >= 3
    (tmp_path / "own.config").write_text("\n".join(examples + inline))
    run = nextflow(tmp_path, "-c", "own.config", "config", "-flat", str(REPO))
    assert run.code == 0, run.text
    steps = re.findall(r"^process\.'withName:(\w+)'\.ext\.args2 = ", run.text, re.MULTILINE)
    assert {"INTEGRATE", "TRANSFER", "PEAKGENE"} <= set(steps)
    for step in ("VALIDATE", "PREPROCESS", "LINK", "EMBED", "EVALUATE", *steps):
        # as in conf/modules.config: made from the parameters
        assert f"process.'withName:{step}'.ext.args = {{" in run.text, step


def test_names_of_samples_in_the_schema_are_those_that_validate_takes() -> None:
    name = json.loads((REPO / "assets" / "schema_input.json").read_text())["items"]["properties"]["sample"]
    good = ["a", "_", "s1", "s.2", "a-b_c+d", "a-", "a+", "reports", "my_report", "report.1", "x" * 100]
    bad = ["", ".a", "-a", "+a", "a.", ".", "a..b", "a b", "a/b", "ä", "report", "Report", "MULTIQC", "pipeline_info"]
    for text in [*good, *bad, "x" * 101]:
        fits = re.search(name["pattern"], text) is not None and len(text) <= name["maxLength"]
        assert fits == (sample_problem(text) is None) == (text in good), text


def test_missing_samplesheet(tmp_path: Path) -> None:
    run = pipeline(tmp_path, "--input", "nowhere.csv")
    assert run.code != 0
    assert "nowhere.csv" in run.text


def test_lint(tmp_path: Path) -> None:
    places = ("main.nf", "nextflow.config", "conf", "workflows", "subworkflows", "modules")
    run = nextflow(tmp_path, "lint", *(str(REPO / place) for place in places))
    assert run.code == 0, run.text
    assert "had no errors" in run.text
