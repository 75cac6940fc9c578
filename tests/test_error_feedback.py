"""What a codec has lost is sent later, once, and survives crashes and rounds that do not count."""

import logging
from dataclasses import replace

import numpy as np
import pytest

from llmagentos.codecs import codec_of
from llmagentos.engines import CodingTrainer, InProcessEngine, coded, with_memory
from llmagentos.errors import JournalError
from llmagentos.federation import run
from llmagentos.journal import Journal
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.messages import Task, answer
from llmagentos.seeds import generator
from llmagentos.settings import CodecSettings
from tests.coded import AGENTS, CODECS, SIZE, Homing, Resting, federation
from tests.crashing import final_bits, kills_survived
from tests.quadratics import Shuffled, layout_of_size

EVERY = pytest.mark.parametrize("codec", CODECS)
LOSSY = pytest.mark.parametrize("codec", ["bf16", "fp16", "int8", "top_k"])


def play(folder, codec, **parts):
    """Three rounds."""
    made = federation(folder, codec, **parts)
    for _ in run(made):
        made.journal.forget(updates=True)
    made.journal.close()
    return final_bits(folder)


@EVERY
@pytest.mark.parametrize("seed", range(2))
def test_order_and_repeats_of_answers_change_no_bit(tmp_path, codec, seed):
    def shuffled(trainer, roster):
        return Shuffled(trainer, roster, seed)

    mixed = play(tmp_path / "mixed", codec, engine=shuffled)
    assert mixed == play(tmp_path / "plain", codec)


@EVERY
def test_zero_deltas_leave_the_adapter(tmp_path, codec):
    play(tmp_path, codec, trainer=Resting())
    with Journal(tmp_path) as journal:
        assert journal.state().adapter.vector.tolist() == [5.0] * SIZE


@EVERY
def test_resume_after_a_kill_is_bit_identical(tmp_path, codec):
    assert kills_survived(tmp_path, play, codec, stride=23) > 3


@LOSSY
def test_what_arrived_and_what_is_still_owed_is_all_that_was_meant(tmp_path, codec):
    """Over any rounds the deltas are the sum of what was decoded and the last residual."""
    memory, rng = AgentMemory(tmp_path), np.random.default_rng(0)
    deltas = rng.standard_normal((6, SIZE)).astype(np.float32)
    total, owed = np.zeros(SIZE), None
    for round_, delta in enumerate(deltas, 1):
        total += decoded(codec, send(delta, codec, memory, round_, receipt=round_ - 1 or None))
        owed = memory.recall(task_of(codec, 7, receipt=round_))["delta"]
        assert np.abs(owed).max() > 0
    assert total + owed == pytest.approx(deltas.sum(axis=0, dtype=np.float64), abs=1e-5)


@LOSSY
def test_what_is_owed_makes_no_change_longer_than_the_task_lets_leave(tmp_path, codec):
    memory, delta, sent = AgentMemory(tmp_path), np.full(SIZE, SIZE**-0.5, np.float32), 0
    for round_ in range(1, 21):
        task = task_of(codec, round_, receipt=round_ - 1 or None)
        task = replace(task, settings={**task.settings, "privacy": {"clip": 1.0}})
        arrived = decoded(codec, coded(answer(task, vectors={"delta": delta}), task, memory))
        assert np.linalg.norm(arrived) < 1.02
        sent = sent + arrived
    owed = memory.recall(task_of(codec, 21, receipt=20))["delta"]
    assert sent + owed == pytest.approx(20 * delta, abs=1e-4)


def test_a_little_noise_lets_nothing_longer_leave_than_the_change_is(tmp_path):
    memory, delta = AgentMemory(tmp_path), np.full(SIZE, SIZE**-0.5, np.float32)
    for round_ in range(1, 41):
        task = task_of("top_k", round_, receipt=round_ - 1 or None)
        privacy = {"clip": 1.0, "noise": 1e-6}
        task = replace(task, settings={**task.settings, "privacy": privacy})
        arrived = decoded("top_k", coded(answer(task, vectors={"delta": delta}), task, memory))
        assert np.linalg.norm(arrived) < 1 + 1e-6
    assert np.linalg.norm(arrived) > 1 - 1e-6, "a sum is shortened no more than it must be"


def task_of(codec, round_, receipt, run="run", agent="north"):
    settings = {"codec": CODECS[codec]}
    layout = layout_of_size(SIZE)
    return Task(run, round_, "fit", agent, {}, layout, seed=3, receipt=receipt, settings=settings)


def send(delta, codec, memory, round_, receipt):
    task = task_of(codec, round_, receipt)
    return coded(answer(task, vectors={"delta": delta}), task, memory)


def decoded(codec, update):
    made = codec_of(CodecSettings(**CODECS[codec]))
    return np.asarray(made.read(update.vectors, SIZE), np.float64)


def bits(update):
    return {name: part.tobytes() for name, part in update.vectors.items()}


@LOSSY
def test_a_repeated_task_and_a_round_that_did_not_count_leave_no_trace(tmp_path, codec):
    memory, delta = AgentMemory(tmp_path), generator("delta").standard_normal(SIZE)
    delta = delta.astype(np.float32)
    send(delta, codec, memory, 1, None)
    second = bits(send(delta, codec, memory, 2, 1))
    third = bits(send(delta, codec, memory, 3, 1))
    assert bits(send(delta, codec, memory, 2, 1)) == second
    assert bits(send(delta, codec, memory, 3, 1)) == third
    assert len(list(tmp_path.iterdir())) == 2
    assert bits(send(delta, codec, memory, 4, 3)) != bits(send(delta, codec, memory, 4, None))


