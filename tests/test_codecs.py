"""The laws of every codec: what it may lose, what it takes, what it refuses."""

from functools import reduce
from operator import add

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmagentos import kernels
from llmagentos.codecs import codec_of, in_place, pack, read_all, unpack
from llmagentos.codecs.rows import BLOCK
from llmagentos.errors import Refused, SettingError
from llmagentos.scaled import ScaledRow
from llmagentos.settings import CodecSettings
from llmagentos.strategies import Step

NAMES = ["fp32", "bf16", "fp16", "int8", "top_k"]
EVERY = pytest.mark.parametrize("name", NAMES)
SIZES = st.integers(0, 400)
VALUES = st.floats(-(2.0**99), 2.0**99, width=32) | st.floats(-2, 2, width=32)
VECTORS = hnp.arrays(np.float32, SIZES, elements=VALUES)


def codec(name):
    return codec_of(CodecSettings(name=name))


def sent(name, vector, seed=0):
    return codec(name).encode(vector, np.random.default_rng(seed))


def arrived(name, vector, seed=0):
    return np.asarray(codec(name).read(sent(name, vector, seed), len(vector)), np.float64)


@EVERY
@given(vector=VECTORS, seed=st.integers(0, 99))
def test_no_value_is_further_off_than_documented(name, vector, seed):
    error = np.abs(arrived(name, vector, seed) - vector)
    assert np.all(error <= codec(name).largest_error(vector))


@EVERY
@given(vector=hnp.arrays(np.float32, SIZES, elements=st.floats(-2, 2, width=32)))
def test_ordinary_values_lose_what_the_documentation_says(name, vector):
    """The same bounds in the words of docs/codecs.md."""
    error, magnitude = np.abs(arrived(name, vector) - vector), np.abs(vector.astype(np.float64))
    groups = [magnitude[i : i + 128].max() / 127 * 1.0001 for i in range(0, len(vector), 128)]
    kept = max(1, round(0.1 * len(vector)))
    bounds = {
        "fp32": 0 * magnitude,
        "bf16": np.maximum(magnitude / 256, 1e-40),
        "fp16": np.maximum(magnitude / 2048, 2.0**-25),
        "int8": np.maximum(np.repeat(groups, 128)[: len(vector)], 1e-44),
        "top_k": np.sort(magnitude)[-kept:][:1],
    }
    assert np.all(error <= bounds[name])
    spare = 2.0**-148 * (name == "int8")
    assert np.all(codec(name).largest_error(vector) <= bounds[name] + spare)


@EVERY
@given(vector=VECTORS)
def test_a_body_takes_just_the_bytes_that_were_announced(name, vector):
    parts = sent(name, vector)
    assert sum(part.nbytes for part in parts.values()) == codec(name).body_bytes(len(vector))


@EVERY
def test_bytes_of_a_thousand_values(name):
    expected = {"fp32": 4000, "bf16": 2000, "fp16": 2000, "int8": 1000 + 4 * 8, "top_k": 800}
    assert codec(name).body_bytes(1000) == expected[name]


@EVERY
@given(vector=VECTORS, seed=st.integers(0, 99))
def test_equal_draws_give_equal_bytes_and_are_read_in_place(name, vector, seed):
    body = pack({}, sent(name, vector, seed))
    assert body == pack({}, sent(name, vector.copy(), seed))
    _, parts = unpack(body)
    assert not any(part.flags.owndata for part in parts.values())
    row = codec(name).read(parts, len(vector))
    assert np.array_equal(np.asarray(row, np.float64), arrived(name, vector, seed))


@EVERY
@given(size=SIZES)
def test_zeros_stay_zeros(name, size):
    assert not arrived(name, np.zeros(size, np.float32)).any()


@EVERY
def test_the_mean_over_draws_is_the_vector_where_that_is_promised(name):
    """Five standard errors of a draw that is at most one step wide."""
    vector = np.random.default_rng(7).standard_normal(300).astype(np.float32)
    draws = 2000
    mean = np.mean([arrived(name, vector, seed) for seed in range(draws)], axis=0)
    allowed = 5 * 0.5 * codec(name).largest_error(vector) / np.sqrt(draws)
    found = bool(np.all(np.abs(mean - vector) <= allowed + 1e-7))
    assert found == codec(name).unbiased
    assert codec(name).unbiased == (name in {"fp32", "int8"})


@given(vector=hnp.arrays(np.float32, st.integers(1, 400), elements=st.floats(-2, 2, width=32)))
def test_top_k_keeps_its_share_of_the_squared_norm(vector):
    exact = vector.astype(np.float64)
    kept = max(1, round(0.1 * len(vector))) / len(vector)
    error = np.square(arrived("top_k", vector) - exact).sum()
    assert error <= (1 - kept) * np.square(exact).sum() * (1 + 1e-12)


