"""Properties of the S4 layers."""

import pytest
import torch

from ecg_transformers.layers.state_space import S4Kernel, S4Layer, hippo_legs, long_convolution


def make_layer(seed=0, length=40, **options):
    torch.manual_seed(seed)
    return S4Layer(6, 8, length, **options).eval()


def official_layer(tensors, index, length, **options):
    """A layer filled with the published tensors of one layer."""
    prefix = f"weights.s4_layers.{index}."
    width = tensors[prefix + "D"].shape[1]
    layer = S4Layer(width, 8, length, **options).eval()
    state = {f"kernel.{n}": tensors[f"{prefix}kernel.kernel.{n}"] for n in ("C", "B", "P", "Q", "w", "log_dt")}
    state["skip"] = tensors[prefix + "D"]
    state["output.weight"] = tensors[prefix + "output_linear.0.weight"]
    state["output.bias"] = tensors[prefix + "output_linear.0.bias"][:, 0]
    state["norm.weight"] = tensors[f"weights.norms.{index}.weight"]
    state["norm.bias"] = tensors[f"weights.norms.{index}.bias"]
    layer.load_state_dict(state)
    return layer


@torch.no_grad()
def test_causal_kernels_and_layers_equal_the_published_ones(parity):
    tensors = parity("st_mem", "s4_causal")
    layers = [official_layer(tensors, i, 60) for i in range(2)]
    for i, layer in enumerate(layers):
        torch.testing.assert_close(layer.kernel(60), tensors[f"kernel{i}"], atol=1e-5, rtol=0)
    for x, y in ((tensors["x"], tensors["y"]), (tensors["x"][:, :30], tensors["y_short"])):
        torch.testing.assert_close(layers[1](layers[0](x)), y, atol=1e-5, rtol=0)


@torch.no_grad()
def test_bidirectional_kernels_and_layers_equal_the_published_ones(parity):
    tensors = parity("st_mem", "s4_bidir")
    layers = [official_layer(tensors, i, 50, bidirectional=True) for i in range(2)]
    for i, layer in enumerate(layers):
        torch.testing.assert_close(layer.kernel(50), tensors[f"kernel{i}"], atol=1e-5, rtol=0)
    for x, y in ((tensors["x"], tensors["y"]), (tensors["x"][:, :25], tensors["y_short"])):
        u = torch.nn.functional.linear(x, tensors["weights.encoder.weight"], tensors["weights.encoder.bias"])
        pooled = layers[1](layers[0](u)).mean(1)
        out = torch.nn.functional.linear(pooled, tensors["weights.decoder.weight"], tensors["weights.decoder.bias"])
        torch.testing.assert_close(out, y, atol=1e-5, rtol=0)


@torch.no_grad()
@pytest.mark.parametrize("length", [40, 25, 90, 130], ids=["as_built", "shorter", "longer", "much_longer"])
def test_convolution_equals_the_recurrence(length):
    layer, x = make_layer(), torch.randn(2, length, 6)
    recurrence, state, steps = layer.kernel.recurrence(), layer.initial_state(2), []
    for t in range(length):
        y, state = layer.step(x[:, t], state, recurrence)
        steps.append(y)
    torch.testing.assert_close(layer(x), torch.stack(steps, 1), atol=1e-5, rtol=0)


@torch.no_grad()
def test_kernel_is_the_response_of_the_dense_system():
    kernel = make_layer(length=32).kernel
    transition, b, c = (x.to(torch.complex128) for x in kernel.recurrence())
    taps, state = [], b
    for _ in range(32):
        taps.append((c * state).sum(-1).real)
        state = torch.einsum("hmn,hn->hm", transition, state)
    torch.testing.assert_close(kernel(32)[0], torch.stack(taps, -1).float(), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_causal_layer_does_not_see_the_future_and_bidirectional_does():
    x = torch.randn(1, 40, 6)
    changed = x.clone()
    changed[:, 20:] += 1.0
    causal, both = make_layer(), make_layer(bidirectional=True)
    torch.testing.assert_close(causal(changed)[:, :20], causal(x)[:, :20], atol=1e-5, rtol=0)
    assert (both(changed)[:, :20] - both(x)[:, :20]).abs().max() > 1e-3


@torch.no_grad()
def test_two_directions_equal_the_direct_sums():
    u, kernel = torch.randn(1, 2, 12), torch.randn(2, 2, 12)
    expected = torch.zeros(1, 2, 12)
    for t in range(12):
        for s in range(12):
            expected[..., t] += u[..., s] * (kernel[0, :, t - s] if s <= t else kernel[1, :, s - t - 1])
    torch.testing.assert_close(long_convolution(u, kernel), expected, atol=1e-5, rtol=0)


@torch.no_grad()
def test_odd_length_is_exact_or_one_tap_short_as_published():
    torch.manual_seed(0)
    exact = S4Kernel(3, 8, 31, odd_length="exact")
    official = S4Kernel(3, 8, 31, odd_length="official")
    assert exact(31).shape[-1] == 31
    assert official(31).shape[-1] == 30
    transition, b, c = exact.recurrence()
    last = (c * (torch.linalg.matrix_power(transition, 30) @ b[..., None])[..., 0]).sum(-1).real
    torch.testing.assert_close(exact(31)[0, :, -1], last, atol=1e-5, rtol=1e-4)


def test_hippo_basis_rebuilds_the_legs_matrix():
    w, p, b = hippo_legs(6)
    assert (w.imag > 0).all()
    assert torch.allclose(w.real, torch.full_like(w.real, -0.5))
    # |B|² and |P|² do not change with the basis: sums of (2n + 1) and (n + 1/2), half of them per pair member
    assert float(b.abs().square().sum()) == pytest.approx(36 / 2)
    assert float(p.abs().square().sum()) == pytest.approx(18 / 2)


def test_only_output_matrices_train_and_gradients_reach_them_at_any_length():
    layer = make_layer()
    trained = {name for name, _ in layer.named_parameters()}
    assert trained == {"kernel.C", "skip", "output.weight", "output.bias", "norm.weight", "norm.bias"}
    for length in (40, 64):
        layer.zero_grad()
        layer(torch.randn(1, length, 6)).square().sum().backward()
        grads = [p.grad for p in layer.parameters()]
        assert all(g is not None and g.isfinite().all() and g.abs().max() > 0 for g in grads)


def test_tied_dropout_drops_a_feature_for_all_times():
    layer = make_layer(dropout=0.5)
    layer.train()
    dropped = layer.dropout(torch.ones(2, 6, 40))
    assert (dropped == dropped[..., :1]).all()


def test_half_precision_inputs_keep_the_kernel_in_single_precision():
    layer, x = make_layer(), torch.randn(1, 40, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer.kernel(40).dtype == torch.float32
        out = layer(x)
    torch.testing.assert_close(out.float(), layer(x), atol=0.1, rtol=0.1)


def test_bidirectional_kernel_has_no_recurrence():
    with pytest.raises(ValueError, match="looks ahead"):
        make_layer(bidirectional=True).kernel.recurrence()


@pytest.mark.parametrize(("state_size", "length"), [(7, 40), (0, 40), (8, 1)])
def test_impossible_sizes_are_refused(state_size, length):
    with pytest.raises(ValueError, match=r"state_size|max_length"):
        S4Kernel(4, state_size, length)
