"""Rows of 8 and 16 bits: the reference's bits, the documented errors, norms and counts."""

from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest

from llmagentos.kernels import reference
from llmagentos.kernels.reference_rows import NARROW_ROWS, split
from tests.test_kernels import bits, native, same_stats  # noqa: F401 (a fixture)

SIZE = 3 * 1024 + 300
HUGE = np.float32(3e38)
HALVES = (np.float16, ml_dtypes.bfloat16)


def scaled_row(rng, size=SIZE, spread=1.0):
    """Any bytes, and scales of many magnitudes."""
    q = rng.integers(-128, 128, size, np.int8)
    return q, (spread * np.exp(rng.normal(0, 2, -(-size // 128)))).astype(np.float32)


def narrow_row(kind, rng, spread=1.0):
    """A scaled row, or one of 16 bits."""
    if kind == np.int8:
        return scaled_row(rng, spread=spread)
    return (spread * rng.normal(size=SIZE)).astype(np.float32).astype(kind)


def widened(row):
    """What the row stands for, in float64 and exact."""
    if not isinstance(row, tuple):
        return row.astype(np.float64)
    q, scale = row
    return q.astype(np.float64) * np.repeat(scale.astype(np.float64), 128)[: q.size]


def summed(kernels, rows, weights, threads=1):
    first = rows[0][0] if isinstance(rows[0], tuple) else rows[0]
    out = np.ones(first.size, np.float32)
    return out, kernels.weighted_sum(out, rows, weights, threads)


@pytest.mark.parametrize("kind", [np.int8, *HALVES])
@pytest.mark.parametrize("n", [1, 15, 16, 17, 40])
def test_groups_of_narrow_rows_are_the_reference(native, n, kind):  # noqa: F811
    rng = np.random.default_rng(n)
    rows = [narrow_row(kind, rng) for _ in range(n)]
    weights = list(rng.normal(size=n))
    expected, stats = summed(reference, rows, weights)
    for threads in (1, 3):
        found, found_stats = summed(native, rows, weights, threads)
        assert bits(found) == bits(expected)
        same_stats(found_stats, stats)


def test_a_row_of_another_type_ends_a_group(native):  # noqa: F811
    rng = np.random.default_rng(0)
    rows = [scaled_row(rng) for _ in range(21)]
    rows.insert(3, rng.normal(size=SIZE).astype(np.float32))
    rows.insert(9, rng.normal(size=SIZE).astype(np.float16))
    weights = list(rng.random(len(rows)))
    found, stats = summed(native, rows, weights, 2)
    expected, expected_stats = summed(reference, rows, weights)
    assert bits(found) == bits(expected)
    same_stats(stats, expected_stats)


def test_groups_are_few_and_even():
    sizes = [[len(group) for group in split([(None, 1.0)] * n, 16)] for n in (1, 16, 17, 40)]
    assert sizes == [[1], [16], [9, 8], [14, 13, 13]]


@pytest.mark.parametrize("kind", [np.int8, *HALVES])
@pytest.mark.parametrize("spread", [1e-3, 1e-40])
@pytest.mark.parametrize("n", [1, 10, 100])
def test_the_sum_of_narrow_rows_errs_as_little_as_documented(native, n, spread, kind):  # noqa: F811
    rng = np.random.default_rng(n)
    rows = [narrow_row(kind, rng, spread) for _ in range(n)]
    weights = rng.dirichlet(np.ones(n)) * rng.choice([-1, 1], n)
    terms = np.array([weight * widened(row) for weight, row in zip(weights, rows, strict=True)])
    found, _ = summed(native, rows, list(weights))
    bound = (min(n, NARROW_ROWS) + 3) * 2.0**-24 * np.abs(terms).sum(0) + n * 2.0**-142
    assert (np.abs(found - terms.sum(0)) <= bound).all()


def test_squares_of_scaled_rows_are_added_exactly(native):  # noqa: F811
    q, scale = scaled_row(np.random.default_rng(3))
    q[:128] = -128
    steps = np.repeat(scale, 128)[: q.size]
    exact = sum(Fraction(float(s)) ** 2 * int(b) ** 2 for b, s in zip(q, steps, strict=True))
    norm, nonfinite = native.inspect((q, scale), 1)
    assert abs(Fraction(norm) / exact - 1) < Fraction(2) ** -50
    assert nonfinite == 0


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("spread", [1e-17, 1e-3, 1e3])
def test_squares_of_16_bits_err_as_little_as_documented(native, kind, spread):  # noqa: F811
    row = narrow_row(kind, np.random.default_rng(4), spread)
    exact = np.square(widened(row)).sum()
    norm, nonfinite = native.inspect(row, 1)
    assert abs(norm - exact) <= 2.0**-20 * exact + SIZE * 2.0**-149
    assert nonfinite == 0


@pytest.mark.parametrize("value", [1e-40, 1e-23, 1e-22, 1.5e-19, 4e18, 1e19, 3e38])
def test_squares_that_float32_cannot_hold(native, value):  # noqa: F811
    row = np.full(SIZE, value, ml_dtypes.bfloat16)
    row[1::3] = 0
    norm, nonfinite = native.inspect(row, 1)
    assert nonfinite == 0
    assert (norm, nonfinite) == reference.inspect(row)
    assert np.isinf(norm) == (value > 2**62)
    if value < 1e-10:
        assert abs(norm - np.square(widened(row)).sum()) <= SIZE * 2.0**-149


@pytest.mark.parametrize(
    ("byte", "scale", "expected"),
    [
        (0, np.inf, 128),
        (0, np.nan, 128),
        (3, -np.inf, 128),
        (1, HUGE, 0),
        (2, HUGE, 128),
        (-128, 2.0**121, 128),
        (127, 2.0**121, 0),
        (127, 1e-45, 0),
    ],
)
def test_a_value_beyond_float32_counts_as_bad(native, byte, scale, expected):  # noqa: F811
    q = np.ones(600, np.int8)
    scales = np.ones(5, np.float32)
    q[128:256], scales[1] = byte, scale
    norm, nonfinite = native.inspect((q, scales), 1)
    assert nonfinite == expected
    assert np.isfinite(norm) == (expected == 0)
    same_stats(summed(native, [(q, scales)] * 2, [0.5, 0.5])[1], ([norm] * 2, [nonfinite] * 2))


def test_a_bad_scale_at_the_end_counts_the_values_that_there_are(native):  # noqa: F811
    row = np.zeros(130, np.int8), np.array([1, np.inf], np.float32)
    assert native.inspect(row, 1)[1] == 2
    found, _ = summed(native, [row], [1.0])
    assert np.isfinite(found).tolist() == [True] * 128 + [False] * 2


def test_every_byte_is_multiplied_as_float32(native):  # noqa: F811
    q = np.repeat(np.arange(-128, 128, dtype=np.int8), 256)
    scale = np.random.default_rng(0).standard_normal(q.size // 128).astype(np.float32)
    found, _ = summed(native, [(q, scale)], [1.0])
    assert bits(found + np.float32(0)) == bits(q * np.repeat(scale, 128) + np.float32(0))
