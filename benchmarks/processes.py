"""Contenders as processes of their own: how long they take and how much memory."""

import json
import os
import subprocess
import time
from dataclasses import dataclass

import numpy as np
import psutil


@dataclass(frozen=True)
class Ran:
    """A process that ended with a line of JSON: when each round ended and its mean loss."""

    start: float
    ends: list[float]
    losses: list[float]
    peak_bytes: int
    """Of the process and its descendants, shared pages counted once (PSS), sampled."""

    @property
    def steady(self) -> np.ndarray:
        """Seconds of every round but the first."""
        return np.diff(self.ends)

    @property
    def three_rounds(self) -> float:
        """Seconds from the start of the process to the end of its third round."""
        return self.ends[2] - self.start


def run(command: list[str], threads: int) -> Ran:
    """Run a command to its end; ``RuntimeError`` with what it wrote unless it succeeds."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "RAY_DEDUP_LOGS": "0"}
    start, peak = time.time(), 0
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=environment, **streams) as process:  # type: ignore[call-overload]
        while True:
            try:
                out, err = process.communicate(timeout=0.5)
                break
            except subprocess.TimeoutExpired:
                peak = max(peak, proportional_bytes(process.pid))
    if process.returncode:
        raise RuntimeError(f"{command[1]} failed:\n{err[-4000:]}")
    found = json.loads(out.splitlines()[-1])
    return Ran(start, found["ends"], found["losses"], peak)


def proportional_bytes(pid: int) -> int:
    """The proportional set size of a process and its descendants; of those that live."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for each in (parent, *parent.children(recursive=True)):
            total += each.memory_full_info().pss
    except psutil.NoSuchProcess:
        pass
    return total
