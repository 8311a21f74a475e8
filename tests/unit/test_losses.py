"""Every loss and its gradients against a plain, slow evaluation of the formulas in docs/method.md."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from scmodal import losses, precision, step, training
from scmodal.anchors import mutual_neighbours, unit_rows
from scmodal.inputs import EngineInput, Recipe
from scmodal.networks import Discriminator, Networks, TwoLayer, latent_cycle
from scmodal.presets import get_preset

WIDTHS = (37, 11)
BATCH = 24


def close(actual: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    """Equal to `tolerance` relative to the size of the expected value."""
    scale = max(1.0, float(expected.abs().max()))
    assert float((actual.double() - expected).abs().max()) <= tolerance * scale


# ---- the plain evaluation, in double precision, with explicit sums -----------------------------------------------


def plain_linear(x, layer):
    return torch.stack(
        [torch.stack([(row * w).sum() + b for w, b in zip(layer.weight.double(), layer.bias.double())]) for row in x]
    )


def plain_two_layer(x, network):
    return plain_linear(plain_linear(x, network.first).clamp_min(0), network.second)


def plain_discriminator(z, d):
    h = plain_linear(z, d.first).clamp_min(0)
    return plain_linear(plain_linear(h, d.second).clamp_min(0), d.third)[:, 0].clamp(-50, 50)


def plain_discriminator_loss(a, b):
    return torch.log1p(torch.exp(-a)).mean() + torch.log1p(torch.exp(b)).mean()


def plain_kernel(x):
    return torch.exp(-((x[:, None, :] - x[None, :, :]) ** 2).sum(2) / (2 * x.shape[1]))


def plain_geometry(x, z, cap=0.975):
    kx, kz = plain_kernel(x), plain_kernel(z)
    cos = (kx * kz).sum(1) / ((kx**2).sum(1).sqrt() * (kz**2).sum(1).sqrt())
    return -torch.minimum(cos, torch.tensor(cap, dtype=torch.float64)).mean()


def plain_anchor(za, zb, s):
    squares = ((za[:, None, :] - zb[None, :, :]) ** 2).sum(2) / za.shape[1]
    return (s * squares).sum() / s.sum() if s.sum() > 0 else torch.zeros((), dtype=torch.float64)


def plain_mutual(a, b, k):
    cosine = [[float(x @ y / (x.norm() * y.norm())) for y in b] for x in a]
    of_a = [set(np.argsort(row)[::-1][:k]) for row in cosine]
    of_b = [set(np.argsort([row[j] for row in cosine])[::-1][:k]) for j in range(len(b))]
    return torch.tensor([[float(j in of_a[i] and i in of_b[j]) for j in range(len(b))] for i in range(len(a))])


# ---- fixtures -----------------------------------------------------------------------------------------------------


@pytest.fixture
def setting():
    preset = get_preset("paper", batch_size=BATCH, n_neighbours=5, n_hidden=16)
    networks = Networks(WIDTHS, preset, seed=3)
    rng = torch.Generator().manual_seed(1)
    x = [torch.randn(BATCH, p, generator=rng) for p in WIDTHS]
    linked = [(unit_rows(x[0][:, :7]), unit_rows(x[1][:, :7]))]
    return preset, networks, step.Batch(x, linked, [(0, 1)], [None, None], [None, None], [None])


def test_start_values_follow_the_stated_distribution():
    networks = Networks((500, 40), get_preset("paper"), seed=0)
    weights, biases = networks.encoders[0].first.weight, networks.discriminators[0].second.bias
    assert abs(float(weights.mean())) < 1e-3
    assert float(weights.std()) == pytest.approx(0.1, rel=0.01)
    assert float(biases.std()) == pytest.approx(0.1, rel=0.1)
    shapes = [tuple(p.shape) for p in networks.encoders[0].parameters()]
    assert shapes == [(512, 500), (512,), (20, 512), (20,)]
    shapes = [tuple(p.shape) for p in networks.discriminators[0].parameters()]
    assert shapes == [(512, 20), (512,), (512, 512), (512,), (1, 512), (1,)]


def test_start_values_do_not_depend_on_the_global_random_state():
    torch.manual_seed(1)
    first = Networks((9, 4), get_preset("paper"), seed=7).encoders[0].first.weight
    torch.manual_seed(2)
    second = Networks((9, 4), get_preset("paper"), seed=7).encoders[0].first.weight
    assert torch.equal(first, second)
    assert not torch.equal(first, Networks((9, 4), get_preset("paper"), seed=8).encoders[0].first.weight)


def test_every_term_and_the_gradients_of_a_step(setting):
    preset, networks, batch = setting
    z = [encoder(x) for encoder, x in zip(networks.encoders, batch.x)]
    anchors = [mutual_neighbours(*batch.linked[0], 5, 5)]
    fast = step.encoder_losses(networks, batch, z, anchors, preset)

    x = [item.double() for item in batch.x]
    e, g, d = networks.encoders, networks.generators, networks.discriminators[0]
    zs = [plain_two_layer(item, network) for item, network in zip(x, e)]
    plain = {
        "gan": -plain_discriminator_loss(plain_discriminator(zs[0], d), plain_discriminator(zs[1], d)),
        "autoencoder": sum(((plain_two_layer(zi, gi) - xi) ** 2).mean() for zi, gi, xi in zip(zs, g, x)),
        "cycle": ((zs[0] - plain_two_layer(plain_two_layer(zs[0], g[1]), e[1])) ** 2).mean()
        + ((zs[1] - plain_two_layer(plain_two_layer(zs[1], g[0]), e[0])) ** 2).mean(),
        "anchor": plain_anchor(zs[0], zs[1], plain_mutual(batch.x[0][:, :7], batch.x[1][:, :7], 5).double()),
        "geometry": plain_geometry(x[0], zs[0]) + plain_geometry(x[1], zs[1]),
    }
    plain["total"] = (
        plain["gan"] + 10 * plain["autoencoder"] + 10 * plain["cycle"] + plain["anchor"] + 10 * plain["geometry"]
    )
    parameters = [*e.parameters(), *g.parameters()]
    for name, expected in plain.items():
        close(fast[name].detach(), expected.detach())
        actual = torch.autograd.grad(fast[name], parameters, retain_graph=True, allow_unused=True)
        wanted = torch.autograd.grad(expected, parameters, retain_graph=True, allow_unused=True)
        for ours, theirs in zip(actual, wanted):
            assert (ours is None) == (theirs is None)
            if ours is not None:
                close(ours, theirs.double())
    assert any(
        float(v.abs().max()) > 0 for v in torch.autograd.grad(plain["geometry"], parameters[0], retain_graph=True)
    )


def test_the_adversarial_term_pulls_on_encoders_only(setting):
    preset, networks, batch = setting
    z = [encoder(x) for encoder, x in zip(networks.encoders, batch.x)]
    anchors = [mutual_neighbours(*batch.linked[0], 5, 5)]
    terms = step.encoder_losses(networks, batch, z, anchors, preset)
    generator_weights = list(networks.generators.parameters())
    assert all(g is None for g in torch.autograd.grad(terms["gan"], generator_weights, allow_unused=True))


def test_discriminator_gradients(setting):
    _, networks, batch = setting
    d = networks.discriminators[0]
    z = [encoder(x).detach() for encoder, x in zip(networks.encoders, batch.x)]
    parameters = list(d.parameters())
    fast = losses.discriminator_loss(d(z[0]), d(z[1]))
    plain = plain_discriminator_loss(plain_discriminator(z[0].double(), d), plain_discriminator(z[1].double(), d))
    close(fast.detach(), plain.detach())
    for ours, theirs in zip(torch.autograd.grad(fast, parameters), torch.autograd.grad(plain, parameters)):
        close(ours, theirs.double())


def test_discriminator_at_full_mixing_and_at_the_clamp():
    zero = torch.zeros(8)
    assert float(losses.discriminator_loss(zero, zero)) == pytest.approx(2 * math.log(2))
    d = Discriminator(2, 4, 50.0)
    with torch.no_grad():
        for parameter in d.parameters():
            parameter.fill_(100.0)
    assert d(torch.ones(3, 2)).tolist() == [50.0] * 3


def test_cells_that_do_not_count_leave_the_adversarial_term_as_if_they_were_not_there():
    rng = torch.Generator().manual_seed(0)
    d = Discriminator(2, 4, 50.0)
    z = [torch.randn(n, 2, generator=rng, requires_grad=True) for n in (8, 6)]
    counted = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1]), torch.tensor([1.0, 1, 0, 1, 1, 1])
    loss = step.pair_loss(d, *z, counted)
    kept = [item[weight > 0] for item, weight in zip(z, counted)]
    assert float(loss) == pytest.approx(float(plain_discriminator_loss(d(kept[0]), d(kept[1]))))
    for item, weight, gradient in zip(z, counted, torch.autograd.grad(loss, z)):
        assert torch.equal(gradient.abs().sum(1) > 0, weight > 0), item
    everyone = torch.ones(8), torch.ones(6)
    assert float(step.pair_loss(d, *z, everyone)) == pytest.approx(float(step.pair_loss(d, *z, None)))
    assert float(step.pair_loss(d, *z, (torch.zeros(8), torch.zeros(6)))) == 0.0


def test_discriminator_updates_leave_encoders_alone(setting):
    preset, _networks, batch = setting
    state = training.make_state(WIDTHS, preset, 0, torch.device("cpu"))
    before = [p.clone() for p in state.networks.parameters()]
    z = [encoder(x) for encoder, x in zip(state.networks.encoders, batch.x)]
    first = float(losses.discriminator_loss(*(state.networks.discriminators[0](item) for item in z)))
    step.update_discriminators(state, batch, z, preset)
    last = float(losses.discriminator_loss(*(state.networks.discriminators[0](item) for item in z)))
    assert last < first
    changed = [not torch.equal(a, b) for a, b in zip(before, state.networks.parameters())]
    n = len(list(state.networks.discriminators.parameters()))
    assert changed == [False] * (len(changed) - n) + [True] * n


def test_cycle_equals_going_through_the_wide_reconstruction():
    rng = torch.Generator().manual_seed(0)
    preset = get_preset("paper")
    networks = Networks((300, 20), preset, seed=2)
    z = torch.randn(50, 20, generator=rng)
    generator, encoder = networks.generators[0], networks.encoders[0]
    assert isinstance(generator, TwoLayer)
    close(latent_cycle(generator, encoder, z).detach(), encoder.double()(generator.double()(z.double())).detach(), 2e-5)


def test_geometry_of_equal_and_collapsed_latents():
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(0))
    kernel = losses.gaussian_kernel(x)
    assert torch.equal(kernel.diagonal(), torch.ones(30))
    assert float(losses.geometry_loss(kernel, x, 0.975)) == pytest.approx(-0.975)
    assert float(losses.geometry_loss(kernel, x, 2.0)) == pytest.approx(-1.0, abs=1e-6)


def test_capped_cells_give_no_gradient():
    z = torch.randn(10, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    loss = losses.geometry_loss(losses.gaussian_kernel(z.detach()), z, 0.975)
    assert float(torch.autograd.grad(loss, z)[0].abs().max()) == 0.0


def test_no_anchor_gives_zero_and_zero_gradient():
    z = torch.randn(6, 4).requires_grad_()
    loss = losses.anchor_loss(z, z.detach() + 1, torch.zeros(6, 6))
    assert float(loss) == 0.0
    assert float(torch.autograd.grad(loss, z)[0].abs().max()) == 0.0


def test_mutual_neighbours_against_sets():
    rng = torch.Generator().manual_seed(4)
    a, b = torch.randn(30, 5, generator=rng), torch.randn(20, 5, generator=rng)
    actual = mutual_neighbours(unit_rows(a), unit_rows(b), 6, 6)
    assert torch.equal(actual, plain_mutual(a, b, 6))
    assert 0 < int(actual.sum()) <= 6 * 20


@pytest.mark.parametrize("shape", [(50, 30, 20), (40, 1500, 24), (40, 24, 1500)])
def test_products_of_either_library_are_the_same(monkeypatch, shape):
    n, k, m = shape
    rng = torch.Generator().manual_seed(0)
    x, weight, bias = (torch.randn(*s, generator=rng) for s in ((n, k), (m, k), (m,)))
    found = []
    for library in (True, False):
        if library and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
            pytest.skip("this torch has no oneDNN")
        monkeypatch.setattr(precision, "onednn_is_faster", lambda library=library: library)
        inputs = [item.clone().requires_grad_() for item in (x, weight, bias)]
        y = precision.linear(*inputs)
        gradients = torch.autograd.grad((y * y).sum(), inputs)
        # the fused optimisers take a gradient by its place in memory
        assert all(gradient.is_contiguous() for gradient in gradients)
        product = precision.product(inputs[0], inputs[1].T.detach().contiguous().requires_grad_())
        close(product.detach(), (y - bias).detach())
        turned = precision.linear(x, inputs[1].T.contiguous().T, bias)
        close(turned.detach(), y.detach())
        found.append([y.detach(), *gradients])
    for ours, theirs in zip(*found):
        close(ours, theirs)


@pytest.mark.parametrize("library", [True, False])
@pytest.mark.parametrize("name", ["paper", "default"])
def test_fused_updates_are_those_of_plain_adam(monkeypatch, library, name):
    """A gradient laid out unlike its weight would be applied to the wrong values, without a word."""
    if library and not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        pytest.skip("this torch has no oneDNN")
    monkeypatch.setattr(precision, "onednn_is_faster", lambda: library)
    preset = get_preset(name, batch_size=BATCH, n_neighbours=5, n_hidden=48, steps=3, precision="float32")
    rng = np.random.default_rng(0)
    recipe = Recipe("rna", [], np.zeros(0, np.float32), np.ones(0, np.float32), 10.0)
    inputs = [
        EngineInput("rna", recipe, x, {0: x[:, :7]})
        for x in (rng.standard_normal((60, p), dtype=np.float32) for p in (1100, 11))
    ]
    cpu, found = torch.device("cpu"), []
    for fused in (True, False):
        state = training.make_state((1100, 11), preset, 0, cpu)
        for optimiser in (state.optimiser, state.discriminator_optimiser):
            optimiser.param_groups[0]["fused"] = fused
        data = training.make_data(inputs, preset, cpu)
        for _ in range(3):
            step.train_step(state, data, preset, torch.zeros(len(step.HISTORY_COLUMNS)))
        found.append(list(state.networks.parameters()))
    for ours, plain in zip(*found):
        close(ours.detach(), plain.detach(), 1e-4)
