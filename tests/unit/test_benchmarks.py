"""The documents say what the committed benchmark files hold."""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys

import h5py
import numpy as np
import pandas as pd
import pytest
from anndata.io import read_elem
from matplotlib import pyplot as plt

from scmodal import ScModal, preprocess
from scmodal.simulate import simulate
from tests.conftest import REPO


def _module(name):
    spec = importlib.util.spec_from_file_location(name, REPO / "benchmarks" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(REPO / "benchmarks"))  # they import each other, as commands of that folder
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(REPO / "benchmarks"))
    return module


tables, real, driving = _module("tables"), _module("peakgene_real"), _module("driving")
heldout = _module("heldout")


@pytest.mark.parametrize("path", tables.DOCUMENTS, ids=lambda path: path.name)
def test_tables_are_those_of_the_committed_numbers(path):
    text = path.read_text()
    assert "<!-- begin " in text
    assert tables.filled(text) == text, "run python benchmarks/tables.py"


@pytest.mark.parametrize("name", tables.figures.FIGURES)
def test_figures_are_drawn_from_the_committed_numbers(name, tmp_path):
    asked = []

    def load(benchmark):
        asked.append(benchmark)
        return tables.loaded(benchmark)

    tables.figures.FIGURES[name](load, tmp_path / "figure.png")
    assert asked
    pixels = plt.imread(tmp_path / "figure.png")
    assert pixels.min() < 0.5 < pixels.max()
    assert f"images/{name}.png" in (REPO / "docs" / "benchmarks.md").read_text()
    assert (REPO / "docs" / "images" / f"{name}.png").is_file()


def test_the_figure_of_quality_has_every_method_that_was_measured(monkeypatch, tmp_path):
    shown = []
    monkeypatch.setattr(tables.figures, "_dot", lambda ax, number, *_: shown.append(number))
    tables.figures.quality(tables.loaded, tmp_path / "figure.png")
    numbers = [number for number in shown if number is not None]
    settings = {
        **{k: v for k, v in tables.loaded("quality")["settings"].items() if k.split(":")[1] in {"default", "paper"}},
        **{k: v for k, v in tables.loaded("peers")["settings"].items() if not k.endswith(":authors")},
    }
    keys = ("accuracy_rna_to_other", "accuracy_other_to_rna", "foscttm")
    measured = [entry["summary"][key] for entry in settings.values() for key in keys if key in entry.get("summary", {})]
    assert sorted(map(str, numbers)) == sorted(map(str, measured))


def test_default_is_better_than_paper_where_both_were_measured():
    settings = json.loads((REPO / "benchmarks" / "quality.json").read_text())["settings"]
    data_sets = {name.split(":")[0] for name in settings}
    compared = [d for d in data_sets if {f"{d}:paper", f"{d}:default"} <= set(settings)]
    assert compared
    for data_set in compared:
        paper, default = (settings[f"{data_set}:{preset}"]["summary"] for preset in ("paper", "default"))
        better = {key: default[key]["mean"] - paper[key]["mean"] for key in tables.QUALITY if key in default}
        unknown = {"foscttm", "imputation_r_rna_to_other"} if data_set == "archr_pbmc_tiny" else set()  # no pairs
        assert set(better) == set(tables.QUALITY) - unknown, data_set
        if "foscttm" in better:
            better["foscttm"] *= -1
        # where populations are plain to tell, both label all cells
        at_best = {key for key in better if key.startswith("accuracy") and paper[key]["mean"] > 0.999}
        assert min(value for key, value in better.items() if key not in at_best) > 0, data_set
        assert min(better.values()) > -0.001, data_set


def test_known_seeds_are_kept_and_lacking_ones_are_run():
    def run(seed):
        return {"seed": seed, "new": True}

    old = [{"seed": 1}, {"seed": 4}]
    assert list(driving.lacking_seeds(old, 1, False, run)) == [[run(0), {"seed": 1}, {"seed": 4}]]
    assert not list(driving.lacking_seeds([{"seed": 0}, {"seed": 1}], 2, False, run))
    assert list(driving.lacking_seeds(old, 2, True, run))[-1] == [run(0), run(1)]


def test_rankings_of_pairs_are_held_against_the_true_one():
    rng, n = np.random.default_rng(0), 5000
    z = pd.Series(rng.normal(size=n))
    truth = z.copy()
    truth[:500] = np.nan  # not known from the true pairs: left out
    ways = {
        "ours_r": -z,  # the sign does not count
        "gene_activity": pd.Series(rng.normal(size=n)),
        "distance": -z.abs().rank(ascending=False),
        "glue": z,  # the sign counts: negative ones come last
    }
    found = real.compare(ways, z / 10, truth)
    assert found["n"] == 4500
    precision = found["precision_at_1000"]
    assert precision["ours_r"] == precision["distance"] == 1
    assert precision["gene_activity"] == pytest.approx(found["chance"], abs=0.05)
    positive = (z[500:][z[500:].abs() >= z[500:].abs().nlargest(1000).min()] > 0).mean()
    assert precision["glue"] == pytest.approx(positive, abs=1e-3)
    assert found["correlation_of_r"] == {
        "ours_r": -1.0,
        "gene_activity": pytest.approx(0, abs=0.06),
        "glue": 1.0,
    }


