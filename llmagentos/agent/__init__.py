"""What an organisation runs: it trains on its own text when its coordinator asks, within limits."""

from llmagentos.agent.desk import Desk, Party
from llmagentos.agent.journal import AgentJournal
from llmagentos.agent.limits import Limits
from llmagentos.agent.settings import AgentSettings

__all__ = ["AgentJournal", "AgentSettings", "Desk", "Limits", "Party"]
