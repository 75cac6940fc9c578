"""Federations over signed envelopes: the bits of one process, and nobody in who does not belong."""

import logging
from dataclasses import asdict, replace

import numpy as np
import pytest

from llmagentos.agent import Limits
from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.federation import play_round, run, task_for
from llmagentos.identity import new_key, open_sealed, seal
from llmagentos.settings import LocalSettings
from llmagentos.strategies import feddyn, scaffold
from tests.coded import CODECS, ROSTER, Homing, federation
from tests.organisations import BASE, Organisations

SGD = LocalSettings(steps=2, batch=4, lr=0.1, optimizer="sgd")
LOCAL = {**asdict(SGD), "strategy": "fedavg", "aggregation": "naive"}


def told(codec):
    return {"fit": {**LOCAL, "codec": CODECS[codec]}, "evaluate": {"rows": 8, "batch": 4}}


def parts_over(folder, organisations, codec="fp32", rounds=3, members=None, **carrier):
    parts = federation(folder / "server", codec, rounds=rounds, settings=told(codec))
    return replace(parts, engine=organisations.engine(members, **carrier))


def bits(parts):
    return {name: v.tobytes() for name, v in parts.journal.state().vectors().items()}


@pytest.mark.parametrize("codec", CODECS)
def test_a_federation_over_a_carrier_has_the_bits_of_one_process(tmp_path, codec):
    here = federation(tmp_path / "here", codec, settings=told(codec))
    there = parts_over(tmp_path, Organisations(tmp_path, ROSTER, Homing()), codec)
    reports = list(run(here)), list(run(there))
    assert bits(here) == bits(there)
    assert [r.loss for r in reports[0]] == [r.loss for r in reports[1]]


class Drifting(Homing):
    """As the others, in two steps that a correction bends."""

    def update(self, task):
        update = super().update(task)
        bent = update.vectors["delta"] - np.float32(0.2) * task.vectors["linear"]
        return replace(update, vectors={"delta": bent}, metrics={"step_weight": 2.0})


@pytest.mark.parametrize("codec", ["fp32", "int8"])
@pytest.mark.parametrize("strategy", [scaffold(), feddyn()], ids=["scaffold", "feddyn"])
def test_what_agents_keep_is_kept_behind_a_carrier_too(tmp_path, strategy, codec):
    home = tmp_path / "here" / "kept"
    here = federation(tmp_path / "here", codec, settings=told(codec))
    here = replace(here, engine=InProcessEngine(with_memory(Drifting(), home), ROSTER))
    there = parts_over(tmp_path, Organisations(tmp_path, ROSTER, Drifting()), codec)
    ended = []
    for parts in (replace(here, strategy=strategy), replace(there, strategy=strategy)):
        assert [report.refused for report in run(parts)] == [{}] * 3
        ended.append(bits(parts))
    assert ended[0] == ended[1]
    (moment,) = (v for name, v in ended[0].items() if name.startswith("moments."))
    assert any(moment)


def test_a_real_model_trains_to_the_same_bits_over_a_carrier(tmp_path):
    from llmagentos.adapter import Adapter
    from llmagentos.federation import Federation, Plan
    from llmagentos.journal import Journal
    from llmagentos.messages import Enrolled
    from llmagentos.state import ServerState
    from llmagentos.strategies import fedavg
    from tests.lm_world import SILOS, start_of, trainer

    agents = {name: Enrolled(len(silo.train), 1000) for name, silo in SILOS.items()}
    tuner = trainer()
    local = asdict(LocalSettings(steps=3, lr=1e-2))
    settings = {
        "fit": {
            **local,
            "horizon": 2,
            "weighting": "examples",
            "strategy": "fedavg",
            "aggregation": "naive",
        },
        "evaluate": {"rows": 5, "batch": 4},
    }
    organisations = Organisations(tmp_path, agents, trainer(), Limits(examples=5))
    ended = []
    for name, engine in (
        ("here", InProcessEngine(tuner, agents)),
        ("there", organisations.engine()),
    ):
        with Journal(tmp_path / "server" / name) as journal:
            start = Adapter(tuner.layout, start_of(tuner.layout))
            journal.begin(tuner.layout, {}, lambda start=start: ServerState(1, start))
            plan = Plan("run", rounds=2, settings=settings)
            losses = [r.loss for r in run(Federation(fedavg(), engine, journal, plan))]
            ended.append((losses, journal.state().adapter.vector.tobytes()))
    assert ended[0] == ended[1]
    assert organisations.desks["north"].trainer.trainer is not tuner