def test_top_k_sends_the_first_of_equal_magnitudes():
    vector = np.array([1, -3, 3, 3, 0], np.float32)
    made = codec_of(CodecSettings(name="top_k", top_k=0.4))
    parts = made.encode(vector, np.random.default_rng(0))
    assert parts["delta.index"].tolist() == [1, 2]
    assert parts["delta.value"].tolist() == [-3, 3]
    assert made.largest_error(vector).tolist() == [3, 0, 0, 3, 3]


@pytest.mark.parametrize(("size", "count"), [(0, 0), (1, 1), (3, 1), (15, 2), (16, 2)])
def test_top_k_sends_its_share_rounded_and_at_least_one_value(size, count):
    assert codec("top_k").body_bytes(size) == 8 * count
    assert len(sent("top_k", np.ones(size, np.float32))["delta.index"]) == count


@pytest.mark.parametrize(
    ("index", "reason"), [([0, 3, 5], "names place 5 of 5"), ([1, 4, 3], "does not rise strictly")]
)
def test_every_place_that_top_k_names_is_looked_at(index, reason):
    made = codec_of(CodecSettings(name="top_k", top_k=0.6))
    parts = {"delta.index": np.uint32(index), "delta.value": np.ones(3, np.float32)}
    with pytest.raises(Refused, match=reason):
        made.read(parts, 5)


def test_a_refusal_names_the_vector_that_is_beside_the_change():
    names, five = ("delta", "control"), {"delta": np.ones(5, np.float32)}
    with pytest.raises(Refused, match=r"^'control' in place of 'delta': it holds nothing"):
        read_all(codec("fp32"), five, names, 5)
    with pytest.raises(Refused, match=r"^it holds nothing where its codec sends delta$"):
        read_all(codec("fp32"), {"control": five["delta"]}, names, 5)


def test_int8_rounds_to_one_of_two_neighbours():
    """Scale 1: 0.25 becomes 1 in a quarter of the draws, else 0; 127 and -3 stay."""
    vector = np.array([127, -3, 0.25], np.float32)
    draws = [arrived("int8", vector, seed).tolist() for seed in range(400)]
    assert {tuple(draw) for draw in draws} == {(127, -3, 0), (127, -3, 1)}
    assert 60 < sum(draw[2] for draw in draws) < 140


class NextToOne:
    """Draws the largest number below 1."""

    def random(self, count):
        return np.full(count, 1 - 2.0**-53)


def test_int8_keeps_the_largest_value_in_its_range_whatever_is_drawn():
    """127 + (1 - 2^-53) is 128 in float64, which is no byte; others may go a whole step up."""
    parts = codec("int8").encode(np.array([127, -127, 3], np.float32), NextToOne())
    assert parts["delta.q"].tolist() == [127, -126, 4]


def test_int8_loses_hardly_a_step_at_the_most():
    vector = np.array([127, 1e-7], np.float32)
    parts = codec("int8").encode(vector, NextToOne())
    error = np.abs(np.asarray(codec("int8").read(parts, 2), np.float64) - vector)
    assert error[1] == pytest.approx(1 - 1e-7)
    assert np.all(error <= codec("int8").largest_error(vector))


class Nothing:
    """Draws zeros."""

    def random(self, count):
        return np.zeros(count)


@given(vector=hnp.arrays(np.float32, st.integers(1, 300), elements=st.floats(-2, 2, width=32)))
def test_int8_goes_no_further_below_zero_than_above(vector):
    assert codec("int8").encode(vector, Nothing())["delta.q"].min() >= -127


@pytest.mark.parametrize(
    ("name", "largest", "beyond"),
    [("fp16", 65504.0, 1e6), ("bf16", 2.0**128 - 2.0**120, np.finfo(np.float32).max)],
)
def test_values_beyond_the_largest_number_become_it(name, largest, beyond):
    vector = np.array([beyond, -beyond, largest], np.float32)
    assert arrived(name, vector).tolist() == [largest, -largest, largest]
    assert np.all(np.abs(arrived(name, vector) - vector) <= codec(name).largest_error(vector))


@pytest.mark.parametrize(("name", "smallest"), [("fp16", 2.0**-24), ("bf16", 2.0**-133)])
def test_the_smallest_number_arrives_and_half_of_it_is_all_that_is_lost_of_less(name, smallest):
    vector = np.array([smallest, 0.49 * smallest, 0.51 * smallest, 0], np.float32)
    assert arrived(name, vector).tolist() == [smallest, 0, smallest, 0]
    assert codec(name).largest_error(vector).tolist() == [smallest / 2] * 4


@EVERY
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_stays_to_be_seen(name, bad):
    vector = np.ones(300, np.float32)
    vector[130] = bad
    assert not np.isfinite(arrived(name, vector)).all()


