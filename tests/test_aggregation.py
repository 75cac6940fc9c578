"""Every method in a federation: what travels, what comes of it, and what stays at home."""

import logging
import shutil
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from llmagentos.adapter import refit
from llmagentos.aggregation import METHODS, aggregated, chapters, check_aggregation
from llmagentos.aggregation.residual import factors_of, joined, rank_of
from llmagentos.engines import with_memory
from llmagentos.errors import QuorumError, SettingError
from llmagentos.federation import run
from llmagentos.journal import Journal
from llmagentos.memory import AgentMemory, folder_name
from llmagentos.strategies import fedavg, strategy_of
from tests.leaving import left
from tests.lora_world import (
    AGENTS,
    LAYOUT,
    ROSTER,
    Homing,
    federation,
    first_state,
    played,
    settings_of,
)
from tests.quadratics import Shuffled

EXACT = [name for name, method in METHODS.items() if method.exact == "exact"]
WITH_MODULES = [name for name, method in METHODS.items() if method.modules]
RANKED = [name for name, method in METHODS.items() if method.ranks]
A, B = LAYOUT.part("A"), LAYOUT.part("B")


def bits(state):
    return {name: vector.tobytes() for name, vector in state.vectors().items()}


def product(state):
    """Every layer's product of the adapter and of the residual, dense."""
    products = [pair.dense() for pair in factors_of(LAYOUT, state.adapter.vector)]
    for vector in chapters(state.extra).values():
        for layer, pair in enumerate(factors_of(LAYOUT.fitting(vector), vector)):
            products[layer] = products[layer] + pair.dense()
    return products


@pytest.mark.parametrize("method", METHODS)
def test_the_ledger_shows_what_was_sent(tmp_path, method):
    reports, parts = played(tmp_path, method)
    for report in reports:
        values = METHODS[method].values_up(LAYOUT, report.round)
        headers = report.bytes_up - 4 * values * len(AGENTS)
        assert 0 < headers < 700 * len(AGENTS)
        assert report.bytes_up_fp32 == report.bytes_up
        assert report.refused == {}
    assert parts.journal.state().round == 4


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("seed", range(2))
def test_order_and_repeats_of_answers_change_no_bit(tmp_path, method, seed):
    _, plain = played(tmp_path / "plain", method)
    parts = federation(tmp_path / "mixed", method)
    mixed = replace(parts, engine=Shuffled(parts.engine.trainer, ROSTER, seed))
    list(run(mixed))
    assert bits(mixed.journal.state()) == bits(plain.journal.state())


@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_stopped_and_went_on_ends_with_the_same_bits(tmp_path, method):
    _, whole = played(tmp_path / "whole", method)
    _, first = played(tmp_path / "parted", method, rounds=1)
    first.journal.close()
    _, rest = played(tmp_path / "parted", method)
    assert bits(rest.journal.state()) == bits(whole.journal.state())


class Resting(Homing):
    """Nobody moves."""

    def update(self, task):
        update = super().update(task)
        return replace(update, vectors={"delta": np.zeros(task.layout.size, np.float32)})


@pytest.mark.parametrize("method", METHODS)
def test_zero_deltas_leave_every_product(tmp_path, method):
    _, moved = played(tmp_path, method, rounds=1)
    parts = federation(tmp_path / "resting", method, trainer=Resting(), rounds=1)
    state = replace(moved.journal.state(), round=1)
    parts.engine.trainer = with_memory(Resting(), tmp_path / "agents")
    parts.journal.close()
    shutil.rmtree(tmp_path / "resting")
    parts = replace(parts, journal=left(Journal(tmp_path / "resting")))
    parts.journal.begin(LAYOUT, {}, lambda: state)
    list(run(replace(parts, plan=replace(parts.plan, run=parts.journal.run))))
    for before, after in zip(product(state), product(parts.journal.state()), strict=True):
        assert np.allclose(before, after, atol=2e-6)


