"""Adapters of an agent's own: what they are, where they are, and what never leaves."""

import logging
import multiprocessing
import shutil
import signal
from dataclasses import asdict, replace

import numpy as np
import pytest

from llmagentos.aggregation import METHODS as AGGREGATIONS
from llmagentos.aggregation import check_aggregation
from llmagentos.engines import PersonalisingTrainer
from llmagentos.errors import SettingError
from llmagentos.federation import run, task_for
from llmagentos.memory import folder_name
from llmagentos.messages import decode
from llmagentos.settings import PersonalSettings, RunSettings, ServerSettings
from llmagentos.strategies import feddyn, scaffold
from tests import quadratics
from tests.crashing import arm
from tests.lora_world import AGENTS, ROSTER
from tests.organisations import Organisations
from tests.personal_world import (
    METHODS,
    Descending,
    gradient,
    owns,
    personal_federation,
    played,
    settings_for,
)
from tests.quadratics import Shuffled

FORK = multiprocessing.get_context("fork")
EVERY = pytest.mark.parametrize("personal", METHODS.values(), ids=METHODS)
WITH_DITTO = ["naive", "zero_pad", "hetlora", "ffa", "rolora", "lora_fair"]
TOGETHER = [("ditto", name) for name in WITH_DITTO]
TOGETHER += [("dual", name) for name in AGGREGATIONS if name != "fedsa"]


def bits(parts):
    return {name: v.tobytes() for name, v in parts.journal.state().vectors().items()}


def fits(parts):
    """What came from the agents after training, but for the name of the run."""
    answers = [decode(reply.body) for reply in parts.engine.sent]
    return [
        (a.agent, a.round, a.weight, a.metrics, {n: v.tobytes() for n, v in a.vectors.items()})
        for a in answers
        if a.kind == "fit"
    ]


def own_bits(parts, folder):
    return {agent: own.tobytes() for agent, own in owns(parts, AGENTS, folder).items()}


@pytest.mark.parametrize(("name", "aggregation"), TOGETHER)
def test_what_is_shared_has_the_bits_of_a_run_in_which_nobody_has_more(tmp_path, name, aggregation):
    _, plain = played(tmp_path / "plain", {}, aggregation)
    _, parts = played(tmp_path / "personal", METHODS[name], aggregation)
    assert bits(parts) == bits(plain)
    assert fits(parts) == fits(plain)
    assert len(fits(parts)) == 3 * len(AGENTS)


@pytest.mark.parametrize(("name", "aggregation"), TOGETHER)
def test_an_own_adapter_is_in_no_message(tmp_path, name, aggregation):
    parts = personal_federation(tmp_path, METHODS[name], aggregation)
    rounds = [owns(parts, AGENTS, tmp_path) for _ in run(parts)]
    given = [v.tobytes() for task in parts.engine.tasks for v in task.vectors.values()]
    told = b"".join([*given, *(reply.body for reply in parts.engine.sent)])
    assert len(rounds) == 3
    for own in (vector for found in rounds for vector in found.values()):
        assert np.abs(own).min() > 0
        body = own.tobytes()
        assert not any(body[i : i + 8] in told for i in range(0, len(body) - 8, 4))


@EVERY
@pytest.mark.parametrize("seed", range(2))
def test_order_and_repeats_of_answers_change_no_bit(tmp_path, personal, seed):
    _, plain = played(tmp_path / "plain", personal)
    parts = personal_federation(tmp_path / "mixed", personal)
    mixed = replace(parts, engine=Shuffled(parts.engine.trainer, ROSTER, seed))
    list(run(mixed))
    assert bits(mixed) == bits(plain)
    assert own_bits(mixed, tmp_path / "mixed") == own_bits(plain, tmp_path / "plain")


def play(folder, personal, killed_at=None):
    """Play three rounds; kill this process before the write of that number."""
    if killed_at is not None:
        arm(killed_at)
    reports, parts = played(folder, personal)
    left = bits(parts), own_bits(parts, folder), [report.personal for report in reports]
    parts.journal.close()
    return left


@pytest.mark.parametrize("name", ["ditto", "dual"])
def test_resume_after_a_kill_is_bit_identical(tmp_path, name, tried):
    personal = METHODS[name]
    *expected, losses = play(tmp_path / "undisturbed", personal)
    kills, point, exitcode = 0, 0, None
    while exitcode != 0:
        folder = tmp_path / f"at{point}"
        process = FORK.Process(target=play, args=(folder, personal, point))
        process.start()
        process.join()
        exitcode = process.exitcode
        assert exitcode in (0, -signal.SIGKILL)
        *found, missing = play(folder, personal)
        assert found == expected
        assert missing == losses[len(losses) - len(missing) :]
        kills += exitcode != 0
        point += 17
    tried["killed between two writes of an own adapter's run"] += kills
    assert kills > 3


class Sick(Descending):
    """North's update of the second round is not finite."""

    def update(self, task):
        update = super().update(task)
        if (task.agent, task.round) == ("north", 2) and "anchor" not in task.vectors:
            update.vectors["delta"][0] = np.nan
        return update


