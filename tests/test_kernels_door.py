"""What the kernels take and refuse, and what they promise whichever twin does the work."""

import os
import pickle
import subprocess
import sys
from types import ModuleType

import ml_dtypes
import numpy as np
import pytest

from llmagentos import kernels
from llmagentos.errors import SettingError
from llmagentos.kernels import arrays, twin
from llmagentos.scaled import ScaledRow


def vector(*values):
    return np.array(values, np.float32)


ROWS = [vector(1, 2), vector(3, -4)]


def test_weighted_sum_measures_what_it_adds():
    result = kernels.weighted_sum(ROWS, [0.25, 0.75])
    np.testing.assert_array_equal(result.vector, vector(2.5, -2.5), strict=True)
    assert result.squared_norms == (5.0, 25.0)
    assert result.nonfinite == (0, 0)


def test_average_step_moves_the_anchor_by_lr_times_the_mean():
    result = kernels.average_step(vector(10, 10), ROWS, [0.5, 0.5], lr=0.5)
    np.testing.assert_array_equal(result.vector, vector(11, 9.5), strict=True)


def test_zero_deltas_leave_the_anchor():
    anchor = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    still = [np.zeros(5000, np.float32)] * 3
    assert (kernels.average_step(anchor, still, [0.2, 0.3, 0.5]).vector == anchor).all()
    assert (kernels.average_step(anchor, [], []).vector == anchor).all()


def test_float64_sums_keep_what_float32_loses():
    rows = [vector(1e8), vector(1), vector(-1e8)]
    assert kernels.weighted_sum(rows, [1, 1, 1]).vector[0] == 1


def test_a_hundred_bfloat16_rows_err_by_less_than_a_millionth_of_their_mean():
    rng = np.random.default_rng(1)
    rows = [rng.normal(size=2000).astype(ml_dtypes.bfloat16) for _ in range(100)]
    exact = sum(row.astype(np.float64) for row in rows) / 100
    error = kernels.weighted_sum(rows, [0.01] * 100).vector - exact
    assert np.linalg.norm(error) < 1e-6 * np.linalg.norm(exact)


def test_bad_values_are_counted_and_propagate():
    bad = vector(np.nan, 1, -np.inf)
    result = kernels.weighted_sum([vector(1, 1, 1), bad], [0.5, 0.5])
    assert result.nonfinite == (0, 2)
    assert result.vector[1] == 1
    assert not np.isfinite(result.vector[[0, 2]]).any()
    assert kernels.inspect(bad).nonfinite == 2


def test_row_types_may_be_mixed():
    rows = [vector(1), np.array([2], np.float16), np.array([4], ml_dtypes.bfloat16)]
    assert kernels.weighted_sum(rows, [1, 1, 1]).vector[0] == 7


def test_scaled_rows_count_as_what_they_stand_for():
    row = ScaledRow(np.arange(-100, 101, dtype=np.int8), vector(0.5, 0.25))
    dense = np.asarray(row)
    np.testing.assert_array_equal(dense[[0, 127, 128, 200]], [-50, 13.5, 7, 25])
    np.testing.assert_array_equal(dense[120:140:3], row[120:140:3])
    expected = kernels.weighted_sum([dense, dense], [0.3, 0.7])
    found = kernels.weighted_sum([row, dense], [0.3, 0.7])
    np.testing.assert_allclose(found.vector, expected.vector, rtol=3 * 2.0**-24)
    assert found.squared_norms == expected.squared_norms
    assert kernels.inspect(row).squared_norm == expected.squared_norms[0]
    with pytest.raises(ValueError, match=r"rows\[1\] has 201 values; needs 200"):
        kernels.weighted_sum([dense[1:], row], [1, 1])


def test_scaled_rows_may_have_crossed_a_pickle():
    row = ScaledRow(np.ones(130, np.int8), vector(0.5, 2))
    back = pickle.loads(pickle.dumps(row))
    assert back.q.dtype is not row.q.dtype
    np.testing.assert_array_equal(kernels.weighted_sum([back], [1.0]).vector, row)


def test_mapped_rows_are_read_where_they_lie(tmp_path):
    path = tmp_path / "update"
    path.write_bytes(b"odd" + vector(1, 2, 3).tobytes())
    row = np.frombuffer(np.memmap(path, mode="r"), np.float32, offset=3)
    assert not row.flags.writeable
    np.testing.assert_array_equal(kernels.weighted_sum([row], [2.0]).vector, [2, 4, 6])


