"""Flower's programs with a guard: no code travels, and a node that gives up ends.

A SuperExec starts an app by the name of a program. Ours stands before Flower's own in the path, and
runs nothing but the shim that is installed here.
"""

import logging
import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from llmagentos.engines.flower.shim import check_shim

log = logging.getLogger(__name__)

STARTERS = {
    "flwr-clientapp": "flwr.supernode.runtime.run_clientapp",
    "flwr-serverapp": "flwr.superlink.runtime.run_serverapp",
}
COMMANDS = {
    "flwr-clientapp": ("flwr.supernode.cli.flwr_clientapp", "flwr_clientapp"),
    "flwr-serverapp": ("flwr.superlink.cli.flwr_serverapp", "flwr_serverapp"),
}
REFUSED = ("flwr-agentapp", "flwr-connector", "flwr-model", "flwr-simulation")
"""Starters of runs of other kinds, which would bring code along; none of them is ours."""

SCRIPTS = {
    **{name: f"start({name!r})" for name in STARTERS},
    **{name: f"refuse({name!r})" for name in REFUSED},
    "flower-supernode": "start_node()",
}
"""Programs to the function here that runs them."""


def guarded_path(home: Path) -> str:
    """The search path for programs in which the guarded starters in ``home`` come first."""
    folder = home / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for name, call in SCRIPTS.items():
        text = f"from llmagentos.engines.flower.guard import {call.partition('(')[0]}\n{call}\n"
        script = folder / name
        script.write_text(f"#!{sys.executable}\n{text}")
        script.chmod(0o700)
    own = Path(sys.executable).parent
    return os.pathsep.join([str(folder), str(own), os.environ.get("PATH", os.defpath)])


def start(name: str) -> None:
    """Run Flower's app starter under guard."""
    starter = import_module(STARTERS[name])
    guard(starter)
    if name == "flwr-clientapp":
        guard_agent(starter)
    module, command = COMMANDS[name]
    getattr(import_module(module), command)()


def refuse(name: str) -> None:
    """End the process with the reason."""
    sys.exit(f"{name}: a run of another kind than ours; refused")


def start_node() -> None:
    """Run Flower's SuperNode, whose process ends when its work does; who tends it starts it again.

    By itself it would stay for ever where a connection ends in the middle of a TLS handshake: its
    main thread gives up, and the thread of its inner server keeps the process.
    """
    from flwr.supernode.cli import flower_supernode  # noqa: PLC0415

    try:
        flower_supernode()
    except Exception:
        log.exception("the SuperNode has given up")
    finally:
        os._exit(1)


def guard(starter: Any) -> None:
    """From here on the starter installs an app only if it is the shim."""
    install = starter.install_from_fab

    def checked(bundle: bytes, *args: Any, **kwargs: Any) -> Path:
        check_shim(bundle)
        path: Path = install(bundle, *args, **kwargs)
        return path

    starter.install_from_fab = checked


def guard_agent(starter: Any) -> None:
    """From here on an agent's starter runs the relay that is installed, wherever a run says that
    its app lies, and ends at once over what it cannot put together.

    By itself it would tell its SuperNode that it has failed, which then waits for an answer for
    ever; where it is gone without a word, the SuperNode makes the answer an error, and goes on.
    """
    from llmagentos.engines.flower import client_relay  # noqa: PLC0415

    pull = starter.pull_task_input

    def pulled(client: Any) -> Any:
        try:
            return pull(client)
        except Exception:
            log.exception("what came is no message, or larger than any that was agreed to")
            os._exit(1)

    starter.pull_task_input = pulled
    starter.get_load_client_app_fn = lambda **_: lambda *_: client_relay.app
