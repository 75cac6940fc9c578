"""The server's optimizers and the proximal correction, on numbers worked by hand."""

import numpy as np
import pytest

from llmagentos import kernels

TAU = 1e-3
DELTAS = ((1, -2), (0.5, 0.5), (-1, 0))
ZERO = np.zeros(2, np.float32)


def vector(*values):
    return np.array(values, np.float32)


def walk(step, deltas, **rates):
    """The adapter after each delta, from w = 0, m = 0 and v = tau squared."""
    m, v, w = ZERO, np.full(2, TAU**2, np.float32), ZERO
    for delta in deltas:
        m, v, w = step(w, m, v, vector(*delta), lr=0.1, tau=TAU, **rates)
        yield w


def test_fedadam_takes_the_steps_of_the_paper():
    steps = list(walk(kernels.adam_step, DELTAS, beta1=0.9, beta2=0.99))
    expected = [(0.099005, -0.099501), (0.223605, -0.162551), (0.240909, -0.219581)]
    np.testing.assert_allclose(steps, expected, atol=1e-6)


def test_an_adaptive_step_is_off_by_less_than_four_roundings_of_itself():
    generator = np.random.default_rng(0)
    w, m, v, zero = generator.standard_normal((4, 9_999)) * [[1e-3], [1e-4], [1e-7], [0]]
    w, m, v, zero = (each.astype(np.float32) for each in (w, m, np.abs(v), zero))
    after = kernels.adam_step(w, m, v, zero, lr=0.3, beta1=1, beta2=1, tau=TAU)
    assert (after.m == m).all()
    assert (after.v == v).all()
    step = 0.3 * m.astype(np.float64) / (np.sqrt(v.astype(np.float64)) + TAU)
    off = np.abs(after.w - (w + step))
    assert (off <= 2.0**-24 * np.abs(after.w) + 2.0**-22 * np.abs(step)).all()


def test_fedyogi_takes_the_first_step_of_fedadam():
    (step,) = walk(kernels.yogi_step, DELTAS[:1], beta1=0.9, beta2=0.99)
    np.testing.assert_allclose(step, (0.099005, -0.099501), atol=1e-6)


def test_fedyogi_shrinks_v_by_what_the_change_falls_short():
    after = kernels.yogi_step(
        ZERO, ZERO, vector(4, 1), vector(1, 2), lr=1, beta1=0, beta2=0.75, tau=1
    )
    np.testing.assert_array_equal(after.v, [3.75, 2.0])
    np.testing.assert_array_equal(after.m, [1, 2])


def test_fedadagrad_takes_the_first_step_of_the_paper():
    (step,) = walk(kernels.adagrad_step, DELTAS[:1])
    np.testing.assert_allclose(step, (0.099900, -0.099950), atol=1e-6)


def test_momentum_without_memory_is_the_plain_average():
    after = kernels.momentum_step(vector(1, 2), vector(9, 9), vector(0.5, -1), lr=1, beta=0)
    np.testing.assert_array_equal(after.w, [1.5, 1])


def test_momentum_adds_up():
    m, w = kernels.momentum_step(vector(1, 2), vector(4, -4), vector(1, 1), lr=0.5, beta=0.5)
    np.testing.assert_array_equal(m, [3, -1])
    np.testing.assert_array_equal(w, [2.5, 1.5])


def test_steps_leave_their_inputs_and_fill_their_outputs():
    before = [vector(1, 2), vector(3, 4), vector(5, 6), vector(7, 8)]
    copies = [values.copy() for values in before]
    out = tuple(np.empty(2, np.float32) for _ in range(3))
    after = kernels.adam_step(*before, lr=1, beta1=0.5, beta2=0.5, tau=1, out=out)
    np.testing.assert_array_equal(before, copies)
    assert all(ours is theirs for ours, theirs in zip(after, out, strict=True))


def test_vectors_of_another_length_are_named():
    with pytest.raises(ValueError, match="delta has 3 values; needs 2"):
        kernels.momentum_step(ZERO, ZERO, np.zeros(3, np.float32), lr=1, beta=0)
    with pytest.raises(ValueError, match="out has 1 vectors; needs 2"):
        kernels.momentum_step(ZERO, ZERO, ZERO, lr=1, beta=0, out=(ZERO,))


def test_proximal_pulls_the_gradient_to_the_anchor():
    gradient = vector(1, 1)
    kernels.proximal(gradient, vector(3, 2), vector(1, 4), 0.5)
    np.testing.assert_array_equal(gradient, [2, 0])


def test_proximal_with_mu_zero_leaves_every_bit():
    gradient = vector(-0.0, np.nan)
    before = gradient.tobytes()
    kernels.proximal(gradient, vector(np.inf, 1), vector(0, 0), 0.0)
    assert gradient.tobytes() == before


def test_proximal_corrects_a_tensor_in_place():
    torch = pytest.importorskip("torch")
    parameter = torch.nn.Parameter(torch.tensor([3.0, 2.0]))
    parameter.grad = torch.tensor([1.0, 1.0])
    kernels.proximal(parameter.grad, parameter, torch.tensor([1.0, 4.0]), 0.5)
    assert parameter.grad.tolist() == [2, 0]


@pytest.mark.gpu
def test_proximal_corrects_a_tensor_on_its_device():
    torch = pytest.importorskip("torch")
    gradient, here, anchor = torch.tensor([[1.0, 1.0], [3.0, 2.0], [1.0, 4.0]], device="cuda")
    kernels.proximal(gradient, here, anchor, 0.5)
    assert gradient.tolist() == [2, 0]


ROWS = (vector(1, -2), vector(3, 4))


def test_momentum_within_the_average_is_the_average_and_then_momentum():
    before = kernels.Momentum(m=vector(1, 1), w=vector(10, 20))
    result = kernels.average_momentum_step(before, ROWS, [0.5, 0.5], lr=0.1, beta=0.9)
    delta = kernels.weighted_sum(ROWS, [0.5, 0.5])
    apart = kernels.momentum_step(before.w, before.m, delta.vector, lr=0.1, beta=0.9)
    np.testing.assert_array_equal(result.state, apart)
    assert result.squared_norms == delta.squared_norms == (5.0, 25.0)


@pytest.mark.parametrize("rule", ["adam", "yogi", "adagrad"])
def test_an_adaptive_step_within_the_average_is_both_apart(rule):
    m, v, w = vector(1, 1), vector(0.5, 2), vector(10, 20)
    rates = {"lr": 0.1, "beta1": 0.9, "tau": TAU} | ({} if rule == "adagrad" else {"beta2": 0.99})
    out = kernels.Adaptive(*np.ones((3, 2), np.float32))
    result = kernels.average_adaptive_step(
        rule, kernels.Adaptive(m, v, w), ROWS, [0.5, 0.5], out=out, **rates
    )
    delta = kernels.weighted_sum(ROWS, [0.5, 0.5]).vector
    apart = getattr(kernels, f"{rule}_step")(w, m, v, delta, **rates)
    np.testing.assert_array_equal(result.state, apart)
    assert result.state.w is out.w


def test_outputs_of_an_averaged_step_may_not_lie_over_rows():
    before = kernels.Momentum(vector(1, 1), vector(1, 1))
    with pytest.raises(ValueError, match=r"out\[1\] overlaps rows\[0\]"):
        kernels.average_momentum_step(
            before, ROWS, [1, 1], lr=1, beta=0, out=kernels.Momentum(vector(1, 1), ROWS[0])
        )
