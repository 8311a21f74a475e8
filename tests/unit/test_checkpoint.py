"""Interrupted trainings: killed, asked to stop, out of disk; each goes on as if nothing had happened."""

from __future__ import annotations

import dataclasses
import errno
import json
import multiprocessing
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from scmodal import ScModal, checkpoint, cli, preprocess, training
from scmodal.checkpoint import Interrupted, Keeper, read_checkpoint
from scmodal.contracts import InputError
from scmodal.io import write_h5ad
from scmodal.presets import get_preset
from scmodal.simulate import simulate

from .test_rematching import with_sides
from .test_training import CPU, two_data_sets

STEPS = 110
MACHINE = {"threads": 1}

processes = multiprocessing.get_context("forkserver")
processes.set_forkserver_preload([__name__, "torch._dynamo", "scmodal.model", "scmodal.results", "scanpy"])


@pytest.fixture(autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def keeper_of(path: Path, every: float = 0.0, said: list[str] | None = None, **changes: object) -> Keeper:
    said = [] if said is None else said
    return Keeper(path, every, {"setting steps": STEPS, "seed": 0, **changes}, MACHINE, said.append)


def train(keeper: Keeper | None):
    """History and networks of a small training with dropout, and cells that are matched anew on the way."""
    inputs = with_sides()
    preset = get_preset("default", steps=STEPS, batch_size=40, n_hidden=64, rematching_every=30)
    found = keeper.find(True) if keeper is not None else None
    state = training.make_state([item.x.shape[1] for item in inputs], preset, 0, CPU)
    data = training.make_data(inputs, preset, CPU)
    history, _ = training.train(state, data, preset, None, keeper, found)
    return history, state.networks.state_dict()


@pytest.fixture(scope="module")
def expected():
    """History and networks of the training that nothing interrupts."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield train(None)
    torch.set_num_threads(before)


def assert_same(actual, expected) -> None:
    """The same history and weights, bit for bit."""
    np.testing.assert_array_equal(actual[0], expected[0])
    assert actual[1].keys() == expected[1].keys()
    assert all(torch.equal(actual[1][name], value) for name, value in expected[1].items())


def training_process(path: Path, result: Path) -> None:
    """A training in a process of its own, with many checkpoints."""
    torch.set_num_threads(1)
    torch.save(train(keeper_of(path, every=0.005)), result)


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.002)


@pytest.mark.slow
def test_killed_at_random_steps_several_times_the_result_is_the_same(tmp_path: Path, expected):
    path, result = tmp_path / "c.safetensors", tmp_path / "result.pt"
    steps = [0]
    while len(steps) < 5:
        process = processes.Process(target=training_process, args=(path, result))
        process.start()
        goal = steps[-1] + random.randint(1, 18)
        wait_for(lambda goal=goal: path.exists() and read_checkpoint(path).step >= goal)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        steps.append(read_checkpoint(path).step)
    process = processes.Process(target=training_process, args=(path, result))
    process.start()
    process.join()
    assert steps == sorted(set(steps))
    assert steps[-1] < STEPS
    assert_same(torch.load(result, weights_only=False), expected)
    last = read_checkpoint(path)
    assert (last.step, last.resumed_at) == (STEPS, steps[1:])


@pytest.mark.parametrize("stop_at", [1, 30, 50, 77])
def test_stopped_between_any_two_steps(tmp_path: Path, monkeypatch, expected, stop_at):
    """Before and after cells are matched anew, at a look at the losses; the optimisers' state after the first step."""
    make_step = training.make_step

    def make_stopping(state, *rest):
        step = make_step(state, *rest)

        def stopping(record):
            step(record)
            if state.step == stop_at:
                os.kill(os.getpid(), signal.SIGTERM)

        return stopping

    path = tmp_path / "c.safetensors"
    monkeypatch.setattr(training, "make_step", make_stopping)
    with pytest.raises(Interrupted, match=f"Stopped by SIGTERM after step {stop_at} of {STEPS}.*--resume goes on"):
        train(keeper_of(path, every=1e9))
    monkeypatch.setattr(training, "make_step", make_step)
    said: list[str] = []
    assert_same(train(keeper_of(path, 1e9, said)), expected)
    assert said == [f"Training goes on from step {stop_at} of {STEPS} (checkpoint {path})."]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


# ---- the command, in a process of its own ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def work(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    mdata = simulate(n_cells=150, n_genes=120, n_proteins=25, n_cell_types=4, seed=1)
    write_h5ad(preprocess.rna(mdata["rna"]), folder / "rna.h5ad")
    write_h5ad(preprocess.protein(mdata["protein"]), folder / "protein.h5ad")
    return folder


def arguments(work: Path, out: Path, *options: object) -> list[str]:
    both = ("--input", work / "rna.h5ad", "--input", work / "protein.h5ad", "--output", out)
    small = ("--steps", STEPS, "--batch-size", 40, "--set", "n_hidden=64", "--device", "cpu", "--threads", 1)
    return [str(value) for value in ("integrate", *both, *small, *options)]


def command_process(options: list[str], log: Path, pause: float) -> None:
    """`scmodal` with its log in a file; `pause` seconds a step, so that a signal arrives in the middle."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    make_step = training.make_step

    def make_slow(*values):
        step = make_step(*values)

        def slow(record):
            step(record)
            if pause:
                (log.parent / "stepping").touch()
                time.sleep(pause)

        return slow

    training.make_step = make_slow
    cli.main(options)


def start(options: list[str], log: Path, pause: float = 0.0) -> multiprocessing.process.BaseProcess:
    process = processes.Process(target=command_process, args=(options, log, pause))
    process.start()
    return process


@pytest.fixture(scope="module")
def uninterrupted(work: Path) -> Path:
    process = start(arguments(work, work / "run"), work / "run.log")
    process.join()
    assert process.exitcode == 0, (work / "run.log").read_text()
    return work / "run"


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGUSR1", 138), ("SIGINT", 130)])
def test_a_signal_ends_the_command_with_a_checkpoint_and_resume_goes_on(
    work: Path, uninterrupted: Path, tmp_path: Path, number, code
):
    out, log = tmp_path / "run", tmp_path / "log"
    process = start(arguments(work, out), log, pause=0.02)
    wait_for((tmp_path / "stepping").exists)
    os.kill(process.pid, getattr(signal, number))
    process.join()
    assert process.exitcode == code, log.read_text()
    kept = tmp_path / "run.checkpoint.safetensors"
    step = read_checkpoint(kept).step
    assert 0 < step < STEPS
    assert f"Stopped by {number} after step {step} of {STEPS}, the checkpoint is {kept}; --resume" in log.read_text()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log", "run.checkpoint.safetensors", "stepping"]

    process = start(arguments(work, out, "--resume"), log)
    process.join()
    assert process.exitcode == 0, log.read_text()
    assert f"Training goes on from step {step} of {STEPS}" in log.read_text()
    assert not kept.exists()
    expected = load_file(uninterrupted / "model/weights.safetensors")
    actual = load_file(out / "model/weights.safetensors")
    assert expected.keys() == actual.keys()
    assert all(torch.equal(actual[name], value) for name, value in expected.items())
    for name in ("history.parquet", "embedding.parquet"):
        pd.testing.assert_frame_equal(
            pd.read_parquet(out / name), pd.read_parquet(uninterrupted / name), check_exact=True
        )
    assert json.loads((out / "metrics.json").read_text())["resumed_at"] == [step]


def small_files_only(options: list[str], log: Path, limit: int) -> None:
    """The command where no file may grow beyond `limit` bytes, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    command_process(options, log, 0.0)


def test_a_disk_that_fills_up_while_training_does_no_harm(work: Path, tmp_path: Path):
    """Checkpoints do not fit, then the result does not: one warning a checkpoint, and status 2 with the mend."""
    log = tmp_path / "log"
    options = (arguments(work, tmp_path / "run", "--checkpoint-every", "0.3"), log, 100_000)
    process = processes.Process(target=small_files_only, args=options)
    process.start()
    process.join()
    text = log.read_text()
    assert process.exitcode == 2, text
    assert "could not be written to" in text
    assert "File too large); there is none yet, the training itself is not harmed" in text
    assert f"the result cannot be written to '{tmp_path / 'run'}' ([Errno 27] File too large" in text
    assert [p.name for p in tmp_path.iterdir()] == ["log"]


# ---- what does not fit -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(work: Path) -> dict:
    import anndata

    return {name: anndata.read_h5ad(work / f"{name}.h5ad") for name in ("rna", "protein")}


@pytest.fixture(scope="module")
def kept(data, tmp_path_factory) -> Path:
    """Checkpoint of a model after 6 steps."""
    path = tmp_path_factory.mktemp("kept") / "c.safetensors"
    model = ScModal(steps=6, batch_size=40, n_hidden=16, device="cpu", threads=1)
    model.fit(data, checkpoint=path, checkpoint_every=0)
    return path


def refit(data, path: Path, resume: checkpoint.Resume, **settings: object) -> ScModal:
    seed = settings.pop("seed", 0)
    settings = {"steps": 6, "batch_size": 40, "n_hidden": 16, **settings}
    return ScModal(seed=seed, device="cpu", threads=1, **settings).fit(
        data, checkpoint=path, resume=resume, checkpoint_every=1e9
    )


def test_a_finished_training_is_not_repeated(data, kept: Path):
    before = read_checkpoint(kept)
    model = refit(data, kept, resume=True)
    assert model.messages[-1] == f"Training goes on from step 6 of 6 (checkpoint {kept})."
    after = read_checkpoint(kept)
    assert_same_tensors(after, before)
    assert (after.step, after.seconds) == (before.step, before.seconds)
    assert after.resumed_at == [*before.resumed_at, 6]
    assert model.keeper.owns()
    np.testing.assert_array_equal(model.history["step"], np.arange(1, 7))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": 4}, "seed (was 0, is 4)"),
        ({"steps": 9}, "setting steps (was 6, is 9)"),
        ({"weight_anchor": 2.5}, "setting weight_anchor (was 5.0, is 2.5)"),
        ({"preset": "paper"}, "preset (was default, is paper); setting discriminator_updates (was 2, is 5)"),
    ],
)
def test_other_settings_are_refused_and_named(data, kept: Path, settings, message):
    with pytest.raises(InputError, match="is of another training") as error:
        refit(data, kept, resume=True, **settings)
    for part in message.split("; "):
        assert part in str(error.value)
    assert "--no-resume" in str(error.value)
    model = refit(data, kept.with_name("copy"), resume="auto", **settings)
    assert model.training["resumed_at"] == []


