"""An agent that is struck off the list while a run goes on."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from llmagentos.engines import InProcessEngine
from llmagentos.engines.remote import RemoteEngine
from llmagentos.errors import QuorumError
from llmagentos.federation import ask, asynchrony, run, task_for
from llmagentos.identity import RosterFile, name_of, new_key, read_roster, write_roster
from llmagentos.recipes import enrol
from tests.coded import ROSTER, Homing, federation
from tests.crashing import interrupt
from tests.faults.test_inputs import Absent
from tests.organisations import BASE, Direct, Organisations
from tests.test_remote import bits, told


class Watched:
    """A federation of three organisations whose list is a file; ``strike`` takes one off it."""

    def __init__(self, folder, rounds=3, **carrier):
        self.organisations = Organisations(folder, ROSTER, Homing())
        self.folder, self.path, self.rounds = folder, folder / "roster.yaml", rounds
        write_roster(self.path, self.organisations.members)
        self.parts = self.started(**carrier)

    def started(self, **carrier):
        """The federation of a coordinator that starts at this moment."""
        answers = {agent: desk.answer for agent, desk in self.organisations.desks.items()}
        roster = RosterFile(self.path)
        key = self.organisations.coordinator
        engine = RemoteEngine(Direct(answers, **carrier), roster.members, key, BASE, roster.renewed)
        settings = told("int8")
        parts = federation(self.folder / "server", "int8", rounds=self.rounds, settings=settings)
        return replace(parts, engine=engine)

    def strike(self, agent):
        members = self.organisations.members
        write_roster(self.path, {**members, agent: replace(members[agent], revoked=True)})

    @property
    def asked(self):
        return {parcel.agent for parcel in self.parts.engine.carrier.sent}


def without_north_from(folder, round_):
    """The bits of a run in which north had no update from a round on."""
    absent = Absent(dict.fromkeys(range(round_, 4), "north"))
    parts = federation(folder, "int8", trainer=absent, settings=told("int8"))
    list(run(parts))
    return bits(parts)


def test_who_is_revoked_is_out_from_the_next_round_on_without_a_restart(tmp_path, caplog):
    watched = Watched(tmp_path)
    rounds = run(watched.parts)
    assert sorted(next(rounds).weights) == ["east", "north", "south"]
    watched.parts.engine.carrier.sent.clear()
    watched.strike("north")
    assert [sorted(report.weights) for report in rounds] == [["east", "south"]] * 2
    assert watched.asked == {"east", "south"}
    assert caplog.text.count("agent 'north' is revoked and takes part no more") == 1
    assert bits(watched.parts) == without_north_from(tmp_path / "absent", 2)


def test_what_an_agent_may_weigh_is_corrected_from_the_next_round_on(tmp_path):
    watched = Watched(tmp_path)
    members = dict(watched.organisations.members)
    write_roster(watched.path, members | {"north": replace(members["north"], examples=0.5)})
    by_rows = replace(watched.parts.plan, weighting="examples")
    rounds = run(replace(watched.parts, plan=by_rows))
    assert next(rounds).refused == {
        "north": "weight 1 is not in (0, 0.5], what the agent enrolled with; "
        "where that is outdated, correct it: enrol update --name 'north'"
    }
    words = ["--name", "north", "--examples", "1", "--roster", str(watched.path)]
    assert enrol.main(["update", *words]) == 0
    assert sorted(next(rounds).weights) == ["east", "north", "south"]


def test_a_round_ends_with_the_list_that_it_began_with(tmp_path):
    def strike_meanwhile(agent, body):
        watched.strike("north")
        return body

    watched = Watched(tmp_path, tamper=strike_meanwhile)
    reports = list(run(watched.parts))
    assert [len(report.weights) for report in reports] == [3, 2, 2]
    assert bits(watched.parts) == without_north_from(tmp_path / "absent", 2)


@pytest.mark.parametrize("text", ["north: [", "north: {key: 1}", "", None])
def test_a_broken_list_leaves_the_old_one_in_force_and_every_round_says_so(tmp_path, text, caplog):
    watched = Watched(tmp_path, rounds=4)
    rounds = run(watched.parts)
    next(rounds)
    watched.path.unlink() if text is None else watched.path.write_text(text)
    assert [len(next(rounds).weights) for _ in range(2)] == [3, 3]
    loud = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert [record.getMessage().endswith("stays in force") for record in loud] == [True] * 2
    assert str(watched.path) in loud[0].getMessage()
    watched.strike("north")
    assert sorted(next(rounds).weights) == ["east", "south"]


def test_who_is_added_takes_part_from_the_next_start_on(tmp_path, caplog):
    watched = Watched(tmp_path)
    members = dict(watched.organisations.members)
    write_roster(watched.path, {name: members[name] for name in ("east", "south")})
    watched.parts.journal.close()
    rounds = run(watched.started())
    assert len(next(rounds).weights) == 2
    write_roster(watched.path, members)
    assert len(next(rounds).weights) == 2
    assert "agent 'north' takes part from the next start of the coordinator on" in caplog.text


def test_an_answer_of_whoever_is_revoked_before_a_resume_does_not_count(tmp_path):
    watched = Watched(tmp_path)
    parts = watched.parts
    state = parts.journal.state()
    ask([task_for(agent, "fit", state, parts) for agent in ("east", "north")], parts)
    parts.journal.close()
    watched.strike("north")
    parts = watched.started()
    assert [sorted(report.weights) for report in run(parts)] == [["east", "south"]] * 3
    assert bits(parts) == without_north_from(tmp_path / "absent", 1)


def test_whoever_is_revoked_after_a_round_was_decided_is_decided_out_of_it(tmp_path):
    watched = Watched(tmp_path, rounds=1)
    interrupt(watched.parts)
    assert watched.parts.journal.members(1) == ["east", "north", "south"]
    watched.parts.journal.close()
    watched.strike("north")
    parts = watched.started()
    (report,) = run(parts)
    assert sorted(report.weights) == parts.journal.members(1) == ["east", "south"]
    assert parts.journal.receipt("north", 2) is None


def test_losses_are_of_the_adapter_that_is_left_when_an_agent_is_decided_out(tmp_path):
    parts = federation(tmp_path, "fp32", rounds=1)
    interrupt(parts, "close_round")
    parts.journal.close()
    parts = federation(tmp_path, "fp32", rounds=1)
    parts.engine.roster = {name: ROSTER[name] for name in ("east", "south")}
    (report,) = run(parts)
    loss = float(np.square(parts.journal.state().adapter.vector).sum())
    assert report.agents == {"east": loss, "south": loss}


def test_nobody_left_is_said(tmp_path):
    watched = Watched(tmp_path)
    rounds = run(watched.parts)
    next(rounds)
    members = watched.organisations.members
    out = {name: replace(member, revoked=True) for name, member in members.items()}
    write_roster(watched.path, out)
    with pytest.raises(QuorumError, match="everybody is revoked; enrol an agent"):
        next(rounds)


class Breaking(Homing):
    def update(self, task):
        if task.agent == "north":
            raise RuntimeError("no text")
        return super().update(task)


def test_who_stopped_a_round_and_is_out_when_it_is_resumed_keeps_no_states(tmp_path):
    parts = federation(tmp_path, "fp32", trainer=Breaking(), quorum=1.0)
    with pytest.raises(QuorumError, match="'north': RuntimeError: no text"):
        list(run(parts))
    parts.journal.close()
    parts = federation(tmp_path, "fp32", quorum=1.0, rounds=4)
    parts.engine.roster = {name: ROSTER[name] for name in ("east", "south")}
    kept, refused = [], []
    for report in run(parts):
        parts.journal.forget(updates=True)
        kept.append(len(list((tmp_path / "cas").iterdir())))
        refused.append(report.refused)
    assert refused == [{"north": "it is asked no more"}, {}, {}, {}]
    assert kept == [1] * 4


class Deaf(InProcessEngine):
    """North is asked and never answers, until it is struck off."""

    silence = 0

    def send(self, task):
        if task.agent != "north":
            super().send(task)

    def poll(self, timeout_s=None):
        self.silence += not self._tasks
        assert self.silence < 50, "nobody but north is left, who never answers"
        return super().poll()

    def renew(self):
        self.roster = self.next_roster


@pytest.mark.parametrize("resumed", [False, True])
def test_an_open_task_of_whoever_is_revoked_holds_nobody_up(tmp_path, resumed):
    def deaf():
        parts = federation(tmp_path, "fp32", engine=Deaf, rounds=4, buffer=2)
        parts.engine.next_roster = ROSTER
        return parts

    parts = deaf()
    rounds = asynchrony.run(parts)
    next(rounds)
    assert [agent for agent, _ in parts.journal.answers.open_tasks()] == ["north"]
    if resumed:
        parts.journal.close()
        parts = deaf()
        rounds = asynchrony.run(parts)
    parts.engine.next_roster = {name: ROSTER[name] for name in ("east", "south")}
    reports = list(rounds)
    assert [sorted(report.weights) for report in reports] == [["east", "south"]] * 3
    assert reports[0].refused == {"north": "it is enrolled no more"}
    assert parts.journal.answers.open_tasks() == []


class Prompt(InProcessEngine):
    """Everybody has answered at the first poll."""

    def poll(self, timeout_s=None):
        return [reply for _ in list(self._tasks) for reply in super(Prompt, self).poll()]


@pytest.mark.parametrize("resumed", [False, True])
def test_an_update_that_waits_does_not_count_once_its_agent_is_revoked(tmp_path, resumed):
    parts = federation(tmp_path, "fp32", engine=Prompt, rounds=2, buffer=2)
    rounds = asynchrony.run(parts)
    assert sorted(next(rounds).weights) == ["east", "north"]
    assert [answer.update.agent for answer in parts.journal.answers.waiting()] == ["south"]
    if resumed:
        parts.journal.close()
        parts = federation(tmp_path, "fp32", engine=Prompt, rounds=2, buffer=2)
        rounds = asynchrony.run(parts)
    parts.engine.roster = {name: ROSTER[name] for name in ("east", "north")}
    (report,) = rounds
    assert sorted(report.weights) == ["east", "north"]
    assert report.refused == {"south": "it is enrolled no more"}
    assert parts.journal.answers.waiting() == []


def test_a_run_without_rounds_ends_without_whoever_was_at_work_and_is_revoked(tmp_path):
    def deaf(roster):
        parts = federation(tmp_path, "fp32", engine=Deaf, rounds=1, buffer=2)
        parts.engine.next_roster = roster
        return parts

    parts = deaf(ROSTER)
    next(asynchrony.run(parts))
    parts.journal.close()
    parts = deaf({name: ROSTER[name] for name in ("east", "south")})
    assert list(asynchrony.run(parts)) == []
    assert parts.engine.silence == 0
    assert parts.journal.answers.open_tasks() == []
    assert parts.journal.answers.refusals(1, "fit") == {"north": "it is enrolled no more"}


def test_a_run_without_rounds_that_waits_at_its_end_hears_of_a_revocation(tmp_path):
    class StruckOff(Deaf):
        def poll(self, timeout_s=None):
            if self.silence == 2:
                self.next_roster = {name: ROSTER[name] for name in ("east", "south")}
            return super().poll()

    parts = federation(tmp_path, "fp32", engine=StruckOff, rounds=1, buffer=2)
    parts.engine.next_roster = ROSTER
    assert len(list(asynchrony.run(parts))) == 1
    assert parts.journal.answers.refusals(1, "fit") == {"north": "it is enrolled no more"}


def test_commands_at_the_same_time_lose_none_of_each_others_changes(tmp_path):
    keys = {f"agent {number}": name_of(new_key()) for number in range(8)}

    def add(name):
        words = f"--examples 9 --roster {tmp_path / 'roster.yaml'}".split()
        enrol.enrol(["add", "--name", name, "--key", keys[name], *words])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, keys))
    assert read_roster(tmp_path / "roster.yaml").keys() == keys.keys()
