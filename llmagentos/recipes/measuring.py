"""An adapter on the held-out rows of every silo, measured as a run measures."""

from collections.abc import Mapping, Sequence

from llmagentos.corpus import Example
from llmagentos.lm.trainer import Track
from llmagentos.messages import Task
from llmagentos.recipes.resolve import resolved
from llmagentos.recipes.session import Session, open_session
from llmagentos.settings import RunSettings


def measured(
    settings: RunSettings,
    examples: Mapping[str, Sequence[Example]],
    rows: int | None,
    track: Track,
) -> dict[str, dict[str, float]]:
    """Loss, accuracy and target tokens by silo of ``init_adapter`` or, where none is, of the base.

    An adapter that no training has touched leaves the base as it is.
    """
    session = open_session(resolved(settings), examples, track)
    tasks = [_task(silo.name, session, rows) for silo in session.silos]
    return {task.agent: dict(session.trainer.evaluate(task).metrics) for task in tasks}


def _task(agent: str, session: Session, rows: int | None) -> Task:
    adapter, settings = session.first_state().adapter, session.settings
    return Task(
        run="",
        round=1,
        kind="measure",
        agent=agent,
        vectors={"adapter": adapter.vector},
        layout=session.layout,
        seed=settings.seed,
        settings={"rows": rows, "batch": settings.evaluation.batch},
    )
