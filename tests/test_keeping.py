"""Optimizers that go on from round to round: what they know, where it lies, and that it stays."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from llmagentos.adapter import Adapter
from llmagentos.aggregation import check_aggregation
from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.errors import SettingError
from llmagentos.federation import Federation, Plan, run
from llmagentos.journal import Journal
from llmagentos.lm.cohort import CohortTrainer
from llmagentos.lm.moments import MEANS, STEPS
from llmagentos.messages import Enrolled
from llmagentos.settings import LocalSettings, LoraSettings, PersonalSettings, RunSettings
from llmagentos.state import ServerState
from llmagentos.strategies import fedavg
from tests.lm_world import SILOS, fit_task, start_of, trainer

pytestmark = pytest.mark.usefixtures("one_thread")

KEEPING = LocalSettings(steps=2, batch=4, lr=1e-2, keep_moments=True)


def final(folder, local=KEEPING, rounds=3, agents=tuple(SILOS), training=None, **told):
    """The adapter after the rounds, ``(d,)``."""
    training = training or trainer()
    roster = {name: Enrolled(len(SILOS[name].train)) for name in agents}
    engine = Listening(with_memory(training, folder / "agents"), roster)
    start = Adapter(training_layout(training), start_of(training_layout(training)))
    with Journal(folder / "journal") as journal:
        name = journal.begin(start.layout, {}, lambda: ServerState(1, start))
        fit = {**asdict(local), "horizon": 9, "weighting": "examples", **told}
        plan = Plan(run=name, rounds=rounds, seed=3, settings={"fit": fit})
        list(run(Federation(fedavg(), engine, journal, plan)))
        return journal.state().adapter.vector.copy(), engine.heard


def training_layout(training):
    return getattr(training, "one_by_one", training).layout


class Listening(InProcessEngine):
    """Remembers every byte that came from an agent."""

    def __init__(self, *parts):
        super().__init__(*parts)
        self.heard = b""

    def poll(self, timeout_s=None):
        replies = super().poll(timeout_s)
        self.heard += b"".join(bytes(body) for _, body in replies)
        return replies


def test_one_agent_that_goes_on_is_central_training(tmp_path):
    """Three rounds of two steps are one of six, to the rounding of the changes."""
    rounds, _ = final(tmp_path / "rounds", agents=["north"])
    once, _ = final(tmp_path / "once", replace(KEEPING, steps=6), rounds=1, agents=["north"])
    fresh, _ = final(tmp_path / "fresh", replace(KEEPING, keep_moments=False), agents=["north"])
    moved = np.linalg.norm(once - start_of(trainer().layout))
    assert np.linalg.norm(rounds - once) < 1e-5 * moved
    assert np.linalg.norm(fresh - once) > 1e-2 * moved


def test_a_run_that_is_stopped_between_rounds_ends_with_the_same_bits(tmp_path):
    straight, _ = final(tmp_path / "straight")
    for rounds in (1, 2, 3):
        stopped, _ = final(tmp_path / "stopped", rounds=rounds)
    assert stopped.tobytes() == straight.tobytes()


def test_a_repeated_task_finds_the_moments_that_the_first_one_found(tmp_path):
    training = with_memory(trainer(), tmp_path)
    task = fit_task(trainer().layout, steps=2, keep_moments=True)
    list(training.fit([task]))
    task = replace(task, round=2, receipt=1)
    first, again = (next(training.fit([task]))[0].vectors["delta"] for _ in range(2))
    assert first.tobytes() == again.tobytes()


def test_moments_leave_in_no_message(tmp_path):
    _, heard = final(tmp_path)
    files = list(tmp_path.glob("agents/*/moments/round-3.safetensors"))
    assert len(files) == len(SILOS)
    assert b"moments" not in heard
    told = trainer().update(fit_task(trainer().layout, keep_moments=True))
    assert told.vectors.keys() == {"delta", STEPS, *MEANS.values()}
    for file in files:
        values = np.frombuffer(file.read_bytes()[-4096:], np.float32)
        runs = [values[i : i + 2].tobytes() for i in np.flatnonzero(values[:-1])]
        assert runs
        assert not any(pair in heard for pair in runs)


def test_agents_side_by_side_go_on_as_one_by_one(tmp_path):
    single = trainer()
    tasks = [fit_task(single.layout, agent, steps=3, keep_moments=True) for agent in SILOS]
    left = [single.update(task).vectors for task in tasks]
    following = [
        replace(task, round=2, vectors={**task.vectors, **{n: v[n] for n in v if n != "delta"}})
        for task, v in zip(tasks, left, strict=True)
    ]
    (together,) = CohortTrainer(single, 2).fit(following)
    for task, update in zip(following, together, strict=True):
        alone = single.update(task).vectors
        assert update.vectors[STEPS] == alone[STEPS] == [6.0]
        for name, vector in update.vectors.items():
            apart = np.linalg.norm(vector - alone[name])
            assert apart < 1e-3 * np.linalg.norm(alone[name]), name


def test_an_adapter_of_the_agents_own_begins_with_moments_of_its_own(tmp_path):
    """Of what is shared, no bit changes by it."""
    plain, _ = final(tmp_path / "plain")
    personal = asdict(PersonalSettings("ditto"))
    beside, _ = final(tmp_path / "beside", personal=personal)
    assert beside.tobytes() == plain.tobytes()


@pytest.mark.parametrize("aggregation", ["rolora", "ffa", "flora", "flexlora", "fedsvd"])
def test_coordinates_that_change_are_refused(aggregation):
    with pytest.raises(SettingError, match=r"local\.keep_moments=True: aggregation"):
        check_aggregation(RunSettings(local=KEEPING, aggregation=aggregation, lora=LoraSettings()))


def test_plain_descent_has_no_moments():
    with pytest.raises(SettingError, match=r"keep_moments=True: local\.optimizer='sgd' has none"):
        LocalSettings(optimizer="sgd", keep_moments=True)
