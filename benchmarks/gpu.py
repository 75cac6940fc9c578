"""The CUDA kernels beside torch on one GPU: share of the copy bandwidth, launches, times.

    pip install -e . -C cmake.define.LLMAGENTOS_CUDA=ON
    python benchmarks/gpu.py

Every result is checked before it is timed; all are timed in turn, by the events of the stream.
Prints Markdown; without a GPU it says in one line that nothing was measured.
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

import torch
from rows import PIECES, spread
from torch.profiler import ProfilerActivity, profile

from llmagentos import kernels
from llmagentos.kernels import launch

Work = Callable[[], object]

OURS = "this library"
RATES = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 1e-3}
TRAINING = kernels.AdamW(lr=1e-3, decay=0.01)
MU, CLIP = 0.01, 1.0


@dataclass(frozen=True)
class Contender:
    """The work that is timed, and the bytes that it has to move at least."""

    work: Work
    floor: int


def seconds(work: Work) -> float:
    """Time on the device."""
    start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    work()
    stop.record()
    stop.synchronize()
    return start.elapsed_time(stop) / 1e3


def launches(work: Work) -> int:
    """Kernels that one call starts; copies, fills and named spans of time are not counted."""
    with profile(activities=[ProfilerActivity.CUDA]) as record:
        work()
        torch.cuda.synchronize()
    names = [event.name for event in record.events() if event.device_type.name == "CUDA"]
    return sum(not name.startswith(("Memcpy", "Memset")) and "#" not in name for name in names)


def cohort(agents: int, values: int, kind: torch.dtype) -> tuple[list[torch.Tensor], list[float]]:
    """Small deltas of that type on the device, and weights that sum to one."""
    torch.manual_seed(agents)
    rows = [(1e-3 * torch.randn(values, device="cuda")).to(kind) for _ in range(agents)]
    shares = torch.rand(agents, dtype=torch.float64) + 0.1
    return rows, (shares / shares.sum()).tolist()


def foreach(rows: list[torch.Tensor], weights: list[float], out: torch.Tensor) -> Work:
    """One call of torch per agent over the tensors of its adapter."""
    agents = [list(row.tensor_split(PIECES)) for row in rows]
    total = list(out.tensor_split(PIECES))

    def work() -> None:
        torch._foreach_zero_(total)
        for pieces, weight in zip(agents, weights, strict=True):
            torch._foreach_add_(total, pieces, alpha=weight)

    return work


def averages(agents: int, values: int, kind: torch.dtype) -> dict[str, Contender]:
    """Name to contender, all over the same rows; the mean is checked."""
    rows, weights = cohort(agents, values, kind)
    anchor, out, total = torch.zeros(3, values, device="cuda")
    state = kernels.Adaptive(*torch.rand(3, values, device="cuda"))
    after = kernels.Adaptive(*torch.empty(3, values, device="cuda"))
    read, vector = agents * rows[0].nbytes, anchor.nbytes
    works = {
        OURS: Contender(lambda: kernels.weighted_sum(rows, weights, out=out), read + vector),
        f"{OURS}, with the step": Contender(
            lambda: kernels.average_step(anchor, rows, weights, out=out), read + 2 * vector
        ),
        f"{OURS}, with FedAdam": Contender(
            lambda: kernels.average_adaptive_step("adam", state, rows, weights, out=after, **RATES),
            read + 6 * vector,
        ),
        "torch `_foreach_add_`": Contender(foreach(rows, weights, total), read + vector),
    }
    truth = sum(weight * row.double() for row, weight in zip(rows, weights, strict=True))
    for name, result in ((OURS, out), ("torch `_foreach_add_`", total)):
        works[name].work()
        apart = (result.double() - truth).norm() / truth.norm()
        assert apart < 1e-5, f"{name} is not the weighted mean: {apart:.0e} apart"
    return works


def training(values: int) -> dict[str, Contender]:
    """A step of local training here, and as torch would do it; the weights are compared."""
    start, anchor, gradient = torch.randn(3, values, device="cuda")
    w, m, v, g = torch.zeros(4, values, device="cuda")
    theirs = torch.nn.Parameter(start.clone())
    theirs.grad = gradient.clone()
    optimizer = torch.optim.AdamW([theirs], lr=TRAINING.lr, weight_decay=TRAINING.decay, fused=True)
    w.copy_(start), g.copy_(gradient)

    def ours() -> None:
        kernels.train_step(w, m, v, g, step=1, rates=TRAINING, clip=CLIP, anchor=anchor, mu=MU)

    def torchs() -> None:
        theirs.grad.add_(theirs.detach() - anchor, alpha=MU)
        torch.nn.utils.clip_grad_norm_(theirs, CLIP)
        optimizer.step()

    ours(), torchs()
    assert (w - theirs.detach()).abs().max() < 1e-5, "the two steps differ"
    floor = 11 * start.nbytes  # g, w, anchor -> g; g, w, m, v -> w, m, v
    return {
        f"{OURS}: pull, clip, AdamW": Contender(ours, floor),
        "torch: pull, `clip_grad_norm_`, fused AdamW": Contender(torchs, floor),
    }


def copy(values: int) -> Contender:
    """A copy within the device: the limit that memory sets."""
    source, target = torch.empty(2, 4 * values, device="cuda")
    return Contender(lambda: target.copy_(source), 2 * source.nbytes)


def table(title: str, works: dict[str, Contender], values: int, repeats: int) -> None:
    """Prints one line for every contender, timed in turn beside a copy."""
    counts = {name: launches(each.work) for name, each in works.items()}
    works = works | {"copy": copy(values)}
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, each in works.items():
            times[name].append(seconds(each.work))
    limit = works["copy"].floor / median(times["copy"])
    best = median(next(iter(times.values())))
    for name, taken in times.items():
        speed = works[name].floor / median(taken)
        print(
            f"| {title} | {name} | {spread(taken)} | {speed / 1e9:.0f} | {speed / limit:.0%} | "
            f"{median(taken) / best:.2f} | {counts.get(name, '')} |"
        )


def main() -> None:
    """Checks, times in turn, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--agents", type=int, nargs="+", default=[10, 32])
    parser.add_argument("--values", type=int, default=40_000_000)
    parser.add_argument("--repeats", type=int, default=21)
    settings = parser.parse_args()
    if not torch.cuda.is_available():
        print("No CUDA device was at hand: `gpu.py` measured nothing.")
        return
    assert launch.cuda(), "build with: pip install -e . -C cmake.define.LLMAGENTOS_CUDA=ON"
    print(
        f"{torch.cuda.get_device_name()}; {settings.values:,} values in a vector; "
        f"torch {torch.__version__}, CUDA {torch.version.cuda}.",
        "| work | contender | ms: median (min to max) | GB/s | of copy | times ours | launches |",
        "|---|---|---|---|---|---|---|",
        sep="\n",
    )
    for kind in (torch.float32, torch.bfloat16):
        for agents in settings.agents:
            title = f"{agents} x {str(kind).removeprefix('torch.')}"
            works = averages(agents, settings.values, kind)
            table(title, works, settings.values, settings.repeats)
    table("training", training(settings.values), settings.values, settings.repeats)


if __name__ == "__main__":
    main()