def test_other_data_are_refused_and_named(data, kept: Path):
    fewer = {"rna": data["rna"][:140].copy(), "protein": data["protein"]}
    with pytest.raises(InputError) as error:
        refit(fewer, kept, resume=True)
    assert "rna cells (was 150, is 140); rna data (was" in str(error.value)
    assert "protein data" not in str(error.value)

    changed = {"rna": data["rna"], "protein": data["protein"].copy()}
    changed["protein"].layers["counts"].data[0] += 1
    with pytest.raises(InputError, match=r"another training: protein data \(was \w+, is \w+\)\. Give"):
        refit(changed, kept, resume=True)

    from scmodal import build_links

    links, _ = build_links(list(data.values()))
    with pytest.raises(InputError) as error:
        ScModal(steps=6, batch_size=40, n_hidden=16, device="cpu", threads=1).fit(
            data, links.frame[["feature_a", "feature_b"]].head(9), checkpoint=kept, resume=True
        )
    assert "links (was" in str(error.value)
    assert "is 9 (" in str(error.value)


def test_another_number_of_modalities_is_named():
    known = {"modalities": "rna, protein", "rna cells": 5, "protein cells": 6}
    other = {"modalities": "rna, protein, cytometry", "rna cells": 5, "protein cells": 6, "cytometry cells": 7}
    assert checkpoint.differences(known, other) == [
        "modalities (was rna, protein, is rna, protein, cytometry)",
        "cytometry cells (was not there, is 7)",
    ]
    assert checkpoint.differences(other, known)[-1] == "cytometry cells (was 7, is not there)"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda content: content[: len(content) // 2], "damaged, or not a checkpoint"),
        (lambda content: content[:-40] + bytes(255 - byte for byte in content[-40:]), "do not match their checksum"),
        (lambda _: b"", "damaged, or not a checkpoint"),
        (lambda _: b"not at all what it should be" * 9, "damaged, or not a checkpoint"),
    ],
    ids=["truncated", "bits flipped", "empty", "something else"],
)
def test_a_damaged_checkpoint_is_told_and_auto_starts_anew(data, kept: Path, tmp_path: Path, spoil, message):
    path = tmp_path / "c.safetensors"
    path.write_bytes(spoil(kept.read_bytes()))
    with pytest.raises(InputError, match=f"{message}.*--no-resume"):
        refit(data, path, resume=True)
    model = refit(data, path, resume="auto")
    assert model.messages[-1].startswith(f"Training starts anew at step 0: checkpoint {path}")
    assert len(model.history) == 6