def test_out_is_filled_and_returned():
    out = np.empty(2, np.float32)
    assert kernels.weighted_sum(ROWS, [1, 1], out=out).vector is out
    np.testing.assert_array_equal(out, [4, -2])


@pytest.mark.parametrize(
    ("rows", "weights", "message"),
    [
        ([], [], "rows is empty"),
        ([np.ones(2)], [1], r"rows\[0\] is float64"),
        ([vector(1), vector(1, 2)], [1, 1], r"rows\[1\] has 2 values; needs 1"),
        ([np.ones((2, 2), np.float32)], [1], "one contiguous vector"),
        ([np.ones(4, np.float32)[::2]], [1], "one contiguous vector"),
        ([vector(1)], [1, 2], "2 weights for 1 rows"),
        ([vector(1)], [np.inf], r"weights\[0\]=inf; needs to be finite"),
    ],
)
def test_wrong_rows_and_weights_are_named(rows, weights, message):
    with pytest.raises(ValueError, match=message):
        kernels.weighted_sum(rows, weights)


@pytest.mark.parametrize(
    ("pair", "message"),
    [
        ((np.ones(4, np.float32), vector(1)), r"rows\[0\] is float32; needs to be int8"),
        ((np.ones(4, np.int8), np.ones(1)), r"the scale of rows\[0\] is float64; needs to be fl"),
        ((np.ones(4, np.int8), vector(1, 2)), r"the scale of rows\[0\] has 2 values; needs 1"),
        ((np.ones((2, 2), np.int8), vector(1)), r"rows\[0\] has shape \(2, 2\)"),
        ((np.ones(8, np.int8)[::2], vector(1)), r"rows\[0\] has .* strides \(2,\)"),
        ((np.ones(4, np.int8),), r"rows\[0\] has 1 parts; needs int8 values and their scales"),
    ],
)
def test_wrong_scaled_rows_are_named(pair, message):
    with pytest.raises(ValueError, match=message):
        kernels.weighted_sum([pair], [1])


def test_outputs_may_not_lie_over_inputs():
    memory = np.zeros(6, np.float32)
    with pytest.raises(ValueError, match=r"out overlaps rows\[1\]"):
        kernels.weighted_sum([vector(1, 2, 3), memory[2:5]], [1, 1], out=memory[:3])
    with pytest.raises(ValueError, match="out overlaps anchor"):
        kernels.average_step(memory, [np.ones(6, np.float32)], [1], out=memory)
    with pytest.raises(ValueError, match=r"out\[1\] overlaps out\[0\]"):
        kernels.momentum_step(*[vector(1, 2)] * 3, lr=1, beta=0, out=(memory[:2], memory[1:3]))


def test_outputs_may_not_lie_over_the_scales_of_a_row():
    memory = np.ones(256, np.float32)
    row = ScaledRow(np.ones(256, np.int8), memory[:2])
    state, fresh = kernels.Momentum(*np.ones((2, 256), np.float32)), np.empty(256, np.float32)
    with pytest.raises(ValueError, match=r"out overlaps the scale of rows\[1\]"):
        kernels.weighted_sum([memory.copy(), row], [1, 1], out=memory)
    with pytest.raises(ValueError, match=r"out overlaps the scale of rows\[0\]"):
        kernels.median([row], out=memory)
    with pytest.raises(ValueError, match=r"out\[1\] overlaps the scale of rows\[0\]"):
        kernels.average_momentum_step(state, [row], [1], lr=1, beta=0, out=(fresh, memory))


def test_outputs_need_to_be_writable_float32():
    frozen = vector(1, 2)
    frozen.flags.writeable = False
    with pytest.raises(ValueError, match="out is read-only"):
        kernels.weighted_sum(ROWS, [1, 1], out=frozen)
    with pytest.raises(ValueError, match="out is float64"):
        kernels.weighted_sum(ROWS, [1, 1], out=np.ones(2))
    crooked = np.zeros(9, np.uint8)[1:].view(np.float32)
    with pytest.raises(ValueError, match="not aligned"):
        kernels.weighted_sum(ROWS, [1, 1], out=crooked)


def test_threads_follow_the_size_and_the_machine():
    assert arrays.threads_for(2**20, None) == 1
    assert 1 <= arrays.threads_for(2**40, None) <= 4096
    assert arrays.threads_for(0, 3) == 3
    with pytest.raises(ValueError, match="threads=0"):
        kernels.inspect(vector(1), threads=0)


