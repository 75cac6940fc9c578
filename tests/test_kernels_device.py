"""Tensors on a CUDA device give the bits of arrays in host memory.

On a device under the marker ``gpu``; everywhere else the same sources run on the processor.
"""

import shutil

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmagentos import kernels
from llmagentos.kernels import launch
from llmagentos.scaled import ScaledRow
from tests.test_kernels import bits, float32_vectors, row_vectors, scaled_rows

torch = pytest.importorskip("torch")

quick = settings(deadline=None, max_examples=12)
sizes = st.sampled_from((0, 1, 7, 8, 1023, 1025, 2049, 65537)) | st.integers(0, 3000)
RATES = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}


@pytest.fixture(scope="module", params=["processor", pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request, tmp_path_factory):
    if request.param == "cuda":
        assert launch.cuda(), "build with -C cmake.define.LLMAGENTOS_CUDA=ON"
        yield "cuda"
        return
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler")
    pytest.importorskip("pybind11")
    from tests.emulated_cuda import build, host_as_device

    with host_as_device(build(tmp_path_factory.mktemp("cuda"))) as place:
        yield place


def tensor(values, device):
    """A copy on the device, in memory of its own; a pair of a scaled row."""
    if isinstance(values, ScaledRow):
        return tensor(values.q, device), tensor(values.scale, device)
    if values.dtype == ml_dtypes.bfloat16:
        return torch.tensor(values.view(np.int16)).view(torch.bfloat16).to(device)
    return torch.tensor(values).to(device)


def values(tensor):
    return tensor.cpu().numpy()


@st.composite
def cohorts(draw):
    size = draw(sizes)
    scaled = scaled_rows(size).map(lambda pair: ScaledRow(*pair))
    rows = [draw(row_vectors(size) | scaled) for _ in range(draw(st.integers(1, 9)))]
    return draw(float32_vectors(size)), rows, [draw(st.floats(-2.0, 2.0)) for _ in rows]


def same_pass(found, expected):
    np.testing.assert_array_equal(found.squared_norms, expected.squared_norms)
    assert found.nonfinite == expected.nonfinite


@quick
@given(cohort=cohorts(), lr=st.floats(-2.0, 2.0))
def test_one_pass_is_the_hosts(device, cohort, lr):
    anchor, rows, weights = cohort
    theirs = [tensor(row, device) for row in rows]
    for _ in range(2):
        found = kernels.weighted_sum(theirs, weights)
        expected = kernels.weighted_sum(rows, weights)
        same_pass(found, expected)
        assert bits(values(found.vector)) == bits(expected.vector)
    found = kernels.average_step(tensor(anchor, device), theirs, weights, lr)
    expected = kernels.average_step(anchor, rows, weights, lr)
    same_pass(found, expected)
    assert bits(values(found.vector)) == bits(expected.vector)
    assert repr(kernels.inspect(theirs[0])) == repr(kernels.inspect(rows[0]))


@pytest.mark.parametrize("rule", ["adam", "yogi", "adagrad"])
@quick
@given(cohort=cohorts(), data=st.data())
def test_adaptive_steps_are_the_hosts(device, rule, cohort, data):
    anchor, rows, weights = cohort
    m, v, delta = (data.draw(float32_vectors(anchor.size)) for _ in range(3))
    rates = {name: rate for name, rate in RATES.items() if (rule, name) != ("adagrad", "beta2")}
    vectors = [tensor(each, device) for each in (anchor, m, v, delta)]
    step = getattr(kernels, f"{rule}_step")
    for found, expected in zip(
        step(*vectors, **rates), step(anchor, m, v, delta, **rates), strict=True
    ):
        assert bits(values(found)) == bits(expected)
    w, m_there, v_there, _ = vectors
    theirs = [tensor(row, device) for row in rows]
    found = kernels.average_adaptive_step(
        rule, kernels.Adaptive(m_there, v_there, w), theirs, weights, **rates
    )
    expected = kernels.average_adaptive_step(
        rule, kernels.Adaptive(m, v, anchor), rows, weights, **rates
    )
    same_pass(found, expected)
    for one, other in zip(found.state, expected.state, strict=True):
        assert bits(values(one)) == bits(other)


@quick
@given(cohort=cohorts(), data=st.data())
def test_momentum_is_the_hosts(device, cohort, data):
    anchor, rows, weights = cohort
    m, delta = (data.draw(float32_vectors(anchor.size)) for _ in range(2))
    w, m_there, delta_there = (tensor(each, device) for each in (anchor, m, delta))
    found = kernels.momentum_step(w, m_there, delta_there, lr=0.5, beta=0.9)
    expected = kernels.momentum_step(anchor, m, delta, lr=0.5, beta=0.9)
    fused = kernels.average_momentum_step(
        kernels.Momentum(m_there, w),
        [tensor(row, device) for row in rows],
        weights,
        lr=0.5,
        beta=0.9,
    )
    apart = kernels.average_momentum_step(
        kernels.Momentum(m, anchor), rows, weights, lr=0.5, beta=0.9
    )
    same_pass(fused, apart)
    for one, other in zip([*found, *fused.state], [*expected, *apart.state], strict=True):
        assert bits(values(one)) == bits(other)


@pytest.mark.parametrize(("clip", "mu"), [(0.0, 0.0), (1.0, 0.0), (1.0, 0.25)])
@quick
@given(data=st.data(), size=sizes)
def test_training_is_the_hosts(device, clip, mu, data, size):
    here = [data.draw(float32_vectors(size)) for _ in range(5)]
    there = [tensor(each, device) for each in here]
    for step in (1, 2):
        for w, m, v, gradient, anchor in (here, there):
            kernels.train_step(
                w,
                m,
                v,
                gradient,
                step=step,
                rates=kernels.AdamW(0.1, decay=0.01),
                clip=clip,
                anchor=anchor,
                mu=mu,
            )
    for one, other in zip(there, here, strict=True):
        assert bits(values(one)) == bits(other)


def test_rows_of_a_matrix_need_no_alignment(device):
    here = np.random.default_rng(0).standard_normal((3, 3, 1025), np.float32)
    there = [tensor(each, device) for each in here]
    for row in range(3):
        kernels.proximal(*(matrix[row] for matrix in here), 0.5)
        kernels.proximal(*(matrix[row] for matrix in there), 0.5)
    assert bits(values(there[0])) == bits(here[0])
    rows = list(here[1])
    expected = kernels.weighted_sum(rows, [1, 2, 3])
    found = kernels.weighted_sum(list(there[1]), [1, 2, 3])
    same_pass(found, expected)
    assert bits(values(found.vector)) == bits(expected.vector)


def test_results_lie_in_the_tensors_that_were_given(device):
    row, out = torch.ones(9, device=device), torch.zeros(9, device=device)
    assert kernels.weighted_sum([row, row], [1, 2], out=out).vector.tolist() == [3] * 9
    assert out.tolist() == [3] * 9
    with pytest.raises(ValueError, match=r"out overlaps rows\[0\]"):
        kernels.weighted_sum([row[:4]], [1], out=row[3:7])
    with pytest.raises(ValueError, match=r"out overlaps the scale of rows\[0\]"):
        kernels.weighted_sum([(row.to(torch.int8), row[:1])], [1], out=row)


def test_what_changes_in_place_may_not_lie_over_another(device):
    w, m, v, gradient, anchor = torch.ones((5, 4), device=device)
    first = {"step": 1, "rates": kernels.AdamW(0.1)}
    with pytest.raises(ValueError, match="v overlaps m"):
        kernels.train_step(w, m, m, gradient, **first)
    with pytest.raises(ValueError, match="gradient overlaps anchor"):
        kernels.train_step(w, m, v, gradient, anchor=gradient, mu=1.0, **first)
    with pytest.raises(ValueError, match="gradient overlaps weights"):
        kernels.proximal(w, w, anchor, 1.0)


def test_wrong_tensors_are_named(device):
    row = torch.ones(4, device=device)
    with pytest.raises(ValueError, match=r"rows\[1\] has 3 values; needs 4"):
        kernels.weighted_sum([row, row[:3]], [1, 1])
    with pytest.raises(ValueError, match=r"rows\[1\] is float64"):
        kernels.weighted_sum([row, row.double()], [1, 1])
    with pytest.raises(ValueError, match=r"rows\[0\] has shape \(2, 2\)"):
        kernels.weighted_sum([row.view(2, 2)], [1])
    with pytest.raises(ValueError, match=r"rows\[1\] is on the host; needs to be on"):
        kernels.weighted_sum([row, np.ones(4, np.float32)], [1, 1])
    with pytest.raises(ValueError, match=r"the scale of rows\[0\] has 4 values; needs 1"):
        kernels.weighted_sum([(row.to(torch.int8), row)], [1])
    with pytest.raises(ValueError, match="delta is float16; needs to be float32"):
        kernels.momentum_step(row, row.clone(), row.half(), lr=1, beta=0)
    with pytest.raises(ValueError, match="769 rows on a device; at most 768"):
        kernels.weighted_sum([row] * 769, [1] * 769)


@pytest.mark.gpu
def test_passes_on_two_streams_do_not_meet():
    rows = [torch.full((10**6,), float(k), device="cuda") for k in range(4)]
    torch.cuda.synchronize()
    found = []
    for weight in (1.0, 2.0):
        with torch.cuda.stream(torch.cuda.Stream()):
            found.append(kernels.weighted_sum(rows, [weight] * 4))
    assert [each.vector[7].item() for each in found] == [6, 12]
    assert found[0].squared_norms == found[1].squared_norms == (0, 1e6, 4e6, 9e6)
