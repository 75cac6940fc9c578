"""Random numbers that depend on what they are for and on nothing else."""

import hashlib

import numpy as np


def seed_of(*purpose: int | str) -> int:
    """A 63-bit seed from a run's seed and a purpose, the same on every machine."""
    digest = hashlib.sha256("\0".join(map(str, purpose)).encode()).digest()
    return int.from_bytes(digest[:8], "little") >> 1


def generator(*purpose: int | str) -> np.random.Generator:
    """A fresh generator for a purpose, so that a resumed round draws what the first try drew."""
    return np.random.default_rng(seed_of(*purpose))
