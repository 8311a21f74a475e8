"""Matched coordinates and networks that start from them, on small data whose truth is known."""

import dataclasses

import numpy as np
import pytest
import torch

from scmodal.anchors import smooth
from scmodal.contracts import InputError
from scmodal.matching import match
from scmodal.metrics import foscttm
from scmodal.networks import Networks, TwoLayer
from scmodal.presets import get_preset
from scmodal.start import _linear, common_targets, start_from

PRESET = get_preset("default", n_latent=8, n_hidden=40)


@dataclasses.dataclass
class Sides:
    linked: tuple[np.ndarray, np.ndarray]
    components: tuple[np.ndarray, np.ndarray]


def sides(n: int = 600, seed: int = 0, states: int = 8, links: int = 6, noise: float = 1.5) -> Sides:
    """Two views of the same cells: few noisy links, and own components that show the whole state in other axes."""
    rng = np.random.default_rng(seed)
    state = rng.standard_normal((n, states)) * rng.lognormal(size=states) + 4 * rng.integers(0, 2, (n, states))
    loading = rng.standard_normal((states, links))
    linked = [state @ loading + noise * np.std(state @ loading) * rng.standard_normal((n, links)) for _ in range(2)]
    own = [state @ rng.standard_normal((states, 20)) + rng.standard_normal((n, 20)) for _ in range(2)]
    return Sides(tuple(x.astype(np.float32) for x in linked), tuple(x.astype(np.float32) for x in own))  # type: ignore[arg-type]


def test_own_components_add_what_the_links_do_not_say() -> None:
    data = sides()
    smoothed = tuple(smooth(x, c, 0.8, 15) for x, c in zip(data.linked, data.components))
    by_links = foscttm(*match(smoothed, data.components, rounds=0, share=0.5))  # type: ignore[arg-type]
    once = foscttm(*match(smoothed, data.components, rounds=1, share=0.5))  # type: ignore[arg-type]
    thrice = foscttm(*match(smoothed, data.components, rounds=3, share=0.5))  # type: ignore[arg-type]
    assert thrice < 0.6 * by_links
    assert thrice < once < by_links


def test_wrong_links_of_little_weight_do_little_harm() -> None:
    data = sides(noise=0.3)
    wrong = data.linked[1].copy()
    wrong[:, 3:] = wrong[::-1, 3:]  # half of the links lead to other cells
    both = (data.linked[0], wrong)
    alike = foscttm(*match(both, data.components, rounds=0, share=0.5))
    weights = np.array([1, 1, 1, 0.05, 0.05, 0.05], np.float32)
    weighted = foscttm(*match(both, data.components, rounds=0, share=0.5, weights=weights))
    right = foscttm(*match((both[0][:, :3], wrong[:, :3]), data.components, rounds=0, share=0.5))
    assert right < weighted < 0.7 * alike


def test_shuffled_links_give_no_match() -> None:
    data = sides()
    order = np.random.default_rng(1).permutation(len(data.linked[1]))
    unrelated = (data.linked[0], data.linked[1][order])
    own = (data.components[0], data.components[1][order])
    found = match(unrelated, own, rounds=3, share=0.5)
    # cells keep their own state in both tables, so the right partner of a cell is its place in `order`
    assert foscttm(found[0][order], found[1]) < 0.2 < 0.4 < foscttm(found[0], found[1])


def test_coordinates_are_unit_rows_and_repeat() -> None:
    data = sides(n=80)
    first = match(data.linked, data.components, rounds=2, share=0.3)
    again = match(data.linked, data.components, rounds=2, share=0.3)
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(np.linalg.norm(a, axis=1), 1.0, rtol=1e-5)
    assert first[0].shape[1] == first[1].shape[1]


def test_sides_of_different_size_and_a_constant_component() -> None:
    data = sides(n=200)
    components = (data.components[0][:150], np.hstack([data.components[1][:, :4], np.zeros((200, 1), np.float32)]))
    a, b = match((data.linked[0][:150], data.linked[1]), components, rounds=3, share=0.5)
    assert a.shape[0] == 150
    assert b.shape[0] == 200
    assert np.isfinite(a).all()
    assert np.isfinite(b).all()


@pytest.mark.parametrize(("n_in", "n_out"), [(30, 8), (8, 30), (3, 8), (8, 3)])
def test_a_two_layer_network_computes_a_linear_map(n_in: int, n_out: int) -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((n_out, n_in))
    network = TwoLayer(n_in, 40, n_out)
    _linear(network, weights)
    x = rng.standard_normal((25, n_in)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), x @ weights.T, rtol=1e-4, atol=1e-4)


