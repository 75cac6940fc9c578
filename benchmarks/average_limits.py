"""What memory allows in `average.py`: reading, reading and writing, and touching fresh pages."""

import mmap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
from numpy.typing import NDArray
from rows import Rows

from llmagentos.scaled import ScaledRow

Work = Callable[[], object]

READ_ONCE = "read once"
READ_AND_WRITTEN = "read once, write once"
FIRST_TOUCH = "first touch of 10,000 pages"

PAGES = 10_000
PAGES_BYTES = PAGES * mmap.PAGESIZE


def limits(rows: Rows, threads: int) -> dict[str, Work]:
    """Name to work that no average over these rows can do without, or would rather do without."""
    shares = words(rows, threads)
    outs = np.array_split(np.ones(len(rows[0]), np.float32), threads)
    pairs = zip(shares, outs, strict=True)
    return {
        READ_ONCE: together([partial(read, share) for share in shares]),
        READ_AND_WRITTEN: together([partial(read_and_write, *pair) for pair in pairs]),
        FIRST_TOUCH: first_touch,
    }


def words(rows: Rows, threads: int) -> list[list[NDArray[np.uint64]]]:
    """For every thread its own part of every row, in words of eight bytes."""
    scaled = [row for row in rows if isinstance(row, ScaledRow)]
    vectors = [vector for row in scaled for vector in (row.q, row.scale)] or rows
    whole = [each.view(np.uint8)[: each.nbytes // 8 * 8].view(np.uint64) for each in vectors]
    return [[np.array_split(each, threads)[k] for each in whole] for k in range(threads)]


def read(share: list[NDArray[np.uint64]]) -> None:
    """Every byte is read once, and nothing is done with it."""
    for each in share:
        np.bitwise_xor.reduce(each)


def read_and_write(share: list[NDArray[np.uint64]], out: NDArray[np.float32]) -> None:
    """Every byte is read once, and the output, which was touched before, is written once."""
    read(share)
    out.fill(0)


def together(works: list[Work]) -> Work:
    """All at the same time: one here, the others on a thread each.

    Were none of them here, the system would often begin two threads on one core.
    """
    here, *others = works
    if not others:
        return here
    pool = ThreadPoolExecutor(len(others))

    def work() -> None:
        elsewhere = [pool.submit(other) for other in others]
        here()
        for each in elsewhere:
            each.result()

    return work


def first_touch() -> None:
    """Small pages are mapped, touched and given back: each is a page fault and nothing else."""
    with mmap.mmap(-1, PAGES_BYTES, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as fresh:
        fresh.madvise(mmap.MADV_NOHUGEPAGE)
        np.frombuffer(fresh, np.uint8)[:: mmap.PAGESIZE] = 1
