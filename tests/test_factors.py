"""Products of thin factors, against the dense ones and against PEFT."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmagentos.aggregation.factors import (
    Factors,
    decomposed,
    difference,
    norm,
    padded,
    rescaled,
    summed,
    truncated,
)


def drawn(seed, rank, out=7, in_=5, scale=1.0):
    rng = np.random.default_rng(seed)
    return Factors(rng.normal(size=(rank, in_)), rng.normal(size=(out, rank)), scale)


SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 9))
AGENTS = st.lists(
    st.tuples(st.integers(1, 6), st.floats(0.1, 9.0), st.floats(0.01, 4.0)), min_size=1, max_size=5
)
"""Rank, weight and scale of each agent."""


def made(agents, shape, seed):
    products = [drawn([seed, k], rank, *shape, scale) for k, (rank, _, scale) in enumerate(agents)]
    weights = np.array([weight for _, weight, _ in agents])
    return products, list(weights / weights.sum())


@settings(deadline=None)
@given(AGENTS, SHAPES, st.integers(0, 2**32))
def test_sum_norm_and_truncation_are_those_of_the_dense_product(agents, shape, seed):
    products, shares = made(agents, shape, seed)
    dense = sum(share * each.dense() for share, each in zip(shares, products, strict=True))
    whole = summed(products, shares)
    assert np.allclose(whole.dense(), dense, atol=1e-12)
    assert norm(whole) == pytest.approx(np.linalg.norm(dense))
    values = np.linalg.svd(dense, compute_uv=False)
    _, found, _ = decomposed(whole)
    assert np.allclose(found[: len(values)], values[: len(found)], atol=1e-9 * values[0])
    for rank in (1, 3, 12):
        best, error = truncated(whole, rank)
        assert best.a.shape == (rank, shape[1])
        assert best.b.shape == (shape[0], rank)
        assert error == pytest.approx(np.linalg.norm(values[rank:]), abs=1e-9 * values[0])
        assert np.linalg.norm(best.dense() - dense) == pytest.approx(error, abs=1e-9 * values[0])


@settings(deadline=None)
@given(AGENTS, SHAPES, st.integers(0, 2**32))
def test_padding_and_another_scale_leave_the_product(agents, shape, seed):
    products, _ = made(agents, shape, seed)
    for each in products:
        assert np.allclose(padded(each, 8).dense(), each.dense())
        assert np.allclose(rescaled(each, 0.3).dense(), each.dense())
        assert (padded(each, 8).rank, rescaled(each, 0.3).scale) == (8, 0.3)


def test_distance_is_that_of_the_products_and_not_of_their_factors():
    one = drawn(0, 3, scale=2.0)
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    turned = Factors(turn @ one.a, one.b @ turn.T, 2.0)
    assert norm(difference(one, turned)) < 1e-12
    other = drawn(2, 4, scale=0.5)
    squares = 0.0
    for left, right, sign in ((one, one, 1), (other, other, 1), (one, other, -2)):
        inner = np.trace(left.b.T @ right.b @ right.a @ left.a.T)
        squares += sign * left.scale * right.scale * inner
    assert norm(difference(one, other)) ** 2 == pytest.approx(squares)


def test_what_is_small_stays_exact_beside_what_is_large():
    one = drawn(0, 3)
    moved = Factors(one.a, one.b + 1e-12, 1.0)
    expected = np.linalg.norm(np.full((7, 3), 1e-12) @ one.a)
    assert norm(difference(moved, one)) == pytest.approx(expected, rel=1e-2)


def test_signs_do_not_depend_on_how_the_product_is_written():
    one = drawn(3, 3)
    flipped = Factors(-one.a, -one.b)
    for first, second in zip(decomposed(one), decomposed(flipped), strict=True):
        assert np.allclose(first, second)
    u, values, _ = decomposed(one)
    assert np.all(np.diff(values) <= 0)
    assert all(column[np.abs(column).argmax()] > 0 for column in u.T)


def test_first_factors_of_a_truncation_are_orthonormal_even_where_the_product_is_flat():
    flat = Factors(drawn(0, 4).a, np.zeros((7, 4)))
    best, error = truncated(flat, 4)
    assert np.allclose(best.a @ best.a.T, np.eye(4))
    assert error == 0
    assert not best.b.any()
