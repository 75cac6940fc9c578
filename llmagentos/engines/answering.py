"""An agent that breaks over one task stays for the next."""

import logging

from llmagentos.engines.carrier import Answer

ATTEMPTS = 3
"""How many processes of an agent may die over one body before its answer is empty."""

log = logging.getLogger(__name__)


def unbroken_answer(answer: Answer, agent: str) -> Answer:
    """The same answers; where one raises, the agent's log says why and the answer is empty."""

    def answered(body: bytes) -> bytes:
        try:
            return answer(body)
        except Exception:
            log.exception("agent %r broke over %d bytes", agent, len(body))
            return b""

    return answered
