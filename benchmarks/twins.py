"""Every native kernel beside its plain twin: native code that does not win is removed.

    python benchmarks/twins.py

One thread, processor time, in turn. Equal results are checked first. Prints a Markdown table.
"""

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median

import ml_dtypes
import numpy as np
import torch
from rows import machine, seconds, spread

from llmagentos.kernels import AdamW, _native, reference

native = _native.instruction_sets[-1]

RATES = (0.1, 0.9, 0.99, 1e-3)
TRAINING = AdamW(lr=1e-3, decay=0.01)

Work = Callable[[], object]


def averages(twin: object, values: int) -> dict[str, tuple[Work, np.ndarray]]:
    """Name to work and the vector that it fills: what reads many rows."""
    anchor, *rows = np.random.default_rng(0).standard_normal((11, values), np.float32)
    halves = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
    weights = [0.1] * len(rows)
    out = np.zeros(values, np.float32)
    works = {"average_step, 10 x float32": (rows, out)}
    works["average_step, 10 x float32, all denormal"] = ([r * np.float32(1e-40) for r in rows], out)
    works |= {
        f"average_step, 10 x {n}": ([r.astype(t) for r in rows], out) for n, t in halves.items()
    }
    pairs = {
        name: (partial(twin.average_step, out, anchor, 1.0, each, weights, 1), out)
        for name, (each, out) in works.items()
    }
    return pairs | {
        "inspect": (partial(twin.inspect, rows[0], 1), out),
    }


def steps(twin: object, values: int) -> dict[str, tuple[Work, np.ndarray]]:
    """Name to work and the vectors that it fills: what goes value by value."""
    w, m, v, delta = np.random.default_rng(1).random((4, values), np.float32)
    out = np.zeros((3, values), np.float32)
    momentum = partial(twin.momentum_step, out[:2], (w, m, delta), (0.1, 0.9), 1)
    adaptive = {
        name: (partial(getattr(twin, name), tuple(out), (w, m, v, delta), RATES, 1), out)
        for name in ("adam_step", "yogi_step", "adagrad_step")
    }
    gradient = delta.copy()
    proximal = partial(twin.proximal, gradient, w, m, 1e-3, 1)
    state = np.stack([w, m, v])
    train = partial(twin.train_step, list(state), delta, 0.5, TRAINING.at(1), 1)
    return (
        {"momentum_step": (momentum, out)}
        | adaptive
        | {"proximal": (proximal, gradient), "train_step": (train, state)}
    )


def average_and_step(twin: object, values: int) -> dict[str, tuple[Work, np.ndarray]]:
    """FedAdam on 10 rows: in one pass, and as the average and then the step."""
    w, m, v, *rows = np.random.default_rng(2).random((13, values), np.float32)
    out = np.zeros((4, values), np.float32)
    weights = [0.1] * len(rows)

    def apart() -> None:
        twin.weighted_sum(out[3], rows, weights, 1)
        twin.adam_step(out[:3], (w, m, v, out[3]), RATES, 1)

    fused = partial(twin.average_adam_step, out[:3], (w, m, v), RATES, rows, weights, 1)
    return {"average_adam_step": (fused, out[:3]), "the same in two passes": (apart, out[:3])}


def torch_adam(values: int) -> Work:
    """FedAdam as one would write it in torch over flat vectors, in float32."""
    w, m, v, mean, *rows = torch.rand(14, values).unbind()
    lr, beta1, beta2, tau = RATES

    def work() -> None:
        mean.zero_()
        for row in rows:
            mean.add_(row, alpha=0.1)
        m.lerp_(mean, 1 - beta1)
        v.mul_(beta2).addcmul_(mean, mean, value=1 - beta2)
        w.addcdiv_(m, v.sqrt().add_(tau), value=lr)

    return work


def torch_proximal(values: int) -> Work:
    """The correction as one would write it in torch, in float32."""
    gradient, weights, anchor = torch.rand(3, values).unbind()
    return lambda: gradient.add_(weights - anchor, alpha=1e-3)


def torch_training(values: int) -> Work:
    """Torch's fused AdamW over one flat parameter, in float32, and the scaling before it."""
    parameter = torch.nn.Parameter(torch.rand(values))
    parameter.grad = torch.rand(values)
    optimizer = torch.optim.AdamW(
        [parameter], lr=TRAINING.lr, weight_decay=TRAINING.decay, fused=True
    )

    def work() -> None:
        parameter.grad.mul_(0.5)
        optimizer.step()

    return work


def main() -> None:
    """Checks, times in turn, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--values", type=int, default=4_000_000)
    parser.add_argument("--repeats", type=int, default=7)
    settings = parser.parse_args()
    torch.set_num_threads(1)
    ours, plain = (
        {
            **averages(t, settings.values),
            **steps(t, settings.values),
            **average_and_step(t, settings.values),
        }
        for t in (native, reference)
    )
    print(machine(settings.values, torch=torch.__version__), end="\n\n")
    print("| kernel | native, ms: median (min to max) | plain twin, ms | times native |")
    print("|---|---|---|---|")
    for name, (work, result) in ours.items():
        twin, expected = plain[name]
        work(), twin()
        assert result.tobytes() == expected.tobytes(), f"{name} differs from its twin"
        line(name, work, twin, settings.repeats)
    peers = {
        "proximal": torch_proximal,
        "train_step": torch_training,
        "average_adam_step": torch_adam,
    }
    for name, peer in peers.items():
        line(f"{name}, against torch", ours[name][0], peer(settings.values), settings.repeats)


def line(name: str, work: Work, twin: Work, repeats: int) -> None:
    """Prints one row, the two timed in turn."""
    pairs = [(seconds(work, 1), seconds(twin, 1)) for _ in range(repeats)]
    native, plain = (list(times) for times in zip(*pairs, strict=True))
    print(f"| {name} | {spread(native)} | {spread(plain)} | {median(plain) / median(native):.1f} |")


if __name__ == "__main__":
    main()