def test_gram_holds_the_inner_products():
    long = np.ones(2**16 + 3, np.float32)
    np.testing.assert_array_equal(kernels.gram(ROWS), [[5, -5], [-5, 25]])
    np.testing.assert_array_equal(
        kernels.gram([long, 2 * long]), np.outer([1, 2], [1, 2]) * long.size
    )


def test_tensors_are_rows_and_outputs_too():
    torch = pytest.importorskip("torch")
    rows = [torch.tensor([1.0, 2.0], requires_grad=True), torch.tensor([3.0, 4.0]).bfloat16()]
    out = torch.zeros(2)
    result = kernels.average_step(torch.tensor([10.0, 20.0]), rows, [0.5, 0.5], out=out)
    assert out.tolist() == [12, 23]
    assert result.squared_norms == (5.0, 25.0)
    assert kernels.weighted_sum([torch.ones(2).half()], [3]).vector.tolist() == [3, 3]
    scaled = torch.tensor([1, -2], dtype=torch.int8), torch.tensor([0.5])
    assert kernels.weighted_sum([scaled], [2]).vector.tolist() == [1, -2]


def test_the_kernels_come_without_torch():
    line = "import sys, llmagentos.kernels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line], check=False).returncode == 0


def test_kernels_work_while_another_thread_imports_torch(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    assert kernels.weighted_sum(ROWS, [1, 1]).vector.tolist() == [4, -2]


def test_a_program_may_end_while_a_daemon_thread_is_in_a_kernel():
    program = (
        "import threading; from llmagentos import kernels; import numpy as np\n"
        "rows, begun = [np.ones(10**6, np.float32)] * 8, threading.Event()\n"
        "def work():\n"
        "    while True:\n"
        "        kernels.weighted_sum(rows, [1] * 8)\n"
        "        begun.set()\n"
        "threading.Thread(target=work, daemon=True).start()\n"
        "begun.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_environment_chooses_the_twin(monkeypatch):
    found = twin.compiled()
    assert twin.chosen("reference", found) is kernels.reference
    assert twin.chosen("", {}) is kernels.reference
    assert all(twin.chosen(name, found) is each for name, each in found.items())
    with pytest.raises(
        SettingError, match="LLMAGENTOS_INSTRUCTIONS=avx1024 is not on this machine"
    ):
        twin.chosen("avx1024", found)


@pytest.mark.skipif(not kernels.native, reason="needs the extension")
@pytest.mark.parametrize("name", list(twin.compiled()))
def test_every_instruction_set_can_be_asked_for_and_gives_the_same_bits(name):
    line = (
        "from llmagentos import kernels; from llmagentos.kernels.twin import twin; import numpy\n"
        "rows = list(numpy.random.default_rng(0).standard_normal((5, 3000), numpy.float32))\n"
        "print(twin.name, kernels.weighted_sum(rows, [0.2] * 5).vector.tobytes().hex())"
    )
    rows = list(np.random.default_rng(0).standard_normal((5, 3000), np.float32))
    told = subprocess.run(
        [sys.executable, "-c", line],
        env=os.environ | {twin.VARIABLE: name},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert told == [name, kernels.weighted_sum(rows, [0.2] * 5).vector.tobytes().hex()]


def test_weights_keep_29_bits():
    third = kernels.weighted_sum([vector(3)], [1 / 3]).vector[0]
    assert third == 1
    assert kernels.weighted_sum([vector(2**24)], [1 + 2**-28]).vector[0] == 2**24
    assert kernels.reference.exact_weight(1 / 3) == round(2**30 / 3) / 2**30


def test_without_the_extension_the_reference_works_and_one_line_says_so():
    program = (
        "import sys; sys.modules['llmagentos.kernels._native'] = None\n"
        "from llmagentos import kernels; import numpy as np\n"
        "row = np.ones(3, np.float32)\n"
        "assert not kernels.native\n"
        "assert kernels.weighted_sum([row, row], [1, 2]).vector.tolist() == [3, 3, 3]\n"
        "after = kernels.adam_step(*[row] * 4, lr=1, beta1=0, beta2=0, tau=1)\n"
        "assert after.w.tolist() == [1.5] * 3\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert len(done.stderr.splitlines()) == 1
    assert "pip install -e ." in done.stderr