def test_a_checkpoint_of_a_later_layout_is_refused(tmp_path: Path, monkeypatch):
    path = tmp_path / "c.safetensors"
    train(keeper_of(path))
    monkeypatch.setattr(checkpoint, "LAYOUT", 2)
    with pytest.raises(InputError, match="layout 1, this program reads 2"):
        read_checkpoint(path)


def test_a_checkpoint_is_not_used_unasked_and_that_is_said(data, kept: Path, tmp_path: Path):
    path = tmp_path / "c.safetensors"
    path.write_bytes(kept.read_bytes())
    model = refit(data, path, resume=False)
    assert "is there and not used: --resume goes on from it" in model.messages[-1]
    assert model.training["resumed_at"] == []


def test_other_threads_are_told(tmp_path: Path):
    path, said = tmp_path / "c.safetensors", []
    train(keeper_of(path))
    other = dataclasses.replace(keeper_of(path, said=said), machine={"threads": 4})
    assert other.find(True).step == STEPS
    assert said[-1] == ("It will not be the same to the last bit as an uninterrupted run: threads (was 1, is 4).")


# ---- two trainings with one file -------------------------------------------------------------------------------------


def assert_same_tensors(a: checkpoint.Checkpoint, b: checkpoint.Checkpoint) -> None:
    assert a.tensors.keys() == b.tensors.keys()
    assert all(torch.equal(a.tensors[name], value) for name, value in b.tensors.items())