@EVERY
def test_a_round_that_did_not_count_leaves_no_trace(tmp_path, personal):
    trainer = Sick()
    parts = personal_federation(tmp_path, personal, trainer=trainer)
    rounds = []
    for report in run(parts):
        rounds.append(owns(parts, AGENTS, tmp_path))
        assert set(report.refused) == ({"north"} if report.round == 2 else set())
    began = {
        (task.agent, task.round): task.vectors["adapter"]
        for task in trainer.seen
        if task.kind == "fit" and "anchor" in task.vectors
    }
    assert np.array_equal(rounds[1]["north"], rounds[0]["north"])
    assert np.array_equal(began["north", 3], rounds[0]["north"])
    assert np.array_equal(began["east", 3], rounds[1]["east"])
    assert not np.array_equal(rounds[2]["north"], rounds[0]["north"])


@EVERY
def test_an_agent_that_lost_its_folder_begins_again_and_says_so(tmp_path, personal, caplog):
    caplog.set_level(logging.WARNING)
    trainer = Descending()
    parts = personal_federation(tmp_path, personal, trainer=trainer)
    for report in run(parts):
        assert report.refused == {}
        if report.round == 2:
            shutil.rmtree(tmp_path / "agents" / folder_name("north"))
    assert "agent 'north' lost" in caplog.text
    began = {
        (task.agent, task.round): task.vectors
        for task in trainer.seen
        if task.kind == "fit" and "anchor" in task.vectors
    }
    if personal["method"] == "ditto":
        shared = began["north", 3]["anchor"]
        assert np.array_equal(began["north", 3]["adapter"], shared)
    else:
        assert np.array_equal(began["north", 3]["adapter"], began["north", 1]["adapter"])
    assert not np.array_equal(began["east", 3]["adapter"], began["east", 1]["adapter"])


def test_ditto_without_a_pull_is_local_training_bit_for_bit(tmp_path):
    _, parts = played(tmp_path / "all", METHODS["ditto, alone"])
    own = owns(parts, AGENTS, tmp_path / "all")
    for agent in AGENTS:
        alone = personal_federation(tmp_path / agent, {})
        alone.engine.roster = {agent: ROSTER[agent]}
        list(run(alone))
        assert np.array_equal(alone.journal.state().adapter.vector, own[agent])


@pytest.mark.parametrize("mu", [10.0, 100.0, 1000.0])
def test_a_strong_pull_leaves_ditto_no_further_from_the_shared_one_than_its_gradient(tmp_path, mu):
    """With a rate of 1 / mu a step is ``v = w - gradient(v) / mu``, wherever v was."""
    parts = personal_federation(tmp_path, {"method": "ditto", "mu": mu})
    fit = {**parts.plan.settings["fit"], "lr": 1 / mu}
    parts = replace(parts, plan=replace(parts.plan, settings={**parts.plan.settings, "fit": fit}))
    list(run(parts))
    own = owns(parts, AGENTS, tmp_path)
    for task in parts.engine.tasks:
        if (task.kind, task.round) == ("fit", 3):
            gap = np.linalg.norm(own[task.agent] - task.vectors["adapter"])
            assert 0 < gap < 1.5 * np.linalg.norm(gradient(task)) / mu


def test_ditto_settles_between_its_own_minimum_and_the_shared_one(tmp_path):
    """At ``(c x* + mu w) / (c + mu)`` for the loss ``c / 2 (x - x*)^2``; w is FedAvg's 0.604126."""
    personal = {"personal": asdict(PersonalSettings("ditto", mu=1.0, steps=60))}
    parts = quadratics.federation(tmp_path, rounds=25, fit={"steps": 10, **personal})
    list(run(parts))
    assert parts.journal.state().adapter.vector[0] == pytest.approx(0.604126, abs=1e-6)
    keeping = PersonalisingTrainer(quadratics.Quadratic(), tmp_path / "agents")
    asked = (task_for(agent, "fit", parts.journal.state(), parts) for agent in quadratics.ROSTER)
    found = {task.agent: float(keeping.own(task)[0]) for task in asked}
    assert found == pytest.approx({"north": 0.302063, "south": 0.920825}, abs=1e-6)


@EVERY
def test_both_adapters_are_evaluated_from_the_first_round_that_counted(tmp_path, personal):
    reports, _ = played(tmp_path / "personal", personal)
    plain, _ = played(tmp_path / "plain", {})
    for report, other in zip(reports, plain, strict=True):
        assert report.agents == other.agents
        assert report.personal.keys() == set(AGENTS)
        assert other.personal == {}
    assert max(report.personal["east"] for report in reports) < reports[0].agents["east"]