def test_a_repeated_task_gets_the_same_answer_and_is_not_trained_twice(tmp_path):
    class Counting(Homing):
        fits = 0

        def update(self, task):
            self.fits += 1
            return super().update(task)

    trainer = Counting()
    organisations = Organisations(tmp_path, ROSTER, trainer)
    parts = parts_over(tmp_path, organisations, "int8", rounds=1)
    list(run(parts))
    first = {p.agent: p.body for p in parts.engine.carrier.sent[:3]}
    assert trainer.fits == 3
    for agent, body in first.items():
        desk = organisations.desks[agent]
        again = desk.answer(body)
        desk.journal.close()
        assert organisations.open_desk(agent).answer(body) == again
    assert trainer.fits == 3


def test_what_a_stranger_signs_is_asked_again_and_then_refused_by_name(tmp_path, caplog):
    stranger = new_key()
    organisations = Organisations(tmp_path, ROSTER, Homing())
    theirs = organisations.keys["north"].public_key()
    own = organisations.coordinator.public_key()

    def forge(agent, body):
        if agent != "north":
            return body
        opened = open_sealed(body, theirs, own, 1 << 24)
        return seal(opened.header, bytes(opened.payload), stranger)

    parts = parts_over(tmp_path, organisations, tamper=forge)
    with caplog.at_level(logging.WARNING):
        _, report = play_round(parts.journal.state(), parts)
    assert list(report.refused) == ["north"]
    assert "not signed by the key that was agreed on" in report.refused["north"]
    assert "answer of agent 'north': it is not signed" in caplog.text
    assert sum(p.agent == "north" for p in parts.engine.carrier.sent) >= 3


def test_a_flipped_bit_is_asked_again_and_changes_nothing(tmp_path):
    broken = {"north": 2, "south": 1}

    def flip(agent, body):
        if broken.get(agent, 0):
            broken[agent] -= 1
            return body[:-1] + bytes([body[-1] ^ 1])
        return body

    calm = parts_over(tmp_path / "a", Organisations(tmp_path / "a", ROSTER, Homing()))
    wild = parts_over(tmp_path / "b", Organisations(tmp_path / "b", ROSTER, Homing()), tamper=flip)
    list(run(calm)), list(run(wild))
    assert bits(calm) == bits(wild)
    assert broken == {"north": 0, "south": 0}


def test_a_broken_task_is_asked_again_too(tmp_path):
    organisations = Organisations(tmp_path, ROSTER, Homing())
    desk = organisations.desks["north"].answer
    broken = [True]

    def once(body):
        return desk(body[:-4] if broken and broken.pop() else body)

    parts = parts_over(tmp_path, organisations)
    parts.engine.carrier.answers["north"] = once
    assert next(run(parts)).refused == {}


def test_an_agent_cannot_answer_for_another(tmp_path):
    organisations = Organisations(tmp_path, ROSTER, Homing())
    parts = parts_over(tmp_path, organisations)
    parts.engine.carrier.answers["north"] = organisations.desks["south"].answer
    report = next(run(parts))
    assert "refused: it is not signed" not in report.refused["north"]
    assert "somebody else" in report.refused["north"]


def test_an_answer_to_an_earlier_task_is_dropped(tmp_path, caplog):
    parts = parts_over(tmp_path, Organisations(tmp_path, ROSTER, Homing()))
    engine, carrier = parts.engine, parts.engine.carrier
    first = task_for("north", "fit", parts.journal.state(), parts)
    engine.send(first)
    (old,) = carrier.poll()
    carrier.answers["north"] = lambda _: old.body
    engine.send(replace(first, round=2))
    with caplog.at_level(logging.INFO):
        assert engine.poll() == []
    assert "a late answer of agent 'north' for round 2; dropped" in caplog.text