def some_state() -> tuple:
    inputs, preset = two_data_sets(), get_preset("default", steps=STEPS, batch_size=40, n_hidden=64)
    state = training.make_state([item.x.shape[1] for item in inputs], preset, 0, CPU)
    advance = training.make_step(state, training.make_data(inputs, preset, CPU), preset)
    history = torch.zeros(STEPS, len(training.HISTORY_COLUMNS))
    advance(history[0])  # the optimisers have no state before
    return state, history, 1.0


def test_a_checkpoint_is_of_the_training_that_came_last(tmp_path: Path):
    """As where Nextflow was killed, its training was not, and the resumed run trains beside it."""
    path, said = tmp_path / "c.safetensors", []
    first, second, state = keeper_of(path, said=said), keeper_of(path), some_state()
    assert first.save(*state)
    assert first.owns()
    taken = second.find(True)
    assert second.owns()
    assert not first.owns()
    assert_same_tensors(read_checkpoint(path), taken)
    before = path.read_bytes()
    assert not first.save(*state)
    assert not first.save(*state)
    assert path.read_bytes() == before
    assert len(said) == 1
    assert said[0].startswith(f"Another process writes the checkpoint {path}")
    assert second.save(*state)
    assert second.owns()
    path.unlink()  # the second has ended
    assert not first.save(*state)
    assert not first.owns()


def test_what_was_there_before_is_written_over_when_training_starts_anew(tmp_path: Path, monkeypatch):
    path, state = tmp_path / "c.safetensors", some_state()
    assert keeper_of(path).save(*state)
    anew = keeper_of(path)
    assert anew.find(False) is None
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        assert not anew.save(*state)
    assert not anew.owns()
    assert anew.save(*state)
    assert anew.owns()


def test_a_checkpoint_that_cannot_be_marked_is_used(tmp_path: Path, monkeypatch):
    path, state = tmp_path / "c.safetensors", some_state()
    assert keeper_of(path).save(*state)
    second = keeper_of(path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_checkpoint", lambda *_: (_ for _ in ()).throw(OSError(errno.EROFS, "full")))
        assert second.find(True).step == 1
    assert second.owns()
    assert second.save(*state)


@pytest.mark.parametrize("content", [b"", b"\xff" * 200, (5).to_bytes(8, "little") + b"[1,2]"])
def test_a_damaged_checkpoint_is_of_nobody(tmp_path: Path, content: bytes):
    (tmp_path / "c.safetensors").write_bytes(content)
    assert checkpoint.writer_of(tmp_path / "c.safetensors") is None
    keeper = keeper_of(tmp_path / "c.safetensors")
    assert keeper.save(*some_state())
    assert keeper.owns()


def test_the_command_leaves_the_checkpoint_of_another_run(work: Path, tmp_path: Path, monkeypatch):
    """One that was begun from its own while it trained: the other may yet need it."""
    from scmodal import results

    path, write_run = tmp_path / "run.checkpoint.safetensors", results.write_run

    def meanwhile(model: ScModal, *rest: object) -> None:
        other = dataclasses.replace(model.keeper, writer="other", resumed_at=[], in_use=False)
        assert other.find(True) is not None
        write_run(model, *rest)

    monkeypatch.setattr(results, "write_run", meanwhile)
    cli.main(arguments(work, tmp_path / "run", "--checkpoint-every", "0"))
    assert (tmp_path / "run" / "integrated.h5mu").is_file()
    assert checkpoint.writer_of(path) == "other"


# ---- a full disk -----------------------------------------------------------------------------------------------------


def test_a_failed_write_keeps_the_earlier_checkpoint(tmp_path: Path, monkeypatch, expected):
    path, said = tmp_path / "c.safetensors", []
    sync, calls = os.fsync, []

    def full(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) > 6:  # two a checkpoint: the file and its folder
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    assert_same(train(keeper_of(path, 0.0, said)), expected)
    assert read_checkpoint(path).step == 3
    assert [p.name for p in tmp_path.iterdir()] == ["c.safetensors"]
    assert said[1].startswith(f"Warning: the checkpoint of step 4 could not be written to {path} (No space left on")
    assert "the earlier one stays" in said[1]


def test_a_short_run_writes_no_checkpoint(tmp_path: Path):
    train(keeper_of(tmp_path / "c.safetensors", every=1e9))
    assert list(tmp_path.iterdir()) == []
