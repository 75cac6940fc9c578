"""What every carrier of bytes promises, over real processes and servers."""

import multiprocessing
import os
import secrets
import signal
import time
from contextlib import suppress

import psutil
import pytest

from llmagentos.engines.processes import ProcessCarrier
from tests.carried import Clerk, digest

AGENTS = ("north", "south of the river")
BIG = 8 << 20
SPAWN = multiprocessing.get_context("spawn")


def processes(folder):
    return ProcessCarrier(Clerk(folder), AGENTS)


def flower(folder):
    from llmagentos.engines.flower.local import local_flower

    return local_flower(Clerk(folder), AGENTS, folder / "flower")


def on_ray(folder):
    from llmagentos.engines.ray import RayCarrier, Share

    return RayCarrier(Clerk(folder), AGENTS, Share())


CARRIERS = {"processes": processes, "ray": on_ray, "flower": flower}
PACKAGES = {"processes": "multiprocessing", "ray": "ray", "flower": "flwr"}
"""What each of them is made of, which need not be installed."""


@pytest.fixture(params=CARRIERS, scope="module")
def carrier(request, tmp_path_factory):
    pytest.importorskip(PACKAGES[request.param])
    carrier = CARRIERS[request.param](tmp_path_factory.mktemp("traces"))
    yield carrier
    carrier.close()


def heard(carrier, wanted, within_s=120):
    """The first ``wanted`` different parcels."""
    end, parcels = time.monotonic() + within_s, set()
    while len(parcels) < wanted and time.monotonic() < end:
        parcels |= set(carrier.poll(end - time.monotonic()))
    return parcels


def one(carrier, agent, body):
    carrier.send(agent, body)
    ((name, answer),) = heard(carrier, 1)
    assert name == agent
    return answer


def process_of(carrier, agent):
    name, pid = one(carrier, agent, b"who").decode().rsplit(" ", 1)
    assert name == agent
    return int(pid)


def marked(mark):
    """The living processes that were started while the environment held a mark."""
    return [process.pid for process in psutil.process_iter() if mark in marks_of(process)]


def marks_of(process):
    with suppress(psutil.Error):
        if "resource_tracker" not in " ".join(process.cmdline()):
            return process.environ().get("CARRIER", "")
    return ""


def test_each_agent_answers_what_it_was_sent(carrier):
    for agent in AGENTS:
        carrier.send(agent, b"hello")
    expected = {(agent, agent.encode() + b" " + digest(b"hello")) for agent in AGENTS}
    assert heard(carrier, 2) == expected


def test_a_big_body_arrives_whole_both_ways(carrier):
    body = secrets.token_bytes(BIG)
    assert one(carrier, "north", body) == b"north " + digest(body)
    assert one(carrier, "north", b"echo") == bytes(range(256)) * (BIG // 256)


def test_of_many_bodies_the_last_is_answered(carrier):
    bodies = [b"body %d" % number for number in range(8)]
    for body in bodies:
        carrier.send("north", body)
    answers = set()
    while parcels := carrier.poll(120):
        answers |= set(parcels)
    possible = [("north", b"north " + digest(body)) for body in bodies]
    assert possible[-1] in answers <= set(possible)


@pytest.mark.parametrize("name", ["processes", "ray"])
def test_an_agent_at_work_gets_the_newest_of_what_has_come_meanwhile(name, tmp_path):
    pytest.importorskip(PACKAGES[name])
    on_end = signal.getsignal(signal.SIGTERM)
    carrier = CARRIERS[name](tmp_path)
    try:
        assert signal.getsignal(signal.SIGTERM) == on_end
        for body in (b"first", b"second", b"third"):
            carrier.send("north", body)
        answers = [*carrier.poll(120), *carrier.poll(120)]
        assert [answer for _, answer in answers] == [
            b"north " + digest(body) for body in (b"first", b"third")
        ]
        assert carrier.poll(0.1) == []
    finally:
        carrier.close()


def test_a_repeated_body_is_answered_again(carrier):
    first, again = one(carrier, "north", b"hello"), one(carrier, "north", b"hello")
    assert first == again


def test_an_agent_that_raises_answers_with_nothing_and_stays(carrier, capfd):
    assert one(carrier, "north", b"raise") == b""
    assert one(carrier, "north", b"hello") == b"north " + digest(b"hello")


def test_nothing_to_hear_ends_at_the_timeout(carrier):
    start = time.monotonic()
    assert carrier.poll(0.2) == []
    assert time.monotonic() - start < 2


def test_an_agent_that_is_killed_at_its_work_gets_its_body_again(carrier):
    assert one(carrier, "north", b"die once") == b"north " + digest(b"die once")


def test_an_agent_that_is_killed_between_its_tasks_comes_back(carrier):
    before = process_of(carrier, "south of the river")
    os.kill(before, signal.SIGKILL)
    assert process_of(carrier, "south of the river") != before


def test_a_body_that_always_kills_is_answered_with_nothing(carrier):
    assert one(carrier, "north", b"die") == b""
    assert one(carrier, "north", b"hello") == b"north " + digest(b"hello")


def exit_code(work, name, folder):
    """How a server of its own ends that does the work."""
    pytest.importorskip(PACKAGES[name])
    server = SPAWN.Process(target=work, args=(name, folder))
    server.start()
    server.join()
    return server.exitcode


def use_and_close(name, folder):
    carrier = CARRIERS[name](folder)
    try:
        pids = {process_of(carrier, agent) for agent in AGENTS}
        assert pids <= set(marked(str(folder)))
    finally:
        carrier.close()
    assert set(marked(str(folder))) == {os.getpid()}


def use_and_die(name, folder):
    process_of(CARRIERS[name](folder), "north")
    os.kill(os.getpid(), signal.SIGKILL)


def work_and_die(name, folder):
    carrier = CARRIERS[name](folder)
    process_of(carrier, "north")
    carrier.send("north", b"work")
    time.sleep(1)
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("name", CARRIERS)
def test_close_leaves_no_process_behind(name, tmp_path, monkeypatch):
    monkeypatch.setenv("CARRIER", str(tmp_path))
    assert exit_code(use_and_close, name, tmp_path) == 0


@pytest.mark.parametrize("use", [use_and_die, work_and_die])
@pytest.mark.parametrize("name", CARRIERS)
def test_everything_ends_when_the_server_is_killed(name, use, tmp_path, monkeypatch):
    monkeypatch.setenv("CARRIER", str(tmp_path))
    assert exit_code(use, name, tmp_path) == -signal.SIGKILL
    end = time.monotonic() + 30
    while marked(str(tmp_path)) and time.monotonic() < end:
        time.sleep(0.1)
    assert marked(str(tmp_path)) == []