def test_a_coordinator_rests_while_an_agent_answers_what_was_not_asked(tmp_path):
    parts = parts_over(tmp_path, Organisations(tmp_path, ROSTER, Homing()))
    parts = replace(parts, plan=replace(parts.plan, deadline_s=0.5, quorum=0.5))
    engine, carrier = parts.engine, parts.engine.carrier
    engine.send(task_for("north", "fit", parts.journal.state(), parts))
    (old,) = carrier.poll()
    carrier.answers["north"] = lambda _: old.body
    polls, poll = [], carrier.poll
    carrier.poll = lambda timeout_s: polls.append(timeout_s) or poll(timeout_s)
    _, report = play_round(parts.journal.state(), parts)
    assert report.refused == {"north": "no answer within 0.5 s"}
    assert len(polls) < 100


def test_a_task_that_is_asked_again_is_the_same_envelope(tmp_path):
    parts = parts_over(tmp_path, Organisations(tmp_path, ROSTER, Homing()))
    task = task_for("north", "fit", parts.journal.state(), parts)
    parts.engine.send(task)
    parts.engine.send(task)
    first, again = parts.engine.carrier.sent
    assert first == again


def test_a_revoked_agent_is_neither_asked_nor_heard(tmp_path, caplog):
    organisations = Organisations(tmp_path, ROSTER, Homing())
    members = dict(organisations.members)
    members["north"] = replace(members["north"], revoked=True)
    parts = parts_over(tmp_path, organisations, members=members)
    assert list(parts.engine.roster) == ["east", "south"]
    list(run(parts))
    assert {p.agent for p in parts.engine.carrier.sent} == {"east", "south"}
    parts.engine.carrier.send("north", b"here I am")
    assert parts.engine.poll() == []
    assert "'north', who was not asked; dropped" in caplog.text


def test_an_oversized_answer_is_refused_before_it_is_read(tmp_path):
    organisations = Organisations(tmp_path, ROSTER, Homing())

    def swell(agent, body):
        return body + bytes(8 << 20) if agent == "north" else body

    report = next(run(parts_over(tmp_path, organisations, tamper=swell)))
    assert "bytes are more than the" in report.refused["north"]


def test_a_killed_agent_goes_on_where_it_was(tmp_path):
    calm = parts_over(tmp_path / "a", Organisations(tmp_path / "a", ROSTER, Homing()), "top_k")
    organisations = Organisations(tmp_path / "b", ROSTER, Homing())
    wild = parts_over(tmp_path / "b", organisations, "top_k")
    list(run(calm))
    for _ in run(wild):
        for agent, desk in organisations.desks.items():
            desk.journal.close()
            organisations.desks[agent] = organisations.open_desk(agent)
            wild.engine.carrier.answers[agent] = organisations.desks[agent].answer
    assert bits(calm) == bits(wild)


def test_nothing_but_numbers_leaves_an_agent_that_fails(tmp_path):
    class Leaking(Homing):
        def update(self, task):
            raise ValueError("patient 4711 has measles")

    organisations = Organisations(tmp_path, ROSTER, Homing())
    organisations.desks["north"].trainer = Leaking()
    report = next(run(parts_over(tmp_path, organisations)))
    assert report.refused == {"north": "ValueError; the agent's own log says more"}


def test_the_answer_names_the_base_and_weight_it_was_given_for(tmp_path):
    organisations = Organisations(tmp_path, ROSTER, Homing())
    seen = []

    def look(agent, body):
        theirs = organisations.keys[agent].public_key()
        seen.append(open_sealed(body, theirs, organisations.coordinator.public_key(), 1 << 24))
        return body

    next(run(parts_over(tmp_path, organisations, tamper=look)))
    assert {sealed.header.base for sealed in seen} == {BASE}
    assert [sealed.header.weight for sealed in seen[:3]] == [1.0, 1.0, 1.0]
