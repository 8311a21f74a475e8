"""What the machine lacks is told early, and nothing assumes a shared file system."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from .conftest import REPO, nextflow, pipeline

pytestmark = pytest.mark.pipeline


def without(program: str, folder: Path) -> str:
    """A PATH on which all programs of this machine are found but one."""
    for place in os.environ["PATH"].split(os.pathsep):
        for path in Path(place).glob("*") if Path(place).is_dir() else []:
            if path.name != program and not (folder / path.name).is_symlink():
                (folder / path.name).symlink_to(path)
    return str(folder)


@pytest.mark.parametrize("engine", ["docker", "podman", "singularity", "apptainer"])
def test_an_engine_that_is_not_installed(engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", without(engine, tmp_path / "bin"))
    run = pipeline(tmp_path, "-profile", f"test,{engine}")
    assert run.code != 0
    assert f"-profile {engine}: there is no {engine} on PATH here; install it" in run.text
    assert "Submitted process" not in run.text


def test_an_image_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "apptainer").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "apptainer").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    run = pipeline(tmp_path, "-profile", "test,apptainer", "--container", "./nowhere.sif")
    assert run.code != 0
    assert "--container ./nowhere.sif: there is no such file" in run.text
    assert "Submitted process" not in run.text


def test_a_samplesheet_by_url_that_does_not_answer(tmp_path: Path) -> None:
    run = pipeline(tmp_path, "--input", "http://127.0.0.1:9/sheet.csv")  # the discard port: nobody listens
    assert run.code != 0
    assert "http://127.0.0.1:9/sheet.csv" in run.text
    assert "Submitted process" not in run.text


def test_a_nextflow_that_is_too_old(tmp_path: Path) -> None:
    """The version asked for is in the manifest; here a newer one than there is."""
    (tmp_path / "newer.config").write_text("manifest.nextflowVersion = '!>=99.04.0'\n")
    run = nextflow(tmp_path, "-C", str(tmp_path / "newer.config"), "run", str(REPO))
    assert run.code != 0
    assert "99.04.0" in run.text
    config = nextflow(tmp_path, "config", "-flat", str(REPO)).text
    assert "manifest.nextflowVersion = '!>=25.04.0'" in config


def test_a_java_that_is_too_old(tmp_path: Path) -> None:
    shutil.copytree(REPO / "scripts", tmp_path / "scripts")
    (tmp_path / "java" / "bin").mkdir(parents=True)
    java = tmp_path / "java" / "bin" / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.22\" 2024-01-16' >&2\n")
    java.chmod(0o755)
    env = os.environ | {"JAVA_HOME": str(tmp_path / "java")}
    done = subprocess.run([tmp_path / "scripts" / "get_nextflow.sh"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert "Java 17 or newer is needed by Nextflow" in done.stderr
    assert "version 11" in done.stderr


SMALL_DISK = ("unshare", "--map-root-user", "--mount", "sh", "-c")
"""A shell with mounts of its own, for a file system of a few MB that is gone when it ends."""


@pytest.mark.slow
def test_a_work_folder_without_space_left(tmp_path: Path) -> None:
    if subprocess.run([*SMALL_DISK, "mount -t tmpfs tmpfs /mnt"], capture_output=True).returncode:
        pytest.skip("this machine lets nobody mount a small file system")
    (tmp_path / "work").mkdir()
    command = f"mount -t tmpfs -o size=6m tmpfs work && exec '{REPO}/scripts/nextflow.sh' \"$@\""
    options = ("run", str(REPO), "--outdir", "out", "-profile", "test", "--steps", "5", "--impute", "false")
    done = subprocess.run(
        [*SMALL_DISK, command, "sh", *options],
        cwd=tmp_path,
        env=os.environ | {"NXF_ANSI_LOG": "false", "NXF_WORK": str(tmp_path / "work")},
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0, done.stdout
    # the step that met the end of it, in a sentence, and not tried again
    assert re.search(r"Stopped\. Error: .*No space left on device\): free space there", done.stdout), done.stdout
    assert not list((tmp_path / "out").glob("*/integrate/*"))


@pytest.mark.slow
def test_nothing_assumes_a_shared_file_system(tmp_path: Path) -> None:
    """Tasks work in a folder of their own, to which inputs are copied and from which outputs are fetched."""
    launch, work = tmp_path / "launched here", tmp_path / "work is there"
    launch.mkdir()
    (launch / "own.config").write_text("process {\n    scratch = true\n    stageInMode = 'copy'\n}\n")
    run = pipeline(
        launch,
        *("-profile", "test", "-c", "own.config", "-w", str(work), "--steps", "20", "--impute", "false"),
    )
    assert run.code == 0, run.text
    metrics = json.loads((launch / "out" / "pbmc" / "evaluate" / "metrics.json").read_text())
    assert metrics["n_cells"] == {"rna": 1200, "protein": 1200}
    assert (launch / "out" / "report" / "pbmc.html").stat().st_size > 100_000
    assert not (launch / "work").exists()
    assert any(work.glob("*/*/.exitcode"))


@pytest.mark.parametrize("suffix", ["json", "yml"])
def test_parameters_from_a_file(suffix: str, tmp_path: Path) -> None:
    given = {"outdir": "from_a_file", "seeds": 2, "impute": False, "topology": "star"}
    text = json.dumps(given) if suffix == "json" else "".join(f"{k}: {json.dumps(v)}\n" for k, v in given.items())
    (tmp_path / f"params.{suffix}").write_text(text)
    run = nextflow(
        tmp_path, "run", str(REPO), "-profile", "test", "-stub", "-params-file", str(tmp_path / f"params.{suffix}")
    )
    assert run.code == 0, run.text
    written = json.loads((tmp_path / "from_a_file" / "pipeline_info" / "params.json").read_text())
    assert {name: written[name] for name in ("seeds", "impute", "topology")} == {
        name: given[name] for name in ("seeds", "impute", "topology")
    }
    assert sorted(p.name for p in (tmp_path / "from_a_file/pbmc/integrate").iterdir()) == ["seed_0", "seed_1"]
    methods = (tmp_path / "from_a_file" / "pipeline_info" / "methods.md").read_text()
    assert "topology `star`, with 2 seeds (0 to 1)" in methods
    assert "imputed" not in methods.split("## References")[0]
    assert "doi:10.1038/s41467-025-60333-z" in methods
    assert (tmp_path / "from_a_file" / "pipeline_info" / "versions.yml").read_text().count("scmodal: ") >= 6
