"""The comparison with other methods, with stand-ins for them: nothing is installed here."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import anndata
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from anndata import AnnData

from scmodal.inputs import build_inputs
from scmodal.links import LinkTable
from scmodal.presets import get_preset
from tests.conftest import REPO


@pytest.fixture(scope="module")
def peers():
    sys.path.insert(0, str(REPO / "benchmarks"))
    try:
        spec = importlib.util.spec_from_file_location("peers_benchmark", REPO / "benchmarks" / "peers.py")
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module
    finally:
        sys.path.remove(str(REPO / "benchmarks"))
        sys.modules.pop("peers_benchmark", None)


def side(modality, features, seed):
    rng = np.random.default_rng(seed)
    counts = sp.csr_matrix(rng.poisson(3.0, (60, len(features))).astype(np.float32))
    # a feature that says which cell it is, to follow cells through the shuffling
    counts = sp.csr_matrix(np.column_stack([np.arange(60, dtype=np.float32), counts.toarray()[:, 1:]]))
    obs = pd.DataFrame({"kind": [f"kind{i % 3}" for i in range(60)]}, index=[f"cell{i}" for i in range(60)])
    adata = AnnData(X=counts.copy(), obs=obs, var=pd.DataFrame(index=features), layers={"counts": counts})
    adata.uns["scmodal"] = {"modality": modality, "label_key": "kind"}
    return adata


@pytest.fixture
def prepared(peers):
    adatas = [side("rna", ["G0", "G1", "G2"], 0), side("protein", ["P0", "P1", "P2"], 1)]
    linked = [np.asarray(adata.X.toarray()) for adata in adatas]
    return peers.Prepared(adatas, [("G0", "P0"), ("G1", "P1"), ("G2", "P2")], linked)


def test_neither_labels_nor_pairing_reach_a_peer(peers, prepared, tmp_path):
    order = peers.hand_over(prepared, tmp_path, seed=3)
    first, second = (anndata.read_h5ad(tmp_path / f"{name}.h5ad") for name in ("first", "second"))
    assert list(first.obs.columns) == list(second.obs.columns) == []
    assert not set(first.obs_names) & set(second.obs_names)
    assert not {*first.obs_names, *second.obs_names} & set(prepared.adatas[0].obs_names)
    assert not first.uns
    assert not second.uns
    cells = second.layers["counts"].toarray()[:, 0].astype(int)
    assert (cells == order).all()
    assert (cells != np.arange(60)).mean() > 0.9
    with np.load(tmp_path / "linked.npz") as stored:
        assert (stored["second"][:, 0] == cells).all()
        assert (stored["first"][:, 0] == np.arange(60)).all()
    # another seed is another order
    assert (peers.hand_over(prepared, tmp_path, seed=4) != order).any()


RUNNER = """
import sys
import numpy as np
sys.path.insert(0, {helpers!r})
from exchange import Task

task = Task.from_arguments()
first, second = (task.data(name).layers["counts"].toarray()[:, :1] for name in ("first", "second"))
task.finish(first, second, links=len(task.links()))
"""


def runner(tmp_path, text):
    path = tmp_path / "run_it.py"
    path.write_text(text.format(helpers=str(REPO / "benchmarks" / "peers")) if "{helpers" in text else text)
    return path


def test_order_is_undone_before_the_metrics(peers, prepared, tmp_path):
    # each cell's latent is its number, so that every true pair is at one place
    run = peers.run_peer(prepared, sys.executable, runner(tmp_path, RUNNER), seed=1, threads=1, limit=120)
    row = peers.measure(prepared, run, seed=1, threads=1)
    assert row["foscttm"] == 0.0
    assert row["accuracy_rna_to_other"] == row["accuracy_other_to_rna"] == 1.0
    assert row["used"] == {"links": 3, "threads": 1}
    assert row["seconds"] > 0
    assert 0.01 < row["peak_gb"] < 2


def test_imputed_values_are_those_of_the_same_cell(peers, prepared, tmp_path):
    """A runner that gives back what it was given of the other side as imputed must get a correlation of 1."""
    links = LinkTable(pd.DataFrame(prepared.links, columns=["feature_a", "feature_b"]).assign(
        modality_a="rna", modality_b="protein", weight=1.0
    ))  # fmt: skip
    prepared.adatas[0].var["highly_variable_rank"] = np.arange(3.0)
    prepared.inputs = build_inputs(prepared.adatas, links, get_preset("paper"))
    text = (
        RUNNER
        + """
asked = task.asked()
with np.load(task.folder / "inputs.npz") as stored:
    x = [stored["first"], stored["second"]]
