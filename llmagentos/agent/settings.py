"""What an organisation sets on its own side; its script has the defaults."""

from dataclasses import dataclass
from typing import Literal

from llmagentos.agent.limits import Limits
from llmagentos.fields import is_name
from llmagentos.settings.checks import check_threads, require


@dataclass(frozen=True)
class AgentSettings:
    """Where an organisation has its text, keys and disk, and what it agrees to."""

    name: str
    """What the coordinator calls this agent."""
    corpus: str
    """The private text: a file or folder (jsonl, csv, tsv, parquet, txt); to try things out, a
    group of a named corpus such as icd10/circulatory."""
    terms: str = "terms.yaml"
    """File that the coordinator wrote for all agents."""
    key: str = "agent.key"
    """File of this agent's private key, made by ``enrol key``."""
    home: str = "agent"
    """Folder of this agent's journal and memory: as private as the text."""
    model: str = ""
    """Where the base model lies here, if not where the terms say: hub id, folder or GGUF file."""
    quantize: Literal["none", "nf4", "int8"] | None = None
    """Linear layers of the base in 4 or 8 bits a weight here, whatever others have; as the terms
    say unless given. Needs the extra quantized."""
    device: str = "auto"
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N``."""
    threads: int | None = None
    """Threads of torch; all cores unless given."""
    limits: Limits = Limits()
    """What this organisation agrees to."""
    superlink: str = ""
    """Host and port of the coordinator's SuperLink, which this agent dials."""
    authority: str = "ca.pem"
    """File of the certificate that vouches for the SuperLink."""
    node_key: str = "node.key"
    """File of the private key by which the SuperLink lets this agent in."""

    def __post_init__(self) -> None:
        require(is_name(self.name), "name", self.name, "needs a name that can be printed")
        check_threads(self.threads)
        _, colon, port = self.superlink.rpartition(":")
        dialled = not self.superlink or (bool(colon) and port.isdigit())
        require(dialled, "superlink", self.superlink, "needs HOST:PORT")
