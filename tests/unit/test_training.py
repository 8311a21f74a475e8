"""The training loop: reproducible, and stopping where it cannot succeed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from scmodal import step, training
from scmodal.contracts import DataError
from scmodal.inputs import EngineInput, Recipe
from scmodal.presets import get_preset

CPU = torch.device("cpu")


def two_data_sets(n_a=120, n_b=90, p=30, q=12, m=8, seed=0):
    """Data sets that share four states on `m` linked columns."""
    rng = np.random.default_rng(seed)
    loadings = rng.standard_normal((4, p)).astype(np.float32)
    other = np.concatenate([loadings[:, :m], rng.standard_normal((4, q - m)).astype(np.float32)], axis=1)
    made = []
    for n, weights, name in ((n_a, loadings, "rna"), (n_b, other, "protein")):
        states = rng.integers(0, 4, n)
        x = weights[states] + 0.4 * rng.standard_normal((n, weights.shape[1])).astype(np.float32)
        recipe = Recipe(name, [], np.zeros(0, np.float32), np.ones(0, np.float32), 10.0)
        made.append(EngineInput(name, recipe, x.astype(np.float32), {0: x[:, :m].astype(np.float32)}))
    return made


def run(inputs, preset, seed=0):
    data = training.make_data(inputs, preset, CPU)
    state = training.make_state([item.x.shape[1] for item in inputs], preset, seed, CPU)
    history, _ = training.train(state, data, preset)
    return history, state, data


@pytest.mark.parametrize("name", ["paper", "default"])
def test_same_seed_same_bits_other_seed_other_run(name):
    inputs, preset = two_data_sets(), get_preset(name, steps=12, batch_size=40)
    first, state, _ = run(inputs, preset)
    torch.manual_seed(99)
    torch.rand(7)
    again, other_state, _ = run(inputs, preset)
    np.testing.assert_array_equal(first, again)
    for a, b in zip(state.networks.parameters(), other_state.networks.parameters()):
        assert torch.equal(a, b)
    assert not np.array_equal(first, run(inputs, preset, seed=1)[0])


def test_training_mixes_and_reconstructs():
    preset = get_preset("default", steps=300, batch_size=60)
    history, _, _ = run(two_data_sets(), preset)
    column = step.HISTORY_COLUMNS.index
    assert history[-20:, column("loss_autoencoder")].mean() < 0.6 * history[:5, column("loss_autoencoder")].mean()
    assert history[-20:, column("loss_cycle")].mean() < 0.1
    assert history[-20:, column("loss_discriminator")].mean() > 0.6 * training.FULL_MIXING
    np.testing.assert_allclose(history[:, column("loss_gan")], -history[:, column("loss_discriminator")])


def test_fewer_cells_than_the_batch_size_works_and_is_said():
    preset = get_preset("paper", steps=3)
    _, _, data = run(two_data_sets(n_b=60), preset)
    assert data.batch_sizes == [120, 60]
    assert data.n_neighbours == [7, 4]
    assert len(data.messages) == 2
    assert "protein has 60 cells, fewer than the batch size of 500" in data.messages[1]


def test_batches_hold_matching_rows():
    inputs = two_data_sets()
    data = training.make_data(inputs, get_preset("paper", batch_size=30), CPU)
    batch = step.draw_batch(data, torch.Generator().manual_seed(0))
    for side in (0, 1):
        expected = torch.nn.functional.normalize(batch.x[side][:, :8], dim=1)
        torch.testing.assert_close(batch.linked[0][side], expected)


def test_dropout_keeps_the_mean_and_drops_the_share():
    x = torch.ones(300, 201)  # not a multiple of eight values
    dropped = step.drop_inputs(x, 0.25, torch.Generator().manual_seed(0))
    assert float((dropped == 0).float().mean()) == pytest.approx(0.25, abs=0.01)
    assert float(dropped.mean()) == pytest.approx(1.0, abs=0.02)
    assert step.drop_inputs(x, 0.0, torch.Generator()) is x
    assert float((x - 1).abs().max()) == 0  # the batch itself is not touched


def test_dropout_draws_every_value_alike_and_by_itself():
    generator = torch.Generator().manual_seed(0)
    kept = torch.stack([step.drop_inputs(torch.ones(8, 4), 0.5, generator) > 0 for _ in range(4000)]).double()
    by_place = kept.mean(0).ravel()
    assert float((by_place - 0.5).abs().max()) < 0.04  # 5 standard errors
    correlation = torch.corrcoef(kept.flatten(1).T) - torch.eye(32)
    assert float(correlation.abs().max()) < 0.08


def history_rows(n_anchors, value=1.0):
    rows = np.full((training.CHECK_EVERY, len(step.HISTORY_COLUMNS)), value, np.float32)
    rows[:, step.HISTORY_COLUMNS.index("n_anchors")] = n_anchors
    return rows


def test_a_run_without_anchors_stops_with_a_mend():
    with pytest.raises(DataError, match="not a single anchor"):
        training.check_health(history_rows(0), get_preset("paper"))
    training.check_health(history_rows(3), get_preset("paper"))


def judged(earlier=1.0, preset="default", **latest):
    """Judge a run of two windows: all ones, but for these values in the second."""
    history = np.concatenate([history_rows(3, earlier), history_rows(3)])
    for name, value in latest.items():
        history[training.CHECK_EVERY :, step.HISTORY_COLUMNS.index(name)] = value
    training.check_health(history, preset if not isinstance(preset, str) else get_preset(preset))


def test_an_exploding_reconstruction_is_told_with_its_best():
    with pytest.raises(
        DataError, match=r"blowing up before step 100.* is 15, after 1 at its best\. Try a lower learning"
    ):
        judged(loss_autoencoder=15.0)
    judged(loss_autoencoder=9.0)
    judged(loss_autoencoder=15.0, earlier=30.0)  # a bad start that got better
    judged(loss_autoencoder=15.0, preset=get_preset("default", weight_autoencoder=0))


def test_a_discriminator_that_has_won_is_told():
    with pytest.raises(DataError, match=r"do not mix: for the 50 steps before step 100 .*\(loss 0\.003; 1\.39 is full"):
        judged(loss_discriminator=0.003)
    once_lost = np.where(np.arange(training.CHECK_EVERY) == 7, 0.2, 0.003)
    judged(loss_discriminator=once_lost)
    judged(loss_discriminator=0.003, preset=get_preset("default", weight_gan=0))


def test_a_collapsed_latent_space_is_told():
    with pytest.raises(DataError, match=r"collapsed before step 100: .* one point \(standard deviation 1e-05\)"):
        judged(latent_spread=1e-5)
    judged(latent_spread=0.05)


def test_what_is_watched_is_what_it_says():
    """The recorded spread, share of anchored cells and gradient norm against plain evaluations."""
    inputs, preset = two_data_sets(), get_preset("paper", steps=1, batch_size=40, discriminator_updates=1)
    history, _, data = run(inputs, preset)
    row = dict(zip(step.HISTORY_COLUMNS, history[0]))
    fresh = training.make_state([item.x.shape[1] for item in inputs], preset, 0, CPU)
    batch = step.draw_batch(data, fresh.generator)
    z = [encoder(x).detach() for encoder, x in zip(fresh.networks.encoders, batch.x)]
    spread = min(float(item.numpy().std(0).mean()) for item in z)
    assert row["latent_spread"] == pytest.approx(spread, rel=1e-4)
    k = data.n_neighbours[0]
    similarity = (batch.linked[0][0] @ batch.linked[0][1].T).numpy()
    of_a = similarity >= np.sort(similarity, 1)[:, [-k]]
    of_b = similarity >= np.sort(similarity, 0)[[-k], :]
    mutual = of_a & of_b
    assert row["anchored_share"] == pytest.approx((mutual.any(0).mean() + mutual.any(1).mean()) / 2, abs=1e-6)
    loss = step.discriminator_loss(fresh.networks.discriminators[0](z[0]), fresh.networks.discriminators[0](z[1]))
    loss.backward()
    squares = sum(float((p.grad**2).sum()) for p in fresh.networks.discriminators.parameters())
    assert row["grad_norm_discriminator"] == pytest.approx(squares**0.5, rel=1e-3)


@pytest.mark.parametrize("name", ["paper", "default"])
def test_healthy_runs_are_far_from_every_limit(name):
    preset = get_preset(name, steps=150, batch_size=60)
    history, _, _ = run(two_data_sets(), preset)
    windows = history.reshape(3, training.CHECK_EVERY, -1)
    column = step.HISTORY_COLUMNS.index
    assert windows[:, :, column("loss_discriminator")].max(1).min() > 10 * training.WON * training.FULL_MIXING
    assert windows[:, :, column("latent_spread")].max(1).min() > 10 * training.COLLAPSED
    reconstruction = windows[:, :, column("loss_autoencoder")].mean(1)
    assert (reconstruction / np.minimum.accumulate(reconstruction)).max() < 0.2 * training.EXPLOSION


def test_divergence_stops_and_names_the_term():
    inputs, preset = two_data_sets(), get_preset("paper", steps=60, batch_size=40)
    inputs[0].x[:] = 1e30
    with pytest.raises(DataError, match="loss_autoencoder"):
        run(inputs, preset)


def test_three_data_sets_use_every_adjacent_pair():
    first, second = two_data_sets()
    third = EngineInput("cytometry", first.recipe, second.x[:50, :9].copy(), {1: second.x[:50, :8].copy()})
    second.linked[1] = second.linked[0]
    preset = get_preset("paper", steps=4, batch_size=40)
    _, state, _ = run([first, second, third], preset)
    assert len(state.networks.discriminators) == 2
    assert len(state.networks.encoders) == 3
    assert all(torch.isfinite(p).all() for p in state.networks.parameters())


def mixing_history(*levels):
    """A history whose discriminator loss stays at each level for 200 steps."""
    rows = np.ones((200 * len(levels), len(step.HISTORY_COLUMNS)), np.float32)
    rows[:, step.HISTORY_COLUMNS.index("loss_discriminator")] = np.repeat(levels, 200)
    return rows


def test_training_ends_when_the_data_sets_come_apart_again():
    preset = get_preset("paper", unmixing=0.2)
    assert training.overtrained(mixing_history(0.6, 1.3, 1.0), preset)
    assert not training.overtrained(mixing_history(0.6, 1.3, 1.1), preset)
    assert not training.overtrained(mixing_history(0.6, 0.6), preset)  # has not mixed yet: health is judged elsewhere
    assert not training.overtrained(mixing_history(0.6, 1.3, 1.0)[:-1], preset)
    assert not training.overtrained(mixing_history(0.6, 1.3, 1.0), get_preset("paper"))


def test_an_early_end_keeps_what_was_done(monkeypatch):
    monkeypatch.setattr(training, "overtrained", lambda history, preset: len(history) == 50)
    preset = get_preset("default", steps=100, batch_size=40)
    history, state, _ = run(two_data_sets(), preset)
    assert len(history) == state.step == 50
    assert (history[:, step.HISTORY_COLUMNS.index("loss_autoencoder")] > 0).all()
