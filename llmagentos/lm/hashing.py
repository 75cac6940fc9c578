"""Which weights a model has, as a hash that every organisation can check."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def weights_hash(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 over sorted names, types, shapes and bytes, as hex digits.

    The same on every device; a tensor with several names counts once, under the one that sorts
    first.
    """
    digest, seen = hashlib.sha256(), set()
    for name, tensor in sorted(tensors.items()):
        if id(tensor) not in seen:
            seen.add(id(tensor))
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
            digest.update(flat.cpu().numpy().data)
    return digest.hexdigest()
