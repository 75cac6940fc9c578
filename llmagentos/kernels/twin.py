"""``twin`` is the compiled kernels where they load, else the plain reference.

The widest instruction set of this processor is taken. For tests and measurements the environment
variable ``LLMAGENTOS_INSTRUCTIONS`` names another one, ``baseline``, ``avx2`` or ``avx512``, or
``reference``, the plain twin; all of them give the same bits.
"""

import logging
import os
from collections.abc import Mapping
from typing import Any

from llmagentos.errors import SettingError
from llmagentos.kernels import reference

VARIABLE = "LLMAGENTOS_INSTRUCTIONS"


def compiled() -> dict[str, Any]:
    """Name to kernels, from the plain instruction set to the widest; empty where none loads."""
    try:
        from llmagentos.kernels import _native  # noqa: PLC0415 (it may not exist)
    except ImportError as error:
        logging.getLogger(__name__).warning(
            "the compiled kernels did not load (%s): plain NumPy does their work, several times "
            "slower; to build them, install a C++20 compiler and run `pip install -e .` again",
            error,
        )
        return {}
    return {kernels.name: kernels for kernels in _native.instruction_sets}


def chosen(name: str, found: Mapping[str, Any]) -> Any:
    """The twin of that name; for "" the last one, the widest."""
    twins = {"reference": reference, **found}
    if name and name not in twins:
        raise SettingError(f"{VARIABLE}={name} is not on this machine; it has {', '.join(twins)}")
    return twins[name or list(twins)[-1]]


twin = chosen(os.environ.get(VARIABLE, ""), compiled())
native = twin is not reference

__all__ = ["native", "twin"]
