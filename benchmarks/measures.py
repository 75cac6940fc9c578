"""Where RESULTS.md has which number, by the sections, rows and columns that the scripts write."""

from functools import partial

from sections import measured, number, of_command, section
from verdicts import Find

OURS = "this library"
STEP, ADAM, AVX2 = (f"{OURS}, {more}" for more in ("with the step", "with FedAdam", "avx2"))
FOREACH, MV = "torch `_foreach_add_`", "torch `mv`, stacked"
LOOP = "loop over state dicts"
READ_AND_WRITTEN, FIRST_TOUCH = "read once, write once", "first touch of 10,000 pages"
FLOWER_ADAM = "Flower, FedAdam"
MS = "ms: median (min to max)"
STEADY, STARTED = "s a steady round", "s for three rounds with start-up"
FLOWER, FLOWER_WIDE = "Flower over Ray, one client at a time*", "the same, a client on every core"
AVERAGE = {threads: f"average.py --threads {threads}" for threads in (1, 2)}
ROUND = {"tiny": "round.py --threads 2", "135M": "round.py --threads 2 --model smollm2"}
FLOWER_ROUND = "engines.py --model smollm2 --steps 2 --rounds 3"
LARGEST = "growth.py --threads 2 --largest"
HERE, PLAIN = "Flower, this library", "plain Flower, tensor by tensor"


def cell(command: str, *row: str, column: str) -> Find:
    """A number in a command's section."""
    return partial(measured, command=command, row=row, column=column)


def average(agents: int, kind: str, threads: int, contender: str, column: str) -> Find:
    """A number of ``average.py``."""
    cohort = f"{agents} x * {kind}, {threads} thread*"
    return cell(AVERAGE[threads], cohort, contender, column=column)


def adam_against_flower(agents: int, threads: int) -> Find:
    """How many times as long FedAdam takes in Flower."""
    theirs, ours = (average(agents, "float32", threads, who, MS) for who in (FLOWER_ADAM, ADAM))
    return ratio(theirs, ours)


def robust(question: str, agents: int, contender: str, column: str) -> Find:
    """A number of ``robust.py``."""
    return cell("robust.py", f"{question}, n = {agents}", contender, column=column)


def beside(model: str) -> Find:
    """How many times faster agents train side by side than one by one."""
    return cell(ROUND[model], f"{'tiny' if model == 'tiny' else 'smollm2'}*", column="times faster")


def against_round(model: str, way: str, column: str) -> Find:
    """How many times as long another way to play the same round takes."""
    ours = cell(ROUND[model], f"{OURS}, side by side", column=column)
    return ratio(cell(ROUND[model], way, column=column), ours)


def carried(way: str, column: str) -> Find:
    """A number of a round that goes over Flower."""
    return cell(FLOWER_ROUND, "smollm2*", way, column=column)


def gpu(work: str, contender: str, column: str) -> Find:
    """A number of ``gpu.py``."""
    return cell("gpu.py", work, contender, column=column)


def ratio(over: Find, under: Find) -> Find:
    """One number in units of another; nothing where one of them is missing."""

    def found(text: str) -> float | None:
        a, b = over(text), under(text)
        return None if a is None or b is None else a / b

    return found


def peak(text: str) -> float | None:
    """Gigabytes at the peak of the largest round, from its sentence."""
    return number(section(text, of_command(LARGEST)).partition(", peak ")[2])


def nowhere(_: str) -> None:
    """No command measures it."""


ADAM_TORCH = cell("twins.py", "average_adam_step, against torch", column="times native")
MAPPED = cell("memory.py", "times in memory", column="measured")
HELD = cell(
    "memory.py",
    "anonymous memory above the imports, 100 agents x 160 MB",
    column="measured",
)
OVER_FLOWER = ratio(carried(PLAIN, STEADY), carried(HERE, STEADY))
TRAINED = gpu("training", "torch: *", "times ours")
