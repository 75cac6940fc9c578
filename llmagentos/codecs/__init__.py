"""How vectors become bytes and are read in place."""

from llmagentos.codecs.container import pack, unpack

__all__ = ["pack", "unpack"]
