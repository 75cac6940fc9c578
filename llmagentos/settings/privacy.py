"""What an agent does to its change before it leaves."""

from dataclasses import dataclass
from math import inf

from llmagentos.settings.checks import require


@dataclass(frozen=True)
class PrivacySettings:
    """How much one agent's change may say, whoever reads it; no epsilon is claimed for it."""

    clip: float | None = None
    """Largest norm of the change that leaves an agent, to which a longer one is shortened; as long
    as it is unless given. A lossy codec rounds afterwards, within its bounds (docs/codecs.md): bf16
    may make it 0.4 % longer."""
    noise: float = 0.0
    """Standard deviation of the Gaussian noise that each agent adds to every value, in units of
    ``clip``. It comes from a secret of the agent, so runs of the same seed differ."""

    def __post_init__(self) -> None:
        check_veil("privacy", self.clip, self.noise)


def check_veil(section: str, clip: float | None, noise: float) -> None:
    """Raise ``SettingError`` unless the two settings of a section go together."""
    require(clip is None or 0 < clip < inf, f"{section}.clip", clip, "needs to be above 0")
    require(0 <= noise < inf, f"{section}.noise", noise, "needs 0 or more")
    remedy = f"noise is measured in units of {section}.clip; set that too"
    require(not noise or clip is not None, f"{section}.noise", noise, remedy)
