"""Runs over real carriers while wires break and servers die: no round lost, the same bits."""

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import closing, nullcontext

import psutil
import pytest

from llmagentos.federation import run
from tests.faults.namespaces import NEAR, laid_cable
from tests.faults.proxy import Proxy
from tests.faults.tenants import ROUNDS, TENANTS, House, bits, calm_bits, federation_over


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path / "house")
    house.furnish()
    return house


def test_a_ray_worker_that_is_killed_in_the_middle_of_a_run_changes_no_bit(tmp_path, tried):
    pytest.importorskip("ray")
    from llmagentos.engines.ray import RayCarrier, Share

    house = House(tmp_path / "house", mortal=True)
    house.furnish()
    with closing(house.engine(RayCarrier(house, TENANTS, Share()))) as engine:
        parts = federation_over(engine, tmp_path / "server")
        for report in run(parts):
            assert report.refused == {}
            if report.round == 2:
                kill_actors()
                tried["a Ray worker killed between rounds"] += len(TENANTS)
    assert bits(parts) == calm_bits(tmp_path)
    died = [house.folder / agent / "died" for agent in TENANTS]
    assert all(trace.exists() for trace in died)
    tried["a Ray worker killed while it trains"] += len(died)


def kill_actors():
    """SIGKILL to the workers of all actors that this process has started."""
    everybody = psutil.Process().children(recursive=True)
    actors = [process for process in everybody if "ray::Actor" in " ".join(process.cmdline())]
    assert len(actors) == len(TENANTS)
    for process in actors:
        process.kill()


def over_flower(house, folder, wire, *, host="localhost", inside=nullcontext):
    """A carrier over Flower whose SuperLink is at ``host``; its nodes are started ``inside``.

    ``wire`` gives host and port that the node of an agent dials, from the SuperLink's port.
    """
    from llmagentos.engines.flower.local import AgentProcess, local_node, local_server

    listen = "127.0.0.1" if host == "localhost" else host
    carrier, homes = local_server(TENANTS, folder, host, listen)
    for agent, home in homes.items():
        node = local_node(home, wire(agent, carrier.link.address.port))
        with inside():
            carrier.link.programs.append(node.program())
        carrier.link.programs.append(AgentProcess(house, agent, home))
    return carrier


@pytest.fixture
def flower(house, tmp_path):
    """The engine of a run over Flower, and the proxies through which its agents dial."""
    pytest.importorskip("flwr")
    proxies = {}

    def wire(agent, port):
        proxies[agent] = Proxy(port)
        return f"localhost:{proxies[agent].port}"

    engine = house.engine(over_flower(house, tmp_path / "flower", wire))
    yield engine, proxies
    engine.close()
    for proxy in proxies.values():
        proxy.close()


def played(engine, folder, disturb):
    """The bits of a run in which ``disturb`` is called as each round begins."""
    parts = federation_over(engine, folder)
    rounds = run(parts)
    for round_ in range(1, ROUNDS + 1):
        disturb(round_)
        report = next(rounds)
        assert report.refused == {}
        assert sorted(report.weights) == sorted(TENANTS)
    assert [report["round"] for report in parts.journal.reports()] == [*range(1, ROUNDS + 1)]
    return bits(parts)


GIVING_UP = """
import threading, time
from flwr.supernode import cli
from llmagentos.engines.flower.guard import start_node

def give_up():
    threading.Thread(target=time.sleep, args=[600]).start()
    raise ConnectionError("EOF occurred in violation of protocol")

cli.flower_supernode = give_up
start_node()
"""


def test_a_node_that_gives_up_ends_though_its_inner_server_goes_on():
    pytest.importorskip("flwr")
    words = [sys.executable, "-c", GIVING_UP]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "the SuperNode has given up" in done.stderr
    assert "EOF occurred in violation of protocol" in done.stderr


def test_a_cut_a_silence_and_a_slow_link_change_no_bit(flower, tmp_path, tried):
    engine, proxies = flower
    proxies["north"].bytes_per_s = 16_000
    began = {}

    def disturb(round_):
        began[round_] = time.monotonic()
        if round_ > 1:
            partition(proxies["south"], "cut" if round_ == 2 else "hush", 5)

    assert played(engine, tmp_path / "server", disturb) == calm_bits(tmp_path)
    assert time.monotonic() - began[3] > 5
    assert began[3] - began[2] > 5
    assert proxies["north"].carried > 10_000
    tried["partition of 5 s"] += 2
    tried["a slow link"] += 1


def partition(proxy, how, seconds):
    """Nothing comes through for a while."""
    getattr(proxy, how)()
    threading.Timer(seconds, proxy.heal).start()


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [5, 70, 200])
def test_lost_packets_and_a_slow_cable_change_no_bit(house, tmp_path, seconds, tried):
    pytest.importorskip("flwr")
    with laid_cable() as cable:
        cable.slow("256kbit")
        reach = {"host": NEAR, "inside": cable.inside}
        carrier = over_flower(house, tmp_path / "flower", lambda _, port: f"{NEAR}:{port}", **reach)
        nodes = [p.running.pid for p in carrier.link.programs if is_node(p)]

        def disturb(round_):
            if round_ == 2:
                partition(cable, "cut", seconds)

        start = time.monotonic()
        with closing(house.engine(carrier)) as engine:
            assert played(engine, tmp_path / "server", disturb) == calm_bits(tmp_path)
            assert time.monotonic() - start > seconds
            assert nodes == [p.running.pid for p in carrier.link.programs if is_node(p)]
    tried[f"lost packets for {seconds} s"] += 1
    tried["a slow cable"] += 1


def is_node(program):
    return "flower-supernode" in getattr(program, "words", [""])[0]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cut", "slam", "hush"])
@pytest.mark.parametrize("seconds", [70, 200])
def test_a_long_partition_changes_no_bit(flower, tmp_path, how, seconds, tried):
    engine, proxies = flower

    def disturb(round_):
        if round_ == 2:
            for proxy in proxies.values():
                partition(proxy, how, seconds)

    start = time.monotonic()
    assert played(engine, tmp_path / "server", disturb) == calm_bits(tmp_path)
    assert time.monotonic() - start > seconds
    tried[f"partition of {seconds} s"] += 1


@pytest.mark.slow
def test_a_superlink_that_is_killed_in_the_middle_of_a_run_changes_no_bit(flower, tmp_path, tried):
    engine, _ = flower
    programs = engine.carrier.link.programs
    (link,) = [p for p in programs if "flower-superlink" in getattr(p, "words", [""])[0]]

    def disturb(round_):
        if round_ > 1:
            threading.Timer(4, lambda: os.kill(link.running.pid, signal.SIGKILL)).start()
            tried["a SuperLink killed in a round"] += 1

    assert played(engine, tmp_path / "server", disturb) == calm_bits(tmp_path)