@pytest.mark.parametrize("method", METHODS)
def test_reports_say_how_far_the_product_is_from_the_mean_of_products(tmp_path, method):
    reports, _ = played(tmp_path, method)
    errors = [report.product_error for report in reports]
    if method in EXACT:
        assert max(errors) < 1e-6
    elif method == "fedsa":
        assert errors == [None] * 3
    else:
        assert min(errors) > 1e-3


def test_the_best_of_a_rank_misses_less_than_a_closer_one_and_that_less_than_naive(tmp_path):
    errors = {
        method: played(tmp_path / method, method, rounds=1)[0][0].product_error
        for method in ("flexlora", "lora_fair", "naive", "zero_pad")
    }
    assert errors["flexlora"] < errors["lora_fair"] < errors["naive"]
    assert errors["naive"] == pytest.approx(errors["zero_pad"], rel=1e-5)


@pytest.mark.parametrize("method", ["ffa", "rolora", "fedsvd"])
def test_the_other_half_is_common_and_keeps_its_bits(tmp_path, method):
    parts = federation(tmp_path, method)
    states = [first_state(), *(parts.journal.state() for _ in run(parts))]
    for round_, (before, after) in enumerate(pairwise(states), start=1):
        frozen = A if METHODS[method].trained_in(round_) == "B" else B
        same = np.array_equal(before.adapter.vector[frozen], after.adapter.vector[frozen])
        assert same == (method != "fedsvd")


@pytest.mark.parametrize("method", ["ffa", "rolora", "fedsa"])
def test_an_agent_that_was_there_is_sent_what_has_changed(tmp_path, method):
    trainer = Homing()
    reports, parts = played(tmp_path, method, trainer=trainer)
    halves = {part: LAYOUT.only(part).size for part in ("A", "B")}
    changed = [METHODS[method].sent_in(round_) for round_ in (1, 2)]
    whole = 4 * LAYOUT.size * len(AGENTS)
    assert [report.bytes_down for report in reports] == [
        whole,
        *(4 * halves[part] * len(AGENTS) for part in changed),
    ]
    seen = {(task.kind, task.agent, task.round): task.vectors["adapter"] for task in trainer.seen}
    final = parts.journal.state().adapter.vector
    for agent in AGENTS:
        now = seen["evaluate", agent, 3]
        assert np.array_equal(now[A], final[A])
        assert np.array_equal(now[B], final[B]) == (method != "fedsa")


def test_a_private_factor_is_in_no_message(tmp_path):
    _, parts = played(tmp_path, "fedsa")
    sent = b"".join(reply.body for reply in parts.engine.sent)
    given = [vector for task in parts.engine.tasks for vector in task.vectors.values()]
    told = sent + b"".join(vector.tobytes() for vector in given)
    assert not any(vector[B].any() for vector in given)
    for agent in AGENTS:
        memory = AgentMemory(tmp_path / "agents" / folder_name(agent) / "share")
        for round_ in (2, 3):
            task = next(t for t in parts.engine.tasks if t.agent == agent)
            own = memory.recall(replace(task, receipt=round_))["adapter"][B]
            assert np.abs(own).min() > 0
            body = own.tobytes()
            assert not any(body[i : i + 8] in told for i in range(0, len(body) - 8, 4))


def test_one_agent_with_a_private_factor_is_local_training(tmp_path):
    alone = {"north": ROSTER["north"]}
    trainers = {method: Homing() for method in ("fedsa", "naive")}
    for method, trainer in trainers.items():
        parts = federation(tmp_path / method, method, trainer=trainer)
        parts.engine.roster = alone
        list(run(parts))
    last = {method: trainer.seen[-1].vectors["adapter"] for method, trainer in trainers.items()}
    assert np.array_equal(last["fedsa"], last["naive"])


def test_each_agent_is_evaluated_with_its_own_factor(tmp_path):
    trainer = Homing()
    played(tmp_path, "fedsa", trainer=trainer)
    last = {task.agent: task.vectors["adapter"] for task in trainer.seen if task.round == 3}
    assert all(np.array_equal(last["east"][A], adapter[A]) for adapter in last.values())
    assert not np.allclose(last["east"][B], last["north"][B])


