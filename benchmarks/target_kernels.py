"""The targets of the kernels on the CPU, a line each."""

import measures as at
from verdicts import (
    AVERAGES,
    ERROR,
    MEGABYTES,
    NONE,
    OF_MEMORY,
    SHARE,
    SPEED,
    TIMES,
    Line,
    Pairs,
    Unit,
    line,
)

AGENTS = (4, 10, 32, 100)
MANY = (10, 32, 100)
THREADS = {1: "1 thread", 2: "2 threads"}
SHARES: dict[str, Pairs] = {
    "float32": ((90, 100), *[(95, 100)] * 3),
    "bfloat16": ((75, 90), *[(88, 95)] * 3),
    "float16": ((75, 90), *[(88, 95)] * 3),
    "int8": ((90, 100),),
}
"""Of the limit, by type: for 4, 10, 32 and 100 agents, or for all."""
FLOWER: dict[int, Pairs] = {1: ((6.5, 8),), 2: ((15, 18),)}
"""Times its average takes, by threads."""
SORTED: Pairs = (1.15, 1), (2, 1.7), (3.6, 2.5)
"""Averages that an order statistic of 10, 32 and 100 agents may cost."""

BYTES = "a core reads a byte in less time than it converts, multiplies, adds and squares one"


def share(words: str, contender: str, kind: str, threads: int, targets: Pairs = NONE) -> Line:
    """Input bytes a second as a share of the speed at which they are read once."""
    finds = {str(n): at.average(n, kind, threads, contender, "of limit") for n in AGENTS}
    told = f"{words} of {{}} agents, {kind}, {THREADS[threads]}"
    return line(told, SHARE, finds, targets, BYTES if kind == "int8" else "")


def slower(peer: str, kind: str, threads: int, targets: Pairs = NONE) -> Line:
    """How many times as long a peer takes for the average."""
    finds = {str(n): at.average(n, kind, threads, peer, "times ours") for n in AGENTS}
    return line(f"{peer}, {{}} agents, {kind}, {THREADS[threads]}", TIMES, finds, targets)


def robust(words: str, unit: Unit, of: tuple[str, str, str], targets: Pairs, why: str = "") -> Line:
    """A column of ``robust.py``; ``of`` is question, contender and column."""
    question, *rest = of
    finds = {str(n): at.robust(question, n, *rest) for n in MANY}
    return line(f"{words} of {{}} agents", unit, finds, targets, why)


SPEED_LINES = (
    *(share("average", at.OURS, k, t, SHARES[k]) for t in THREADS for k in SHARES),
    *(
        share(f"{at.READ_AND_WRITTEN}: rows", at.READ_AND_WRITTEN, k, t)
        for t in THREADS
        for k in SHARES
    ),
    share("average with AVX2", at.AVX2, "int8", 1, ((75, 90),)),
    *(share("average and step", at.STEP, k, t, ((85, 95),)) for t in THREADS for k in SHARES),
)

PEER_LINES = (
    *(slower("Flower", "float32", t, FLOWER[t]) for t in THREADS),
    *(slower("Flower, older API", "float32", t) for t in THREADS),
    *(slower("NVFlare", "float32", t, ((2.7, 3),)) for t in THREADS),
    slower("NVFlare", "bfloat16", 1, ((3.5, 4),)),
    *(slower(at.FOREACH, "float32", t) for t in THREADS),
    *(slower(at.MV, "float32", t, ((1, 1),)) for t in THREADS),
    line(
        "error of the average of 100 agents, bfloat16",
        ERROR,
        {"": at.average(100, "bfloat16", 1, at.OURS, "error")},
        ((1e-4, 1e-5),),
    ),
    line(
        "error of a loop in the type that travels, {} agents, bfloat16",
        ERROR,
        {str(n): at.average(n, "bfloat16", 1, at.LOOP, "error") for n in (10, 100)},
    ),
)

OTHER_LINES = (
    line(
        "FedAdam in the pass of the average of {} agents, float32, 1 thread",
        AVERAGES,
        {str(n): at.average(n, "float32", 1, at.ADAM, "times ours") for n in AGENTS},
    ),
    *(
        line(
            f"FedAdam against Flower's, {{}} agents, float32, {words}",
            TIMES,
            {str(n): at.adam_against_flower(n, threads) for n in AGENTS},
            ((9.5, 12),),
        )
        for threads, words in THREADS.items()
    ),
    line(
        "FedAdam against torch's, 10 agents, float32, 1 thread",
        TIMES,
        {"": at.ADAM_TORCH},
        ((2, 2.5),),
    ),
    robust("median", AVERAGES, ("median", at.OURS, "weighted sums"), SORTED),
    robust("trimmed mean", AVERAGES, ("trimmed mean", at.OURS, "weighted sums"), SORTED),
    robust("Flower's distances", TIMES, ("distances", "Flower", "times ours"), ((15, 30),)),
    robust("error of the distances", ERROR, ("distances", at.OURS, "error"), ((1e-8, 1e-8),)),
    line("mapped updates against in memory", OF_MEMORY, {"": at.MAPPED}, ((1.3, 1.1),)),
    line("memory of a round's end, 100 agents x 160 MB", MEGABYTES, {"": at.HELD}, ((370, 210),)),
    line("masks for secure aggregation, a core", SPEED, {"": at.nowhere}, ((10, 12),)),
)
