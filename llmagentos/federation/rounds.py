"""One round of federated training, and the run that is made of rounds."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict

from llmagentos import kernels
from llmagentos.aggregation import product_error
from llmagentos.errors import DivergedError, JournalError
from llmagentos.federation.asking import ask, dismiss, task_for
from llmagentos.federation.counting import awaited, decide, weighted
from llmagentos.federation.parts import Federation
from llmagentos.messages import Kind
from llmagentos.round_report import RoundReport, change_norm, losses_of, mean_loss, training_facts
from llmagentos.seeds import generator
from llmagentos.state import ServerState


def run(parts: Federation) -> Iterator[RoundReport]:
    """Play the rounds that are not yet closed in the journal; yield each report as it closes."""
    state = parts.journal.state()
    while state.round <= parts.plan.rounds:
        state, report = play_round(state, parts)
        yield report


def play_round(state: ServerState, parts: Federation) -> tuple[ServerState, RoundReport]:
    """The next state: drawn agents train, what counts is combined, and the round is closed.

    The state lies in the journal's file and takes no memory of its own.
    """
    start = parts.clock()
    strategy, journal = parts.strategy, parts.journal
    parts.engine.renew()
    check_agents(parts)
    rng = generator(parts.plan.seed, "cohort", state.round)
    tasks = [task_for(a, "fit", state, parts) for a in strategy.sample(parts.engine.roster, rng)]
    dismiss(tasks, journal.answers)
    ask(tasks, parts, awaited(len(tasks), parts))
    asked = {task.agent: task for task in tasks}
    members = decide(state.round, asked, parts)
    updates = weighted(members, asked, state.adapter, len(parts.engine.roster))
    advanced = strategy.advance(state, strategy.combine(state, updates))
    check_finite(advanced)
    due = state.round % parts.plan.evaluate_every == 0
    found = measure("evaluate", advanced, parts) if due else {}
    losses = losses_of(found)
    report = RoundReport(
        round=state.round,
        loss=mean_loss(losses),
        agents=losses,
        personal=losses_of(found, "personal_loss"),
        seconds=round(parts.clock() - start, 3),
        bytes_down=sum(vector.nbytes for task in tasks for vector in task.vectors.values()),
        update_norm=change_norm(state, advanced),
        product_error=product_error(state, updates, advanced, tasks[0]),
        refused=journal.answers.refusals(state.round, "fit"),
        **training_facts(members, updates, asked, state.adapter.layout),
    )
    journal.close_round(advanced, asdict(report))
    return journal.state(), report


def check_agents(parts: Federation) -> None:
    """Raise ``JournalError`` when agents came or went whose part the server counts on for good."""
    correction, now = parts.strategy.told.get("correction"), set(parts.engine.roster)
    if correction is None:
        return
    changed = sorted(now ^ parts.journal.first_agents(now))
    if changed:
        raise JournalError(
            f"{', '.join(map(repr, changed))} joined or left since {parts.journal.folder} began: "
            f"{correction} corrects by what its first agents keep, all of them and no other; start "
            "another run from the adapter of this one (init_adapter)"
        )


def check_finite(state: ServerState) -> None:
    """Raise ``DivergedError`` when the server's own step has left the numbers."""
    for name, vector in state.vectors().items():
        wrong = kernels.inspect(vector).nonfinite
        if wrong:
            raise DivergedError(
                f"round {state.round - 1}: {wrong} values of the new {name} are not finite; "
                "start another run with a lower server.lr or local.lr"
            )


def measure(kind: Kind, state: ServerState, parts: Federation) -> dict[str, Mapping[str, float]]:
    """Held-out metrics of a state's adapter by agent; none when the plan has no such task.

    Within a round they are those of as many agents as it waits for: the others may still train.
    """
    if kind not in parts.plan.settings:
        return {}
    tasks = [task_for(agent, kind, state, parts) for agent in parts.engine.roster]
    ask(tasks, parts, awaited(len(tasks), parts) if kind == "evaluate" else None)
    answers = parts.journal.answers.admitted(state.round - 1, kind)
    found = {answer.update.agent: answer.update.metrics for answer in answers}
    return {agent: metrics for agent, metrics in found.items() if agent in parts.engine.roster}
