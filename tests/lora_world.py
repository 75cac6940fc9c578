"""A federation over LoRA factors without a model: agents who move to a place of their own."""

from llmagentos.adapter import Layout, LoraPair


def layout_of(shapes, rank=3, scale=2.0):
    """Pairs for layers of ``(out, in)``, with one scale."""
    tensors, pairs = {}, []
    for number, (out, in_) in enumerate(shapes):
        a, b = f"layer{number}.lora_A.weight", f"layer{number}.lora_B.weight"
        tensors |= {a: (rank, in_), b: (out, rank)}
        pairs.append(LoraPair(a, b, rank, rank * scale, scale))
    return Layout.order(tensors, tuple(pairs))


LAYOUT = layout_of([(9, 8), (5, 8), (12, 9)])
