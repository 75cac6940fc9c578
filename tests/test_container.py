"""Wire files: exact, canonical, and refused when they are anything else."""

import contextlib
import mmap

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from llmagentos.adapter import Adapter
from llmagentos.codecs import pack, pack_file, unpack
from llmagentos.codecs.container import LARGEST_HEADER_BYTES
from llmagentos.errors import Damaged, Refused
from llmagentos.layout import Layout, LoraPair
from llmagentos.messages import Failure, Update, decode, encode

VECTORS = hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32))
HEADERS = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=4)


@given(HEADERS, st.dictionaries(st.text(min_size=1, max_size=8), VECTORS, max_size=3))
def test_what_is_packed_is_unpacked_bit_for_bit(header, vectors):
    vectors.pop("__metadata__", None)
    found_header, found = unpack(pack(header, vectors))
    assert found_header == header
    assert {n: v.tobytes() for n, v in found.items()} == {
        n: v.tobytes() for n, v in vectors.items()
    }


@given(HEADERS, VECTORS)
def test_equal_content_has_equal_bytes(header, vector):
    again = dict(reversed(header.items()))
    assert pack(header, {"delta": vector}) == pack(again, {"delta": vector.copy()})


def test_a_file_holds_the_bytes_of_a_message(tmp_path):
    vectors = {"b": np.ones(5, np.float32), "a": np.zeros(3, np.int8)}
    pack_file(tmp_path / "packed", {"round": 1}, vectors)
    assert (tmp_path / "packed").read_bytes() == pack({"round": 1}, vectors)


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_refused(body):
    with pytest.raises(Refused):
        decode(body)


WHOLE = encode(Update("run", 1, "fit", "north", "0" * 64, {"delta": np.ones(5, np.float32)}))


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_a_changed_byte_gives_an_answer_or_a_refusal(place, change):
    body = bytearray(WHOLE)
    body[place] ^= change
    with contextlib.suppress(Refused):
        assert isinstance(decode(bytes(body)), Update)


@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_file_is_damaged(length):
    with pytest.raises(Damaged):
        decode(WHOLE[:length])


def shifted(entry):
    """The wire file of a delta whose safetensors entry is replaced."""
    text = b'{"__metadata__":{"llmagentos":"{}"},"delta":' + entry + b"}"
    return len(text).to_bytes(8, "little") + text + bytes(8)


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (b'{"dtype":"F64","shape":[1],"data_offsets":[0,8]}', "has type 'F64'; known: F32"),
        (b'{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]}', "not a 1-D tensor"),
        (b'{"dtype":"F32","shape":[-2],"data_offsets":[0,-8]}', "does not fit the file"),
        (b'{"dtype":"F32","shape":[99],"data_offsets":[0,396]}', "does not fit the file"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[4,8]}', "does not fit the file"),
        (b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]}', "4 bytes follow the last vector"),
        (b'{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}', "not a 1-D tensor"),
        (b"7", "not a 1-D tensor"),
        (rb'"\ud800"', "not a 1-D tensor"),
    ],
)
def test_a_header_that_lies_is_damaged(entry, reason):
    with pytest.raises(Damaged, match=reason):
        unpack(shifted(entry))


LONG = b"x" * 100_000
WIDE = b"9" * 4_000


@pytest.mark.parametrize(
    "header",
    [
        b'"' + LONG + b'":{"dtype":"F64","shape":[1],"data_offsets":[0,8]}',
        b'"' + LONG + b'":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}',
        b'"' + LONG + b'":7',
        b'"delta":"' + LONG + b'"',
        b'"delta":{"dtype":"' + LONG + b'","shape":[1],"data_offsets":[0,8]}',
        b'"delta":{"dtype":"F32","shape":[1],"data_offsets":[0,' + WIDE + b"]}",
        rb'"\ud800":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}',
        rb'"delta":"\ud800"',
    ],
)
def test_why_a_file_is_damaged_is_short_and_can_be_written(header):
    with pytest.raises(Damaged) as reason:
        unpack(file_of(b'{"__metadata__":{"llmagentos":"{}"},' + header + b"}"))
    assert len(str(reason.value).encode()) < 300


def file_of(header, body=b"", length=None):
    """A file whose header says that it has so many bytes."""
    return (len(header) if length is None else length).to_bytes(8, "little") + header + body