def test_the_sum_of_both_is_what_dual_trains_and_what_it_is_evaluated_as(tmp_path):
    trainer = Descending()
    _, parts = played(tmp_path, METHODS["dual"], trainer=trainer)
    shared = {t.round: t.vectors["adapter"] for t in parts.engine.tasks if t.kind == "fit"}
    own = [task for task in trainer.seen if "residual" in task.vectors]
    assert len(own) == 2 * 3 * len(AGENTS)
    for task in own:
        after = task.kind == "evaluate"
        if task.round + after <= 3:
            assert np.array_equal(task.vectors["residual"], shared[task.round + after])


@pytest.mark.parametrize("strategy", [scaffold(), feddyn()], ids=["scaffold", "feddyn"])
def test_corrections_are_of_the_shared_adapter_alone(tmp_path, strategy):
    class Bent(Descending):
        def update(self, task):
            update = super().update(task)
            assert ("linear" in task.vectors) != ("anchor" in task.vectors)
            return replace(update, metrics={"step_weight": 3.0})

    ended = []
    for name, personal in (("plain", {}), ("personal", METHODS["ditto"])):
        parts = personal_federation(tmp_path / name, personal, trainer=Bent())
        parts = replace(parts, strategy=strategy)
        assert all(report.refused == {} for report in run(parts))
        ended.append(bits(parts))
    assert ended[0] == ended[1]


@EVERY
def test_an_own_adapter_behind_a_desk_has_the_bits_of_one_process(tmp_path, personal):
    _, here = played(tmp_path / "here", personal)
    organisations = Organisations(tmp_path / "there", ROSTER, Descending())
    parts = personal_federation(tmp_path / "server", personal)
    evaluate = {**parts.plan.settings["evaluate"], "rows": 8}
    plan = replace(parts.plan, settings={**parts.plan.settings, "evaluate": evaluate})
    there = replace(parts, engine=organisations.engine(), plan=plan)
    reports = list(run(there))
    assert bits(there) == bits(here)
    assert all(report.personal.keys() == set(AGENTS) for report in reports)
    for agent, own in own_bits(here, tmp_path / "here").items():
        (kept,) = tmp_path.joinpath("there", agent, "memory").rglob("personal/round-3.*")
        assert kept.read_bytes().endswith(own)
        sent = b"".join(parcel.body for parcel in there.engine.carrier.sent)
        assert own[:64] not in sent


def test_an_organisation_counts_the_steps_of_its_own_adapter(tmp_path):
    organisations = Organisations(tmp_path / "there", ROSTER, Descending(), examples=4000)
    personal = {"method": "ditto", "steps": 198}
    parts = personal_federation(tmp_path / "server", personal, rounds=1)
    parts = replace(parts, engine=organisations.engine(), plan=replace(parts.plan, quorum=0.1))
    with pytest.raises(Exception, match="steps=201: I agreed to at most 200"):
        list(run(parts))


class Bursting(Descending):
    """North's own adapter leaves the numbers in the second round."""

    def update(self, task):
        update = super().update(task)
        if (task.agent, task.round) == ("north", 2) and "anchor" in task.vectors:
            update.vectors["delta"][0] = np.inf
        return update


@EVERY
def test_an_own_adapter_that_leaves_the_numbers_stays_as_it_was(tmp_path, personal, caplog):
    parts = personal_federation(tmp_path, personal, trainer=Bursting(), rounds=2)
    before, after = (owns(parts, AGENTS, tmp_path) for _ in run(parts))
    assert "the own adapter of agent 'north' is not finite after round 2" in caplog.text
    assert np.array_equal(after["north"], before["north"])
    assert not np.array_equal(after["east"], before["east"])
    assert parts.journal.answers.refusals(2, "fit") == {}


WRONG = [
    ("fedsa", "ditto", "leaves agents a factor of their own already"),
    ("fedsa", "dual", "leaves agents a factor of their own already"),
    *((name, "ditto", "use dual") for name in ("flora", "flexlora", "fedex", "fedsvd")),
]


@pytest.mark.parametrize(("aggregation", "method", "message"), WRONG)
def test_settings_that_do_not_go_together_are_refused_by_name(aggregation, method, message):
    with pytest.raises(SettingError, match=f"personal.method='{method}': .*{message}"):
        check_aggregation(settings_for({"method": method}, aggregation))


def test_every_pair_of_methods_is_played_or_refused():
    refused = {(method, name) for name, method, _ in WRONG}
    both = {(method, name) for method in ("ditto", "dual") for name in AGGREGATIONS}
    assert refused | set(TOGETHER) == both
    assert not refused & set(TOGETHER)


@pytest.mark.parametrize("strategy", ["fedbuff", "fedasync"])
def test_without_common_rounds_there_is_no_own_adapter(strategy):
    with pytest.raises(SettingError, match=r"personal\.method='dual': goes with common rounds"):
        RunSettings(server=ServerSettings(strategy), personal=PersonalSettings("dual"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"mu": -1.0}, r"personal\.mu=-1\.0"), ({"steps": 0}, r"personal\.steps=0: needs at least 1")],
)
def test_a_value_out_of_range_is_refused(wrong, message):
    with pytest.raises(SettingError, match=message):
        PersonalSettings(**wrong)