def test_fp32_and_a_codec_without_feedback_keep_nothing(tmp_path):
    for codec in ("fp32", "int8, no feedback"):
        send(np.ones(SIZE, np.float32), codec, AgentMemory(tmp_path), 1, None)
    assert list(tmp_path.iterdir()) == []


class Spoilt(Homing):
    """South's second change has a value that is not finite."""

    tasks: list[Task]

    def __init__(self):
        self.tasks = []

    def update(self, task):
        self.tasks.append(task)
        update = super().update(task)
        if (task.agent, task.round) == ("south", 2):
            update.vectors["delta"][4] = np.nan
        return update


@EVERY
def test_a_change_that_is_not_finite_is_refused_by_name_and_forgotten(tmp_path, codec, caplog):
    trainer = Spoilt()
    with caplog.at_level(logging.WARNING):
        reports = list(run(federation(tmp_path, codec, trainer=trainer)))
    assert [list(report.refused) for report in reports] == [[], ["south"], []]
    assert "values are not finite" in reports[1].refused["south"]
    assert "fit of agent 'south', round 2" in caplog.text
    receipts = {name: [t.receipt for t in trainer.tasks if t.agent == name] for name in AGENTS}
    assert receipts == {"east": [None, 1, 2], "north": [None, 1, 2], "south": [None, 1, 1]}


def test_with_feedback_top_k_ends_nearer_to_where_float32_does(tmp_path):
    def reached(codec, **settings):
        parts = federation(tmp_path / repr(settings), "fp32", rounds=12)
        told = {"codec": {"name": codec, "top_k": 0.3, **settings}}
        plan = replace(parts.plan, settings={"fit": told})
        list(run(replace(parts, plan=plan)))
        return parts.journal.state().adapter.vector

    goal = reached("fp32")
    errors = [np.abs(reached("top_k", error_feedback=on) - goal).mean() for on in (True, False)]
    assert errors[0] < 0.6 * errors[1]


def test_the_ledger_counts_every_agents_bytes(tmp_path):
    (report,) = run(federation(tmp_path, "int8", rounds=1))
    assert report.codec == "int8"
    assert report.bytes_by_agent.keys() == set(AGENTS)
    assert report.bytes_up == sum(report.bytes_by_agent.values())
    assert report.bytes_up_fp32 - report.bytes_up == 3 * (4 * SIZE - SIZE - 4 * 3)


def test_without_a_codec_the_ledger_shows_no_saving(tmp_path):
    (report,) = run(federation(tmp_path, "fp32", rounds=1))
    assert report.bytes_up_fp32 == report.bytes_up


def test_an_agent_that_lost_its_memory_says_so_and_goes_on(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        send(np.ones(SIZE, np.float32), "int8", AgentMemory(tmp_path), 9, 8)
    assert "agent 'north' lost" in caplog.text
    assert "round-8" in caplog.text


def test_a_memory_of_another_run_or_a_damaged_one_is_not_used(tmp_path):
    memory = AgentMemory(tmp_path)
    send(np.ones(SIZE, np.float32), "int8", memory, 1, None)
    with pytest.raises(JournalError, match="is of another run or layout"):
        memory.recall(task_of("int8", 2, 1, run="other"))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(JournalError, match=r"is damaged.*delete it"):
        memory.recall(task_of("int8", 2, 1))


def test_every_agent_has_a_folder_of_its_own_whatever_it_is_called(tmp_path):
    names = ["", ".", "..", "a/b", "a-b", "A", "a", "../../etc", "x" * 300, "nul\0", "Übung 🏥"]
    folders = {folder_name(name) for name in names}
    assert len({folder.lower() for folder in folders}) == len(names)
    for folder in folders:
        (tmp_path / folder).mkdir()
        assert (tmp_path / folder).resolve().parent == tmp_path.resolve()


def test_evaluations_pass_through(tmp_path):
    trainer = CodingTrainer(Homing(), tmp_path)
    engine = InProcessEngine(trainer, {})
    task = Task("run", 1, "evaluate", "north", {"adapter": np.ones(3)}, layout_of_size(3), 0)
    engine.send(task)
    assert trainer.evaluate(task).metrics == {"loss": 3.0}


class Together(Homing):
    """All agents' updates come at once, as those of a cohort do."""

    def fit(self, tasks):
        yield [self.update(task) for task in tasks]


@pytest.mark.parametrize(
    ("folder", "told"),
    [
        (".", {"codec": CODECS["int8"]}),
        ("personal", {"steps": 1, "codec": CODECS["fp32"], "personal": {"method": "ditto"}}),
    ],
    ids=["error feedback", "own adapter"],
)
def test_a_damaged_memory_is_the_error_of_its_agent_alone(tmp_path, folder, told):
    layers = with_memory(Together(), tmp_path / "agents")

    def played(rounds):
        parts = federation(tmp_path, "fp32", rounds=rounds, settings={"fit": told, "evaluate": {}})
        engine = InProcessEngine(layers, parts.engine.roster)
        reports = list(run(replace(parts, engine=engine)))
        parts.journal.close()
        return reports

    played(1)
    path = tmp_path / "agents" / folder_name("north") / folder / "round-1.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    (report,) = played(2)
    assert sorted(report.weights) == ["east", "south"]
    assert list(report.refused) == ["north"]
    assert f"{path} is damaged" in report.refused["north"]