@pytest.mark.parametrize("method", ["fedex", "flora"])
def test_only_new_factors_travel_and_everyone_computes_with_all(tmp_path, method):
    trainer = Homing()
    settings = settings_of(method, residual_rank=100)
    _, parts = played(tmp_path, method, trainer=trainer, settings=settings)
    tasks = [t for t in parts.engine.tasks if t.kind == "fit" and t.agent == "east"]
    assert [[n for n in task.vectors if n != "adapter"] for task in tasks] == [
        [],
        ["residual.1"],
        ["residual.2"],
    ]
    state = parts.journal.state()
    whole = joined(LAYOUT, list(chapters(state.extra).values()))
    assert list(chapters(state.extra)) == ["residual.1", "residual.2", "residual.3"]
    seen = [task.vectors["residual"] for task in trainer.seen if task.round == 3]
    evaluated = [found for found in seen if len(found) == len(whole)]
    assert len(evaluated) == len(AGENTS)
    assert all(np.array_equal(found, whole) for found in evaluated)


class Sick(Homing):
    """One agent fails in the second round."""

    def update(self, task):
        if task.agent == "north" and task.round == 2:
            raise MemoryError("away")
        return super().update(task)


@pytest.mark.parametrize("method", [*METHODS])
def test_a_returning_agent_catches_up(tmp_path, method):
    trainer = Sick()
    reports, _ = played(tmp_path, method, trainer=trainer, rounds=4)
    assert reports[1].refused.keys() == {"north"}
    assert [report.refused for report in reports[2:]] == [{}, {}]
    if METHODS[method].private:
        return
    for round_ in (3, 4):
        found = [t for t in trainer.seen if (t.kind, t.round) == ("fit", round_)]
        one, *others = (
            b"".join(t.vectors[n].tobytes() for n in ("adapter", "residual") if n in t.vectors)
            for t in found
        )
        assert len(others) == 2
        assert all(other == one for other in others)


def test_a_returning_agent_still_has_its_private_factor(tmp_path):
    trainer = Sick()
    played(tmp_path, "fedsa", trainer=trainer)
    first, again = (
        t for t in trainer.seen if (t.kind, t.agent) == ("fit", "north") and t.round != 2
    )
    left = first.vectors["adapter"] + trainer.update(first).vectors["delta"]
    assert again.round == 3
    assert again.vectors["adapter"][B].tobytes() == left[B].tobytes()


@pytest.mark.parametrize("method", ["ffa", "fedex"])
def test_an_agent_that_lost_its_memory_says_so_and_gets_all_in_the_next_round(tmp_path, method):
    parts = federation(tmp_path, method, rounds=5)
    reports = []
    for report in run(parts):
        reports.append(report)
        if report.round == 2:
            shutil.rmtree(tmp_path / "agents" / folder_name("north") / "share")
    (reason,) = reports[2].refused.values()
    assert "'north' remembers nothing of" in reason
    assert [report.refused for report in reports[3:]] == [{}, {}]


@pytest.mark.parametrize("method", ["fedex", "flora"])
def test_a_residual_is_recompressed_at_its_highest_rank_with_the_error_reported(tmp_path, method):
    settings = settings_of(method, residual_rank=4)
    reports, parts = played(tmp_path, method, settings=settings)
    ((name, vector),) = chapters(parts.journal.state().extra).items()
    assert name == "residual.3"
    assert len(vector) == LAYOUT.ranked(4).size
    assert reports[-1].product_error > 1e-3


@pytest.mark.parametrize("method", ["fedex", "flora"])
def test_an_agent_agrees_to_a_rank_of_what_all_rounds_together_add_to_its_base(tmp_path, method):
    settings = settings_of(method, residual_rank=100)
    _, once = played(tmp_path / "once", method, settings=settings, rounds=1)
    (added,) = chapters(once.journal.state().extra).values()
    rank = rank_of(LAYOUT.fitting(added))
    parts = federation(tmp_path / "agreed", method, settings=settings)
    parts.engine.trainer = with_memory(Homing(), tmp_path / "agreed" / "agents", rank)
    rounds = run(parts)
    assert [next(rounds).loss is None for _ in range(2)] == [False, True]
    with pytest.raises(QuorumError, match=f"residual_rank=.*: I agreed to at most {rank}"):
        next(rounds)


