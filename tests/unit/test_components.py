"""Sums of products some rows at a time, and components that come from them."""

from __future__ import annotations

import numpy as np
import pytest

from scmodal import components
from scmodal.components import joint_components, scatter


@pytest.mark.parametrize("block", [7, 40, 1000])
def test_scatter_is_the_same_whatever_the_rows_at_a_time(monkeypatch, block) -> None:
    monkeypatch.setattr(components, "_BLOCK", block)
    x = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32) + np.float32(3)
    exact = x.astype(np.float64)
    np.testing.assert_allclose(scatter(x), exact.T @ exact, rtol=1e-12)
    centred = (x - x.mean(0)).astype(np.float64)
    np.testing.assert_allclose(scatter(x, x.mean(0)), centred.T @ centred, rtol=1e-12)


def test_joint_components_are_those_of_both_tables_stacked() -> None:
    rng = np.random.default_rng(1)
    spread = np.array([5, 3, 2, 1, 0.5], np.float32)
    a, b = (rng.standard_normal((n, 5)).astype(np.float32) * spread for n in (300, 200))
    found = np.concatenate(joint_components(a, b, 3))
    stacked = np.concatenate([a, b])
    _, _, axes = np.linalg.svd(stacked - stacked.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(found), np.abs(stacked @ axes[:3].T), atol=1e-4)
