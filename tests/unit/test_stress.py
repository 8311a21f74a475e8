"""What the stress benchmark does to data is what its titles say."""

from __future__ import annotations

import importlib.util
import sys

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from tests.conftest import REPO


@pytest.fixture(scope="module")
def stress():
    folder = str(REPO / "benchmarks")
    sys.path.insert(0, folder)
    try:
        spec = importlib.util.spec_from_file_location("stress", REPO / "benchmarks" / "stress.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules["stress"] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


@pytest.fixture
def links():
    return pd.DataFrame({"feature_a": [f"G{i}" for i in range(40)], "feature_b": [f"P{i}" for i in range(40)]})


@pytest.fixture
def sides():
    rng = np.random.default_rng(0)
    kinds = np.array(["Mono", "B", "NK", "CD8 T"])[rng.integers(4, size=400)]
    names = [f"c{i}" for i in range(400)]
    return [
        ad.AnnData(
            sp.csr_matrix(rng.poisson(4.0, (400, width)).astype(np.float32)),
            obs=pd.DataFrame({"celltype": kinds}, index=names),
        )
        for width in (60, 12)
    ]


def test_links_are_cut(stress, links):
    cut = stress.fewer_links(15)(links, np.random.default_rng(0))
    assert len(cut) == 15
    assert (cut["feature_a"].str[1:] == cut["feature_b"].str[1:]).all()


@pytest.mark.parametrize(("share", "wrong"), [(0.2, 8), (0.5, 20), (1.0, 40)])
def test_links_are_shuffled(stress, links, share, wrong):
    shuffled = stress.shuffled_links(share)(links, np.random.default_rng(0))
    assert (shuffled["feature_a"].str[1:] != shuffled["feature_b"].str[1:]).sum() == wrong
    assert set(shuffled["feature_b"]) == set(links["feature_b"])


def test_populations_go_or_shrink_on_one_side(stress, sides):
    rng = np.random.default_rng(0)
    without = stress.without("B", 0)(sides, rng)
    assert "B" not in set(without[0].obs["celltype"])
    assert without[1].n_obs == 400
    fewer = stress.tenth_of("Mono")(sides, rng)[1].obs["celltype"].value_counts()
    assert 0 < fewer["Mono"] < 0.25 * fewer["B"]


def test_a_tenth_of_the_counts_is_left(stress, sides):
    rna, protein = stress.shallow(0.1)(sides, np.random.default_rng(0))
    before = sides[0][rna.obs_names].X
    assert rna.X.sum() == pytest.approx(0.1 * before.sum(), rel=0.03)
    assert (before < rna.X).nnz == 0
    assert protein is sides[1]


def test_a_cytometer_sees_other_cells(stress, sides):
    rna, panel = stress.cytometer(sides, np.random.default_rng(0))
    shared = rna.obs_names.intersection(panel.obs_names)
    assert len(shared) == 80
    assert rna.n_obs == panel.n_obs == 240
    assert panel.X.min() >= 0
    assert not np.array_equal(panel[shared].X, sides[1][shared].X.toarray())


def test_same_cells_are_kept(stress, sides):
    some = stress.some_cells(100)(sides, np.random.default_rng(0))
    assert list(some[0].obs_names) == list(some[1].obs_names)
    assert len(some[0]) == 100