# cells know each other by the feature that says which cell it is
where = [np.argsort(item[:, 0]) for item in (first, second)]
imputed = [np.empty_like(x[1]), np.empty_like(x[0])]
imputed[0][where[0]], imputed[1][where[1]] = x[1][where[1]], x[0][where[0]]
np.savez(task.folder / "imputed.npz", first=imputed[0], second=asked["sign"] * imputed[1])
"""
    )
    given = (prepared, sys.executable, runner(tmp_path, text), 1, 1, 120)
    run = peers.run_peer(*given, asked={"sign": -1.0}, with_inputs=True)
    row = peers.measure(prepared, run, seed=1, threads=1)
    assert row["imputation_r_rna_to_other"] == pytest.approx(1.0)
    assert row["imputation_r_other_to_rna"] == pytest.approx(-1.0)


def test_the_authors_program_is_asked_for_by_its_checkout(peers, monkeypatch, tmp_path):
    options = ["peers.py", "--data", str(tmp_path), "--only", "hao_pbmc_cite:authors"]
    monkeypatch.setattr(sys, "argv", options)
    with pytest.raises(SystemExit, match="--authors"):
        peers.arguments()
    monkeypatch.setattr(sys, "argv", [*options, "--authors", str(tmp_path)])
    with pytest.raises(SystemExit, match="no checkout"):
        peers.arguments()
    monkeypatch.setattr(sys, "argv", options[:3])
    assert "hao_pbmc_cite:authors" not in peers.arguments().wanted


def test_minutes_are_told_to_glue_alone(peers, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["peers.py", "--data", str(tmp_path), "--minutes", "25"])
    options = peers.arguments()
    assert peers.asked_of("glue", options) == {"minutes": 25.0}
    assert peers.asked_of("diagvi", options) is None
    monkeypatch.setattr(sys, "argv", ["peers.py", "--data", str(tmp_path)])
    # not asked for, its own number of epochs
    assert peers.asked_of("glue", peers.arguments()) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; print('far too few links', file=sys.stderr); sys.exit(1)", "far too few links"),
        ("pass", "cannot be read"),
        (RUNNER.replace("task.finish(first,", "task.finish(first[1:],"), "of 60 and 60 cells"),
        (RUNNER.replace("task.finish(first,", "task.finish(first * np.nan,"), "not finite"),
        ("import time; time.sleep(60)", "stopped after 1 seconds"),
    ],
    ids=["error", "nothing", "cells", "nan", "late"],
)
def test_failures_have_one_line(peers, prepared, tmp_path, text, message):
    limit = 1 if "sleep" in text else 120
    with pytest.raises(peers.PeerError, match=message) as caught:
        peers.run_peer(prepared, sys.executable, runner(tmp_path, text), seed=0, threads=1, limit=limit)
    assert "\n" not in str(caught.value)


def test_seeds_resume_and_a_failure_stops_nothing(peers):
    asked = []

    def one(seed):
        asked.append(seed)
        if seed == 1:
            raise peers.PeerError("no such luck")
        if seed == 2:
            raise ValueError("first line\nlast line")
        return {"seed": seed, "foscttm": seed / 10, "used": {"epochs": 5}}

    *_, entry = peers.run_seeds({}, range(4), False, one)
    assert asked == [0, 1, 2, 3]
    assert entry["failures"] == [
        {"seed": 1, "error": "no such luck"},
        {"seed": 2, "error": "ValueError: last line"},
    ]
    assert entry["summary"] == {"foscttm": {"mean": pytest.approx(0.15), "min": 0.0, "max": 0.3}}
    # what is known is not run again, whether it went well or not
    *_, more = peers.run_seeds(json.loads(json.dumps(entry)), range(5), False, one)
    assert asked == [0, 1, 2, 3, 4]
    assert [row["seed"] for row in more["seeds"]] == [0, 3, 4]
    assert list(peers.run_seeds(entry, range(4), False, one)) == []
    # and kept where fewer are wanted
    *_, kept = peers.run_seeds({"seeds": [{"seed": 4, "foscttm": 0.4}]}, range(1), False, one)
    assert [row["seed"] for row in kept["seeds"]] == [0, 4]
    # unless it is asked for
    *_, anew = peers.run_seeds(entry, range(2), True, one)
    assert asked[-2:] == [0, 1]
    assert [row["seed"] for row in anew["seeds"]] == [0]


def test_missing_python_is_told(peers, tmp_path):
    with pytest.raises(peers.PeerError, match=r"Python 3\.12 or later"):
        peers.newer_python(str(tmp_path / "python3.12"))


def test_environment_is_made_once_for_its_requirements(peers, tmp_path, monkeypatch):
    commands = []

    def pretend(command, **_):
        commands.append(command)
        if "venv" in command:
            (tmp_path / "harmony" / "bin").mkdir(parents=True)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(peers.subprocess, "run", pretend)
    python = peers.environment("harmony", tmp_path)
    assert python == tmp_path / "harmony" / "bin" / "python"
    assert len(commands) == 2
    assert "harmonypy==2.1.0" in commands[1]
    assert peers.environment("harmony", tmp_path) == python
    assert len(commands) == 2
    changed = {**peers.METHODS, "harmony": peers.Method("Harmony", ("harmonypy==2.0.0",))}
    monkeypatch.setattr(peers, "METHODS", changed)
    peers.environment("harmony", tmp_path)
    assert "harmonypy==2.0.0" in commands[3]


def test_every_peer_is_pinned_and_has_its_runner(peers):
    for name, method in peers.METHODS.items():
        assert (REPO / "benchmarks" / "peers" / f"run_{name}.py").is_file()
        assert all("==" in requirement for requirement in method.requirements)