@pytest.mark.parametrize("method", RANKED)
def test_agents_of_unequal_ranks_get_and_send_what_fits_them(tmp_path, method):
    ranks = {"east": 1, "south": 2}
    trainer, settings = Homing(), settings_of(method, ranks=ranks)
    reports, parts = played(tmp_path, method, trainer=trainer, settings=settings)
    for task in trainer.seen:
        rank = ranks.get(task.agent, 3)
        assert task.layout == LAYOUT.ranked(rank)
        assert task.vectors["adapter"].shape == (task.layout.size,)
    for report in reports:
        assert report.refused == {}
        for agent, size in report.bytes_by_agent.items():
            assert size - 700 < 4 * LAYOUT.ranked(ranks.get(agent, 3)).size < size
    if method == "flora":
        assert max(report.product_error for report in reports) < 1e-6
    assert parts.journal.state().adapter.layout == LAYOUT


@pytest.mark.parametrize("method", ["zero_pad", "hetlora", "flexlora"])
def test_a_report_tells_of_the_change_that_an_agent_of_a_lower_rank_has_made(tmp_path, method):
    trainer, settings = Homing(), settings_of(method, ranks={"east": 1, "south": 2})
    reports, _ = played(tmp_path, method, trainer=trainer, settings=settings)
    for report in reports:
        asked = [t for t in trainer.seen if t.kind == "fit" and t.round == report.round]
        made = {task.agent: task for task in asked}
        changes = [
            refit(Homing().update(made[agent]).vectors["delta"], made[agent].layout, LAYOUT)
            for agent in AGENTS
        ]
        norms = np.linalg.norm(changes, axis=1)
        assert list(report.norms.values()) == pytest.approx(norms, rel=1e-6)
        angles = np.asarray(changes) @ np.transpose(changes) / np.outer(norms, norms)
        np.testing.assert_allclose(report.cosines["matrix"], angles, atol=2e-6)


MODULES = {"east": ["layer0", "layer1"], "north": ["layer1"]}
"""Nobody has layer2 but south."""


def moved(tasks):
    """What every agent's training leaves, by agent and tensor."""
    return {
        task.agent: task.layout.split(
            task.vectors["adapter"] + Homing().update(task).vectors["delta"]
        )
        for task in tasks
        if task.kind == "fit"
    }


@pytest.mark.parametrize("method", WITH_MODULES)
def test_agents_get_and_send_the_layers_that_they_have(tmp_path, method):
    trainer, settings = Homing(), settings_of(method, modules=MODULES, ranks={"north": 2})
    reports, parts = played(tmp_path, method, trainer=trainer, settings=settings)
    for task in trainer.seen:
        known = MODULES.get(task.agent, ["layer0", "layer1", "layer2"])
        assert {name.split(".")[0] for name in task.layout.names} == set(known)
    for report in reports:
        assert report.refused == {}
        sizes = report.bytes_by_agent
        assert sizes["north"] < sizes["east"] < sizes["south"]
    assert parts.journal.state().adapter.layout == LAYOUT


def test_a_layer_that_an_agent_does_not_have_is_no_part_of_its_change(tmp_path):
    trainer, settings = Homing(), settings_of("zero_pad", modules=MODULES)
    reports, _ = played(tmp_path, "zero_pad", trainer=trainer, settings=settings, rounds=1)
    for task in trainer.seen:
        if task.kind == "fit":
            change = np.linalg.norm(trainer.update(task).vectors["delta"])
            assert reports[0].norms[task.agent] == pytest.approx(change, rel=1e-5)


def test_a_layer_is_averaged_over_the_agents_that_have_it(tmp_path):
    trainer, settings = Homing(), settings_of("zero_pad", modules=MODULES)
    played(tmp_path / "all", "zero_pad", trainer=trainer, settings=settings, rounds=1)
    found = left(Journal(tmp_path / "all")).state().adapter
    local = moved(trainer.seen)
    for name in LAYOUT.names:
        mean = np.mean([own[name] for own in local.values() if name in own], axis=0)
        np.testing.assert_allclose(found[name], mean, atol=1e-6)


