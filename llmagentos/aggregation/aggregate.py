"""A server's strategy with a way to aggregate LoRA factors."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from llmagentos.aggregation.dispatching import Dispatching
from llmagentos.aggregation.halves import on_part
from llmagentos.aggregation.merge import Merge
from llmagentos.aggregation.methods import METHODS, Method
from llmagentos.aggregation.rules import Rule, fedex, lora_fair
from llmagentos.errors import SettingError
from llmagentos.settings import SERVER_SIDE, RunSettings
from llmagentos.settings.checks import require
from llmagentos.strategies import Strategy


def aggregated(strategy: Strategy, settings: RunSettings) -> Strategy:
    """The strategy with ``settings.aggregation`` in the place of its mean.

    ``naive`` is the strategy as it is. Raises ``SettingError`` for settings that do not go
    together with the method.
    """
    check_aggregation(settings)
    method, lora = METHODS[settings.aggregation], settings.lora
    if settings.aggregation == "naive":
        return strategy
    sharing = replace(strategy, share=Dispatching(method, lora.ranks, lora.modules))
    rule = _rule(method, settings)
    if rule is None:
        return on_part(sharing, method)
    merge = Merge(method, rule, settings.server.residual_rank, settings.seed)
    return replace(sharing, advance=merge, needs="rows")


def _rule(method: Method, settings: RunSettings) -> Rule | None:
    """The method's rule with the numbers that it takes from the settings."""
    if method.rule is lora_fair:
        return partial(lora_fair, ridge=settings.server.ridge)
    return method.rule


def check_aggregation(settings: RunSettings) -> None:
    """Raise ``SettingError`` unless the settings go together with the method."""
    name = settings.aggregation
    method, server = METHODS[name], settings.server
    plain = server.strategy == "fedavg" and server.server_lr == 1
    if method.rule is not None and not plain:
        raise SettingError(
            f"server.strategy={server.strategy!r} with lr={server.server_lr:g}: aggregation "
            f"{name!r} makes the next factors itself, so it takes no server optimizer; use fedavg "
            f"with lr 1, or aggregation {_listed(lambda m: m.rule is None)}"
        )
    plain = name == "naive" or server.strategy in SERVER_SIDE
    remedy = f"aggregation {name!r} goes with {', '.join(SERVER_SIDE)}"
    require(plain, "server.strategy", server.strategy, remedy)
    remedy = f"aggregation {name!r} needs one rank for all; use {_listed(lambda m: m.ranks)}"
    require(not settings.lora.ranks or method.ranks, "lora.ranks", settings.lora.ranks, remedy)
    remedy = (
        f"aggregation {name!r} has no mean of a layer over those agents that have it; use "
        f"{_listed(lambda m: m.modules)}, of which zero_pad is naive where ranks are equal"
    )
    modules = settings.lora.modules
    require(not modules or method.modules, "lora.modules", modules, remedy)
    _check_codec(method, settings)
    _check_moments(method, settings)
    _check_personal(method, settings)


def _check_codec(method: Method, settings: RunSettings) -> None:
    codec = settings.codec
    owes = codec.name != "fp32" and codec.error_feedback
    remedy = (
        f"aggregation {settings.aggregation!r} turns the factors from round to round, so what a "
        "codec has lost in one has no place in the next; set it to false"
    )
    require(not (method.turns and owes), "codec.error_feedback", codec.error_feedback, remedy)


def _check_moments(method: Method, settings: RunSettings) -> None:
    same = not method.turns and method.trained == ("both",)
    remedy = (
        f"aggregation {settings.aggregation!r} trains other coordinates from round to round, or "
        "turns them, so moments have no place in the next one; set it to false"
    )
    kept = settings.local.keep_moments
    require(same or not kept, "local.keep_moments", kept, remedy)


def _check_personal(method: Method, settings: RunSettings) -> None:
    name, personal = settings.aggregation, settings.personal.method
    remedy = f"aggregation {name!r} leaves agents a factor of their own already; use naive"
    require(personal == "none" or not method.private, "personal.method", personal, remedy)
    moves = method.turns or method.rule is fedex
    remedy = (
        f"aggregation {name!r} turns the factors or moves a part of them into the base, so nothing "
        "can be pulled towards them from one round to the next; use dual"
    )
    require(personal != "ditto" or not moves, "personal.method", personal, remedy)


def _listed(wanted: Callable[[Method], bool]) -> str:
    return ", ".join(name for name, method in METHODS.items() if wanted(method))
