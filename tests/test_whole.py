"""Every method on an adapter with more than pairs of factors: modules and biases trained whole."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from llmagentos.aggregation import METHODS, chapters, grown, in_one, joined
from llmagentos.aggregation.residual import factors_of
from llmagentos.errors import SettingError
from llmagentos.federation import run
from llmagentos.layout import Layout
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.settings import LoraSettings, PersonalSettings, RunSettings
from tests.lora_world import (
    AGENTS,
    LAYOUT,
    REST,
    ROSTER,
    WITH_REST,
    Homing,
    federation,
    played,
    settings_of,
)

PAIRS = LAYOUT.size
RANKED = [name for name, method in METHODS.items() if method.ranks]
SHARED = [name for name, method in METHODS.items() if not method.private]


def with_whole(method, **more):
    """The settings of a method with a module that is trained whole."""
    made = settings_of(method, **more)
    return replace(made, lora=replace(made.lora, modules_to_save=["head"]))


def bits(state):
    return {name: vector.tobytes() for name, vector in state.vectors().items()}


def local(trainer, round_):
    """Where every agent's training of a round ended, ``(d,)`` by agent."""
    found = [task for task in trainer.seen if (task.kind, task.round) == ("fit", round_)]
    return {
        task.agent: task.vectors["adapter"] + Homing().update(task).vectors["delta"]
        for task in found
    }


def test_the_rest_lies_behind_the_pairs_and_goes_with_the_second_factors():
    assert WITH_REST.factors == LAYOUT
    assert LAYOUT.factors.hash == LAYOUT.hash
    assert WITH_REST.part("A") == LAYOUT.part("A")
    assert WITH_REST.part("B") == slice(LAYOUT.part("B").start, WITH_REST.size)
    assert WITH_REST.only("B").names == (*LAYOUT.only("B").names, *REST)
    assert WITH_REST.only("A") == LAYOUT.only("A")
    assert WITH_REST.ranked(1).factors == LAYOUT.ranked(1)
    assert WITH_REST.at(["layer1"]).names == (*LAYOUT.at(["layer1"]).names, *REST)
    assert WITH_REST.ranked(2).within(WITH_REST)
    assert not LAYOUT.ranked(2).within(WITH_REST)
    plain = Layout(tuple(REST), tuple(REST.values()))
    assert plain.factors == Layout((), ())


@pytest.mark.parametrize("method", METHODS)
def test_the_pairs_move_as_they_do_without_a_rest(tmp_path, method):
    plain, played_too = (
        played(tmp_path / str(settings.lora.whole), method, settings=settings)
        for settings in (settings_of(method), with_whole(method))
    )
    before, after = (parts.journal.state() for _, parts in (plain, played_too))
    assert after.adapter.layout == WITH_REST
    assert after.adapter.vector[:PAIRS].tobytes() == before.adapter.vector.tobytes()
    assert {n: v.tobytes() for n, v in chapters(after.extra).items()} == {
        n: v.tobytes() for n, v in chapters(before.extra).items()
    }
    errors = [[report.product_error for report in reports] for reports, _ in (plain, played_too)]
    assert errors[0] == errors[1]


def shares_of(method, vectors):
    """What each agent counts for: alike, and with hetlora by the norm of its products."""
    if not METHODS[method].by_norm:
        return [1 / len(vectors)] * len(vectors)
    products = [factors_of(LAYOUT, vector[:PAIRS]) for vector in vectors]
    norms = [np.sqrt(sum(np.square(p.dense()).sum() for p in each)) for each in products]
    return [norm / sum(norms) for norm in norms]


@pytest.mark.parametrize("method", SHARED)
def test_the_rest_is_the_weighted_mean_of_what_the_agents_have(tmp_path, method):
    trainer = Homing()
    _, parts = played(tmp_path, method, trainer=trainer, settings=with_whole(method), rounds=1)
    ends = local(trainer, 1)
    vectors = [ends[agent] for agent in AGENTS]
    rows = np.float64([vector[PAIRS:] for vector in vectors])
    mean = np.average(rows, axis=0, weights=shares_of(method, vectors))
    found = parts.journal.state().adapter.vector[PAIRS:]
    np.testing.assert_allclose(found, mean, rtol=0, atol=5e-7)
    assert np.abs(found - 1).min() > 1e-3


@pytest.mark.parametrize("method", SHARED)
def test_a_single_agent_gets_back_what_it_sent(tmp_path, method):
    trainer = Homing()
    parts = federation(tmp_path, method, trainer=trainer, settings=with_whole(method), rounds=1)
    parts.engine.roster = {"north": ROSTER["north"]}
    list(run(parts))
    sent = local(trainer, 1)["north"][PAIRS:]
    assert parts.journal.state().adapter.vector[PAIRS:].tobytes() == sent.tobytes()


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_stopped_and_went_on_ends_with_the_same_bits(tmp_path, method):
    _, whole = played(tmp_path / "whole", method, settings=with_whole(method))
    _, first = played(tmp_path / "parted", method, settings=with_whole(method), rounds=1)
    first.journal.close()
    _, rest = played(tmp_path / "parted", method, settings=with_whole(method))
    assert bits(rest.journal.state()) == bits(whole.journal.state())


