"""Latents that cells could as well have been given."""

from __future__ import annotations

import numpy as np
import pytest

from scmodal import redraw


def test_residuals_are_exchanged_feature_by_feature() -> None:
    rng = np.random.default_rng(0)
    residuals = rng.normal(size=(200, 4)).astype(np.float32)
    residuals[:, 3] = 2 * residuals[:, 1]  # a feature with two links is two columns
    got = redraw.exchanged(residuals, np.array([0, 1, 2, 1]), rng)
    np.testing.assert_array_equal(np.sort(got, axis=0), np.sort(residuals, axis=0))
    np.testing.assert_array_equal(got[:, 3], 2 * got[:, 1])
    # features no longer go together, and hardly a cell keeps its own
    assert abs(np.corrcoef(got[:, 0], residuals[:, 0])[0, 1]) < 0.2
    row = {value: i for i, value in enumerate(residuals[:, 0])}
    other = {value: i for i, value in enumerate(residuals[:, 1])}
    assert np.mean([row[a] == other[b] for a, b in got[:, :2]]) < 0.05


def linear(n: int, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Input made of two latent dimensions and noise, its latents by least squares, and the two linear maps."""
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 30)).astype(np.float32)
    back = np.linalg.pinv(maps).astype(np.float32)
    truth = rng.normal(size=(n, 2)).astype(np.float32)
    x = truth @ maps + noise * rng.normal(size=(n, 30)).astype(np.float32)
    return x.astype(np.float32), (x @ back).astype(np.float32), maps, back


@pytest.mark.parametrize("noise", [0.2, 1.0])
def test_redrawn_latents_move_by_the_noise_of_the_measurement(noise: float) -> None:
    x, z, maps, back = linear(5000, noise)
    got = redraw.redrawn(x, z, np.arange(30), lambda rows, _: rows @ back, lambda rows, _: rows @ maps)
    expected = noise**2 * back.T @ back  # of the error of least squares
    assert np.cov((got - z).T) == pytest.approx(expected, abs=float(0.1 * np.trace(expected)))


def test_of_many_cells_some_are_redrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redraw, "CELLS", 40)
    x, z, maps, back = linear(100, 0.5)
    asked: list[np.ndarray] = []

    def encode(rows: np.ndarray, cells: np.ndarray) -> np.ndarray:
        asked.append(cells)
        return rows @ back

    got = redraw.redrawn(x, z, np.arange(30), encode, lambda rows, _: rows @ maps)
    there = np.isfinite(got).all(axis=1)
    assert there.sum() == 40
    assert np.isnan(got[~there]).all()
    np.testing.assert_array_equal(np.flatnonzero(there), asked[0])
