"""Training in real containers: killed from outside, the retry goes on from the checkpoint.

The image is the one that SCMODAL_IMAGE (podman) or SCMODAL_SIF (Apptainer) names, for building one takes minutes:
`KEEP=1 scripts/container_test.sh` leaves `localhost/scmodal-test`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.test_interrupted import STEPS, attempt_with_checkpoint, kept, prepare, tasks
from tests.pipeline.test_interrupted import start as start  # a fixture

pytestmark = [pytest.mark.pipeline, pytest.mark.slow]

IMAGE = os.environ.get("SCMODAL_IMAGE", "localhost/scmodal-test:latest")
SIF = os.environ.get("SCMODAL_SIF", "")


def succeeds(*command: str) -> bool:
    return shutil.which(command[0]) is not None and subprocess.run(command, capture_output=True).returncode == 0


podman = pytest.mark.skipif(
    not succeeds("podman", "image", "exists", IMAGE), reason=f"no podman here, or no image {IMAGE} (SCMODAL_IMAGE)"
)
apptainer = pytest.mark.skipif(
    not (Path(SIF).is_file() and succeeds("apptainer", "--version")),
    reason="no apptainer here, or SCMODAL_SIF names no image",
)
ENGINES = [pytest.param("podman", IMAGE, marks=podman), pytest.param("apptainer", SIF, marks=apptainer)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path)


def configure(folder: Path, engine: str, image: str) -> None:
    """This pipeline's profile of the engine, for the small workflow of one training."""
    options = (
        "podman.runOptions = '--user 0:0 --no-healthcheck'" if engine == "podman" else f"{engine}.autoMounts = true"
    )
    path = folder / "nextflow.config"
    # where the modules' configuration, which comes after it, reads it
    config = path.read_text().replace("params.container = null", f"params.container = '{image}'")
    assert image in config
    path.write_text(f"{config}\n{engine}.enabled = true\n{options}\n")


def working_folder(container: str) -> str:
    command = ("podman", "inspect", "--format", "{{.Config.WorkingDir}}", container)
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def kill(engine: str, task: Path) -> None:
    """End the container of a task as an operator or the kernel would."""
    if engine == "podman":
        names = subprocess.run(["podman", "ps", "--format", "{{.Names}}"], capture_output=True, text=True, check=True)
        (name,) = (name for name in names.stdout.split() if working_folder(name) == str(task))
        subprocess.run(["podman", "kill", "--signal", "KILL", name], check=True, capture_output=True)
        return
    killed = 0
    for process in Path("/proc").glob("[0-9]*"):
        try:
            # the checkout's launcher starts `python -m scmodal.cli`, the image's own one `python …/scmodal`
            inside = re.search(rb"scmodal(\.cli)?\0integrate\0", (process / "cmdline").read_bytes())
            if inside and task.name in os.readlink(process / "cwd"):
                os.kill(int(process.name), 9)
                killed += 1
        except OSError:  # it has ended in the meantime
            continue
    assert killed, f"no training runs in {task}"


@pytest.mark.parametrize(("engine", "image"), ENGINES)
def test_a_killed_container_goes_on_in_the_retry(folder: Path, start, engine: str, image: str) -> None:
    configure(folder, engine, image)
    run = start(folder, "run", "main.nf")
    task = attempt_with_checkpoint(run, folder, 0, 0)
    assert f"{engine} " in (task / ".command.run").read_text()
    kill(engine, task)
    text, _ = run.communicate(timeout=900)
    assert run.returncode == 0, text
    assert (task / ".exitcode").read_text() == "137"
    assert len(tasks(folder)) == 2
    summary = json.loads((folder / "out/small/integrate/metrics.json").read_text())
    assert len(summary["resumed_at"]) == 1
    assert 0 < summary["resumed_at"][0] < STEPS
    history = pd.read_parquet(folder / "out/small/integrate/history.parquet")
    assert list(history["step"]) == list(range(1, STEPS + 1))
    assert kept(folder) is None


@pytest.mark.parametrize(("engine", "image"), ENGINES)
def test_a_gpu_that_is_not_there(folder: Path, start, engine: str, image: str) -> None:
    if Path("/proc/driver/nvidia/gpus").is_dir():
        pytest.skip("there is one here")
    configure(folder, engine, image)
    with (folder / "nextflow.config").open("a") as config:
        config.write("process { withName: INTEGRATE { accelerator = 1 } }\n")
    began = time.monotonic()
    run = start(folder, "run", "main.nf")
    text, _ = run.communicate(timeout=300)
    assert run.returncode != 0
    assert "torch finds no CUDA device here" in text
    assert len(tasks(folder)) == 1
    assert time.monotonic() - began < 300
