"""A step of local training: the twins alike, and torch's AdamW beside them."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmagentos import kernels
from llmagentos.kernels import reference
from llmagentos.kernels.training import clip_scale
from tests.test_kernels import bits, float32_vectors, native, quick, sizes

__all__ = ["native"]

RATES = (0.9, 0.999, 1e-9, 0.999, 0.01)


@quick
@given(data=st.data(), size=sizes, scale=st.floats(0.0, 1.0))
def test_a_training_step_is_the_reference(native, data, size, scale):
    before = [data.draw(float32_vectors(size)) for _ in range(4)]
    threads = data.draw(st.sampled_from((1, 2, 4)))
    ours, theirs = ([each.copy() for each in before] for _ in range(2))
    native.train_step(ours[:3], ours[3], scale, RATES, threads)
    reference.train_step(theirs[:3], theirs[3], scale, RATES, 1)
    assert all(bits(one) == bits(other) for one, other in zip(ours, theirs, strict=True))


def test_the_first_step_has_the_length_of_the_learning_rate():
    w, m, v = np.zeros((3, 2), np.float32)
    gradient = np.array([4, -0.25], np.float32)
    kernels.train_step(w, m, v, gradient, step=1, rates=kernels.AdamW(0.5, epsilon=0))
    np.testing.assert_allclose(w, [-0.5, 0.5], rtol=2.0**-22)
    np.testing.assert_allclose(m, 0.1 * gradient)
    np.testing.assert_allclose(v, 0.001 * gradient**2)


def test_decay_is_decoupled_from_the_gradient():
    w, m, v, gradient = np.array([[2], [0], [0], [0]], np.float32)
    kernels.train_step(w, m, v, gradient, step=1, rates=kernels.AdamW(0.5, decay=0.5))
    assert (w, m, v) == (1.5, 0, 0)


def test_the_gradient_is_pulled_before_it_is_clipped():
    w, m, v, gradient, anchor = np.array([[3, 4], [0, 0], [0, 0], [0, 0], [0, 0]], np.float32)
    plain = kernels.AdamW(1.0, beta1=0, beta2=0.5, epsilon=0)
    kernels.train_step(w, m, v, gradient, step=1, rates=plain, clip=5, anchor=anchor, mu=2)
    np.testing.assert_array_equal(gradient, [6, 8])
    np.testing.assert_allclose(m, [3, 4], rtol=1e-6)


def test_clipping_is_torchs():
    assert clip_scale(4.0, 0) == clip_scale(4.0, 3.0) == 1.0
    assert clip_scale(4.0, 1.0) == 1.0 / (2.0 + 1e-6)
    assert np.isnan(clip_scale(float("nan"), 1.0))


def test_a_pull_needs_an_anchor():
    with pytest.raises(ValueError, match=r"mu=0.5 needs an anchor"):
        kernels.train_step(*np.zeros((4, 1), np.float32), step=1, rates=kernels.AdamW(1), mu=0.5)
    with pytest.raises(ValueError, match="step=0; steps count from 1"):
        kernels.train_step(*np.zeros((4, 1), np.float32), step=0, rates=kernels.AdamW(1))


def test_a_step_that_is_refused_leaves_everything_as_it_was():
    memory = np.arange(1, 11, dtype=np.float32)
    w, m, v, gradient, anchor = memory.reshape(5, 2)
    pull = {"step": 1, "rates": kernels.AdamW(1), "mu": 0.5, "anchor": anchor}
    refused = {
        "step=0": ((w, m, v, gradient), pull | {"step": 0}),
        "v has 1 values; needs 2": ((w, m, v[:1], gradient), pull),
        "anchor has 1 values; needs 2": ((w, m, v, gradient), pull | {"anchor": anchor[:1]}),
        "v overlaps m": ((w, m, m, gradient), pull),
        "m overlaps weights": ((w, memory[1:3], v, gradient), pull),
        "gradient overlaps v": ((w, m, v, v), pull),
        "weights overlaps anchor": ((w, m, v, gradient), pull | {"anchor": w}),
        "threads=0": ((w, m, v, gradient), pull | {"threads": 0}),
    }
    for message, (vectors, how) in refused.items():
        with pytest.raises(ValueError, match=message):
            kernels.train_step(*vectors, **how)
        np.testing.assert_array_equal(memory, np.arange(1, 11))


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("clip", [0.0, 1.0])
def test_a_hundred_steps_stay_within_rounding_of_torch(decay, clip):
    """Each step may round w once, and m / sqrt(v) a few times: 2^-24 of w and of lr."""
    torch = pytest.importorskip("torch")
    generator = np.random.default_rng(0)
    w, m, v = generator.standard_normal((3, 500), np.float32) * [[1], [0], [0]]
    w, m, v = (each.astype(np.float32) for each in (w, m, v))
    lr, half_ulp = 1e-2, 2.0**-24
    theirs = torch.nn.Parameter(torch.from_numpy(w.copy()))
    optimizer = torch.optim.AdamW([theirs], lr=lr, weight_decay=decay)
    apart = [0.0]
    for step in range(1, 101):
        gradient = generator.standard_normal(500, np.float32)
        theirs.grad = torch.from_numpy(gradient.copy())
        if clip:
            torch.nn.utils.clip_grad_norm_(theirs, clip)
        optimizer.step()
        kernels.train_step(
            w, m, v, gradient, step=step, rates=kernels.AdamW(lr, decay=decay), clip=clip
        )
        apart.append(float(np.abs(theirs.detach().numpy() - w).max()))
    bound = half_ulp * (4 * np.abs(w).max() + 16 * lr)
    assert all(after - before < bound for before, after in pairwise(apart))
    assert apart[-1] < 30 * bound
