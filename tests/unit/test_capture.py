"""Recorded steps: their bookkeeping with a recorder that needs no GPU, and the real one where there is a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodal import step, training
from scmodal.capture import WARM_UP, RecordedStep, make_step, record_cuda_graph
from scmodal.presets import get_preset
from tests.unit.test_training import two_data_sets

N_STEPS = 12


def start(device="cpu", **settings):
    # the rounding in which both ways differ grows from step to step, the faster the more the adversary weighs, and
    # fastest in bfloat16
    own = {"steps": N_STEPS, "batch_size": 40, "weight_gan": 0.3, "precision": "float32"}
    preset = get_preset("default", **(own | settings))
    inputs = two_data_sets()
    # a part of both sides is left out of the adversarial term
    for item in inputs:
        item.counterpart[0] = np.where(np.arange(len(item.x)) % 4 == 0, 0.1, 1.0).astype(np.float32)
    device = torch.device(device)
    data = training.make_data(inputs, preset, device)
    return training.make_state([item.x.shape[1] for item in inputs], preset, 0, device), data, preset


def run(advance, device="cpu"):
    history = torch.zeros((N_STEPS, len(step.HISTORY_COLUMNS)), device=device)
    for row in history:
        advance(row)
    return history


class LateRecorder:
    """Records without running, as a CUDA graph does, and counts."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, body, generator):
        self.recorded += 1

        def replay():
            self.replayed += 1
            body()

        return replay


def test_recorded_steps_are_the_plain_ones():
    state, data, preset = start()
    assert [int(side.sum()) for side in data.counted[0]] == [int(0.75 * len(x)) for x in data.x]
    assert len(data.messages) == 2
    expected = run(make_step(state, data, preset))
    again, data, preset = start()
    for optimiser in (again.optimiser, again.discriminator_optimiser):
        for group in optimiser.param_groups:
            group["lr"] = torch.tensor(group["lr"])  # as on a GPU: changed in place, never replaced
    rates = again.optimiser.param_groups[0]["lr"]
    recorder = LateRecorder()
    actual = run(RecordedStep(again, data, preset, recorder))
    assert (recorder.recorded, recorder.replayed) == (1, N_STEPS - WARM_UP)
    assert again.step == state.step == N_STEPS
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-5)
    for a, b in zip(again.networks.parameters(), state.networks.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert again.optimiser.param_groups[0]["lr"] is rates
    assert float(rates) < 0.15 * preset.learning_rate


@pytest.mark.skipif("not __import__('torch').cuda.is_available()", reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_cuda_graph_does_the_same_as_plain_steps(precision):
    state, data, preset = start("cuda", precision=precision)
    expected = run(lambda row: step.train_step(state, data, preset, row), "cuda")
    again, data, preset = start("cuda", precision=precision)
    actual = run(RecordedStep(again, data, preset, record_cuda_graph), "cuda")
    torch.testing.assert_close(actual, expected, rtol=1e-2, atol=1e-2)
    # the generator moves on from replay to replay: no two batches are the same
    anchors = actual[WARM_UP:, step.HISTORY_COLUMNS.index("loss_autoencoder")]
    assert len(set(anchors.tolist())) == len(anchors)