def test_regulatory_scores_are_cosines_and_missing_ones_are_nan(tmp_path):
    vectors = np.array([[1.0, 0], [2, 2], [0, -3]])
    np.savez(tmp_path / "features.npz", names=np.array(["G", "p1", "p2"]), embeddings=vectors)
    table = pd.DataFrame({"gene": ["G", "G", "G", "H"], "peak": ["p1", "p2", "p3", "p1"]})
    np.testing.assert_allclose(real.glue_scores(tmp_path, table), [0.5**0.5, 0, np.nan, np.nan])


def test_simulated_chromatin_is_of_its_size_and_at_genes(tmp_path):
    large = _module("peakgene_large")
    large.simulate(tmp_path, 300, 4000, 200)
    with h5py.File(tmp_path / "atac.h5ad") as file:
        counts = read_elem(file["X"])
        names = read_elem(file["var"]).index
    assert counts.shape == (300, 4000)
    assert names.is_unique
    assert np.median(np.asarray(counts.sum(axis=1))) == pytest.approx(200, rel=0.2)
    genes = pd.read_csv(
        tmp_path / "genes.bed", sep="\t", header=None, names=["chrom", "start", "end", "gene", "strand"]
    )
    tss = np.where(genes["strand"] == "+", genes["start"], genes["end"])
    sites = {(chrom, place // 1000) for chrom, place in zip(genes["chrom"], tss, strict=True)}
    chrom, middle = names.str.split(":").str[0], names.str.split("[:-]").str[1].astype(int) + 250
    near = [bool({(c, m // 1000 + d) for d in (-1, 0, 1)} & sites) for c, m in zip(chrom, middle, strict=True)]
    assert 0.15 < np.mean(near) < 0.5


def test_cells_held_out_are_not_trained_on():
    simulated = simulate(200, 100, 20, 3, seed=0).mod
    prepare = {"rna": preprocess.rna, "protein": preprocess.protein}
    adatas = [prepare[name](adata, label_key="cell_type") for name, adata in simulated.items()]
    adatas[1] = adatas[1][20:].copy()  # 180 cells in both
    model = ScModal("default", device="cpu", steps=60, batch_size=60, n_hidden=32)
    row = heldout.measure(adatas, model, seed=0)
    assert row["cells"] == 36
    assert row["training_cells"] == 200 + 180 - 2 * 36
    trained = model.training["n_cells"]
    assert trained == {"rna": 200 - 36, "protein": 180 - 36}
    for suffix in ("", "_trained"):
        assert row[f"foscttm{suffix}"] < 0.3
        for way in ("from_rna", "to_rna"):
            assert row[f"accuracy_{way}{suffix}"] > 0.6
            assert row[f"r_{way}{suffix}"] > (0.1 if way == "from_rna" else 0.03)  # most genes hardly vary


def test_numbers_of_other_settings_are_not_mixed_with_those_that_are_there():
    there = {"cases": {"as they are": {}}, "machine": {"threads": 2}, "set": ["steps=5"]}

    def asked(*settings, **more):
        return argparse.Namespace(set=list(settings), output="numbers.json", **more)

    assert driving.noted(dict(there), asked("steps=5"))["set"] == ["steps=5"]
    assert "set" not in driving.noted({"cases": {}, "machine": {"threads": 2}}, asked())
    assert "set" not in driving.noted(dict(there), asked(again=True, only=None))
    for options in (asked(), asked("steps=6"), asked(again=True, only=["as they are"])):
        with pytest.raises(SystemExit, match="is of --set steps=5"):
            driving.noted(dict(there), options)
    assert driving.changes(asked("steps=5", "smoothing=0.2")) == {"steps": "5", "smoothing": "0.2"}


def test_a_setting_without_a_value_is_refused(capsys):
    parser = argparse.ArgumentParser()
    driving.add_settings(parser)
    assert driving.changes(parser.parse_args(["--set", "steps=5", "weight_anchor=3"])) == {
        "steps": "5",
        "weight_anchor": "3",
    }
    with pytest.raises(SystemExit):
        parser.parse_args(["--set", "steps"])
    assert "'steps' is not of the form NAME=VALUE" in capsys.readouterr().err
