"""Order statistics, pairs, clipping and rings: native against plain, and what the doors promise."""

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmagentos import kernels
from llmagentos.kernels import pairs, reference
from llmagentos.scaled import ScaledRow
from tests.test_kernels import (
    bits,
    native,  # noqa: F401 (a fixture)
    place,
    quick,
    row_vectors,
    same_stats,
    sizes,
    threads,
)


@st.composite
def crowds(draw):
    size = draw(sizes)
    return size, [draw(row_vectors(size)) for _ in range(draw(st.integers(1, 12)))]


@threads
@quick
@given(crowd=crowds(), data=st.data())
def test_trimmed_mean_is_the_reference(native, threads, crowd, data):  # noqa: F811
    size, rows = crowd
    trim = data.draw(st.integers(0, (len(rows) - 1) // 2))
    ours, theirs = np.ones((2, size), np.float32)
    stats = native.trimmed_mean(ours, rows, trim, threads)
    same_stats(stats, reference.trimmed_mean(theirs, rows, trim))
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("n", [*range(13, 36), 63, 64, 65, 100, 128, 129, 200, 255, 256])
def test_any_number_of_rows_is_sorted(native, n):  # noqa: F811
    rows = list(np.random.default_rng(n).integers(-9, 9, (n, 197)).astype(np.float32))
    for trim in {0, 1, n // 5, (n - 1) // 2}:
        ours, theirs = np.ones((2, 197), np.float32)
        native.trimmed_mean(ours, rows, trim, 1)
        reference.trimmed_mean(theirs, rows, trim)
        assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("n", [2, 5, 8, 13, 16, 17])
def test_zeros_and_ones_are_sorted_in_every_arrangement(native, n):  # noqa: F811
    """A network that sorts all of them sorts everything: Knuth 3, 5.3.4, theorem Z."""
    numbers = np.arange(2**n)
    rows = [(numbers >> k & 1).astype(np.float32) for k in range(n)]
    count = np.sum(rows, axis=0)
    out = np.empty(2**n, np.float32)
    for trim in range((n + 1) // 2):
        native.trimmed_mean(out, rows, trim, 1)
        kept = n - 2 * trim
        np.testing.assert_allclose(out, np.clip(count - trim, 0, kept) / kept, rtol=1e-7)


def pairs_of(twin, name, rows, threads):
    matrix = np.ones(len(rows) ** 2)
    getattr(twin, name)(matrix, rows, threads)
    return matrix


@threads
@pytest.mark.parametrize("name", ["squared_distances", "inner_products"])
@quick
@given(crowd=crowds())
def test_pairs_are_the_reference(native, threads, name, crowd):  # noqa: F811
    _, rows = crowd
    ours, theirs = (pairs_of(twin, name, rows, threads) for twin in (native, reference))
    np.testing.assert_array_equal(ours, theirs, strict=True)


@pytest.mark.parametrize("n", [0, 1, 16, 33, 50])
@pytest.mark.parametrize("name", ["squared_distances", "inner_products"])
def test_pairs_of_many_rows_are_the_reference(native, n, name):  # noqa: F811
    rows = list(np.random.default_rng(n).standard_normal((n, 2051), np.float32))
    ours, theirs = (pairs_of(twin, name, rows, 2) for twin in (native, reference))
    assert bits(ours) == bits(theirs)


def scaled(values):
    scale = np.full(-(-values.size // 128), 0.01, np.float32)
    return ScaledRow(np.clip(values * 40, -127, 127).astype(np.int8), scale)


def test_scaled_rows_are_read_in_place(native):  # noqa: F811
    rows = [scaled(row) for row in np.random.default_rng(1).standard_normal((9, 66_007))]
    pairs = [(row.q, row.scale) for row in rows]
    plain = [row[:] for row in rows]
    ours, theirs = np.ones((2, 66_007), np.float32)
    same_stats(native.trimmed_mean(ours, pairs, 2, 2), reference.trimmed_mean(theirs, pairs, 2))
    assert bits(ours) == bits(theirs)
    reference.trimmed_mean(theirs, plain, 2)
    assert bits(ours) == bits(theirs)
    for name in ("squared_distances", "inner_products"):
        assert bits(pairs_of(native, name, pairs, 2)) == bits(pairs_of(reference, name, plain, 1))


@threads
@quick
@given(data=st.data(), size=sizes, n=st.integers(0, 19))
def test_ring_sum_is_the_reference(native, threads, data, size, n):  # noqa: F811
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    rows = [
        place(generator.integers(0, 2**32, size, np.uint32), data.draw(st.integers(0, 9)))
        for _ in range(n)
    ]
    ours, theirs = np.ones((2, size), np.uint32)
    native.ring_sum(ours, rows, threads)
    reference.ring_sum(theirs, rows)
    assert bits(ours) == bits(theirs)


def test_a_long_ring_sum_goes_past_the_caches(native):  # noqa: F811
    rows = list(np.random.default_rng(2).integers(0, 2**32, (3, 2**19 + 77), np.uint32))
    ours, theirs = np.ones((2, 2**19 + 77), np.uint32)
    native.ring_sum(ours, rows, 3)
    reference.ring_sum(theirs, rows)
    assert bits(ours) == bits(theirs)


def test_the_extension_refuses_what_it_cannot_sort(native):  # noqa: F811
    row = np.ones(4, np.float32)
    for rows, trim in (([], 0), ([row] * 2, 1), ([row] * 257, 1)):
        with pytest.raises(ValueError, match=r"trim|256"):
            native.trimmed_mean(row.copy(), rows, trim, 1)
    with pytest.raises(ValueError, match="uint32"):
        native.ring_sum(np.ones(4, np.uint32), [row], 1)
    with pytest.raises(ValueError, match="common length"):
        native.squared_distances(np.ones(3), [row, row], 1)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_half_values_are_sorted_as_numbers(kind):
    every = np.arange(2**16, dtype=np.uint16).view(kind)
    rows = [every, np.roll(every, 1), np.roll(every, 12345)]
    wide = np.array([row.astype(np.float32) for row in rows])
    with np.errstate(invalid="ignore"):
        expected = np.median(np.where(np.isnan(wide), np.inf, wide), axis=0)
    np.testing.assert_array_equal(kernels.median(rows).vector, expected)


def vector(*values):
    return np.array(values, np.float32)


def test_median_and_trimmed_mean_of_a_few():
    rows = [vector(1, 9), vector(2, np.nan), vector(6, 7), vector(100, 8)]
    assert kernels.median(rows).vector.tolist() == [4.0, 8.5]
    assert kernels.trimmed_mean(rows[:3], 1).vector.tolist() == [2.0, 9.0]
    result = kernels.trimmed_mean(rows, 0)
    assert result.vector.tolist() == [27.25, np.inf]
    assert result.nonfinite == (0, 1, 0, 0)
    assert result.squared_norms[2] == 85.0


def test_infinities_beyond_the_trim_are_seen():
    rows = [vector(np.inf), vector(-np.inf), vector(1), vector(2)]
    assert kernels.trimmed_mean(rows, 1).vector[0] == 1.5
    assert np.isnan(kernels.trimmed_mean(rows, 0).vector[0])


@pytest.mark.parametrize(
    ("rows", "trim", "message"),
    [
        ([], 0, "rows is empty"),
        ([vector(1)] * 4, 2, "trim=2 leaves nothing of 4 rows"),
        ([vector(1)] * 4, -1, "trim=-1 leaves nothing"),
        ([vector(1)] * 257, 1, "257 rows are too many"),
        ([vector(1), vector(1, 2)], 0, r"rows\[1\] has 2 values; needs 1"),
    ],
)
def test_rows_that_cannot_be_sorted_are_named(rows, trim, message):
    with pytest.raises(ValueError, match=message):
        kernels.trimmed_mean(rows, trim)


def test_distances_survive_what_the_short_formula_does_not():
    """Three rows far from 0 and close to one another: |x|^2 + |y|^2 - 2xy is lost in float32."""
    far = np.full(200_000, 1000, np.float32)
    steps = np.float32([0, 2**-10, 3 * 2**-10])
    rows = [far + step for step in steps]
    exact = 200_000 * np.square(np.subtract.outer(steps, steps).astype(np.float64))
    found = kernels.squared_distances(rows)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert (np.diagonal(found) == 0).all()


def test_distances_of_near_and_far_rows_are_exact(monkeypatch, native):  # noqa: F811
    """Colluders send almost the same: too little is left there of |x|^2 + |y|^2 - 2xy."""
    rng = np.random.default_rng(8)
    base, other = rng.standard_normal((2, 70_001), np.float32)
    rows = [base, base * np.float32(1 + 2**-20), other, base.copy(), 0 * base, 0 * base]
    wide = np.array(rows, np.float64)
    exact = np.square(wide[:, None] - wide[None]).sum(axis=-1)
    monkeypatch.setattr(pairs, "twin", native)
    found = kernels.squared_distances(rows, threads=2)
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert (found == found.T).all()
    monkeypatch.setattr(pairs, "twin", reference)
    assert bits(found) == bits(kernels.squared_distances(rows))
    assert found[0, 3] == found[4, 5] == 0.0 < found[0, 1]


def test_one_row_that_is_not_finite_spoils_its_own_distances_only():
    rows = [vector(1, 2), vector(np.inf, 0), vector(np.nan, 0), vector(4, 6)]
    found = kernels.squared_distances(rows)
    assert found[0, 3] == 25.0
    assert found[0, 1] == found[3, 1] == np.inf
    assert np.isnan(found[2, [0, 1, 3]]).all()
    assert (np.diagonal(found) == 0).all()
    assert kernels.squared_distances([]).shape == (0, 0)


def test_the_diagonal_of_the_gram_matrix_is_the_squared_norms():
    rows = list(np.random.default_rng(3).standard_normal((5, 70_001), np.float32))
    norms = [kernels.inspect(row).squared_norm for row in rows]
    assert np.diagonal(kernels.gram(rows)).tolist() == norms


def test_the_centred_gram_matrix_holds_products_of_differences_from_the_mean():
    rows = np.random.default_rng(4).standard_normal((6, 3000), np.float32) + np.float32(100)
    apart = rows.astype(np.float64) - rows.astype(np.float64).mean(axis=0)
    np.testing.assert_allclose(kernels.centred_gram(list(rows)), apart @ apart.T, rtol=1e-9)
    assert kernels.centred_gram([]).shape == (0, 0)


def test_clipping_shortens_long_rows_only():
    long = kernels.clipped(vector(3, 4), 1.0)
    np.testing.assert_allclose(long.vector, [0.6, 0.8], rtol=1e-7)
    assert long.norm == 5.0
    out = np.empty(2, np.float32)
    short = kernels.clipped(vector(3, 4), 5.0, out=out)
    assert short.vector is out
    assert out.tolist() == [3.0, 4.0]
    assert math.isnan(kernels.clipped(vector(np.nan), 1.0).norm)
    with pytest.raises(ValueError, match="limit=0"):
        kernels.clipped(vector(1), 0)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_a_clipped_row_keeps_within_the_limit(scale):
    row = (np.random.default_rng(5).standard_normal(100_003) * scale).astype(np.float32)
    clipped = kernels.clipped(row, 0.5 * scale).vector
    norm = math.sqrt(kernels.inspect(clipped).squared_norm)
    assert norm == pytest.approx(0.5 * scale, rel=1e-7)


def test_a_clipped_row_of_bytes_keeps_within_the_limit():
    generator = np.random.default_rng(6)
    beyond = []
    for limit in generator.uniform(0.25, 0.26, 5000):
        row = ScaledRow(generator.integers(64, 128, 1, np.int8), generator.random(1, np.float32))
        beyond.append(float(kernels.clipped(row, limit).vector[0]) / limit - 1)
    assert 1e-7 < max(beyond) < 2e-7


def test_masks_that_add_up_to_nothing_cancel():
    mask = np.uint32([1, 2**31, 2**32 - 1])
    rows = [np.uint32([5, 6, 7]) + mask, np.uint32([1, 1, 1]) - mask]
    assert kernels.ring_sum(rows).tolist() == [6, 7, 8]
    with pytest.raises(ValueError, match=r"rows\[1\] is float32"):
        kernels.ring_sum([mask, vector(1, 2, 3)])
    with pytest.raises(ValueError, match=r"rows\[1\] has 2 values; needs 3"):
        kernels.ring_sum([mask, mask[:2]])
    with pytest.raises(ValueError, match="rows is empty"):
        kernels.ring_sum([])