def test_rolora_trains_the_rest_with_the_second_factors(tmp_path):
    parts = federation(tmp_path, "rolora", settings=with_whole("rolora"), rounds=2)
    before, after = (parts.journal.state().adapter.vector[PAIRS:] for _ in run(parts))
    assert (before != 1).all()
    assert before.tobytes() == after.tobytes()


@pytest.mark.parametrize("method", RANKED)
def test_agents_of_unequal_ranks_have_all_of_the_rest(tmp_path, method):
    trainer, settings = Homing(), with_whole(method, ranks={"east": 1, "south": 2})
    reports, parts = played(tmp_path, method, trainer=trainer, settings=settings, rounds=1)
    assert reports[0].refused == {}
    ends = local(trainer, 1)
    size = WITH_REST.size - PAIRS
    rows = np.float64([ends[agent][-size:] for agent in AGENTS])
    found = parts.journal.state().adapter.vector[PAIRS:]
    assert (rows.min(axis=0) <= found + 1e-6).all()
    assert (found <= rows.max(axis=0) + 1e-6).all()
    if not METHODS[method].by_norm:
        np.testing.assert_allclose(found, rows.mean(axis=0), atol=5e-7)


@pytest.mark.parametrize("method", ["fedex", "flora"])
def test_adapter_and_residual_in_one_keep_the_rest_as_it_is(tmp_path, method):
    settings = with_whole(method, residual_rank=100)
    _, parts = played(tmp_path, method, settings=settings)
    state = parts.journal.state()
    whole, residuals = in_one(state), list(chapters(state.extra).values())
    end = whole.layout.factors.size
    pairs = joined(LAYOUT, [state.adapter.vector[:PAIRS], *residuals])
    assert whole.vector[:end].tobytes() == pairs.tobytes()
    assert whole.vector[end:].tobytes() == state.adapter.vector[PAIRS:].tobytes()
    assert grown(state.adapter, []).vector.tobytes() == state.adapter.vector.tobytes()


def test_a_private_rest_stays_with_the_private_factors(tmp_path):
    trainer = Homing()
    _, parts = played(tmp_path, "fedsa", trainer=trainer, settings=with_whole("fedsa"))
    assert (parts.journal.state().adapter.vector[PAIRS:] == 1).all()
    told = b"".join(reply.body for reply in parts.engine.sent)
    for agent, end in local(trainer, 3).items():
        memory = AgentMemory(tmp_path / "agents" / folder_name(agent) / "share")
        task = next(t for t in parts.engine.tasks if t.agent == agent)
        own = memory.recall(replace(task, receipt=3))["adapter"][PAIRS:]
        assert own.tobytes() == end[PAIRS:].tobytes()
        body = own.tobytes()
        assert not any(body[i : i + 8] in told for i in range(0, len(body) - 8, 4))


def test_a_private_rest_that_is_lost_is_not_begun_at_zero(tmp_path):
    parts = federation(tmp_path, "fedsa", settings=with_whole("fedsa"), rounds=3)
    reports = []
    for report in run(parts):
        reports.append(report)
        if report.round == 2:
            shutil.rmtree(tmp_path / "agents" / folder_name("north") / "share")
    assert reports[1].refused == {}
    assert "has lost the modules or biases of its own" in reports[2].refused["north"]


@pytest.mark.parametrize("strategy", ["fedadam", "median", "norm_clipping"])
@pytest.mark.parametrize("method", ["naive", "ffa", "rolora"])
def test_server_strategies_take_the_rest_as_they_take_factors(tmp_path, method, strategy):
    settings = with_whole(method, strategy=strategy)
    reports, parts = played(tmp_path, method, settings=settings)
    assert [report.refused for report in reports] == [{}] * 3
    moved = parts.journal.state().adapter.vector[PAIRS:]
    assert np.isfinite(moved).all()
    assert (moved != 1).all()


@pytest.mark.parametrize("codec", ["bf16", "int8", "top_k"])
def test_coded_changes_of_the_rest_are_averaged_as_they_are_read(tmp_path, codec):
    ends = []
    for method in ("zero_pad", "naive"):
        settings = with_whole(method, codec={"name": codec, "error_feedback": False})
        _, parts = played(tmp_path / method, method, settings=settings, rounds=1)
        ends.append(parts.journal.state().adapter.vector[PAIRS:])
    np.testing.assert_allclose(*ends, atol=5e-7)
    assert (ends[0] != 1).any()


def test_what_has_no_meaning_for_whole_modules_is_refused_by_name():
    whole = LoraSettings(modules_to_save=["lm_head"])
    with pytest.raises(SettingError, match=r"personal\.method='dual'.*use ditto"):
        RunSettings(lora=whole, personal=PersonalSettings(method="dual"))
    assert RunSettings(lora=whole, personal=PersonalSettings(method="ditto"))
    with pytest.raises(SettingError, match=r"lora\.modules=.*common to all agents"):
        LoraSettings(bias="all", modules={"city": ["q_proj"]})