BARE = b'{"__metadata__":{"llmagentos":"{}"}}'


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (bytes(7), "not a wire file: 7 bytes"),
        (file_of(BARE, length=len(BARE) + 1), f"header of {len(BARE) + 1}"),
        (file_of(BARE, length=len(BARE) + (1 << 56)), "not a wire file"),
        (
            file_of(BARE.ljust(LARGEST_HEADER_BYTES + 1)),
            f"header of {LARGEST_HEADER_BYTES + 1}",
        ),
        (file_of(b"[1]"), "the safetensors header is not a JSON object"),
        (file_of(b"{}"), "does not hold the single key"),
        (file_of(b'{"__metadata__":{"llmagentos":"{}","x":""}}'), "does not hold the single key"),
        (file_of(b'{"__metadata__":["llmagentos"]}'), "does not hold the single key"),
        (file_of(b'{"__metadata__":{"llmagentos":{}}}'), "under 'llmagentos' is not text"),
        (file_of(b'{"__metadata__":{"llmagentos":"[]"}}'), "under 'llmagentos' is not a JSON obj"),
        (shifted(b'{"dtype":"F32","shape":[1],"data_offsets":[0,8]}'), "does not fit the file"),
    ],
)
def test_what_is_nearly_a_wire_file_is_damaged(body, reason):
    with pytest.raises(Damaged, match=reason):
        unpack(body)


def test_a_header_may_fill_a_mebibyte():
    assert unpack(file_of(BARE.ljust(LARGEST_HEADER_BYTES))) == ({}, {})


def test_a_header_is_canonical_json_of_numbers_only():
    body = pack({"b": [1, 2], "a": {"d": 1.5, "c": None}}, {})
    assert rb'"llmagentos":"{\"a\":{\"c\":null,\"d\":1.5},\"b\":[1,2]}"' in body
    with pytest.raises(ValueError, match="not JSON compliant"):
        pack({"loss": float("nan")}, {})


def test_vectors_of_writable_bytes_are_read_only_too():
    _, vectors = unpack(bytearray(WHOLE))
    assert not vectors["delta"].flags.writeable


def test_mapped_vectors_are_read_in_place(tmp_path):
    (tmp_path / "file").write_bytes(WHOLE)
    with (tmp_path / "file").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    update = decode(mapped)
    assert update.vectors["delta"].tolist() == [1] * 5
    assert not update.vectors["delta"].flags.owndata
    assert not update.vectors["delta"].flags.writeable


def test_a_failure_travels_too():
    failure = Failure("run", 1, "fit", "north", "out of memory")
    assert decode(encode(failure)) == failure


def test_a_metric_that_is_not_finite_arrives_as_nan():
    update = Update("run", 1, "evaluate", "north", "", metrics={"loss": float("inf")})
    assert np.isnan(decode(encode(update)).metrics["loss"])


SHAPES = st.dictionaries(
    st.text(min_size=1, max_size=6),
    st.lists(st.integers(0, 4), max_size=3).map(tuple),
    min_size=1,
    max_size=6,
)


@given(SHAPES)
def test_a_layout_splits_what_it_joins(shapes):
    layout = Layout.order(shapes)
    vector = np.arange(layout.size, dtype=np.float32)
    tensors = layout.split(vector)
    assert {name: view.shape for name, view in tensors.items()} == shapes
    assert np.array_equal(layout.join(tensors), vector)
    assert Layout.from_json(layout.to_json()) == layout
    assert Layout.from_json(layout.to_json()).hash == layout.hash


def test_all_first_factors_come_before_all_second_ones():
    pairs = tuple(LoraPair(f"{q}.a", f"{q}.b", 2, 4.0, 2.0) for q in "xy")
    layout = Layout.order({"bias": (1,), "y.b": (2,), "x.b": (2,), "y.a": (2,), "x.a": (2,)}, pairs)
    assert layout.names == ("x.a", "y.a", "x.b", "y.b", "bias")


def test_an_adapter_is_read_only_and_its_tensors_are_views():
    adapter = Adapter(Layout.order({"a": (2, 2)}), np.arange(4, dtype=np.float32))
    assert adapter["a"].tolist() == [[0, 1], [2, 3]]
    assert np.shares_memory(adapter["a"], adapter.vector)
    with pytest.raises(ValueError, match="read-only"):
        adapter["a"][0, 0] = 7
