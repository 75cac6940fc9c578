"""The model that was passed: clients train copies, so no training may reach it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from weakref import ref

from torch import Tensor, nn

from llmagentos.errors import SettingError


class Bystander:
    """A model's trainable parameters, which are not kept alive."""

    def __init__(self, parameters: Mapping[str, nn.Parameter]) -> None:
        self._parameters = {name: ref(parameter) for name, parameter in parameters.items()}

    @contextmanager
    def untouched(self) -> Iterator[None]:
        """A backward pass inside that would give one a gradient raises ``SettingError`` instead."""
        with ExitStack() as hooks:
            for name, held in self._parameters.items():
                parameter = held()
                if parameter is not None and parameter.requires_grad:
                    hooks.enter_context(parameter.register_hook(partial(_refuse, name)))  # type: ignore[no-untyped-call]
            yield


def _refuse(name: str, _: Tensor) -> None:
    raise SettingError(
        f"loss_fn (or a hook of the model) uses {name} of the model that was passed, of which "
        "clients train copies: take what it needs from output or batch, such as a penalty that "
        "forward returns, and detach what is to stay as it is"
    )
