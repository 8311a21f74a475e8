"""Training on a real Slurm: cancelled, signalled, out of time; the retry goes on from the checkpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

from tests.pipeline.conftest import REPO, pipeline
from tests.pipeline.test_interrupted import attempt_with_checkpoint, kept, prepare, tasks
from tests.pipeline.test_interrupted import start as start  # a fixture

pytestmark = [
    pytest.mark.pipeline,
    pytest.mark.slow,
    pytest.mark.skipif(
        shutil.which("sbatch") is None or subprocess.run(["sinfo", "-h"], capture_output=True).returncode != 0,
        reason="no Slurm here (sbatch and a running slurmctld are needed)",
    ),
]

STEPS = 400

# The command with slow steps, so that it is still training when the scheduler comes.
SCMODAL = f"""#!{sys.executable}
import sys, time
sys.path.insert(0, {str(REPO)!r})
from scmodal import cli
if "integrate" in sys.argv:
    from scmodal import training
    make_step = training.make_step
    def make_slow(*values):
        step = make_step(*values)
        def slow(record):
            step(record)
            time.sleep(0.2)
        return slow
    training.make_step = make_slow
cli.main()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    prepare(tmp_path)
    (tmp_path / "bin" / "scmodal").unlink()
    (tmp_path / "bin" / "scmodal").write_text(SCMODAL)
    (tmp_path / "bin" / "scmodal").chmod(0o755)
    return tmp_path


def configure(folder: Path, every: float, more: str = "") -> None:
    """The profile's configuration, with checkpoints every so many seconds."""
    with (folder / "nextflow.config").open("a") as config:
        config.write(f"includeConfig '{REPO}/conf/slurm.config'\n")
        config.write("executor.pollInterval = '1 sec'\nexecutor.queueStatInterval = '5 sec'\n")
        args = f"--steps {STEPS} --batch-size 50 --set n_hidden=32 --checkpoint-every {every}"
        config.write(f"process {{ withName: INTEGRATE {{ ext.args = '{args}'\n{more}\n}} }}\n")


def job_of(task: Path) -> str:
    """Slurm's number for a task."""
    jobs = subprocess.run(["squeue", "-h", "-o", "%i %Z"], capture_output=True, text=True, check=True).stdout
    return next(line.split()[0] for line in jobs.splitlines() if line.split()[1] == str(task))


def finished(run: subprocess.Popen[str], folder: Path) -> tuple[str, dict]:
    """Log of the second attempt and summary of the result, which is whole."""
    text, _ = run.communicate(timeout=900)
    assert run.returncode == 0, text
    assert len(tasks(folder)) == 2
    history = pd.read_parquet(folder / "out/small/integrate/history.parquet")
    assert list(history["step"]) == list(range(1, STEPS + 1))
    assert kept(folder) is None
    log = (tasks(folder)[1] / ".command.log").read_text()
    return log, json.loads((folder / "out/small/integrate/metrics.json").read_text())


@pytest.mark.parametrize("options", [("--signal=TERM", "--full"), ("--signal=TERM", "--batch"), ()], ids=" ".join)
def test_a_cancelled_job_goes_on_in_the_retry(folder: Path, start, options):
    configure(folder, every=2)
    run = start(folder, "run", "main.nf")
    task = attempt_with_checkpoint(run, folder, 0, 0)
    job = job_of(task)
    header = (task / ".command.run").read_text()
    assert "#SBATCH --signal=B:USR2@120" in header
    assert "B:USR2@30" not in header
    time.sleep(0.5)
    subprocess.run(["scancel", *options, job], check=True)
    log, summary = finished(run, folder)
    assert (task / ".exitcode").read_text() == "143"
    assert not (task / ".training").exists()
    assert 0 < summary["resumed_at"][0] < STEPS
    assert len(summary["resumed_at"]) == 1
    assert f"Training goes on from step {summary['resumed_at'][0]} of {STEPS}" in log


def test_a_job_out_of_time_is_warned_writes_a_checkpoint_and_goes_on(folder: Path, start):
    """No checkpoint but the one that the warning brings about."""
    # on a busy machine half a minute may pass before the first step: slower steps and two minutes leave it that time
    (folder / "bin" / "scmodal").write_text(SCMODAL.replace("time.sleep(0.2)", "time.sleep(0.5)"))
    limits = "time = { task.attempt == 1 ? 2.min : 20.min }\nclusterOptions = '--signal=B:USR2@15'"
    configure(folder, every=100_000, more=limits)
    run = start(folder, "run", "main.nf")
    log, summary = finished(run, folder)
    assert (tasks(folder)[0] / ".exitcode").read_text() == "140"
    assert 0 < summary["resumed_at"][0] < STEPS
    assert f"Training goes on from step {summary['resumed_at'][0]} of {STEPS}" in log


def test_a_gpu_job_on_a_node_without_a_driver(folder: Path, start):
    """The scheduler gives a GPU, torch finds none: the end comes at once, and says what to do."""
    if Path("/proc/driver/nvidia/gpus").is_dir():
        pytest.skip("there is one here")
    configure(folder, every=100_000, more="accelerator = 1")
    with (folder / "nextflow.config").open("a") as config:
        config.write("params.queue = 'nowhere'\nparams.gpu_queue = 'main'\nparams.cluster_options = '--comment=lab'\n")
    run = start(folder, "run", "main.nf")
    text, _ = run.communicate(timeout=600)
    assert run.returncode != 0
    assert "torch finds no CUDA device here: check the driver" in text
    assert "leave out --use_gpu" in text
    (task,) = tasks(folder)
    header = (task / ".command.run").read_text()
    for option in ("-p main", "--gres=gpu:1", "--signal=B:USR2@120", "--comment=lab", "--no-requeue"):
        assert f"#SBATCH {option}" in header or f" {option}" in header, (option, header[:1500])


def test_the_whole_pipeline(tmp_path: Path):
    (tmp_path / "own.config").write_text("executor.pollInterval = '2 sec'\nexecutor.submitRateLimit = '10/1s'\n")
    run = pipeline(
        tmp_path, "-profile", "test,slurm", "-c", "own.config", "--queue", "main", "--steps", "20", "--impute", "false"
    )
    assert run.code == 0, run.text
    assert set(run.trace.values()) == {"COMPLETED"}
    assert "report/pbmc.html" in run.published()
    headers = [path.read_text().split("NEXTFLOW TASK")[0] for path in tmp_path.glob("work/*/*/.command.run")]
    assert all("#SBATCH -p main" in header and "#SBATCH --mem" in header for header in headers)
