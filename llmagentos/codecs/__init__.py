"""How vectors become bytes and are read in place."""

from collections.abc import Callable, Mapping
from functools import partial

from llmagentos.codecs.codec import Codec, Parts
from llmagentos.codecs.container import pack, pack_file, unpack
from llmagentos.codecs.dense import bf16, fp16, fp32
from llmagentos.codecs.int8 import int8
from llmagentos.codecs.rows import BLOCK, CodedRow, Row, in_place
from llmagentos.codecs.top_k import top_k
from llmagentos.codecs.vectors import encode_all, read_all
from llmagentos.settings import CodecSettings

__all__ = [
    "BLOCK",
    "Codec",
    "CodedRow",
    "Parts",
    "Row",
    "codec_of",
    "encode_all",
    "in_place",
    "pack",
    "pack_file",
    "read_all",
    "unpack",
]


def codec_of(settings: CodecSettings) -> Codec:
    """The codec that the settings describe."""
    made: Mapping[str, Callable[[], Codec]] = {
        "fp32": fp32,
        "bf16": bf16,
        "fp16": fp16,
        "int8": int8,
        "top_k": partial(top_k, settings.top_k),
    }
    return made[settings.name]()