def start(widths: tuple[int, int], seed: int = 0) -> tuple[list[np.ndarray], list[np.ndarray], Networks]:
    """Targets, input and networks started from them, of two views of very different width."""
    rng = np.random.default_rng(seed)
    z = rng.standard_normal((500, 6)).astype(np.float32)
    x = [(z @ rng.standard_normal((6, p)) + rng.standard_normal((500, p))).astype(np.float32) for p in widths]
    x = [(item - item.mean(0)) / item.std(0) for item in x]
    targets = common_targets([(z, z)], [(0, 1)], PRESET.n_latent, 0.5)
    networks = Networks(widths, PRESET)
    start_from(networks, x, targets, [0.5, 0.2])
    return targets, x, networks


def test_encoders_start_near_their_targets_and_at_one_scale() -> None:
    targets, x, networks = start((300, 12))
    with torch.no_grad():
        latents = [e(torch.from_numpy(item)).numpy() for e, item in zip(networks.encoders, x)]
    for z, target in zip(latents, targets):
        np.testing.assert_allclose(np.sqrt(z.var(0).mean()), np.sqrt(target.var(0).mean()), rtol=1e-3)
        assert np.mean([np.corrcoef(z[:, k], target[:, k])[0, 1] for k in range(6)]) > 0.9
    assert foscttm(*latents) < 0.1


def test_generators_start_as_the_way_back() -> None:
    _, x, networks = start((300, 12))
    with torch.no_grad():
        for encoder, generator, item in zip(networks.encoders, networks.generators, x):
            rows = torch.from_numpy(item)
            error = (generator(encoder(rows)) - rows).square().mean()
            assert error < 0.7  # of standardised columns, of which noise is a part; chance is 1


def test_a_chain_of_three_is_placed_in_one_space() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 5)).astype(np.float32)
    turn = np.linalg.qr(rng.standard_normal((5, 5)))[0].astype(np.float32)
    found = [(z, z), (z @ turn, z @ turn)]  # each pair has axes of its own
    targets = common_targets(found, [(0, 1), (1, 2)], 8, 0.5)
    assert len(targets) == 3
    np.testing.assert_allclose(targets[0], targets[2], atol=1e-3)
    np.testing.assert_allclose(np.sqrt(np.mean([t.var(0).mean() for t in targets])), 0.5, rtol=1e-4)


def test_pairs_in_any_order_and_more_pairs_than_needed() -> None:
    rng = np.random.default_rng(0)
    z = rng.standard_normal((300, 5)).astype(np.float32)
    # the second pair touches nothing placed yet
    targets = common_targets([(z, z)] * 4, [(0, 1), (2, 3), (1, 2), (0, 2)], 8, 0.5)
    for target in targets[1:]:
        np.testing.assert_allclose(targets[0], target, atol=1e-3)


def test_a_narrow_hidden_layer_computes_the_nearest_map() -> None:
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((8, 4)) @ rng.standard_normal((4, 30))  # of rank 4: two hidden units for each
    network = TwoLayer(30, 9, 8)
    _linear(network, weights)
    x = rng.standard_normal((25, 30)).astype(np.float32)
    with torch.no_grad():
        np.testing.assert_allclose(network(torch.from_numpy(x)).numpy(), x @ weights.T, rtol=1e-3, atol=1e-3)


def test_share_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match="matching_share"):
        get_preset("default", matching_share=1.5)


def test_a_cell_is_not_its_own_neighbour(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither where all cells are searched nor where some are drawn."""
    components = np.random.default_rng(0).standard_normal((60, 3)).astype(np.float32)
    marks = np.eye(60, dtype=np.float32)
    for among in (60, 40):
        monkeypatch.setattr("scmodal.anchors.NEIGHBOUR_CELLS", among)
        found = smooth(marks, components, 0.5, 4)
        np.testing.assert_allclose(np.diag(found), 0.5)
        np.testing.assert_allclose(np.sort(found, axis=1)[:, -5:-1], 0.125)


def test_components_without_spread_match_by_the_links() -> None:
    data = sides(n=80)
    flat = tuple(np.zeros_like(item) for item in data.components)
    for found in match(data.linked, flat, rounds=2, share=0.5):  # type: ignore[arg-type]
        assert np.isfinite(found).all()
