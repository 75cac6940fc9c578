"""Hostile wires and lying agents: what can be made good is, the rest is refused by name."""

import re
from dataclasses import replace
from random import Random

import pytest

from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.engines.remote import RemoteEngine
from llmagentos.federation import run, task_for
from llmagentos.identity import new_key, open_sealed
from llmagentos.messages import Enrolled, Update
from tests.coded import AGENTS, CODECS, ROSTER, Homing, federation
from tests.faults.hostile import LARGER, Caught, Tools, Wire
from tests.faults.lies import OUTSIDE, WORDS
from tests.faults.lies import told as lied
from tests.organisations import BASE, Organisations
from tests.test_agent import Asked
from tests.test_remote import bits, parts_over, told

ROUNDS = 8
CODED = ["fp32", "int8", "top_k"]
LAWFUL = re.compile(
    r"journal\.sqlite(-wal|-shm)?|lock|[0-9a-f]{64}|round-\d+\.safetensors|\.[0-9a-f]{16}\.part"
)


def tools_for(folder, seed, *draws):
    return Tools(Random(repr((seed, *draws))), new_key(), new_key(), folder / "outside" / "bomb")


def recorded_run(folder, organisations, codec):
    """Tasks and answers of an earlier run, by way and agent; its last tasks never arrived."""
    heard = {(way, agent): [] for way in ("task", "answer") for agent in AGENTS}

    def listen(agent, body):
        heard["answer", agent].append(body)
        return body

    parts = parts_over(folder / "earlier", organisations, codec, rounds=2, tamper=listen)
    list(run(parts))
    carrier = parts.engine.carrier
    for agent in AGENTS:
        parts.engine.send(task_for(agent, "fit", parts.journal.state(), parts))
    for agent, body in carrier.sent:
        heard["task", agent].append(body)
    return heard


def nothing_is_outside(folder):
    """Files lie only where journals and memories keep theirs, under names that those give."""
    assert not (folder / "outside").exists()
    strange = [p for p in folder.rglob("*") if p.is_file() and not LAWFUL.fullmatch(p.name)]
    assert strange == []


@pytest.mark.parametrize("codec", CODED)
def test_a_hostile_wire_changes_no_bit(tmp_path, codec, fault_seed, tried):
    calm = federation(tmp_path / "calm", codec, rounds=ROUNDS, settings=told(codec))
    list(run(calm))
    organisations = Organisations(tmp_path, ROSTER, Homing())
    recorded = recorded_run(tmp_path, organisations, codec)
    answers = {agent: desk.answer for agent, desk in organisations.desks.items()}
    keys = {agent: key.public_key() for agent, key in organisations.keys.items()}
    keys[""] = organisations.coordinator.public_key()
    wire = Wire(answers, keys, tools_for(tmp_path, fault_seed, codec), recorded)
    parts = parts_over(tmp_path, organisations, codec, ROUNDS)
    engine = RemoteEngine(wire, organisations.members, organisations.coordinator, BASE)
    plan = replace(parts.plan, resend_s=1.0)
    parts = replace(parts, engine=engine, plan=plan, clock=lambda: wire.now)
    reports = list(run(parts))
    assert [report.refused for report in reports] == [{}] * ROUNDS
    assert bits(parts) == bits(calm)
    assert reports[-1].loss == calm.journal.reports()[-1]["loss"]
    nothing_is_outside(tmp_path)
    tried.update(+wire.tried)


class Absent(Homing):
    """Has no update in the rounds in which ``liars`` names the agent."""

    def __init__(self, liars):
        self.liars = liars

    def update(self, task):
        if self.liars.get(task.round) == task.agent:
            raise TimeoutError
        return super().update(task)


@pytest.mark.parametrize("codec", CODED)
def test_what_cannot_be_true_is_refused_by_name_and_the_round_closes_without_it(
    tmp_path, codec, fault_seed, tried, caplog
):
    tools = tools_for(tmp_path, fault_seed, "lies")
    names = tools.rng.sample([*WORDS], len(WORDS))[CODED.index(codec) :: len(CODED)]
    liars = {round_: tools.rng.choice(AGENTS) for round_ in range(1, len(names) + 1)}
    organisations = Organisations(tmp_path, ROSTER, Homing())
    own = organisations.coordinator.public_key()

    def lie(agent, body):
        theirs = organisations.keys[agent]
        header = open_sealed(body, theirs.public_key(), own, len(LARGER)).header
        if (header.kind, liars[header.round]) != ("fit", agent):
            return body
        return lied(names[header.round - 1], Caught(body, theirs.public_key(), own, tools), theirs)

    parts = parts_over(tmp_path, organisations, codec, len(names), tamper=lie)
    reports = list(run(parts))
    for name, report in zip(names, reports, strict=True):
        assert list(report.refused) == [liars[report.round]], name
        reason = report.refused[liars[report.round]]
        assert WORDS[name] in reason
        told_of = f"fit of agent {liars[report.round]!r}, round {report.round}: {reason}; refused"
        assert told_of in caplog.text
    absent = federation(
        tmp_path / "absent", codec, trainer=Absent(liars), rounds=len(names), settings=told(codec)
    )
    list(run(absent))
    assert bits(parts) == bits(absent)
    nothing_is_outside(tmp_path)
    tried.update(f"lie: {name}" for name in names)


def test_agents_and_runs_that_are_called_after_paths_stay_in_their_folders(tmp_path, tried):
    paths = [str(tmp_path / "outside" / "bomb"), OUTSIDE, "..", "/", "a/../../b", "CON", "."]
    home = tmp_path / "server"
    engine = InProcessEngine(
        with_memory(Homing(), home / "agents"), dict.fromkeys(paths, Enrolled())
    )
    parts = replace(federation(home, "int8"), engine=engine)
    assert [report.refused for report in run(parts)] == [{}] * 3
    north = Asked(tmp_path / "keys")
    for path in paths:
        lossy = north.told(codec=CODECS["int8"])
        assert isinstance(north.reply(run=path, **lossy), Update)
    nothing_is_outside(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"server", "keys"}
    assert {path.name for path in (tmp_path / "keys").iterdir()} == {"server", *AGENTS}
    tried["a path as the name of an agent or run"] += 2 * len(paths)
