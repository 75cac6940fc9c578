"""``twin`` is the compiled extension where it loads, else the plain reference."""

import logging

try:
    import llmagentos.kernels._native as twin

    native = True
except ImportError as error:
    import llmagentos.kernels.reference as twin  # type: ignore[no-redef]

    native = False
    logging.getLogger(__name__).warning(
        "the compiled kernels did not load (%s): plain NumPy does their work, several times "
        "slower; to build them, install a C++20 compiler and run `pip install -e .` again",
        error,
    )

__all__ = ["native", "twin"]
