"""What a base of four or eight bits saves in memory, and costs in time and loss.

    python benchmarks/quantized.py [--rounds 1] [--threads 2] [--steps 6]

The default run of ``fedavg_lora``, once for each ``model.quantize``, each in a process of
its own. Weights are counted with their scales, tied ones once. Prints a Markdown table.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from statistics import mean

from rows import machine

from llmagentos.lm.models import load_base
from llmagentos.settings import ModelSettings

METHODS = "none", "nf4", "int8"
COLUMNS = "model.quantize | weights, MB | loading, s | a round, s | loss before | loss after"


def base_of(method: str) -> dict[str, float]:
    """Megabytes of the weights, and the seconds that they take from the disk, once it is warm."""
    for _ in range(2):
        start = time.perf_counter()
        model = load_base(ModelSettings(device="cpu", quantize=method), seed=0).model
        seconds = time.perf_counter() - start
    tensors = {id(tensor): tensor for tensor in model.state_dict(keep_vars=True).values()}
    return {"mb": sum(tensor.nbytes for tensor in tensors.values()) / 1e6, "load": seconds}


def run_of(method: str, asked: argparse.Namespace, out: Path) -> dict[str, float]:
    """Seconds of a round, and the mean held-out loss before the first and after the last."""
    words = ["--model.quantize", method, "--rounds", str(asked.rounds), "--out", str(out)]
    words += ["--threads", str(asked.threads), "--local.steps", str(asked.steps)]
    words += ["--evaluation.rows", "4", "--evaluation.final_rows", "16", "--name", method]
    program = [sys.executable, "-m", "llmagentos.recipes.fedavg_lora", *words]
    subprocess.run(program, check=True, stdout=subprocess.DEVNULL)
    summary = json.loads((out / method / "summary.json").read_text())
    losses = {
        when: mean(each["loss"] for each in summary[when].values()) for when in ("before", "after")
    }
    return {"seconds": summary["seconds"] / summary["rounds"], **losses}


def row(method: str, asked: argparse.Namespace, out: Path) -> str:
    """A line of the table."""
    child = [sys.executable, __file__, "--base", method]
    done = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True)
    found = {**json.loads(done.stdout), **run_of(method, asked, out)}
    return (
        f"| {method} | {found['mb']:.0f} | {found['load']:.1f} | {found['seconds']:.1f} "
        f"| {found['before']:.3f} | {found['after']:.3f} |"
    )


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--base", choices=METHODS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.base:
        print(json.dumps(base_of(asked.base)))
        return
    versions = {name: version(name) for name in ("torch", "bitsandbytes")}
    print(f"{machine(460_800, **versions)}\n\n| {COLUMNS} |\n|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as out:
        for method in METHODS:
            print(row(method, asked, Path(out)), flush=True)


if __name__ == "__main__":
    main()