def test_flexlora_takes_the_best_of_the_mean_over_the_agents_that_have_a_layer(tmp_path):
    trainer, settings = Homing(), settings_of("flexlora", modules=MODULES)
    played(tmp_path / "all", "flexlora", trainer=trainer, settings=settings, rounds=1)
    found = left(Journal(tmp_path / "all")).state().adapter
    local = moved(trainer.seen)
    for pair, product in zip(LAYOUT.pairs, factors_of(LAYOUT, found.vector), strict=True):
        having = [own for own in local.values() if pair.a in own]
        mean = np.mean([pair.scale * own[pair.b] @ own[pair.a] for own in having], axis=0)
        rest = np.linalg.svd(mean, compute_uv=False)[3:]
        missed = np.linalg.norm(product.dense() - mean)
        assert missed == pytest.approx(np.linalg.norm(rest), abs=1e-5)


@pytest.mark.parametrize("method", WITH_MODULES)
def test_a_layer_that_nobody_has_stays_as_it_is(tmp_path, method):
    settings = settings_of(method, modules={**MODULES, "south": ["layer1"]})
    reports, parts = played(tmp_path, method, settings=settings)
    first, last = first_state().adapter, parts.journal.state().adapter
    for factor in "AB":
        name = f"layer2.lora_{factor}.weight"
        assert first[name].tobytes() == last[name].tobytes()
    assert all(report.product_error < 1 for report in reports)


@pytest.mark.parametrize("method", WITH_MODULES)
def test_layers_that_all_have_change_no_bit(tmp_path, method):
    modules = {agent: ["layer0", "layer1", "layer2"] for agent in AGENTS}
    settings = settings_of(method, modules=modules)
    _, named = played(tmp_path / "named", method, settings=settings)
    _, plain = played(tmp_path / "plain", method)
    assert bits(named.journal.state()) == bits(plain.journal.state())


def test_flexlora_gives_every_agent_the_best_product_of_its_rank(tmp_path):
    settings = settings_of("flexlora", ranks={"east": 1, "south": 2})
    trainer = Homing()
    _, parts = played(tmp_path, "flexlora", trainer=trainer, settings=settings)
    whole = factors_of(LAYOUT, parts.journal.state().adapter.vector)
    for task in trainer.seen[-3:]:
        rank = task.layout.pairs[0].rank
        for own, full in zip(factors_of(task.layout, task.vectors["adapter"]), whole, strict=True):
            values = np.linalg.svd(full.dense(), compute_uv=False)
            missed = np.linalg.norm(own.dense() - full.dense())
            assert missed == pytest.approx(np.linalg.norm(values[rank:]), abs=1e-5)


@pytest.mark.parametrize("method", ["ffa", "rolora"])
def test_a_server_optimizer_moves_the_part_that_was_sent_with_moments_of_its_own(tmp_path, method):
    settings = settings_of(method, strategy="fedadam", lr=0.1)
    _, parts = played(tmp_path, method, settings=settings, rounds=2)
    state = parts.journal.state()
    expected = {f"{part}.fedadam.{m}" for part in METHODS[method].sent for m in "mv"}
    assert state.moments.keys() == expected
    half = played(tmp_path / "half", method, settings=settings, rounds=1)[1].journal.state()
    whole = settings_of("naive", strategy="fedadam", lr=0.1)
    full = played(tmp_path / "full", "naive", settings=whole, rounds=1)[1].journal.state()
    assert np.array_equal(half.adapter.vector[B], full.adapter.vector[B])
    assert np.array_equal(half.adapter.vector[A], first_state().adapter.vector[A])
    assert not np.array_equal(full.adapter.vector[A], half.adapter.vector[A])


