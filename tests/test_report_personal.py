"""Shared and personal adapters side by side, in the table and in the report."""

import pytest

from llmagentos.report import round_line
from llmagentos.report.personal import overall_standing, personal_reading, standings
from tests.test_report import assert_sound, printed, record, report_of, summary_of

AGENTS = ("north", "south", "east")
LOCAL = {"north": 1.4, "south": 1.8, "east": 2.1}
"""Each agent's own loss of its local-only adapter; on the others' silos one more."""


def with_personal(*, compare=True):
    """A run whose shared adapter has 2, 3 and 4 at home, and whose own ones 1.5, 2 and 2.5."""
    summary = summary_of(AGENTS, compare=compare)
    shared = dict(zip(AGENTS, (2.0, 3.0, 4.0), strict=True))
    own = dict(zip(AGENTS, (1.5, 2.0, 2.5), strict=True))
    for agent in AGENTS:
        summary["after"][agent] = {**summary["after"][agent], "loss": shared[agent]}
        summary["after"][agent]["personal_loss"] = own[agent]
        if compare:
            summary["compare"]["local"][agent] = {
                silo: LOCAL[agent] + (silo != agent) for silo in AGENTS
            }
    away = {agent: dict.fromkeys(AGENTS, 5.0) for agent in AGENTS}
    summary["personal"] = {agent: away[agent] | {agent: own[agent]} for agent in AGENTS}
    return summary


def test_every_agent_has_each_adapter_at_home_and_away():
    rows = {row.agent: row for row in standings(with_personal())}
    north = rows["north"]
    assert (north.home.shared, north.home.personal, north.home.local) == (2.0, 1.5, 1.4)
    assert (north.away.shared, north.away.personal, north.away.local) == (3.5, 5.0, 2.4)
    mean = overall_standing(list(rows.values()))
    assert (mean.home.shared, mean.home.personal) == (3.0, 2.0)
    assert mean.home.local == pytest.approx(5.3 / 3)
    assert (mean.away.shared, mean.away.personal) == (3.0, 5.0)


def test_reading_says_where_the_personal_ones_are_better():
    assert personal_reading(standings(with_personal())) == [
        "On their own silos the personal adapters are better than the shared one by 1.00 "
        "(loss 2.00 against 3.00).",
        "On their own silos the personal adapters are worse than the local-only ones by 0.23 "
        "(loss 2.00 against 1.77).",
        "On the silos of the others they are worse than the shared one by 2.00 "
        "(loss 5.00 against 3.00).",
        "On the silos of the others they are worse than the local-only ones by 2.23 "
        "(loss 5.00 against 2.77).",
    ]


def test_table_and_report_have_them(tmp_path):
    records = [{**record(n, AGENTS), "personal": LOCAL} for n in (1, 2, 3)]
    for compare in (True, False):
        summary = with_personal(compare=compare)
        text = printed(summary)
        assert "Held-out loss of shared and personal adapters" in text
        assert "On their own silos the personal adapters are better than the shared one" in text
        page = report_of(tmp_path, records, summary)
        assert_sound(page)
        assert "<h2>Shared and personal</h2>" in page
        assert "Held-out loss of the personal adapters" in page


def test_what_was_read_at_home_alone_has_no_numbers_away():
    summary = with_personal(compare=False)
    summary["personal"] = {agent: {agent: LOCAL[agent]} for agent in AGENTS}
    (north, *_) = standings(summary)
    assert (north.home.personal, north.away.personal) == (1.4, None)
    assert len(personal_reading(standings(summary))) == 1


def test_agents_that_keep_a_factor_have_no_shared_adapter_to_compare_with():
    summary = with_personal(compare=False)
    for score in summary["after"].values():
        del score["personal_loss"]
    (north, *_) = standings(summary)
    assert (north.home.shared, north.home.personal) == (None, 1.5)
    assert personal_reading(standings(summary)) == []


def test_a_run_without_personal_adapters_tells_of_none(tmp_path):
    summary = summary_of(AGENTS)
    assert standings(summary) == []
    assert "personal" not in printed(summary)
    assert "Shared and personal" not in report_of(tmp_path, [record(1, AGENTS)], summary)


def test_a_rounds_line_has_the_mean_of_the_personal_losses():
    line = round_line({**record(1, AGENTS), "personal": LOCAL})
    assert "  personal 1.77  " in line
