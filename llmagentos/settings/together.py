"""Settings of server and agents that only fit together."""

from llmagentos.settings.checks import require
from llmagentos.settings.codec import CodecSettings
from llmagentos.settings.local import LocalSettings
from llmagentos.settings.model import LoraSettings
from llmagentos.settings.personal import PersonalSettings
from llmagentos.settings.privacy import PrivacySettings
from llmagentos.settings.server import ServerSettings

OF_PLAIN_DESCENT = ("fednova", "scaffold")
"""Strategies whose equations count the steps of plain stochastic gradient descent."""

CORRECTED = ("scaffold", "feddyn")
"""Strategies that correct the agents' gradients, for a plain mean over all agents."""

OF_WAITING = ("spare", "deadline_s", "resend_s")
"""Settings for agents that may be late."""

PLACE_BY_PLACE = ("median", "trimmed_mean")
"""Strategies that compare what agents say of one value."""


def check_strategy(server: ServerSettings, local: LocalSettings) -> None:
    """Raise ``SettingError`` where local training is not what the server's strategy is made for."""
    name = server.strategy
    if name in OF_PLAIN_DESCENT:
        remedy = (
            f"server.strategy={name!r} is defined for plain descent; set local.optimizer to sgd"
        )
        require(local.optimizer == "sgd", "local.optimizer", local.optimizer, remedy)
        remedy = (
            f"server.strategy={name!r} counts every step, and fp16 leaves out those that overflow; "
            "use bf16"
        )
        require(local.precision != "fp16", "local.precision", local.precision, remedy)
    if name == "fednova":
        remedy = f"needs mu * local.lr={local.lr} below 2, where a pull still ends; lower either"
        require(local.mu * local.lr < 2, "local.mu", local.mu, remedy)
    if name in CORRECTED:
        remedy = f"server.strategy={name!r} has a correction of its own; set local.mu to 0"
        require(local.mu == 0, "local.mu", local.mu, remedy)
        remedy = f"server.strategy={name!r} seeks the plain mean over agents; set it to uniform"
        require(server.counting == "uniform", "server.weighting", server.weighting, remedy)
        remedy = f"server.strategy={name!r} draws agents alike; set server.sampling to uniform"
        require(server.sampling == "uniform", "server.sampling", server.sampling, remedy)
    if server.asynchronous:
        remedy = f"server.strategy={name!r} asks every agent all the time; set it to 1"
        require(server.fraction == 1, "server.fraction", server.fraction, remedy)
        remedy = f"server.strategy={name!r} waits for nobody, so there is none; leave it out"
        require(server.deadline_s is None, "server.deadline_s", server.deadline_s, remedy)
        require(server.spare == 0, "server.spare", server.spare, remedy)
    if name == "feddyn":
        remedy = "server.strategy='feddyn' has no learning rate; set server.lr to 1 or leave it out"
        require(server.lr in (None, 1), "server.lr", server.lr, remedy)


def check_schedule(settings: LocalSettings, strategy: str, rounds: int, horizon: int) -> None:
    """Raise ``SettingError`` where a strategy goes on though its agents' steps are over."""
    goes_on = {
        **dict.fromkeys(OF_PLAIN_DESCENT, "counts steps by their learning rate"),
        "feddyn": "moves the adapter by its dual whatever the learning rate",
    }
    remedy = (
        f"server.strategy={strategy!r} {goes_on.get(strategy)}, which is 0 after "
        f"schedule_rounds={horizon}; ask for no more, or set local.schedule to constant"
    )
    over = rounds > horizon and settings.schedule != "constant"
    require(not (over and strategy in goes_on), "rounds", rounds, remedy)


def check_waiting(server: ServerSettings, engine: str) -> None:
    """Raise ``SettingError`` where agents answer one after the other, so that none is late."""
    remedy = "engine='in_process' asks one agent after the other; leave it out, or use processes"
    for name in OF_WAITING:
        value = getattr(server, name)
        require(not value or engine != "in_process", f"server.{name}", value, remedy)


def check_personal(server: ServerSettings, personal: PersonalSettings) -> None:
    """Raise ``SettingError`` where there are no common rounds for agents' own adapters."""
    apart = server.asynchronous and personal.method != "none"
    remedy = f"goes with common rounds; server.strategy={server.strategy!r} has none, use fedavg"
    require(not apart, "personal.method", personal.method, remedy)


def check_dual(lora: LoraSettings, personal: PersonalSettings) -> None:
    """Raise ``SettingError`` where two adapters are added up that are more than products."""
    summed = lora.whole and personal.method == "dual"
    remedy = (
        "lora.modules_to_save or lora.bias trains values of the base itself, which cannot be added "
        "to those of a second adapter; use ditto"
    )
    require(not summed, "personal.method", personal.method, remedy)


def check_codec(server: ServerSettings, codec: CodecSettings) -> None:
    """Raise ``SettingError`` where agents send different places and the server compares them."""
    remedy = f"codec.name={codec.name!r} sends other places of every agent; use int8, or krum"
    compared = server.strategy in PLACE_BY_PLACE and codec.name == "top_k"
    require(not compared, "server.strategy", server.strategy, remedy)
    forgets = codec.name != "fp32" and not codec.error_feedback
    remedy = (
        f"server.strategy={server.strategy!r} adds up what agents send and what they keep, of "
        f"which codec.name={codec.name!r} loses a part for good; set it to true"
    )
    summed = server.strategy in CORRECTED and forgets
    require(not summed, "codec.error_feedback", codec.error_feedback, remedy)


def check_privacy(server: ServerSettings, privacy: PrivacySettings) -> None:
    """Raise ``SettingError`` where more than the change that is clipped leaves or is kept."""
    remedies = {
        "scaffold": "server.strategy='scaffold' sends control variates beside the change",
        "feddyn": "server.strategy='feddyn' adds up the changes as they were before",
    }
    remedy = remedies.get(server.strategy, "")
    require(
        privacy.clip is None or not remedy, "privacy.clip", privacy.clip, f"{remedy}; leave it out"
    )
