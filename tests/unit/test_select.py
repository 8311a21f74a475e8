"""What is said of a match without labels and pairs, against data whose truth is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from scmodal import ScModal, build_links, preprocess
from scmodal.coherence import (
    HeldOut,
    agreement,
    cross_matches,
    groups_of,
    held_out,
    latent_scores,
    predictability,
    round_trip,
    same_matches,
)
from scmodal.contracts import InputError
from scmodal.inputs import build_inputs
from scmodal.io import MEMORY_VARIABLE, write_h5ad
from scmodal.links import LinkTable
from scmodal.presets import get_preset
from scmodal.results import write_run
from scmodal.select import VERDICTS, _of_cells, _of_links, as_table, at_least, choose, gather, select_runs
from scmodal.simulate import simulate

from .test_cli import run as command

N_NULL = 8  # random pairings: as many as it takes for a standard deviation


@pytest.fixture(scope="module")
def data():
    mdata = simulate(n_cells=300, n_genes=250, n_proteins=40, n_cell_types=5, seed=1)
    return [getattr(preprocess, name)(mdata[name], label_key="cell_type") for name in ("rna", "protein")]


@pytest.fixture(scope="module")
def links(data):
    return build_links(data)[0]


@pytest.fixture(scope="module")
def evidence(data, links):
    return gather(data, links, "chain", N_NULL)


@pytest.fixture(scope="module")
def runs(data, links, tmp_path_factory) -> list[Path]:
    """Result folders of two seeds, and beside them the prepared data."""
    folder = tmp_path_factory.mktemp("select")
    for name, adata in zip(("rna", "protein"), data):
        write_h5ad(adata, folder / f"{name}.h5ad")
    links.write(folder / "links.tsv")
    for seed in (3, 4):
        settings = {"steps": 60, "batch_size": 100, "n_hidden": 64}
        model = ScModal(seed=seed, threads=1, device="cpu", **settings).fit(data, links)
        write_run(model, data, folder / f"seed_{seed}")
    return [folder / "seed_3", folder / "seed_4"]


def shuffled(links: LinkTable, seed: int) -> LinkTable:
    """The same features in random pairs."""
    frame = links.frame.copy()
    frame["feature_b"] = np.random.default_rng(seed).permutation(frame["feature_b"].to_numpy())
    return LinkTable(frame)


def truth(n: int = 300, d: int = 4, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Latents of the same cells and what they measure of both sides."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((n, d)).astype(np.float32)
    return z, (z @ rng.standard_normal((d, 7))).astype(np.float32)


def test_cells_that_only_one_side_has_make_the_verdict_doubtful():
    mdata = simulate(n_cells=600, n_genes=250, n_proteins=40, n_cell_types=5, seed=1)
    rna, protein = (getattr(preprocess, name)(mdata[name], label_key="cell_type") for name in ("rna", "protein"))
    lacking = rna[rna.obs["cell_type"].astype(str) != "type_3"].copy()
    whole, partial = (gather([a, protein], build_links([a, protein])[0], "chain", n_null=2) for a in (rna, lacking))
    level, reason = _of_cells(whole, 0)
    assert whole.alone == [(0.0, 0.0)]
    assert VERDICTS[level] == "trusted"
    assert "0% of the RNA cells and 0% of the protein cells have no counterpart" in reason
    level, reason = _of_cells(partial, 0)
    ((of_rna, of_protein),) = partial.alone
    assert of_rna == 0.0
    assert of_protein == pytest.approx((protein.obs["cell_type"] == "type_3").mean(), abs=0.1)
    assert VERDICTS[level] == "doubtful"
    assert f"{of_protein:.0%} of the protein cells have no counterpart, or far too few, among the RNA cells" in reason
    # and it is among the reasons of a choice
    choice = choose(partial, [0], [list(partial.linked[0])])
    assert reason in choice.reasons
    assert choice.alone == {"rna|protein": (of_rna, of_protein)}


def test_cells_without_a_counterpart_are_those_that_training_told(data, links, monkeypatch):
    """On few cells a slightly other smoothing would give another number than the log and obs hold."""
    monkeypatch.setattr("scmodal.select.ALONE", 1.0)  # about half of the cells
    inputs = build_inputs(data, links, get_preset("default"))
    told = tuple(float((item.counterpart[0] < 1.0).mean()) for item in inputs)
    assert min(told) > 0.2
    assert gather(data, links, "chain", 1).alone == [told]


def test_agreement_by_hand():
    matches = (np.array([[0], [1], [2]]), np.array([[0], [1], [2]]))
    a = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    b = np.array([[2.0, 1.0], [4.0, 2.0], [6.0, 3.0]])
    assert agreement(matches, (a, b)) == pytest.approx(0.5)  # r of 1, and a feature that does not vary
    assert agreement(matches, (a, -b)) == pytest.approx(-0.5)


def test_links_that_share_a_feature_belong_together():
    # CD45 stands on both sides: RA and RO share the gene, and the gene's other protein is joined through it
    groups = groups_of(["PTPRC", "PTPRC", "CD4", "CD8A", "CD8B"], ["CD45RA", "CD45RO", "CD4", "CD8", "CD8"])
    assert groups[0] == groups[1]
    assert groups[3] == groups[4]
    assert len({groups[0], groups[2], groups[3]}) == 3


def test_round_trip():
    rng = np.random.default_rng(0)
    own = (rng.standard_normal((200, 3)).astype(np.float32), rng.standard_normal((200, 2)).astype(np.float32))
    same, all_to_one = np.arange(200)[:, None], np.zeros((200, 1), int)
    assert round_trip((same, same), own) == pytest.approx(1.0)
    # out by one permutation, back by another
    assert abs(round_trip((rng.permutation(same), rng.permutation(same)), own)) < 0.15
    assert round_trip((all_to_one, all_to_one), own) == pytest.approx(0.0, abs=1e-6)


def test_round_trip_weighs_components_by_their_variance():
    a = np.array([[0.0, 0.0], [10.0, 1.0], [20.0, 0.0], [30.0, 1.0]], np.float32)
    # comes back as the neighbour that shares the second component: the first is lost in part
    there, back = np.array([[2], [3], [0], [1]]), np.arange(4)[:, None]
    b = np.zeros((4, 1), np.float32)  # does not vary and counts as 0
    r = [np.corrcoef(a[:, k], a[there[:, 0], k])[0, 1] for k in (0, 1)]
    expected = np.average(r, weights=a.var(0)) / 2
    assert round_trip((there, back), (a, b)) == pytest.approx(expected, abs=1e-5)


def test_predictability():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2000, 4)).astype(np.float32)
    noise = rng.standard_normal(x.shape).astype(np.float32)
    same, other = np.arange(2000)[:, None], rng.permutation(2000)[:, None]
    # half of the variance is noise
    assert predictability((same, same), (x, x + noise)) == pytest.approx(0.5, abs=0.03)
    assert predictability((same, same), (x, 3 * x @ np.diag([1, -1, 1, 1]).astype(np.float32))) > 0.99
    assert abs(predictability((other, other), (x, x + noise))) < 0.02
    assert predictability((0 * same, 0 * same), (x, x + noise)) == 0.0


def test_a_true_latent_scores_better_than_a_random_and_one_apart():
    z, features = truth()
    noise = np.random.default_rng(1).standard_normal(z.shape).astype(np.float32)
    both = (features, features)
    good, wrong, apart = (latent_scores(z, other, both, both) for other in (z + 0.1 * noise, noise, z + 20))
    assert good.coherence > 0.8
    assert min(good.cycle, good.round_trip, good.predictability) > 0.8
    assert good.mixing == pytest.approx(1.0, abs=0.1)
    assert good.score > max(wrong.score, apart.score)
    assert abs(wrong.coherence) < 0.15
    assert apart.mixing < 0.05


def test_same_matches():
    z, features = truth()
    other, _ = truth(seed=5)
    own = (features, features)
    assert same_matches(cross_matches(z, z), cross_matches(z, z), own) == pytest.approx(1.0)
    assert abs(same_matches(cross_matches(z, z), cross_matches(z, other), own)) < 0.3


def test_meaningful_links_stand_out_and_random_ones_do_not(data, links, evidence):
    (signal,) = evidence.signal
    assert signal is not None
    assert signal.z > 5
    assert signal.observed > signal.null.max() + 0.05
    random = [gather(data, shuffled(links, seed), "chain", N_NULL).signal[0].z for seed in range(4)]
    assert max(random) < 3
    assert np.mean(random) < 1.5


def test_unrelated_tissues_fail(data):
    """Proteins of other cells that follow another biology under the same names."""
    rng = np.random.default_rng(0)
    protein = data[1].copy()
    order = rng.permutation(protein.n_vars)
    protein.layers["counts"] = protein.layers["counts"][:, order]
    protein.X = protein.X[:, order]
    links, _ = build_links([data[0], protein])
    found = gather([data[0], protein], links, "chain", N_NULL)
    z = np.random.default_rng(1).standard_normal((300, 5)).astype(np.float32)
    choice = choose(found, [0], [[z, z]])  # however well they mix
    assert choice.verdict == "failed"
    assert "do not agree" in choice.reasons[0]


def test_too_few_links_cannot_be_trusted(data, links):
    few = LinkTable(links.frame.iloc[:5])
    found = gather(data, few, "chain", N_NULL)
    assert found.signal == [None]
    assert choose(found, [0], [[np.eye(300, 4, dtype=np.float32)] * 2]).verdict != "trusted"


@pytest.mark.parametrize(
    ("observed", "spread", "verdict"),
    [
        (0.15, 0.06, "failed"),  # 2.5 standard deviations
        (0.15, 0.04, "doubtful"),  # 3.75, and little
        (0.45, 0.12, "trusted"),  # 3.75, but much: few links scatter widely
        (0.15, 0.03, "trusted"),  # 5
        (0.04, 0.005, "doubtful"),  # 8, of next to nothing
    ],
)
def test_what_links_say(observed, spread, verdict):
    null = spread * np.array([-1.0, 1.0]) / np.sqrt(2.0)
    signal = HeldOut(observed, null)
    assert signal.z == pytest.approx(observed / spread)
    level, sentence = _of_links("rna and protein", signal)
    assert VERDICTS[level] == verdict
    assert f"r {observed:.2f}" in sentence


def test_halves_need_enough_groups():
    z, features = truth()
    groups = np.array([0, 0, 0, 1, 2, 3, 4])  # five
    assert held_out((features, features), (z, z), groups, 0.5) is None
    found = held_out((features, features), (z, z), np.arange(7), 0.5, n_null=N_NULL)
    assert found is not None
    assert found.observed > found.null.max()


def test_the_better_run_is_chosen_and_trusted(data, links, evidence):
    rng = np.random.default_rng(0)
    model = ScModal(seed=0, threads=1, steps=60, batch_size=100, n_hidden=64).fit(data, links)
    good = [model.embed(modality=name) for name in model.modalities]
    noisy = [z + z.std(0) * rng.standard_normal(z.shape).astype(np.float32) for z in good]
    random = [rng.standard_normal(z.shape).astype(np.float32) for z in good]
    choice = choose(evidence, [7, 8, 9], [random, good, noisy])
    assert choice.best == 1
    assert choose(evidence, [8], [good]).verdict == "trusted"
    assert choice.likeness[1] > choice.likeness[0]
    table = as_table(choice)
    assert table.loc[table["chosen"], "seed"].tolist() == [8]
    assert table["score"].idxmax() == 1


def test_data_sets_that_stay_apart_fail(evidence):
    z = evidence.sides[0].components[:, :5]
    choice = choose(evidence, [0], [[z, z + 100]])
    assert choice.verdict == "failed"
    assert "apart" in choice.reasons[0]


def test_seeds_that_differ_are_doubted(evidence):
    rng = np.random.default_rng(0)
    latents = [[rng.standard_normal((300, 5)).astype(np.float32) for _ in range(2)] for _ in range(3)]
    assert any("seeds match cells differently" in reason for reason in choose(evidence, [0, 1, 2], latents).reasons)


def test_data_on_disk_give_the_same(runs, links, evidence, monkeypatch):
    from scmodal.io import is_on_disk, read_prepared

    monkeypatch.setenv(MEMORY_VARIABLE, "0")
    stored = [read_prepared(runs[0].parent / f"{name}.h5ad") for name in ("rna", "protein")]
    assert any(is_on_disk(layer) for adata in stored for layer in (adata.X, *adata.layers.values()))
    found = gather(stored, links, "chain", N_NULL)
    assert found.signal[0].observed == pytest.approx(evidence.signal[0].observed, abs=1e-5)
    np.testing.assert_allclose(found.linked[0][0], evidence.linked[0][0], atol=1e-5)


def test_large_data_are_judged_on_some_cells(data, links, monkeypatch):
    import scmodal.select as module

    monkeypatch.setattr(module, "CELLS", 120)
    found = gather(data, links, "chain", 2)
    assert [len(side.rows) for side in found.sides] == [120, 120]
    assert found.linked[0][0].shape[0] == 120
    z = np.random.default_rng(0).standard_normal((300, 5)).astype(np.float32)
    assert choose(found, [0], [[z, z]]).scores[0]["rna|protein"].mixing > 0.5


def test_the_command(runs, capsys):
    folder = runs[0].parent
    inputs = ("--input", folder / "rna.h5ad", "--input", folder / "protein.h5ad", "--links", folder / "links.tsv")
    both = ("--run", runs[0], "--run", runs[1], "--output", folder / "selection.json", "--table", folder / "s.tsv")
    assert command("select", *both, *inputs, "--fail-on", "failed") == 0
    found = json.loads((folder / "selection.json").read_text())
    assert found["verdict"] in VERDICTS[:2]
    assert found["chosen_seed"] in (3, 4)
    scores = [run["score"] for run in found["runs"]]
    assert found["chosen_seed"] == (3, 4)[int(np.argmax(scores))]
    assert found["links"]["rna|protein"]["z"] > 3
    table = pd.read_csv(folder / "s.tsv", sep="\t")
    assert table["seed"].tolist() == [3, 4]
    assert f"verdict: {found['verdict']}" in capsys.readouterr().err


def test_fail_on_ends_with_3_and_keeps_the_output(runs, links, capsys):
    folder = runs[0].parent
    shuffled(links, 0).write(folder / "random.tsv")
    inputs = ("--input", folder / "rna.h5ad", "--input", folder / "protein.h5ad", "--links", folder / "random.tsv")
    output = folder / "failed.json"
    assert command("select", "--run", runs[0], *inputs, "--output", output, "--fail-on", "doubtful") == 3
    assert json.loads(output.read_text())["verdict"] == "failed"
    assert "--fail-on doubtful: the integration is failed" in capsys.readouterr().err
    assert command("select", "--run", runs[0], *inputs, "--output", output) == 0


def test_runs_of_other_data_are_refused(runs, data, links, tmp_path):
    with pytest.raises(InputError) as error:
        select_runs([adata[:200] for adata in data], links, [*runs, tmp_path])
    text = str(error.value)
    assert text.count("not those of the prepared data") == 2
    assert "no model.json" in text


def test_data_that_the_runs_were_not_trained_on_are_refused(runs, data, links):
    """Cells of the same names are not enough: in another order, or with other features, they are other data."""
    with pytest.raises(InputError, match="was trained on rna, protein, not on protein, rna"):
        select_runs(data[::-1], links, runs)
    with pytest.raises(InputError, match=r"5 of its .* rna features .* are not in the prepared data"):
        select_runs([data[0][:, 5:], data[1]], links, runs)


def test_runs_are_told_apart_by_more_than_their_seed(runs, data, links, tmp_path, capsys):
    folder = runs[0].parent
    inputs = ("--input", folder / "rna.h5ad", "--input", folder / "protein.h5ad", "--links", folder / "links.tsv")
    worse = tmp_path / "worse"
    write_run(ScModal("paper", seed=4, threads=1, device="cpu", steps=1, n_hidden=64).fit(data, links), data, worse)
    both = ("--run", worse, "--run", runs[1], "--output", tmp_path / "s.json", "--table", tmp_path / "s.tsv")
    assert command("select", *both, *inputs) == 0
    assert "chosen: seed 4 (seed_4)" in capsys.readouterr().err
    found = json.loads((tmp_path / "s.json").read_text())
    assert (found["chosen_seed"], found["chosen_run"]) == (4, "seed_4")
    assert [run["run"] for run in found["runs"]] == ["worse", "seed_4"]
    table = pd.read_csv(tmp_path / "s.tsv", sep="\t")
    assert table.loc[table["chosen"], "run"].tolist() == ["seed_4"]
    # a copy of a run agrees with it, which says nothing
    with pytest.raises(InputError, match="are the same result"):
        select_runs(data, links, [runs[0], runs[0]])


def test_order_of_verdicts():
    assert at_least("failed", "doubtful")
    assert at_least("doubtful", "doubtful")
    assert not at_least("trusted", "doubtful")
