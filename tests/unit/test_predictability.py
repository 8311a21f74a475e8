"""Spread of imputed values as the correlation to expect."""

from __future__ import annotations

import numpy as np

from scmodal.predictability import Spread, cannot_be_imputed


def test_blocks_give_what_all_cells_give() -> None:
    x = (np.random.default_rng(0).normal(size=(1000, 7)) * np.linspace(0, 1.5, 7) + 5).astype(np.float32)
    spread = Spread(7)
    for part in (x[:1], x[1:1], x[1:400], x[400:]):
        spread.add(part)
    np.testing.assert_allclose(spread.expected_r, np.minimum(x.std(0), 1), atol=1e-5)


def test_an_expectation_correlates_by_its_spread() -> None:
    rng = np.random.default_rng(1)
    told = rng.normal(size=(20_000, 5)) * np.array([0.05, 0.3, 0.6, 0.9, 1.0])
    left = np.sqrt(1 - told.var(0).clip(max=1))
    truth = told + rng.normal(size=told.shape) * left
    spread = Spread(5)
    spread.add(told.astype(np.float32))
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(told.T, truth.T)]
    np.testing.assert_allclose(spread.expected_r, r, atol=0.02)


def test_features_that_cannot_be_imputed_are_named() -> None:
    said = cannot_be_imputed(["CD3", "CD4", "CD19"], np.array([0.5, 0.02, 0.6], np.float32), "rna", "protein")
    assert said.startswith("1 of 3 protein features cannot be imputed from rna")
    assert "'CD4'" in said
    assert "'CD3'" not in said
    assert cannot_be_imputed(["CD3"], np.array([0.5], np.float32), "rna", "protein") == ""
