"""Training that is killed under Nextflow: the retry, and a resumed run, go on where it was stopped."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from scmodal import preprocess
from scmodal.io import write_h5ad
from scmodal.simulate import simulate

from .conftest import REPO, launch

pytestmark = pytest.mark.pipeline

STEPS = 500

WORKFLOW = f"""
include {{ SCMODAL_INTEGRATE as INTEGRATE }} from '{REPO}/modules/nf-scmodal/scmodal/integrate'
workflow {{
    INTEGRATE([[id: 'small', seed: 3], [file('rna.h5ad'), file('protein.h5ad')], []])
}}
"""

# The pipeline's own rules for retries and checkpoints; small and slow enough to be interrupted.
CONFIG = f"""
params.outdir = 'out'
params.container = null
params.publish_dir_mode = 'copy'
params.device = 'cpu'
params.seeds = 1
includeConfig '{REPO}/conf/base.config'
includeConfig '{REPO}/conf/modules.config'
process {{
    withLabel: process_gpu {{
        cpus   = 1
        memory = 2.GB
    }}
    withName: INTEGRATE {{
        ext.args = '--steps {STEPS} --batch-size 100 --set n_hidden=128 --checkpoint-every 0.2'
    }}
}}
"""


def prepare(tmp_path: Path) -> Path:
    """A folder with data, a workflow of one training and its configuration, to launch nextflow in."""
    mdata = simulate(n_cells=200, n_genes=150, n_proteins=25, n_cell_types=4, seed=1)
    write_h5ad(preprocess.rna(mdata["rna"]), tmp_path / "rna.h5ad")
    write_h5ad(preprocess.protein(mdata["protein"]), tmp_path / "protein.h5ad")
    (tmp_path / "bin").mkdir()
    os.symlink(REPO / "bin" / "scmodal", tmp_path / "bin" / "scmodal")
    (tmp_path / "main.nf").write_text(WORKFLOW)
    (tmp_path / "nextflow.config").write_text(CONFIG)
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return prepare(tmp_path)


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts nextflow; what still runs at the test's end is stopped, with its tasks."""
    started: list[subprocess.Popen[str]] = []

    def begin(folder: Path, *arguments: str) -> subprocess.Popen[str]:
        started.append(launch(folder, *arguments))
        return started[-1]

    yield begin
    for process in started:
        process.terminate()
        process.wait()


def wait_for(what: Callable[[], object], seconds: float = 900) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


def tasks(folder: Path) -> list[Path]:
    """Folders of the attempts, the first one first."""
    started = (path.parent for path in folder.glob("work/*/*/.command.begin"))
    return sorted(started, key=lambda task: (task / ".command.begin").stat().st_mtime_ns)


def training_process(task: Path) -> int:
    """Process id of `scmodal integrate` in a task's folder."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if b"scmodal.cli\0integrate" in (process / "cmdline").read_bytes() and (process / "cwd").samefile(task):
                return int(process.name)
        except OSError:  # it has ended in the meantime
            continue
    raise AssertionError(f"no training runs in {task}")


def parent_of(process: int) -> int:
    status = Path(f"/proc/{process}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("PPid:")))


def kept(folder: Path) -> Path | None:
    return next(folder.glob("work/checkpoints/*/small.seed_3.checkpoint.safetensors"), None)


def newer(folder: Path, than: int) -> bool:
    """Whether the checkpoint was written after the time `than` (ns)."""
    found = kept(folder)
    return found is not None and found.stat().st_mtime_ns > than


def attempt_with_checkpoint(run: subprocess.Popen[str], folder: Path, attempt: int, than: int) -> Path:
    """Folder of a running attempt (from 0), once it has written a checkpoint."""
    wait_for(lambda: run.poll() is not None or (len(tasks(folder)) > attempt and newer(folder, than)))
    assert run.poll() is None, run.communicate()[0]
    return tasks(folder)[attempt]


@pytest.mark.slow
def test_a_killed_training_goes_on_in_the_retry(folder: Path, start) -> None:
    run = start(folder, "run", "main.nf")
    since = 0
    for attempt, number in enumerate((signal.SIGTERM, signal.SIGKILL)):
        task = attempt_with_checkpoint(run, folder, attempt, since)
        process = training_process(task)
        # a stopped container's signal comes to the task's shell, the kernel's kill to the training itself
        os.kill(parent_of(process) if number == signal.SIGTERM else process, number)
        # the wrapper makes the file and then writes into it
        wait_for(lambda file=task / ".exitcode": file.exists() and file.read_text() != "")
        assert (task / ".exitcode").read_text() == str(128 + number)
        assert not (task / ".training").exists()
        since = time.time_ns()
    text, _ = run.communicate(timeout=900)
    assert run.returncode == 0, text
    logs = [(task / ".command.log").read_text() for task in tasks(folder)]
    assert len(logs) == 3
    assert "Stopped by SIGTERM after step" in logs[0]
    summary = json.loads((folder / "out/small/integrate/metrics.json").read_text())
    assert len(summary["resumed_at"]) == 2
    assert 0 < summary["resumed_at"][0] <= summary["resumed_at"][1] < STEPS
    assert f"Training goes on from step {summary['resumed_at'][1]} " in logs[2]
    history = pd.read_parquet(folder / "out/small/integrate/history.parquet")
    assert list(history["step"]) == list(range(1, STEPS + 1))
    assert kept(folder) is None


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_resume(folder: Path, start) -> None:
    """Stopping Nextflow stops its tasks, whose wrapper waits until the checkpoint is written."""
    run = start(folder, "run", "main.nf")
    attempt_with_checkpoint(run, folder, 0, 0)
    run.terminate()  # not SIGINT: it is ignored by what a background shell starts
    text, _ = run.communicate(timeout=120)
    assert run.returncode != 0, text
    wait_for(lambda: not (tasks(folder)[0] / ".training").exists())
    again = start(folder, "run", "main.nf", "-resume")
    text, _ = again.communicate(timeout=900)
    assert again.returncode == 0, text
    log = (tasks(folder)[-1] / ".command.log").read_text()
    summary = json.loads((folder / "out/small/integrate/metrics.json").read_text())
    assert len(summary["resumed_at"]) == 1
    assert f"Training goes on from step {summary['resumed_at'][0]} of {STEPS}" in log
