"""A training step recorded once and replayed: on a GPU, launching a step's hundreds of small kernels one by one costs
more time than running them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from scmodal.presets import Preset
from scmodal.step import TrainingData, TrainingState, compute_step, set_learning_rate, train_step

WARM_UP = 3
"""Steps taken one kernel at a time before recording: libraries choose their kernels and get their memory in them."""

Step = Callable[[Tensor], None]
"""Does one step and fills the given row of the history."""

Recorder = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]
"""Records a function without running it; returns what runs the record."""


def make_step(state: TrainingState, data: TrainingData, preset: Preset) -> Step:
    """The step of this device: replayed on CUDA, where all data are on the device; else plain."""
    on_device = all(isinstance(x, Tensor) for x in data.x)
    if next(state.networks.parameters()).device.type == "cuda" and on_device:
        return RecordedStep(state, data, preset, record_cuda_graph)
    return lambda record: train_step(state, data, preset, record)


class RecordedStep:
    """A step that is recorded after a few plain ones and replayed from then on.

    Only the learning rate (a tensor that the record reads), the row of the history and the count differ between
    steps; they are kept out of the record. Random draws move on because the generator's state is part of it.

    Parameters
    ----------
    state, data, preset
        What :func:`scmodal.step.train_step` takes; the optimisers are capturable, with their learning rate a tensor.
    recorder
        :func:`record_cuda_graph`; a test may give another.
    """

    def __init__(self, state: TrainingState, data: TrainingData, preset: Preset, recorder: Recorder) -> None:
        self.state, self.data, self.preset, self.recorder = state, data, preset, recorder
        self.warm_up = WARM_UP
        self.replay: Callable[[], None] | None = None
        self.row: Tensor | None = None

    def __call__(self, record: Tensor) -> None:
        """Do one step and fill `record` (len(HISTORY_COLUMNS),)."""
        if self.warm_up > 0:
            self.warm_up -= 1
            train_step(self.state, self.data, self.preset, record)
            return
        if self.replay is None or self.row is None:
            row = self.row = torch.zeros_like(record)
            self.replay = self.recorder(
                lambda: compute_step(self.state, self.data, self.preset, row), self.state.generator
            )
        set_learning_rate(self.state, self.preset)
        self.replay()
        record.copy_(self.row)
        self.state.step += 1


def record_cuda_graph(body: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    """Record `body` as a CUDA graph; `generator` is the one it draws from."""
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        body()
    return graph.replay
