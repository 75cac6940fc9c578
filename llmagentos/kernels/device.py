"""The kernels on a CUDA device: tensors are read and written where they lie.

The functions are those of the twins, with tensors in place of arrays, and give the same bits. Work
is queued on torch's current stream; a pass over rows waits for it, as their norms are numbers of
Python.
"""

from collections.abc import Sequence
from typing import Any

from llmagentos.kernels import arrays, tensors
from llmagentos.kernels.arrays import ArrayOrTensor
from llmagentos.kernels.launch import Stats, cuda, queue, run_pass, workspace
from llmagentos.kernels.tensors import Tensor


def weighted_sum(
    rows: Sequence[Any], weights: Sequence[float], out: ArrayOrTensor | None
) -> tuple[Tensor, Stats]:
    """The sum, ``(d,)`` float32 on the device of the first row, and what the rows are."""
    like = tensors.values_of(rows[0])
    checked = tensors.rows(rows, like)
    factors = arrays.weights_of(weights, len(checked))
    vector = tensors.output("out", out, like, tensors.named(checked))
    target, size = vector.data_ptr(), len(vector)
    return vector, run_pass(
        vector, checked, factors, lambda rows, at: cuda().weighted_sum(target, size, rows, at)
    )


def average_step(
    anchor: Tensor,
    rows: Sequence[Any],
    weights: Sequence[float],
    lr: float,
    out: ArrayOrTensor | None,
) -> tuple[Tensor, Stats]:
    """The anchor after the step, ``(d,)`` float32 on its device, and what the rows are."""
    start = tensors.vector("anchor", anchor, anchor)
    checked = tensors.rows(rows, start)
    factors = arrays.weights_of(weights, len(checked))
    vector = tensors.output("out", out, start, {"anchor": start} | tensors.named(checked))
    target, source, size = vector.data_ptr(), start.data_ptr(), len(vector)
    return vector, run_pass(
        vector,
        checked,
        factors,
        lambda rows, at: cuda().average_step(target, source, lr, size, rows, at),
    )


def inspect(row: Any) -> tuple[float, int]:
    """The squared norm of a row and the number of its values that are not finite."""
    like = tensors.values_of(row)
    checked = tensors.row("row", row, like)
    norms, nonfinite = run_pass(
        like, [checked], [0.0], lambda rows, at: cuda().inspect(len(like), rows, at)
    )
    return norms[0], nonfinite[0]


def _addresses(vectors: Sequence[Tensor]) -> list[int]:
    return [vector.data_ptr() for vector in vectors]


def _outputs(
    given: Sequence[ArrayOrTensor | None], like: Tensor, before: dict[str, Tensor]
) -> list[Tensor]:
    return tensors.outputs({f"out[{k}]": value for k, value in enumerate(given)}, like, before)


def step(
    name: str,
    before: dict[str, ArrayOrTensor],
    rates: Sequence[float],
    out: Sequence[ArrayOrTensor | None],
) -> list[Tensor]:
    """The state after the step of that name."""
    checked = tensors.vectors(before)
    like = next(iter(checked.values()))
    after = _outputs(out, like, checked)
    take, inputs = getattr(cuda(), name), _addresses(list(checked.values()))
    queue(like, lambda stream: take(_addresses(after), inputs, rates, len(like), stream))
    return after


def average_and_step(  # noqa: PLR0913 (keyword-only)
    name: str,
    before: dict[str, ArrayOrTensor],
    rows: Sequence[Any],
    weights: Sequence[float],
    *,
    rates: Sequence[float],
    out: Sequence[ArrayOrTensor | None],
) -> tuple[list[Tensor], Stats]:
    """The state after the step of that name on the sum of the rows, and what the rows are."""
    vectors = tensors.vectors(before)
    like = next(iter(vectors.values()))
    checked = tensors.rows(rows, like)
    factors = arrays.weights_of(weights, len(checked))
    after = _outputs(out, like, vectors | tensors.named(checked))
    take, inputs = getattr(cuda(), name), _addresses(list(vectors.values()))
    return after, run_pass(
        like,
        checked,
        factors,
        lambda rows, at: take(_addresses(after), inputs, rates, len(like), rows, at),
    )


def proximal(gradient: Tensor, weights: ArrayOrTensor, anchor: ArrayOrTensor, mu: float) -> None:
    """``gradient += mu * (weights - anchor)`` in place."""
    before = tensors.vectors({"weights": weights, "anchor": anchor})
    target = tensors.output("gradient", gradient, before["weights"], before)
    addresses = _addresses([target, *before.values()])
    queue(gradient, lambda stream: cuda().proximal(*addresses, mu, len(gradient), stream))


def train_step(
    training: dict[str, ArrayOrTensor],
    anchor: ArrayOrTensor | None,
    mu: float,
    clip: float,
    rates: Sequence[float],
) -> None:
    """Pull, clipping and AdamW in place: two launches, and nothing waits for either.

    ``training`` is (weights, m, v, gradient).
    """
    like = training["weights"]
    pull = {} if anchor is None else {"anchor": tensors.vector("anchor", anchor, like)}
    addresses = _addresses([*tensors.outputs(training, like, pull), *pull.values()])
    stats = like.new_empty(4)  # two numbers of 8 bytes

    def call(stream: int) -> None:
        room = workspace(like.device, stream, len(like), 1)
        cuda().train_step(
            addresses[:4],
            addresses[-1],
            mu if anchor is not None else 0.0,
            clip,
            rates,
            len(like),
            stats.data_ptr(),
            room.data_ptr(),
            stream,
        )

    queue(like, call)
