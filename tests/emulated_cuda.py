"""The CUDA twin built for the processor: its sources, its binding and its door, without a device.

``csrc/*.cu`` are compiled as C++ against ``tests/csrc/emulated``; tensors in host memory stand for
those on a device.
"""

import importlib.util
import subprocess
import sysconfig
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace

import pybind11
import pytest
import torch

from llmagentos import kernels
from llmagentos.kernels import arrays, launch

ROOT = Path(__file__).parent.parent


def build(folder):
    """The extension, compiled into the folder."""
    library = folder / "_cuda.so"
    folders = ["tests/csrc/emulated", "csrc", pybind11.get_include(), sysconfig.get_path("include")]
    sources = ["csrc/module_cuda.cpp", "csrc/cuda_average.cu", "csrc/cuda_steps.cu"]
    flags = ["-std=c++20", "-O1", "-ffp-contract=off", "-shared", "-fPIC", "-pthread", "-xc++"]
    includes = [f"-I{name}" for name in folders]
    subprocess.run(["c++", *flags, *includes, *sources, "-o", library], cwd=ROOT, check=True)
    return library


def load(library):
    spec = importlib.util.spec_from_file_location("llmagentos.kernels._cuda", library)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def host_as_device(library):
    """Inside, tensors in host memory go to the CUDA twin."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "_cuda", load(library), raising=False)
        patch.setattr(launch, "on_cuda", arrays.is_tensor)
        patch.setattr(torch.cuda, "device", nullcontext)
        patch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(cuda_stream=0))
        launch.cuda.cache_clear()
        yield "cpu"
    launch.cuda.cache_clear()
    launch.workspace.cache_clear()