@pytest.mark.parametrize("method", ["naive", "ffa", "rolora", "fedsa", "fedex", "lora_fair"])
def test_what_a_codec_loses_of_a_half_is_added_to_the_same_half(tmp_path, method):
    settings = settings_of(method, codec={"name": "int8"})
    reports, parts = played(tmp_path, method, settings=settings, rounds=4)
    assert all(report.refused == {} for report in reports)
    assert all(report.bytes_up < report.bytes_up_fp32 for report in reports)
    task = replace(parts.engine.tasks[0], receipt=4)
    owed = AgentMemory(tmp_path / "agents" / folder_name(task.agent)).recall(task)
    assert {name: len(vector) for name, vector in owed.items()} == {
        "delta" if part == "both" else f"delta.{part}": LAYOUT.only(part).size
        for part in METHODS[method].sent
    }


WRONG = [
    ("flexlora", {"strategy": "fedadam"}, {}, r"server\.strategy='fedadam'.*takes no server"),
    ("fedex", {"lr": 0.5}, {}, r"with lr=0\.5.*use fedavg with lr 1, or aggregation naive, ffa"),
    (
        "flora",
        {"strategy": "median"},
        {},
        r"server\.strategy='median' with lr=1: .*takes no server",
    ),
    ("ffa", {"strategy": "fedbuff"}, {}, r"server\.strategy='fedbuff': aggregation 'ffa' goes"),
    ("naive", {}, {"ranks": {"east": 2}}, r"lora\.ranks=.*use zero_pad, hetlora, flora, flexlora"),
    *(
        (name, {}, {"modules": {"east": ["layer0"]}}, r"lora\.modules=.*use zero_pad, flexlora, of")
        for name in METHODS
        if not METHODS[name].modules
    ),
    ("fedsvd", {}, {"codec": {"name": "int8"}}, r"codec\.error_feedback=True.*set it to false"),
]


@pytest.mark.parametrize(("method", "server", "more", "message"), WRONG)
def test_settings_that_do_not_go_together_are_refused_by_name(method, server, more, message):
    settings = settings_of(method, **more, **server)
    with pytest.raises(SettingError, match=message):
        check_aggregation(settings)
    with pytest.raises(SettingError, match=message):
        aggregated(strategy_of(settings.server), settings)


@pytest.mark.parametrize(
    ("method", "server", "more"),
    [
        ("naive", {"strategy": "fedbuff"}, {}),
        ("ffa", {"strategy": "krum"}, {"codec": {"name": "int8"}}),
        ("fedsvd", {}, {"codec": {"name": "int8", "error_feedback": False}}),
    ],
)
def test_settings_that_go_together_are_taken(method, server, more):
    assert is_taken(settings_of(method, **more, **server))


def is_taken(settings):
    try:
        check_aggregation(settings)
    except SettingError:
        return False
    return True


@pytest.mark.parametrize("method", METHODS)
def test_moments_may_be_kept_where_the_same_coordinates_are_trained(method):
    settings = settings_of(method)
    kept = replace(settings, local=replace(settings.local, keep_moments=True))
    others = ("ffa", "rolora", "flora", "flexlora", "fedsvd")
    assert is_taken(kept) == (method not in others)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_that_makes_more_than_a_mean_needs_single_updates(method):
    strategy = aggregated(fedavg(), settings_of(method))
    assert (strategy.needs == "rows") == (METHODS[method].rule is not None)


def test_a_rank_above_the_global_one_is_refused():
    with pytest.raises(
        SettingError, match=r"lora\.ranks\.east=4: needs to lie in \[1, lora\.rank\]"
    ):
        settings_of("flora", ranks={"east": 4})


@pytest.mark.parametrize("method", ["zero_pad", "hetlora", "flexlora", "fedsvd", "lora_fair"])
def test_an_agent_that_gets_all_in_every_round_keeps_nothing(tmp_path, method):
    played(tmp_path, method)
    assert not (tmp_path / "agents").exists()


def test_without_a_method_nothing_is_told_and_nothing_is_kept(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    _, parts = played(tmp_path, "naive")
    assert all(task.settings.keys() <= {"codec"} for task in parts.engine.tasks)
    assert not (tmp_path / "agents").exists()
    assert caplog.messages == []
