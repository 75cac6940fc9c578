"""How agents are reached that do not share the server's process."""

from dataclasses import dataclass

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class RaySettings:
    """Agents as actors of a Ray cluster, where ``engine`` is ``ray``."""

    address: str | None = None
    """Host and port of the cluster's head; Ray starts on this machine unless given."""
    cpus: float = 0.0
    """CPUs that Ray reserves for an agent; with 0 as many agents as there are share a machine."""
    gpus: float = 0.0
    """GPUs that an agent takes; 0.25 lets four share one."""

    def __post_init__(self) -> None:
        for name in ("cpus", "gpus"):
            value = getattr(self, name)
            require(0 <= value < float("inf"), f"ray.{name}", value, "needs 0 or more")


@dataclass(frozen=True)
class FlowerSettings:
    """A Flower SuperLink of the server's own, where ``engine`` is ``flower``.

    Without ``roster`` the agents of ``corpus`` start on this machine, with keys and certificates of
    their own in the run's folder. With it agents are elsewhere, and dial in.
    """

    roster: str | None = None
    """List of the enrolled agents, as ``enrol`` wrote it."""
    key: str = "coordinator.key"
    """File of the coordinator's private key, with which tasks are signed."""
    node_keys: str = "nodes"
    """Folder with the public key of each agent's node, in files called after the agents:
    ``hospital.pub``."""
    certificates: str = "certificates"
    """Folder of ``ca.pem``, ``server.pem`` and ``server.key``."""
    host: str = "localhost"
    """Name of this machine in its certificate."""
    port: int = 8443
    """Port that agents dial."""
    listen: str = "127.0.0.1"
    """Address that the SuperLink listens at; leave it behind a proxy that passes on nothing but
    ``/v1/fleet/``."""

    def __post_init__(self) -> None:
        require(0 < self.port < 65536, "flower.port", self.port, "needs to lie in [1, 65535]")
