"""Checkpoints: what an interrupted training needs to go on bit for bit, and when it is written."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from anndata import AnnData
from torch import Tensor

from scmodal._version import __version__
from scmodal.contracts import InputError
from scmodal.inputs import EngineInput, source_matrix
from scmodal.links import LinkTable
from scmodal.matching import Directions
from scmodal.presets import Preset
from scmodal.rows import CountView
from scmodal.step import TrainingState

LAYOUT = 1
"""Version of what a checkpoint holds."""

METADATA_KEY = "scmodal_checkpoint"

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
"""Signals at which training finishes its step, writes a checkpoint and stops."""

Resume = bool | Literal["auto"]
"""True: go on from a checkpoint, which must fit; False: start anew; ``auto``: go on if it fits, else start anew."""


class Interrupted(Exception):
    """Training was asked to stop by a signal, and did so after a whole step."""

    def __init__(self, number: int, message: str) -> None:
        self.exit_code = 128 + number
        super().__init__(message)


# ---- what a checkpoint must fit --------------------------------------------------------------------------------------


def _data_digest(adata: AnnData, item: EngineInput) -> str:
    """Digest of the cells' names, of the columns that are trained on, of batches and of the measured values.

    Of the counts where there are any: numbers computed from them may differ in their last bit between two processors,
    and a task that is tried again may run on another machine.
    """
    digest = hashlib.sha256()
    for names in (adata.obs_names, adata.var_names, item.recipe.columns):
        digest.update("\0".join(map(str, names)).encode() + b"\1")
    if item.told is not None:
        digest.update(np.ascontiguousarray(item.told).data)
    for part in CountView(source_matrix(adata, item.modality)).blocks():
        for values in (part.indptr.astype(np.int64), part.indices.astype(np.int64), part.data):
            digest.update(np.ascontiguousarray(values).data)
    return digest.hexdigest()[:16]


def fingerprint(
    adatas: Sequence[AnnData],
    inputs: Sequence[EngineInput],
    links: LinkTable,
    preset: Preset,
    seed: int,
    device: torch.device,
) -> dict[str, Any]:
    """Everything that must be the same for a training to go on, under the names that messages use.

    Parameters
    ----------
    adatas, inputs
        Prepared data sets and the engine's inputs made of them, in the same order.
    links
        Links of the training.
    preset, seed
        Settings.
    device
        Its kind counts: random streams of a CPU and of a GPU are not interchangeable.

    Returns
    -------
    JSON-able values by name.
    """
    table = pd.util.hash_pandas_object(links.frame.astype(str), index=False).to_numpy()
    values: dict[str, Any] = {
        "scmodal version": __version__,
        "modalities": ", ".join(item.modality for item in inputs),
        "seed": seed,
        "device": device.type,
        "links": f"{len(links)} ({hashlib.sha256(table.tobytes()).hexdigest()[:8]})",
    }
    for name, value in dataclasses.asdict(preset).items():
        values["preset" if name == "name" else f"setting {name}"] = value
    for adata, item in zip(adatas, inputs):
        values[f"{item.modality} cells"] = len(item.x)
        values[f"{item.modality} input columns"] = item.x.shape[1]
        values[f"{item.modality} data"] = _data_digest(adata, item)
    return values


def differences(saved: Mapping[str, Any], current: Mapping[str, Any]) -> list[str]:
    """What differs between two fingerprints, each as ``name (was ..., is ...)``."""
    return [
        f"{name} (was {saved.get(name, 'not there')}, is {current.get(name, 'not there')})"
        for name in [*current, *(name for name in saved if name not in current)]
        if name not in saved or name not in current or saved[name] != current[name]
    ]


# ---- the file --------------------------------------------------------------------------------------------------------


@dataclass
class Checkpoint:
    """A training after a whole number of steps.

    Attributes
    ----------
    tensors
        Networks, both optimisers' state, the directions that cells were matched by anew, the random stream's state and
        the history, by name, on the CPU.
    step
        Steps done.
    seconds
        Time spent on them.
    resumed_at
        Steps at which the training went on from a checkpoint before.
    fingerprint
        See :func:`fingerprint`.
    machine
        What exact repetition depends on beyond the fingerprint: threads, device, version of torch.
    writer
        Mark of the training that wrote it, see :class:`Keeper`.
    """

    tensors: dict[str, Tensor]
    step: int
    seconds: float
    resumed_at: list[int]
    fingerprint: dict[str, Any]
    machine: dict[str, Any]
    writer: str = ""

    @property
    def history(self) -> Tensor:
        """Rows of the history so far (step x len(HISTORY_COLUMNS), float32)."""
        return self.tensors["history"]


def _optimisers(state: TrainingState) -> dict[str, torch.optim.Optimizer]:
    return {"optimiser": state.optimiser, "discriminator_optimiser": state.discriminator_optimiser}


def _tensors_of(state: TrainingState, history: Tensor) -> dict[str, Tensor]:
    """Copies on the CPU (copies, because the format refuses tensors that share memory)."""
    found = {f"networks.{name}": value for name, value in state.networks.state_dict().items()}
    for label, optimiser in _optimisers(state).items():
        for index, values in optimiser.state_dict()["state"].items():
            found |= {f"{label}.{index}.{key}": value for key, value in values.items()}
    for pair, directions in enumerate(state.directions):
        for side, values in enumerate(directions.both):
            found[f"directions.{pair}.{side}"] = torch.from_numpy(values)
        found[f"directions.{pair}.share"] = torch.tensor(directions.share, dtype=torch.float64)
    found["generator"] = state.generator.get_state()
    found["history"] = history[: state.step]
    return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in found.items()}


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].numpy().data)
    return digest.hexdigest()


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint; whatever happens, `path` holds a whole one: the earlier or this one.

    Raises
    ------
    OSError
        The disk refused it (full, read-only).
    """
    from safetensors.torch import save

    described = {
        "layout": LAYOUT,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
        "resumed_at": checkpoint.resumed_at,
        "fingerprint": checkpoint.fingerprint,
        "machine": checkpoint.machine,
        "writer": checkpoint.writer,
        "digest": _digest(checkpoint.tensors),
    }
    content = save(checkpoint.tensors, {METADATA_KEY: json.dumps(described)})
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".tmp-{uuid.uuid4().hex[:12]}-{path.name}"
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut, where the file system can do that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot sync a folder; the file itself is synced
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`write_checkpoint` wrote.

    Raises
    ------
    InputError
        Not readable, damaged, or of another layout.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    mend = "delete it, or start anew with --no-resume (in Python: resume=False)"
    try:
        content = path.read_bytes()  # at once: another process may be putting a newer checkpoint in its place
        tensors = load(content)
        described = _described(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except OSError as error:
        raise InputError(f"checkpoint {path}: cannot be read ({error.strerror or error}); {mend}") from error
    except (SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"checkpoint {path}: damaged, or not a checkpoint of scmodal ({error}); {mend}") from error
    if described["layout"] != LAYOUT:
        raise InputError(
            f"checkpoint {path}: layout {described['layout']}, this program reads {LAYOUT}; go on with the version "
            f"that wrote it ({described['fingerprint'].get('scmodal version')}), or {mend}"
        )
    if described["digest"] != _digest(tensors):
        raise InputError(f"checkpoint {path}: damaged (its contents do not match their checksum); {mend}")
    return Checkpoint(
        tensors,
        step=described["step"],
        seconds=described["seconds"],
        resumed_at=described["resumed_at"],
        fingerprint=described["fingerprint"],
        machine=described["machine"],
        writer=described.get("writer", ""),  # earlier versions left no mark
    )


def _described(header: bytes) -> dict[str, Any]:
    """What the header of a checkpoint says, but for the tensors."""
    found: dict[str, Any] = json.loads(json.loads(header)["__metadata__"][METADATA_KEY])
    return found


def writer_of(path: Path) -> str | None:
    """Mark of the training that wrote a checkpoint; None where there is none that can be read."""
    try:
        with path.open("rb") as file:
            # no more of it than is there, whatever a damaged file says
            length = min(int.from_bytes(file.read(8), "little"), path.stat().st_size)
            return str(_described(file.read(length)).get("writer", ""))
    except (OSError, AttributeError, KeyError, TypeError, ValueError):
        return None


def restore(checkpoint: Checkpoint, state: TrainingState) -> None:
    """Bring a fresh training state to where a checkpoint was made."""

    def part(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(f"{prefix}."): value
            for name, value in checkpoint.tensors.items()
            if name.startswith(f"{prefix}.")
        }

    state.networks.load_state_dict(part("networks"))
    for label, optimiser in _optimisers(state).items():
        values: dict[int, dict[str, Tensor]] = {}
        for name, value in part(label).items():
            index, key = name.split(".")
            values.setdefault(int(index), {})[key] = value
        # the groups hold settings, not state: they stay what the preset made them
        optimiser.load_state_dict({"state": values, "param_groups": optimiser.state_dict()["param_groups"]})
    directions = part("directions")
    state.directions = [
        Directions((directions[f"{n}.0"].numpy(), directions[f"{n}.1"].numpy()), float(directions[f"{n}.share"]))
        for n in range(len(directions) // 3)
    ]
    state.generator.set_state(checkpoint.tensors["generator"])
    state.step = checkpoint.step


# ---- while training --------------------------------------------------------------------------------------------------


@dataclass
class Keeper:
    """Keeps the checkpoint of one training.

    Two trainings may come to have one file: where Nextflow is killed, its tasks go on, and the resumed run trains
    beside them. The file belongs to the one that came to it last. Each leaves its mark in what it writes, first in the
    checkpoint that it goes on from, and neither writes over nor removes what another has marked since.

    Attributes
    ----------
    path
        The file.
    every
        Seconds between two checkpoints.
    fingerprint
        What a checkpoint must fit.
    machine
        See :class:`Checkpoint`.
    say
        Called with each sentence for the log.
    """

    path: Path
    every: float
    fingerprint: dict[str, Any]
    machine: dict[str, Any]
    say: Callable[[str], None]
    resumed_at: list[int] = field(default_factory=list)
    in_use: bool = False
    """Whether this training has been going on for long enough to have a checkpoint."""
    writer: str = field(default_factory=lambda: uuid.uuid4().hex)
    """Mark of this training."""
    lost: bool = False
    """Whether another training has taken the file over."""
    _before: str | None = None
    """Mark of what was there before, which this training writes over."""
    _last: float = field(default_factory=time.monotonic)

    def find(self, resume: Resume) -> Checkpoint | None:
        """The checkpoint to go on from; None to start anew.

        Raises
        ------
        InputError
            With ``resume=True``: it is damaged, or of another training (every difference is named).
        """
        if not self.path.exists():
            if resume is True:
                self.say(f"There is no checkpoint {self.path}: training starts at step 0.")
            return None
        if not resume:
            self.say(
                f"The checkpoint {self.path} of an interrupted run is there and not used: --resume goes on from it."
            )
            return None
        try:
            checkpoint = self._fitting()
        except InputError as error:
            if resume is True:
                raise
            self.say(f"Training starts anew at step 0: {error}")
            return None
        self.say(
            f"Training goes on from step {checkpoint.step} of {self.fingerprint['setting steps']} "
            f"(checkpoint {self.path})."
        )
        other = differences(checkpoint.machine, self.machine)
        if other:
            self.say(f"It will not be the same to the last bit as an uninterrupted run: {'; '.join(other)}.")
        self.resumed_at = [*checkpoint.resumed_at, checkpoint.step]
        self._take_over(checkpoint)
        self.in_use = True
        return checkpoint

    def _take_over(self, checkpoint: Checkpoint) -> None:
        """Mark a checkpoint that another training wrote, which may still be running."""
        try:
            taken = dataclasses.replace(checkpoint, writer=self.writer, resumed_at=self.resumed_at)
            write_checkpoint(taken, self.path)
        except OSError:  # a full disk; the file is this training's all the same
            self.writer = checkpoint.writer

    def owns(self) -> bool:
        """Whether there is a checkpoint that this training wrote or went on from, and no other has taken over."""
        return self.in_use and not self.lost and writer_of(self.path) == self.writer

    def _left_to_another(self) -> bool:
        """Whether another training has taken the file over since this one first used it."""
        there = writer_of(self.path)
        if not self.in_use:
            self._before = there
        if not self.lost and there not in (None, self.writer, self._before):
            self.lost = True
            self.say(
                f"Another process writes the checkpoint {self.path}, as a resumed run does where the one before it is "
                "still at work. This training leaves the file to it and goes on without checkpoints."
            )
        return self.lost

    def _fitting(self) -> Checkpoint:
        checkpoint = read_checkpoint(self.path)
        other = differences(checkpoint.fingerprint, self.fingerprint)
        if other:
            raise InputError(
                f"checkpoint {self.path} is of another training: {'; '.join(other)}. Give the data and settings that "
                "it was made with, or start anew with --no-resume (in Python: resume=False)"
            )
        return checkpoint

    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self.every

    def save(self, state: TrainingState, history: Tensor, seconds: float) -> bool:
        """Write a checkpoint and tell whether that worked.

        A disk that refuses it is told and not an error: the training itself is well, and the earlier checkpoint stays.
        Nor is it one that another training has taken the file over.
        """
        if self._left_to_another():
            self._last = time.monotonic()
            return False
        checkpoint = Checkpoint(
            _tensors_of(state, history),
            *(state.step, seconds, self.resumed_at, self.fingerprint, self.machine, self.writer),
        )
        self.in_use = True
        try:
            write_checkpoint(checkpoint, self.path)
        except OSError as error:
            kept = "the earlier one stays" if self.path.exists() else "there is none yet"
            self.say(
                f"Warning: the checkpoint of step {state.step} could not be written to {self.path} "
                f"({error.strerror or error}); {kept}, the training itself is not harmed. Free space there, or choose "
                "another place with --checkpoint."
            )
            return False
        finally:
            self._last = time.monotonic()
        return True


class StopRequest:
    """Notes the first stop signal instead of dying of it."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None

    def note(self, number: int, _frame: Any) -> None:
        """Signal handler. A second Ctrl-C is meant: it does not wait for the step's end."""
        if self.signal == number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal = self.signal or signal.Signals(number)


@contextlib.contextmanager
def stop_request() -> Iterator[StopRequest]:
    """Within this block :data:`STOP_SIGNALS` are noted; Ctrl-C only where it is not ignored (a background job).

    Outside of the main thread Python lets no handler be set: there nothing changes.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    if before[signal.SIGINT] == signal.SIG_IGN:
        del before[signal.SIGINT]
    for number in before:
        signal.signal(number, request.note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def machine_of(device: torch.device) -> dict[str, Any]:
    """What exact repetition depends on beyond data and settings; for :class:`Checkpoint`."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return {"threads": torch.get_num_threads(), "device name": name, "torch": torch.__version__}
