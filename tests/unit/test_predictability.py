"""Spread of imputed values as the correlation to expect."""

from __future__ import annotations

import numpy as np

from scmodal.predictability import cannot_be_imputed, expected_r


def test_an_expectation_correlates_by_its_spread() -> None:
    rng = np.random.default_rng(1)
    told = rng.normal(size=(20_000, 5)) * np.array([0.05, 0.3, 0.6, 0.9, 1.0])
    left = np.sqrt(1 - told.var(0).clip(max=1))
    truth = told + rng.normal(size=told.shape) * left
    r = [np.corrcoef(a, b)[0, 1] for a, b in zip(told.T, truth.T)]
    np.testing.assert_allclose(expected_r(told.astype(np.float32)), r, atol=0.02)


def test_features_that_cannot_be_imputed_are_named() -> None:
    said = cannot_be_imputed(["CD3", "CD4", "CD19"], np.array([0.5, 0.02, 0.6], np.float32), "rna", "protein")
    assert said.startswith("1 of 3 protein features cannot be imputed from rna")
    assert "'CD4'" in said
    assert "'CD3'" not in said
    assert cannot_be_imputed(["CD3"], np.array([0.5], np.float32), "rna", "protein") == ""
