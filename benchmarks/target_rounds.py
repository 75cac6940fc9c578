"""The targets of rounds and of a GPU, a line each; and the lines that README.md shows."""

from dataclasses import replace

import measures as at
from verdicts import (
    FASTER,
    GIGABYTES,
    LAUNCHES,
    MEGABYTES,
    NONE,
    OF_MEMORY,
    SHARE,
    TIMES,
    Line,
    Pairs,
    Unit,
    line,
)

IMPORTS = "importing torch, transformers and peft takes most of the time"
KINDS = ("float32", "bfloat16")
NOT_RUN = "not run"


def rounds(words: str, way: str, column: str, targets: Pairs = NONE, why: str = "") -> Line:
    """How many times as long another way to play a round takes, by model."""
    finds = {model: at.against_round(model, way, column) for model in at.ROUND}
    return line(words, TIMES, finds, targets, why)


ROUND_LINES = (
    line(
        "{}: side by side against one by one",
        TIMES,
        {model: at.beside(model) for model in at.ROUND},
        ((1.7, 2.2), (1.4, 1.8)),
    ),
    rounds(
        "{}: a steady round against Flower over Ray", at.FLOWER, at.STEADY, ((3.2, 4), (1.7, 2.5))
    ),
    rounds("{}: the same, with a client on every core", at.FLOWER_WIDE, at.STEADY),
    rounds(
        "{}: three rounds with start-up against Flower over Ray",
        at.FLOWER,
        at.STARTED,
        ((8, 12), (3.5, 5)),
        IMPORTS,
    ),
    line("256 agents of 135M, r = 8 on q and v, peak memory", GIGABYTES, {"": at.peak}, ((8, 6),)),
    line("135M: a round over Flower against plain Flower", TIMES, {"": at.OVER_FLOWER}),
    line(
        "its bytes, in those of its vectors, {}",
        OF_MEMORY,
        {
            "here": at.carried(at.HERE, "times the vectors"),
            "plain Flower": at.carried(at.PLAIN, "times the vectors"),
        },
    ),
)


def gpu(words: str, unit: Unit, of: tuple[str, str, str], targets: Pairs) -> Line:
    """A column of ``gpu.py``; ``of`` is type, contender and column."""
    kind, *rest = of
    finds = {str(n): at.gpu(f"{n} x {kind}", *rest) for n in (10, 32)}
    return replace(line(f"{words}, {{}} agents, {kind}", unit, finds, targets), absent=NOT_RUN)


GPU_LINES = (
    *(
        gpu("average and step, of the speed of a copy", SHARE, (k, at.STEP, "of copy"), ((85, 92),))
        for k in KINDS
    ),
    *(gpu(at.FOREACH, TIMES, (k, at.FOREACH, "times ours"), ((2.4, 3),)) for k in KINDS),
    *(
        gpu("launches, average and step", LAUNCHES, (k, at.STEP, "launches"), ((1, 1),))
        for k in KINDS
    ),
    replace(
        line("AdamW with pull and clipping, against torch", TIMES, {"": at.TRAINED}, ((1, 1),)),
        absent=NOT_RUN,
    ),
    replace(
        line("32 agents side by side against one by one", TIMES, {"": at.nowhere}, ((3, 6),)),
        absent=NOT_RUN,
    ),
)

README_LINES = (
    *(
        line(
            f"weighted average of {{}} adapters, one thread, against {peer}",
            FASTER,
            {str(n): at.average(n, "float32", 1, peer, "times ours") for n in (10, 100)},
        )
        for peer in ("Flower", "NVFlare", at.FOREACH)
    ),
    line(
        "a round on SmolLM2-135M, against Flower over Ray with {} (its clients load model and "
        "Trainer in every round)",
        FASTER,
        {
            "one client at a time": at.against_round("135M", at.FLOWER, at.STEADY),
            "a client on every core": at.against_round("135M", at.FLOWER_WIDE, at.STEADY),
        },
    ),
    line("the same, agents side by side against one by one", FASTER, {"": at.beside("135M")}),
    line("256 agents of SmolLM2-135M in one process, at most", GIGABYTES, {"": at.peak}),
    line(
        "the end of a round of 100 updates of 160 MB, above the imports", MEGABYTES, {"": at.HELD}
    ),
)
