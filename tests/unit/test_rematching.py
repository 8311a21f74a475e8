"""Cells matched anew in training: better directions from better pairs, in place, and only where it was asked for."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodal import ScModal, preprocess, training
from scmodal.anchors import smooth
from scmodal.inputs import build_inputs
from scmodal.links import build_links
from scmodal.matching import coordinates, match, match_again, sides_of
from scmodal.metrics import foscttm
from scmodal.presets import get_preset
from scmodal.rematching import rematch, rematching_due
from scmodal.simulate import simulate

from .test_matching import sides as views
from .test_training import CPU, two_data_sets


def ready(noise: float = 3.0):
    """Sides of two views of the same cells, and noisy latents that show the state of both."""
    data = views(noise=noise)
    smoothed = tuple(smooth(x, c, 0.8, 15) for x, c in zip(data.linked, data.components))
    rng = np.random.default_rng(5)
    state = np.linalg.svd(data.components[0] - data.components[0].mean(0), full_matrices=False)[0][:, :8]
    latents = tuple((state + 0.3 * state.std() * rng.standard_normal(state.shape)).astype(np.float32) for _ in range(2))
    return smoothed, data.components, sides_of(smoothed, data.components), latents  # type: ignore[arg-type]


def test_better_pairs_give_better_coordinates_and_count_for_more() -> None:
    smoothed, components, sides, latents = ready()
    before = foscttm(*match(smoothed, components, rounds=1, share=0.5))  # type: ignore[arg-type]
    found = match_again(sides, latents)
    after = coordinates(sides, found)
    assert foscttm(*after) < 0.7 * before
    assert found.share > 0.5
    for side in after:
        np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1.0, rtol=1e-5)


def test_latents_that_tell_nothing_leave_the_word_to_the_links() -> None:
    _, _, sides, latents = ready()
    order = np.random.default_rng(1).permutation(len(latents[1]))
    found = match_again(sides, (latents[0], latents[1][order]))
    assert found.share < 0.3


def test_latents_of_which_no_two_are_neighbours_take_the_links_alone() -> None:
    _, _, sides, latents = ready()
    nowhere = tuple(np.zeros_like(z) for z in latents)
    found = match_again(sides, nowhere)  # type: ignore[arg-type]
    assert 0.0 <= found.share <= 1.0
    assert all(np.isfinite(side).all() for side in coordinates(sides, found))


def with_sides():
    """Two small data sets that can be matched anew, on their first coordinates."""
    inputs = two_data_sets()
    linked = tuple(item.linked[0] for item in inputs)
    both = sides_of(linked, tuple(np.asarray(item.x) for item in inputs))  # type: ignore[arg-type]
    for item, side in zip(inputs, both):
        item.sides[0] = side
        # as wide as coordinates made of canonical directions and links are
        item.linked[0] = np.hstack([np.zeros((len(item.x), 12), np.float32), item.linked[0]])
    return inputs


def started(**settings):
    inputs, preset = with_sides(), get_preset("default", batch_size=40, n_hidden=64, **settings)
    data = training.make_data(inputs, preset, CPU)
    return training.make_state([item.x.shape[1] for item in inputs], preset, 0, CPU), data, preset


def test_coordinates_change_in_place_and_follow_the_latents() -> None:
    state, data, _ = started()
    places = [side.data_ptr() for side in data.linked[0]]
    before = [side.clone() for side in data.linked[0]]
    rematch(state, data)
    first = [side.clone() for side in data.linked[0]]
    assert [side.data_ptr() for side in data.linked[0]] == places
    with torch.no_grad():
        state.networks.encoders[0].second.weight.normal_(0.0, 1.0)
    rematch(state, data)
    for old, new, newer in zip(before, first, data.linked[0]):
        assert not torch.equal(old, new)
        assert not torch.equal(new, newer)


def test_pairs_are_sought_among_cells_that_have_a_counterpart() -> None:
    inputs, preset = with_sides(), get_preset("default", batch_size=40, n_hidden=64)
    for item in inputs:
        item.counterpart[0] = np.ones(len(item.x), np.float32)
    data = training.make_data(inputs, preset, CPU)
    assert [len(side.chosen) for side in data.sides[0]] == [len(item.x) for item in inputs]
    alone = np.arange(len(inputs[1].x)) % 4 == 1
    inputs[1].counterpart[0][alone] = 0.1
    data = training.make_data(inputs, preset, CPU)
    assert len(data.sides[0][0].chosen) == len(inputs[0].x)
    np.testing.assert_array_equal(data.sides[0][1].chosen, np.flatnonzero(~alone))
    state = training.make_state([item.x.shape[1] for item in inputs], preset, 0, CPU)
    rematch(state, data)
    assert all(torch.isfinite(side).all() for side in data.linked[0])


@pytest.mark.parametrize(("every", "steps", "times"), [(0, 50, 0), (20, 50, 2), (25, 50, 1), (50, 50, 0)])
def test_it_is_done_after_so_many_steps_and_not_before_the_first_nor_after_the_last(
    monkeypatch, every: int, steps: int, times: int
) -> None:
    state, data, preset = started(steps=steps, rematching_every=every)
    if every == 0:
        data.sides.clear()  # as build_inputs leaves it
    at: list[int] = []
    monkeypatch.setattr(training, "rematch", lambda state, data: at.append(state.step))
    training.train(state, data, preset)
    assert at == [every * (k + 1) for k in range(times)]
    state.step = 0
    assert not rematching_due(state, data, preset)


def prepared():
    mdata = simulate(n_cells=300, n_genes=120, n_proteins=20, seed=0)
    return [preprocess.rna(mdata["rna"]), preprocess.protein(mdata["protein"])]


def test_inputs_bring_what_it_takes_only_where_it_is_asked_for() -> None:
    adatas = prepared()
    links, _ = build_links(adatas)
    for settings, there in (
        ({"rematching_every": 10}, True),
        ({"rematching_every": 0}, False),
        ({"rematching_every": 10, "matching_rounds": 0}, False),
    ):
        inputs = build_inputs(adatas, links, get_preset("default", **settings))
        assert [bool(item.sides) for item in inputs] == [there, there]


def test_a_model_trained_with_it_repeats_and_differs_from_one_without() -> None:
    adatas = prepared()
    settings = {"steps": 30, "n_hidden": 32, "threads": 1}
    models = [ScModal("default", device="cpu", rematching_every=every, **settings).fit(adatas) for every in (10, 10, 0)]
    assert models[2].training["rematching_share"] == {}
    assert list(models[0].training["rematching_share"]) == ["rna|protein"]
    assert 0.0 < models[0].training["rematching_share"]["rna|protein"] < 1.0
    latents = [model.latents["rna"] for model in models]
    np.testing.assert_array_equal(latents[0], latents[1])
    assert not np.array_equal(latents[0], latents[2])


def test_coordinates_made_block_by_block_are_the_same(monkeypatch) -> None:
    _, _, sides, latents = ready()
    found = match_again(sides, latents)
    whole = coordinates(sides, found)
    monkeypatch.setattr("scmodal.matching._BLOCK", 70)
    for part, expected in zip(coordinates(sides, found), whole):
        np.testing.assert_allclose(part, expected, atol=1e-6)
