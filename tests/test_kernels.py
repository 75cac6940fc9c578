"""The compiled kernels give the bits of the plain reference, on any input and any threads."""

import ctypes
import platform
import sys

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmagentos.kernels import reference

_native = pytest.importorskip("llmagentos.kernels._native")

ROW_TYPES = (np.float32, np.float16, ml_dtypes.bfloat16)
EDGES = (0, 1, 2, 7, 8, 9, 1023, 1024, 1025, 65535, 65536, 65537, 140000)
SPECIAL = (np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3e38, 6e-8)

sizes = st.sampled_from(EDGES) | st.integers(0, 3000)
weights = st.floats(-2.0, 2.0) | st.sampled_from((0.0, 1e-300, 1e-200, 1e200, -0.0))


def place(values, offset):
    """The same values at an address that is `offset` bytes off, read-only."""
    memory = np.zeros(values.nbytes + 64, np.uint8)
    start = -memory.ctypes.data % 64 + offset
    memory[start : start + values.nbytes] = values.view(np.uint8)
    row = memory[start : start + values.nbytes].view(values.dtype)
    row.flags.writeable = False
    return row


@st.composite
def float32_vectors(draw, size):
    """Random bits (every NaN, Inf and denormal), or ordinary values with a few special ones."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    if draw(st.booleans()):
        return generator.integers(0, 2**32, size, np.uint32).view(np.float32)
    values = generator.normal(size=size, scale=draw(st.sampled_from((1e-42, 1e-3, 1e20))))
    if size and draw(st.booleans()):
        values[draw(st.integers(0, size - 1))] = draw(st.sampled_from(SPECIAL))
    return values.astype(np.float32)


@st.composite
def row_vectors(draw, size):
    kind = draw(st.sampled_from(ROW_TYPES))
    if kind == np.float32:
        values = draw(float32_vectors(size))
    else:
        generator = np.random.default_rng(draw(st.integers(0, 2**32)))
        values = generator.integers(0, 2**16, size, np.uint16)
        if draw(st.booleans()):
            values &= 0xBBFF  # no large exponents: these rows are finite
        values = values.view(kind)
    return place(values, draw(st.integers(0, 9)))


@st.composite
def scaled_rows(draw, size):
    """Any bytes, and scales that may be zero, denormal, huge or not finite."""
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    q = generator.integers(-128, 128, size, np.int8)
    scale = draw(float32_vectors(-(-size // 128)))
    return place(q, draw(st.integers(0, 9))), place(scale, draw(st.integers(0, 9)))


@st.composite
def cohorts(draw):
    size = draw(sizes)
    rows = [draw(row_vectors(size) | scaled_rows(size)) for _ in range(draw(st.integers(0, 11)))]
    return size, rows, [draw(weights) for _ in rows]


@pytest.fixture(params=_native.instruction_sets, ids=lambda kernels: kernels.name, scope="module")
def native(request):
    return request.param


def bits(values):
    return np.ascontiguousarray(values).view(np.uint8).tobytes()


def same_stats(ours, theirs):
    np.testing.assert_array_equal(np.array(ours[0]), np.array(theirs[0]), strict=True)
    assert list(ours[1]) == list(theirs[1])


threads = pytest.mark.parametrize("threads", [1, 2, 4])
quick = settings(deadline=None, max_examples=40)


UPWARD = {"x86_64": 0x800, "aarch64": 0x400000}


@pytest.fixture(params=["upward", "denormals flushed"])
def mode(request):
    """Enters a floating-point mode that is not the default one, until the test ends."""
    if request.param == "upward":
        if sys.platform != "linux" or platform.machine() not in UPWARD:
            pytest.skip("what rounds upward is not known here")
        change, other, default = ctypes.CDLL(None).fesetround, UPWARD[platform.machine()], 0
    else:
        change, other, default = pytest.importorskip("torch").set_flush_denormal, True, False
    yield lambda: change(other)
    change(default)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_mode_of_the_caller_changes_no_bit_and_stays(native, threads, mode):
    rows = [*np.random.default_rng(0).standard_normal((5, 140000), np.float32)]
    rows.append(np.full(140000, 1e-42, np.float32))

    def numbers():
        out = np.zeros(140000, np.float32)
        stats = native.weighted_sum(out, rows, [0.3] * 6, threads)
        native.proximal(out, rows[0], rows[5], 1e-40, threads)
        return bits(out), stats, native.inspect(rows[0], threads)

    def in_mode():
        return bits(np.float32(1e-37) / np.arange(300, 400, dtype=np.float32))

    expected, default = numbers(), in_mode()
    mode()
    assert in_mode() != default
    assert numbers() == expected
    assert in_mode() != default


@threads
@quick
@given(cohort=cohorts())
def test_weighted_sum_is_the_reference(native, threads, cohort):
    size, rows, weights = cohort
    ours, theirs = np.ones((2, size), np.float32)
    stats = native.weighted_sum(ours, rows, weights, threads)
    same_stats(stats, reference.weighted_sum(theirs, rows, weights, 1))
    assert bits(ours) == bits(theirs)


@threads
@quick
@given(cohort=cohorts(), lr=weights, data=st.data())
def test_average_step_is_the_reference(native, threads, cohort, lr, data):
    size, rows, weights = cohort
    anchor = data.draw(float32_vectors(size))
    ours, theirs = np.ones((2, size), np.float32)
    stats = native.average_step(ours, anchor, lr, rows, weights, threads)
    same_stats(stats, reference.average_step(theirs, anchor, lr, rows, weights, 1))
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("steps", [-3, -2, 0])
def test_a_weight_is_rounded_before_it_counts_as_zero(native, steps):
    weight = 2.0**-800 + steps * 2.0**-831
    row, anchor = np.full(4, 3e38, np.float32), np.zeros(4, np.float32)
    ours, theirs = np.ones((2, 4), np.float32)
    native.average_step(ours, anchor, 2.0**700, [row], [weight], 1)
    reference.average_step(theirs, anchor, 2.0**700, [row], [weight], 1)
    assert bits(ours) == bits(theirs)
    assert (ours > 0).all() == (steps > -3)


@threads
@quick
@given(data=st.data(), size=sizes)
def test_inspect_is_the_reference(native, threads, data, size):
    row = data.draw(row_vectors(size) | scaled_rows(size))
    ours, theirs = native.inspect(row, threads), reference.inspect(row, 1)
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name", ["adam_step", "yogi_step", "adagrad_step"])
@quick
@given(data=st.data(), size=sizes, rates=st.tuples(*[st.floats(0.0, 1.0)] * 4))
def test_adaptive_steps_are_the_reference(native, name, data, size, rates):
    before = tuple(data.draw(float32_vectors(size)) for _ in range(4))
    threads = data.draw(st.sampled_from((1, 2, 4)))
    ours, theirs = np.ones((2, 3, size), np.float32)
    getattr(native, name)(tuple(ours), before, rates, threads)
    getattr(reference, name)(tuple(theirs), before, rates, 1)
    assert bits(ours) == bits(theirs)


@quick
@given(data=st.data(), size=sizes, lr=weights, beta=st.floats(0.0, 1.0))
def test_momentum_step_is_the_reference(native, data, size, lr, beta):
    before = tuple(data.draw(float32_vectors(size)) for _ in range(3))
    threads = data.draw(st.sampled_from((1, 2, 4)))
    ours, theirs = np.ones((2, 2, size), np.float32)
    native.momentum_step(tuple(ours), before, (lr, beta), threads)
    reference.momentum_step(tuple(theirs), before, (lr, beta), 1)
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("rule", ["momentum", "adam", "yogi", "adagrad"])
@quick
@given(data=st.data(), cohort=cohorts())
def test_averaging_within_the_step_is_the_reference(native, rule, data, cohort):
    size, rows, weights = cohort
    vectors, rates = (2, (0.5, 0.9)) if rule == "momentum" else (3, (0.5, 0.9, 0.99, 1e-3))
    before = [data.draw(float32_vectors(size)) for _ in range(vectors)]
    ours, theirs = np.ones((2, vectors, size), np.float32)
    step = f"average_{rule}_step"
    threads = data.draw(st.sampled_from((1, 2, 4)))
    stats = getattr(native, step)(list(ours), before, rates, rows, weights, threads)
    same_stats(stats, getattr(reference, step)(list(theirs), before, rates, rows, weights, 1))
    assert bits(ours) == bits(theirs)


@threads
@quick
@given(data=st.data(), size=sizes, mu=weights)
def test_proximal_is_the_reference(native, threads, data, size, mu):
    gradient, here, anchor = (data.draw(float32_vectors(size)) for _ in range(3))
    ours, theirs = gradient.copy(), gradient.copy()
    native.proximal(ours, here, anchor, mu, threads)
    reference.proximal(theirs, here, anchor, mu, 1)
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("offset", [0, 4, 8, 16, 60])
def test_long_results_go_past_the_caches_to_any_address(native, offset):
    size = 2**19 + 2**17 + 37
    rows = list(np.random.default_rng(offset).standard_normal((3, size), np.float32))
    expected = np.ones((3, size), np.float32)
    reference.average_adam_step(expected, rows, (0.1, 0.9, 0.99, 1e-3), rows, [0.2, 0.3, 0.5])
    for threads in (1, 3):
        memory = np.ones((3, size + 32), np.float32)
        start = (-memory.ctypes.data % 64 + offset) // 4
        found = [line[start : start + size] for line in memory]
        native.average_adam_step(
            found, rows, (0.1, 0.9, 0.99, 1e-3), rows, [0.2, 0.3, 0.5], threads
        )
        assert bits(np.stack(found)) == bits(expected)
        assert (memory[:, :start] == 1).all()
        assert (memory[:, start + size :] == 1).all()


@pytest.mark.parametrize("rows", [0, 17, 50])
def test_many_rows_are_the_reference(native, rows):
    size = 5003
    values = list(np.random.default_rng(rows).standard_normal((rows, size), np.float32))
    values = [row.astype(ROW_TYPES[k % 7 // 3]) for k, row in enumerate(values)]
    ours, theirs = np.ones((2, size), np.float32)
    stats = native.weighted_sum(ours, values, [1 / 7] * rows, 2)
    same_stats(stats, reference.weighted_sum(theirs, values, [1 / 7] * rows))
    assert bits(ours) == bits(theirs)


@pytest.mark.parametrize("kind", [np.float16, ml_dtypes.bfloat16])
def test_every_sixteen_bit_pattern_widens_exactly(native, kind):
    row = np.arange(2**16, dtype=np.uint16).view(kind)
    ours, theirs = np.ones((2, row.size), np.float32)
    native.weighted_sum(ours, [row], [1.0], 1)
    reference.weighted_sum(theirs, [row], [1.0], 1)
    assert bits(ours) == bits(theirs)


def test_the_extension_refuses_what_it_cannot_read(native):
    out, row = np.zeros(4, np.float32), np.ones(4, np.float32)
    for rows in ([row[:3]], [row.astype(np.float64)], [np.ones(8, np.float32)[::2]]):
        with pytest.raises(ValueError, match="row"):
            native.weighted_sum(out, rows, [1.0], 1)
    q, scale = np.ones(4, np.int8), np.ones(1, np.float32)
    for pair in (
        (q[:3], scale),
        (q, np.ones(2, np.float32)),
        (row, scale),
        (q, row[:1].astype("f8")),
        (q,),
    ):
        with pytest.raises(ValueError, match="scaled row"):
            native.weighted_sum(out, [pair], [1.0], 1)
    with pytest.raises(ValueError, match="weights"):
        native.weighted_sum(out, [row], [], 1)
    out.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        native.weighted_sum(out, [row], [1.0], 1)
