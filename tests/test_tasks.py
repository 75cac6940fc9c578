"""Tasks as files: what is written is read again bit for bit, and anything else is damaged."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmagentos.codecs import pack
from llmagentos.errors import Damaged, SettingError
from llmagentos.layout import Layout, LoraPair
from llmagentos.messages import Task
from llmagentos.tasks import decode_task, encode_task

PAIR = LoraPair("q.a", "q.b", 2, 4.0, 2.0)
LAYOUT = Layout.order({"q.a": (2, 3), "q.b": (3, 2), "bias": (1,)}, (PAIR,))
SETTINGS = {"steps": 8, "lr": 0.1 + 0.2, "codec": {"name": "int8"}, "names": ["a", "b"]}
TASK = Task(
    "run", 3, "fit", "Städtisches Klinikum", {"adapter": np.arange(13, dtype=np.float32)},
    LAYOUT, seed=7, receipt=2, settings=SETTINGS,
)  # fmt: skip
WHOLE = encode_task(TASK)
HEADER = vars(TASK) | {
    "vectors": None,
    "layout": {"names": ["x"], "shapes": [[1]], "pairs": []},
}


def fields_of(task):
    return {name: value for name, value in vars(task).items() if name != "vectors"}


@pytest.mark.parametrize("receipt", [None, 0, 2])
def test_a_task_is_read_as_it_was_written(receipt):
    task = replace(TASK, receipt=receipt)
    found = decode_task(encode_task(task))
    assert fields_of(found) == fields_of(task)
    assert found.layout.hash == LAYOUT.hash
    assert found.vectors["adapter"].tobytes() == TASK.vectors["adapter"].tobytes()
    assert not found.vectors["adapter"].flags.writeable


def test_equal_tasks_have_equal_bytes():
    again = replace(TASK, settings=dict(reversed(SETTINGS.items())))
    assert encode_task(again) == WHOLE


@given(st.binary(max_size=200))
def test_no_bytes_do_anything_but_be_damaged(body):
    with pytest.raises(Damaged):
        decode_task(body)


@given(st.data())
def test_a_mutated_task_is_a_task_or_damaged(data):
    body = bytearray(WHOLE)
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    try:
        task = decode_task(bytes(body))
    except Damaged:
        return
    assert isinstance(task, Task)
    assert isinstance(task.layout.hash, str)


@given(st.integers(0, len(WHOLE) - 1))
def test_a_cut_task_is_damaged(length):
    with pytest.raises(Damaged):
        decode_task(WHOLE[:length])


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


FIELDS = ["run", "round", "kind", "agent", "layout", "seed", "receipt", "settings"]


@given(st.sampled_from(FIELDS), JSON)
def test_a_field_of_any_other_type_is_damaged_or_harmless(name, value):
    said = {key: value for key, value in HEADER.items() if key != "vectors"} | {name: value}
    try:
        decoded = decode_task(pack(said, {}))
    except Damaged:
        return
    assert encode_task(decoded)
    assert decoded.layout.size >= 0


@pytest.mark.parametrize(
    ("layout", "reason"),
    [
        ({"names": ["x"], "shapes": [], "pairs": []}, "not a layout"),
        ({"names": ["x", "x"], "shapes": [[1], [1]], "pairs": []}, "not a layout"),
        ({"names": ["x"], "shapes": [[-1]], "pairs": []}, "not a layout"),
        ({"names": ["x"], "shapes": [[True]], "pairs": []}, "not a layout"),
        ({"names": [1], "shapes": [[1]], "pairs": []}, "not a layout"),
        ({"names": ["\ud800"], "shapes": [[1]], "pairs": []}, "not a layout"),
        ({"names": ["x"], "shapes": [[1]], "pairs": [], "code": "import os"}, "not a layout"),
        ({"names": ["x"], "shapes": [[1]], "pairs": [{"a": "x"}]}, "not a layout"),
        ([], "not a task"),
    ],
)
def test_a_layout_that_lies_is_damaged(layout, reason):
    said = {k: v for k, v in HEADER.items() if k != "vectors"} | {"layout": layout}
    with pytest.raises(Damaged, match=reason):
        decode_task(pack(said, {}))


def test_a_task_carries_float32_only():
    half = replace(TASK, vectors={"adapter": np.zeros(13, np.float16)})
    with pytest.raises(Damaged, match="'adapter' is float16"):
        decode_task(encode_task(half))


def test_an_adapter_of_more_tensors_than_a_header_holds_is_told_before_it_is_sent():
    def task_of(count):
        shapes = {f"base_model.model.layers.{k}.experts.gate_proj": (1,) for k in range(count)}
        layout = Layout.order(shapes, ())
        return replace(TASK, layout=layout, vectors={"adapter": np.zeros(count, np.float32)})

    assert len(decode_task(encode_task(task_of(20_000))).layout.names) == 20_000
    with pytest.raises(SettingError, match=r"'80000 tensors': .* tell of its tensors, 4194304 may"):
        encode_task(task_of(80_000))
