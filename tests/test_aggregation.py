"""Every method in a federation: what travels, what comes of it, and what stays at home."""

import numpy as np
import pytest

from llmagentos.aggregation import METHODS
from llmagentos.federation import run
from tests.lora_world import AGENTS, LAYOUT, federation, played


@pytest.mark.parametrize("method", METHODS)
def test_rounds_are_played_and_the_ledger_shows_what_was_sent(tmp_path, method):
    reports, _ = played(tmp_path, method, rounds=3)
    for report in reports:
        values = METHODS[method].values_up(LAYOUT, report.round)
        headers = report.bytes_up - 4 * values * len(AGENTS)
        assert 0 < headers < 700 * len(AGENTS)
        assert report.bytes_up_fp32 == report.bytes_up
        assert report.refused == {}