def wrong_parts():
    """Codec, parts of five values that it cannot have made, and what is said of them."""
    five, index = np.ones(5, np.float32), np.array([0, 3], np.uint32)
    scale, two = np.ones(1, np.float32), np.ones(2, np.float32)
    yield "fp32", {}, "it holds nothing where its codec sends delta"
    yield "fp32", {"delta": five.astype(np.float16)}, "'delta' is float16"
    yield "bf16", {"delta": five}, "'delta' is float32 where its codec sends bfloat16"
    yield "fp16", {"delta": np.ones(4, np.float16)}, "'delta' has 4 values"
    yield "int8", {"delta": five}, "it holds delta where its codec sends delta.q, delta.scale"
    yield "int8", {"delta.q": five, "delta.scale": scale}, "'delta.q' is float32"
    yield "int8", {"delta.q": np.ones(5, np.int8), "delta.scale": two}, "'delta.scale' has 2"
    yield "top_k", {"delta.index": index[:1], "delta.value": two}, "'delta.index' has 1 values"
    yield "top_k", {"delta.index": index.astype("i8"), "delta.value": two}, "is int64"
    yield "top_k", {"delta.index": index + 2, "delta.value": two}, "names place 5 of 5"
    yield "top_k", {"delta.index": index[::-1].copy(), "delta.value": two}, "does not rise"
    yield "top_k", {"delta.index": index // 4, "delta.value": two}, "does not rise strictly"


@pytest.mark.parametrize(("name", "parts", "reason"), list(wrong_parts()))
def test_parts_that_no_encoder_makes_are_refused(name, parts, reason):
    made = codec_of(CodecSettings(name=name, top_k=0.4))
    with pytest.raises(Refused, match=reason):
        made.read(parts, 5)


@EVERY
def test_a_step_over_coded_rows_is_the_step_over_their_values(name):
    size = 2 * BLOCK + 777
    rng = np.random.default_rng(3)
    anchor = rng.standard_normal(size).astype(np.float32)
    vectors = [rng.standard_normal(size).astype(np.float32) for _ in range(3)]
    coded = [codec(name).read(sent(name, vector, k), size) for k, vector in enumerate(vectors)]
    whole = [row if isinstance(row, ScaledRow) else np.asarray(row) for row in coded]
    weights = [0.2, 0.3, 0.5]
    expected = kernels.average_step(anchor, whole, weights, 0.7)
    step = Step(coded, weights, expected.squared_norms)
    assert step.moved(anchor, 0.7).tobytes() == expected.vector.tobytes()
    assert step.mean().tobytes() == kernels.weighted_sum(whole, weights).vector.tobytes()
    values = kernels.weighted_sum([np.asarray(row) for row in coded], weights).vector
    np.testing.assert_allclose(step.mean(), values, rtol=0, atol=2.0**-20)


def test_norms_of_scaled_rows_are_the_same_beside_rows_that_are_decoded_in_blocks():
    size = 2 * BLOCK + 777
    vector = np.random.default_rng(4).standard_normal(size).astype(np.float32)
    coded = [codec(name).read(sent(name, vector), size) for name in ("int8", "top_k")]
    of_parts = [
        [kernels.inspect(part).squared_norm for _, (part,) in in_place([row])] for row in coded
    ]
    norms = tuple(reduce(add, of_row) for of_row in of_parts)  # sum() rounds once from Python 3.12
    assert np.isfinite(Step(coded, [0.5, 0.5], norms).mean()).all()


@EVERY
def test_what_the_kernels_read_comes_whole_and_other_rows_in_blocks(name):
    size = 2 * BLOCK + 777
    row = codec(name).read(sent(name, np.ones(size, np.float32)), size)
    widths = [columns.stop - columns.start for columns, _ in in_place([row, row])]
    assert widths == ([BLOCK, BLOCK, 777] if name == "top_k" else [size])


@given(vector=VECTORS, start=st.integers(0, 400), stop=st.integers(0, 400))
@pytest.mark.parametrize("name", ["int8", "top_k"])
def test_a_part_of_a_coded_row_is_that_part_of_its_values(name, vector, start, stop):
    row = codec(name).read(sent(name, vector), len(vector))
    assert np.array_equal(row[start:stop], np.asarray(row)[start:stop])


@EVERY
def test_the_kernels_take_every_row(name):
    row = codec(name).read(sent(name, np.ones(300, np.float32)), 300)
    assert np.asarray(row).dtype in (np.float32, np.float16, ml_dtypes.bfloat16)
    assert kernels.inspect(row).nonfinite == 0


def test_a_share_of_nothing_is_a_wrong_setting():
    with pytest.raises(SettingError, match=r"codec.top_k=0: needs to lie in \(0, 1\]"):
        CodecSettings(name="top_k", top_k=0)
