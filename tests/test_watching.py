"""A run seen from outside: its log, and what Prometheus reads."""

import json
import socket
import subprocess
import sys
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmagentos.errors import SettingError
from llmagentos.recipes.log_file import log_file
from llmagentos.recipes.prometheus import check_prometheus, prometheus
from tests.crashing import exit_code_of, tune
from tests.test_recipe import words_for


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """The folder of a run of two rounds."""
    out = tmp_path_factory.mktemp("watched")
    assert exit_code_of(tune, words_for(out)) == 0
    return out / "run"


def free_address():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{found.getsockname()[1]}"


def scraped(address):
    with urllib.request.urlopen(f"http://{address}/metrics") as page:
        families = text_string_to_metric_families(page.read().decode())
        return {(s.name, s.labels.get("agent")): s.value for f in families for s in f.samples}


def test_every_closed_round_is_a_line_of_the_log(watched):
    lines = [json.loads(line) for line in (watched / "log.jsonl").read_text().splitlines()]
    closed = [line for line in lines if line.get("event") == "closed"]
    assert [line["round"] for line in closed] == [1, 2]
    assert all(line["levelname"] == "INFO" and line["timestamp"] for line in closed)


def test_lines_of_the_hubs_library_are_printed_once():
    code = (
        "import logging, huggingface_hub\n"
        "from llmagentos.recipes.log_file import log_to_terminal\n"
        "log_to_terminal(logging.INFO)\n"
        "logging.getLogger('huggingface_hub.utils').warning('retrying')\n"
        "logging.getLogger('llmagentos.lm').info('loading')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["retrying", "loading"]


def test_a_quiet_event_goes_to_the_file_and_not_to_the_terminal(tmp_path, capfd):
    import logging

    with log_file(tmp_path / "log.jsonl"):
        logging.getLogger("llmagentos.some").info("agent answered", extra={"agent": "north"})
    (line,) = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(line)["agent"] == "north"
    assert capfd.readouterr().err == ""
    assert not logging.getLogger("llmagentos").handlers


def test_prometheus_reads_what_the_records_say(watched):
    records = [json.loads(line) for line in (watched / "metrics.jsonl").read_text().splitlines()]
    address = free_address()
    with prometheus(address, watched):
        read = scraped(address)
    assert read["llmagentos_round", None] == 2
    assert read["llmagentos_mean_loss", None] == records[-1]["loss"]
    assert read["llmagentos_bytes_up_total", None] == sum(r["bytes_up"] for r in records)
    for agent, loss in records[-1]["agents"].items():
        assert read["llmagentos_loss", agent] == loss
    with pytest.raises(OSError, match="refused"):
        scraped(address)


def test_refusals_are_counted_by_agent(tmp_path):
    round_ = {
        "round": 1,
        "bytes_up": 1,
        "bytes_down": 1,
        "seconds": 1.0,
        "refused": {"north": "no"},
    }
    lines = "".join(json.dumps({**round_, "round": number}) + "\n" for number in (1, 2))
    (tmp_path / "metrics.jsonl").write_text(lines)
    address = free_address()
    with prometheus(address, tmp_path):
        assert scraped(address)["llmagentos_refused_total", "north"] == 2


@pytest.mark.parametrize("address", ["9464", "localhost:", ":9464", "localhost:99999", "a:b"])
def test_an_address_that_is_none_is_named(address):
    with pytest.raises(SettingError, match="HOST:PORT"):
        check_prometheus(address)


def test_a_taken_port_is_named_before_the_run_begins(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(SettingError, match="free port"):
            check_prometheus(address)
