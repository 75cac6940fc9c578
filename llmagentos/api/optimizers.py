"""The caller's optimizer, made again for every client and round."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from inspect import signature
from typing import Any

from torch import nn
from torch.optim import Optimizer

from llmagentos.errors import SettingError

Parameters = Mapping[str, nn.Parameter]
Fresh = Callable[[Parameters], Optimizer]
"""An optimizer without history over the named parameters of a copy of the model."""


def fresh_optimizer(optimizer: Any, model: nn.Module) -> Fresh:
    """How to make the optimizer again: from an instance, a class or a function of parameters.

    Of an instance over ``model``'s parameters its class, its groups and their settings are taken;
    of one over those of another model the class and the settings of its one group. Its history,
    such as momentum, is not. Raises ``SettingError`` for anything else.
    """
    if isinstance(optimizer, Optimizer):
        return _as_instance(optimizer, model)
    if not callable(optimizer):
        raise SettingError(
            f"optimizer={optimizer!r}: give a torch optimizer, its class, or a function that makes "
            "one from a list of parameters"
        )

    def make(parameters: Parameters) -> Optimizer:
        return _checked(optimizer(list(parameters.values())), parameters)

    return make


def _as_instance(optimizer: Optimizer, model: nn.Module) -> Fresh:
    """As the instance was made: its class with the settings of its groups as they are here."""
    kind, groups = type(optimizer), _groups(optimizer, model)
    accepted = signature(kind).parameters
    defaults = {k: v for k, v in deepcopy(optimizer.defaults).items() if k in accepted}

    def make(parameters: Parameters) -> Optimizer:
        members = [[p for n, p in parameters.items() if n in names] for names, _ in groups]
        settings = [deepcopy(settings) for _, settings in groups]
        made = [{**s, "params": m} for m, s in zip(members, settings, strict=True) if m]
        if not made:
            raise SettingError(
                "optimizer holds no trainable parameter of the model: make it after the model is "
                "complete, or give its class or a function of parameters"
            )
        try:
            return kind(made, **defaults)
        except TypeError as error:
            raise SettingError(
                f"optimizer: {kind.__name__} cannot be made again from its settings ({error}); "
                "give a function that makes it from a list of parameters"
            ) from error

    return make


def _groups(optimizer: Optimizer, model: nn.Module) -> list[tuple[set[str], dict[str, Any]]]:
    """The names of each group's parameters in the model, and the group's settings."""
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = [
        (
            {name_of.get(id(parameter), "") for parameter in group["params"]},
            deepcopy({k: v for k, v in group.items() if k not in {"params", "param_names"}}),
        )
        for group in optimizer.param_groups
    ]
    if all("" not in names for names, _ in groups):
        return groups
    if len(groups) == 1 and groups[0][0] == {""}:
        return [(set(name_of.values()), groups[0][1])]
    raise SettingError(
        "optimizer holds parameters that are not the model's, so its groups cannot be told apart: "
        "make it from model.parameters(), or give a function of parameters"
    )


def _checked(made: Any, parameters: Parameters) -> Optimizer:
    """What a class or function made, if it is an optimizer of just these parameters."""
    if not isinstance(made, Optimizer):
        raise SettingError(f"optimizer made {made!r}; it needs to return a torch optimizer")
    own = {id(parameter) for parameter in parameters.values()}
    if any(
        id(parameter) not in own for group in made.param_groups for parameter in group["params"]
    ):
        raise SettingError(
            "optimizer made one over other parameters than it was given: the clients train a copy "
            "of the model; use the function's argument"
        )
    return made
