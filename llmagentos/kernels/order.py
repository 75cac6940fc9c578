"""Order statistics of the agents' deltas, coordinate by coordinate."""

from collections.abc import Sequence

from llmagentos.kernels import arrays
from llmagentos.kernels.arrays import ArrayOrTensor, RowLike
from llmagentos.kernels.averaging import Pass
from llmagentos.kernels.twin import twin

MOST_ROWS = 256
"""More rows than this are not sorted."""


def trimmed_mean(
    rows: Sequence[RowLike],
    trim: int,
    *,
    out: ArrayOrTensor | None = None,
    threads: int | None = None,
) -> Pass:
    """Coordinate-wise mean without the ``trim`` smallest and the ``trim`` largest values.

    n rows ``(d,)`` as in ``weighted_sum``, at most ``MOST_ROWS`` -> ``(d,)`` float32. What is left
    is added in float64 from the smallest up, multiplied by 1 over its number and rounded once. A
    NaN counts as Inf: up to ``trim`` of them are cut off as any large value is. The bits depend
    neither on the order of the rows nor on ``threads``. Raises ``ValueError`` unless
    ``0 <= 2 * trim < n``.
    """
    checked = arrays.rows_in_place(rows)
    if not checked:
        raise ValueError("rows is empty; did every agent fail?")
    if len(checked) > MOST_ROWS:
        raise ValueError(f"{len(checked)} rows are too many to sort; at most {MOST_ROWS}")
    if not 0 <= 2 * trim < len(checked):
        raise ValueError(f"trim={trim} leaves nothing of {len(checked)} rows; need 0 <= 2*trim < n")
    vector = arrays.output("out", out, len(checked[0]), arrays.named(checked))
    count = arrays.threads_for(sum(row.nbytes for row in checked), threads)
    norms, nonfinite = twin.trimmed_mean(vector, arrays.passed(checked), trim, count)
    return Pass(vector, tuple(norms), tuple(nonfinite))


def median(
    rows: Sequence[RowLike], *, out: ArrayOrTensor | None = None, threads: int | None = None
) -> Pass:
    """Coordinate-wise median; of an even number of rows the mean of the middle two.

    It is the trimmed mean that leaves one value or two; NaN and errors are as there.
    """
    return trimmed_mean(rows, max(0, (len(rows) - 1) // 2), out=out, threads=threads)
