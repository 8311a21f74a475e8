"""Latents of even length, and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodal import preprocess
from scmodal.contracts import InputError
from scmodal.latents import evened, lengthened
from scmodal.model import ScModal
from scmodal.presets import get_preset
from scmodal.simulate import simulate


def test_lengths_are_drawn_together_and_directions_stay() -> None:
    z = np.random.default_rng(0).normal(size=(200, 20)).astype(np.float32) * np.geomspace(0.1, 10, 200)[:, None]
    z = z.astype(np.float32)
    even = evened(z, 0.5)
    before, after = np.linalg.norm(z, axis=1), np.linalg.norm(even, axis=1)
    np.testing.assert_allclose(after, np.sqrt(before), rtol=1e-5)
    np.testing.assert_allclose(even / after[:, None], z / before[:, None], atol=1e-6)
    np.testing.assert_allclose(lengthened(even, 0.5), z, rtol=1e-5)
    assert evened(z, 0.0) is z


@pytest.mark.parametrize("power", [0.25, 0.5, 0.9])
def test_the_middle_stays(power: float) -> None:
    z = np.zeros((2, 3), np.float32)
    z[1, 0] = 1e-6
    assert not evened(z, power)[0].any()
    np.testing.assert_allclose(lengthened(evened(z, power), power), z, rtol=1e-3)


def test_generators_get_what_encoders_gave() -> None:
    raw = simulate(n_cells=150, n_genes=100, n_proteins=20, n_cell_types=3, seed=1)
    data = {"rna": preprocess.rna(raw["rna"]), "protein": preprocess.protein(raw["protein"])}
    model = ScModal(device="cpu", steps=20, batch_size=64).fit(data)
    k = model.modalities.index("protein")
    z = lengthened(model.embed(modality="rna"), model.preset.evening)
    assert model.preset.evening == 0.5
    with torch.inference_mode():
        expected = model.networks.generators[k](torch.as_tensor(z)).numpy()
    found = model.decode(model.embed(modality="rna"), "protein", direct=True).scaled
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_power_of_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"evening.*below 1"):
        get_preset("default", evening=1.0)
