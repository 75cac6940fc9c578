"""The language-model half: load, adapt, train, evaluate, answer, export."""

import logging

REPETITIVE = ("bitsandbytes.backends.cpu.ops", "bitsandbytes.autograd._functions")
"""Loggers that warn at every import of PEFT, and in every pass of a layer of eight bits."""

for name in REPETITIVE:
    logging.getLogger(name).setLevel(logging.ERROR)
