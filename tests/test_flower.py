"""Flower's own ways: certificates, code that must not travel, and processes that are killed."""

import io
import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import zipfile
from concurrent.futures import wait
from contextlib import closing
from dataclasses import replace
from threading import Event, Thread
from types import SimpleNamespace

import psutil
import pytest

pytest.importorskip("flwr")

import httpx
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.app import Array, ArrayRecord, Message, MetricRecord, RecordDict
from flwr.app.metadata import Metadata
from flwr.supercore.constant import TASK_TYPE_TO_COMMAND
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity

from llmagentos.engines.flower import carrier as carrying
from llmagentos.engines.flower import client_relay, command_line, program, server_relay
from llmagentos.engines.flower import guard as guards
from llmagentos.engines.flower.certificates import make_certificates, make_node_key
from llmagentos.engines.flower.link import Address, Link
from llmagentos.engines.flower.local import (
    AgentProcess,
    free_port,
    local_flower,
    local_node,
    local_server,
)
from llmagentos.engines.flower.node import Inbox
from llmagentos.engines.flower.program import Program
from llmagentos.engines.flower.server_relay import Relay, boxed, unboxed
from llmagentos.engines.flower.shim import FILES, check_shim, write_shim
from llmagentos.engines.flower.tray import FOLDER, short_name
from llmagentos.errors import SettingError
from tests.carried import Clerk, digest


def bundle(**files):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as made:
        for name, text in files.items():
            made.writestr(name, text)
    return body.getvalue()


def test_certificates_are_for_the_hosts_and_kept(tmp_path):
    make_certificates(tmp_path, ["localhost", "127.0.0.1"])
    server = x509.load_pem_x509_certificate((tmp_path / "server.pem").read_bytes())
    authority = x509.load_pem_x509_certificate((tmp_path / "ca.pem").read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
    before = (tmp_path / "server.key").read_bytes()
    make_certificates(tmp_path, ["localhost"])
    assert (tmp_path / "server.key").read_bytes() == before


def scripted(folder, monkeypatch, script):
    """Flower's command line with a script in the place of ``flwr``."""
    flwr = folder / "flwr"
    flwr.write_text(f"#!/bin/sh\n{script}\n")
    flwr.chmod(0o700)
    monkeypatch.setattr(command_line, "installed", lambda _: str(flwr))
    return command_line.CommandLine(folder, "localhost:1", folder / "ca.pem", {})


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo no such link >&2; exit 1", "flwr run: no such link"),
        ("echo '{half'", "flwr run: {half"),
        ("echo 5", "flwr run: 5"),
        ("""echo '{"success": false}'""", 'flwr run: {"success": false}'),
    ],
)
def test_what_flwr_fails_with_is_an_error_of_the_connection(tmp_path, monkeypatch, script, told):
    with pytest.raises(ConnectionError, match=f"^{re.escape(told)}$"):
        scripted(tmp_path, monkeypatch, script).run(tmp_path)


def test_a_flwr_that_hangs_is_an_error_of_the_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(command_line, "WAIT_S", 0.2)
    with pytest.raises(ConnectionError, match="flwr run: no answer within"):
        scripted(tmp_path, monkeypatch, "exec sleep 60").run(tmp_path)


def test_private_keys_are_their_owners_alone(tmp_path):
    make_certificates(tmp_path, ["localhost"])
    make_node_key(tmp_path / "node.key")
    for name in ("server.key", "node.key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert (
        load_ssh_private_key((tmp_path / "node.key").read_bytes(), None).curve.name == "secp384r1"
    )


def test_only_the_shim_is_run():
    check_shim(bundle(**FILES))
    for alien in ({**FILES, "more.py": ""}, {**FILES, "shim.py": "import os"}):
        with pytest.raises(PermissionError, match="carries code of its own"):
            check_shim(bundle(**alien))


def test_a_nodes_key_is_kept_and_so_is_whatever_else_lies_there(tmp_path):
    public = make_node_key(tmp_path / "node.key")
    key, told = (tmp_path / "node.key").read_bytes(), public.read_bytes()
    public.unlink()
    assert make_node_key(tmp_path / "node.key").read_bytes() == told
    assert (tmp_path / "node.key").read_bytes() == key
    (tmp_path / "notes.csv").write_text("the only copy")
    with pytest.raises(SettingError, match=r"notes\.csv'.* no node's key; name another file"):
        make_node_key(tmp_path / "notes.csv")
    assert (tmp_path / "notes.csv").read_text() == "the only copy"


def test_a_server_that_died_as_it_registered_a_node_starts_again(tmp_path):
    local_server(["north"], tmp_path)[0].close()
    (known,) = tmp_path.rglob("nodes.json")
    known.unlink()
    local_server(["north"], tmp_path)[0].close()
    assert len(json.loads(known.read_text())) == 1


def test_certificates_take_nobodys_place(tmp_path):
    (tmp_path / "server.key").write_text("of an authority elsewhere")
    with pytest.raises(SettingError, match=r"has server\.key alone; move them away first"):
        make_certificates(tmp_path, ["localhost"])
    assert [path.name for path in tmp_path.iterdir()] == ["server.key"]


def test_every_kind_of_run_that_flower_starts_is_guarded_or_refused(tmp_path):
    assert set(TASK_TYPE_TO_COMMAND.values()) <= guards.SCRIPTS.keys()
    path = guards.guarded_path(tmp_path)
    for name in guards.REFUSED:
        done = subprocess.run(
            [name, "--help"], env={"PATH": path}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{name}: a run of another kind than ours; refused" in done.stderr


@pytest.mark.parametrize("name", guards.STARTERS)
def test_flowers_app_starters_install_by_the_name_that_is_guarded(name):
    from importlib import import_module

    starter = import_module(guards.STARTERS[name])
    run = getattr(starter, guards.STARTERS[name].rpartition(".")[2])
    assert "install_from_fab" in run.__code__.co_names
    install = starter.install_from_fab
    try:
        guards.guard(starter)
        with pytest.raises(PermissionError):
            starter.install_from_fab(bundle(**FILES, alien=""))
    finally:
        starter.install_from_fab = install


EVIL = """
[project]
name = "evil"
version = "1.0.0"
[tool.flwr.app]
publisher = "evil"
[tool.flwr.app.components]
serverapp = "evil_here:app"
clientapp = "evil_here:app"
"""


def test_an_agent_runs_the_installed_relay_wherever_a_run_says_that_its_app_lies(
    tmp_path, monkeypatch
):
    from flwr.supernode.runtime import run_clientapp as starter

    (tmp_path / "home" / "apps").mkdir(parents=True)
    (tmp_path / "evil" / "sub").mkdir(parents=True)
    (tmp_path / "evil" / "pyproject.toml").write_text(EVIL)
    code = "from flwr.clientapp import ClientApp\napp = ClientApp()\n"
    (tmp_path / "evil" / "evil_here.py").write_text(code)
    monkeypatch.setenv("FLWR_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "path", [*sys.path])

    def loaded():
        load = starter.get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
        return load("/", "/../evil/sub/.", "")

    assert loaded() is sys.modules["evil_here"].app
    for name in ("get_load_client_app_fn", "pull_task_input"):
        assert name in starter.run_clientapp.__code__.co_names
        monkeypatch.setattr(starter, name, getattr(starter, name))
    guards.guard_agent(starter)
    assert loaded() is client_relay.app


TORN = """
from types import SimpleNamespace
from llmagentos.engines.flower.guard import guard_agent

def pull(client):
    raise MemoryError("no room")

starter = SimpleNamespace(pull_task_input=pull)
guard_agent(starter)
try:
    starter.pull_task_input(None)
finally:
    print("tells its SuperNode")
"""


def test_an_app_starter_ends_without_a_word_over_what_it_cannot_put_together():
    words = [sys.executable, "-c", TORN]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "MemoryError: no room" in done.stderr


def test_a_program_has_no_more_memory_than_it_is_given(tmp_path):
    code = "import subprocess, sys; big = bytearray({size}); print('took', {size}, flush=True)"
    child = f"{code}; subprocess.run([sys.executable, '-c', {code.format(size=300_000_000)!r}])"
    words = [sys.executable, "-c", child.format(size=100_000_000)]
    with Program(words, tmp_path / "log", {}, 250e6) as program:
        program.running.wait(timeout=30)
    told = (tmp_path / "log").read_text()
    assert "took 100000000" in told
    assert "MemoryError" in told
    assert "took 300000000" not in told


def test_a_message_whose_id_is_a_path_stays_in_the_agents_folder(tmp_path, monkeypatch):
    home = tmp_path / "agent"
    monkeypatch.setenv(FOLDER, str(home))
    whose = {"src_node_id": 1, "dst_node_id": 2, "reply_to_message_id": "", "group_id": ""}
    when = {"created_at": time.time(), "ttl": 600.0, "message_type": "query"}
    about = Metadata(run_id=1, message_id="./../outside", **whose, **when)
    message = Message(boxed(b"task"), metadata=about)
    inbox, replies = Inbox(lambda body: body + b" done", home), []
    answering = Thread(
        target=lambda: replies.append(client_relay.answer(message, None)), daemon=True
    )
    answering.start()
    end = time.monotonic() + 20
    while not replies and time.monotonic() < end:
        inbox.work()
        time.sleep(0.05)
    assert [unboxed(reply.content) for reply in replies] == [b"task done"]
    assert {path.name for path in home.iterdir()} == {"tasks", "answers", "begun"}


PLAIN = ArrayRecord({"body": Array(np.zeros(3, np.uint8))})
ODD = {
    "no parcel": RecordDict({"else": PLAIN}),
    "no body": RecordDict({"parcel": ArrayRecord({"else": PLAIN["body"]})}),
    "a number in its place": RecordDict({"parcel": MetricRecord({"body": 1.0})}),
    "another kind of array": RecordDict({"parcel": ArrayRecord({"body": Array("", (), "", b"")})}),
    "no bytes": RecordDict(
        {"parcel": ArrayRecord({"body": Array("u1", (), "numpy.ndarray", b"")})}
    ),
}
"""What an agent's node may reply with in place of a parcel."""


def reply_to(id_, content):
    whose = {"src_node_id": 2, "dst_node_id": 1, "reply_to_message_id": "another's", "group_id": ""}
    when = {"created_at": time.time(), "ttl": 600.0, "message_type": "query"}
    return Message(content, metadata=Metadata(run_id=1, message_id=id_, **whose, **when))


class Pulling:
    """A grid that puts replies together from the objects that nodes sent, as Flower's does."""

    def __init__(self, replies):
        self.replies = replies

    def pull_messages(self, ids):
        return [self.replies[id_]() for id_ in ids if id_ in self.replies]


def torn():
    """A reply that Flower cannot put together: its content is of another kind than it says."""
    message = reply_to("torn", RecordDict({"parcel": PLAIN}))
    contents = {id_: found.deflate() for id_, found in get_all_nested_objects(message).items()}
    contents[message.object_id] = contents[message.object_id].replace(
        b"Message", b"MetricRecord", 1
    )
    return inflate_object_from_contents(message.object_id, contents)


@pytest.mark.parametrize("odd", [*ODD, "torn"])
def test_a_reply_that_is_no_parcel_is_an_empty_answer_of_its_agent_alone(tmp_path, odd):
    (tmp_path / "session").write_text("one")
    liar = torn if odd == "torn" else lambda: reply_to("a", ODD[odd])
    relay = Relay(Pulling({"a": liar, "b": lambda: reply_to("b", boxed(b"good"))}), tmp_path)
    relay.sent = {"a": "liar-0", "b": "north-1", "c": "east-2"}
    for name in relay.sent.values():
        relay.out.put(name, b"task")
    relay.pull()
    assert {name: relay.back.read(name) for name in relay.back.names()} == {
        "liar-0": b"",
        "north-1": b"good",
    }
    assert relay.out.names() == [*relay.sent.values()] == ["east-2"]


def test_a_relay_asks_after_every_message_in_turn(tmp_path):
    (tmp_path / "session").write_text("one")
    asked = []
    relay = Relay(Pulling({}), tmp_path)
    relay.sent = {f"id {number}": f"agent-{number}" for number in range(40)}
    before = dict(relay.sent)
    relay.bodies = lambda id_, _name: asked.append(id_) or []
    for _ in range(5):
        relay.pull()
    assert asked == [*before, *before]
    assert relay.sent == before


def test_an_answer_that_was_announced_and_does_not_come_holds_up_nobody_elses(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(server_relay, "PATIENCE_S", 0.2)
    (tmp_path / "session").write_text("one")
    arrived = Event()

    def slowly():
        assert arrived.wait(60)
        return reply_to("a", boxed(b"late"))

    relay = Relay(Pulling({"a": slowly, "b": lambda: reply_to("b", boxed(b"good"))}), tmp_path)
    relay.sent = {"a": "slow-0", "b": "north-1"}
    relay.pull()
    relay.pull()
    assert (relay.back.names(), [*relay.late]) == (["north-1"], ["a"])
    arrived.set()
    wait(relay.late.values())
    relay.pull()
    assert relay.back.names() == ["north-1", "slow-0"]
    assert relay.sent == relay.late == {}


class Pushing:
    """A grid that numbers what it is given."""

    def __init__(self):
        self.bodies = []

    def push_messages(self, messages):
        self.bodies += [unboxed(message.content) for message in messages]
        return [str(len(self.bodies))]


@pytest.fixture
def posting(tmp_path, monkeypatch):
    """A carrier without Flower's processes, and the relay that carries for it."""
    monkeypatch.setattr(carrying, "Link", lambda folder, *_: SimpleNamespace(folder=folder))
    carrier = carrying.FlowerCarrier(tmp_path, None, {"north": None, "south": None})
    monkeypatch.setattr(carrier, "tend", lambda: None)
    for name in ("_run_id", "_node_id", "_task_id"):  # a message is made in a run
        monkeypatch.setattr(TaskIdentity, name, 1)
    (tmp_path / "session").write_text("one")
    nodes = {short_name("north"): 1, short_name("south"): 2}
    (tmp_path / "nodes.json").write_text(json.dumps(nodes))
    return carrier, Relay(Pushing(), tmp_path)


def test_of_what_waits_for_an_agent_only_the_newest_is_sent(posting):
    carrier, relay = posting
    for body in (b"one", b"two", b"three"):
        carrier.send("north", body)
    carrier.send("south", b"south's")
    relay.push()
    assert sorted(relay.grid.bodies) == [b"south's", b"three"]
    carrier.send("north", b"four")
    relay.push()
    assert relay.grid.bodies[2:] == [b"four"]
    assert len(relay.out.names()) == 2


def test_an_answer_settles_what_was_sent_before_and_leaves_what_was_sent_since(posting):
    carrier, relay = posting
    for body in (b"one", b"two"):
        carrier.send("north", body)
        relay.push()
    first, second = relay.sent.values()
    carrier.send("north", b"three")
    relay.keep(second, b"to two")
    assert carrier.poll(5) == [("north", b"to two")]
    relay.keep(first, b"to one")
    assert carrier.poll(0.1) == []
    relay.push()
    assert relay.grid.bodies == [b"one", b"two", b"three"]
    relay.keep([*relay.sent.values()][-1], b"to three")
    assert carrier.poll(5) == [("north", b"to three")]
    assert relay.out.names() == relay.back.names() == []


@pytest.mark.parametrize("lost", [httpx.ConnectError("refused"), RunNotRunningException()])
def test_a_relay_ends_where_the_superlink_or_the_run_is_gone(tmp_path, lost):
    def gone():
        raise lost

    (tmp_path / "session").write_text("one")
    relay = Relay(Pulling({"a": gone}), tmp_path)
    relay.sent = {"a": "north-0"}
    with pytest.raises(type(lost)):
        relay.pull()
    assert relay.back.names() == []


def test_a_missing_key_is_named_before_anything_starts(tmp_path):
    make_certificates(tmp_path, ["localhost"])
    with pytest.raises(SettingError, match=r"north\.pub: no such file; docs/deployment.md"):
        Link(tmp_path / "server", Address(tmp_path), {"north": tmp_path / "north.pub"})
    assert not (tmp_path / "server").exists()


def test_a_link_that_cannot_enrol_its_agents_leaves_no_process(tmp_path):
    make_certificates(tmp_path, ["localhost"])
    (tmp_path / "north.pub").write_text("no key")
    with pytest.raises(ConnectionError, match="flwr supernode"):
        Link(tmp_path, Address(tmp_path, port=free_port()), {"north": tmp_path / "north.pub"})
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if "flower-super" in " ".join(child.cmdline())]


def test_a_taken_port_is_named(tmp_path):
    make_certificates(tmp_path, ["localhost"])
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(SettingError, match=f"flower.port={port}: Address already in use"):
            Link(tmp_path, Address(tmp_path, port=port), {})


def test_a_program_that_is_not_in_this_environment_is_named(tmp_path):
    with pytest.raises(SettingError, match=r"no-such-node is not there; install flwr into"):
        Program(["no-such-node"], tmp_path / "log", {})


def test_a_program_that_ended_is_started_again_with_its_last_words(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(program, "PAUSE_S", 0)
    words = [sys.executable, "-c", "raise SystemExit('no such port')"]
    with Program(words, tmp_path / "log", {}) as started:
        first = started.running
        first.wait()
        started.tend()
        assert started.running is not first
    assert "ended with 1 (no such port), started again; see" in caplog.text


@pytest.fixture
def carrier(tmp_path):
    carrier = local_flower(Clerk(tmp_path), ["north"], tmp_path / "flower")
    yield carrier
    carrier.close()


def hello(carrier, within_s=240):
    """How long an answer takes, while what dies is started again."""
    start = time.monotonic()
    carrier.send("north", b"hello")
    (parcel,) = carrier.poll(within_s)
    assert parcel.body == b"north " + digest(b"hello")
    return time.monotonic() - start


def test_a_run_with_code_of_its_own_is_refused(carrier, tmp_path):
    hello(carrier)
    app, trace = tmp_path / "app", tmp_path / "trace"
    write_shim(app)
    with (app / "shim.py").open("a") as shim:
        shim.write(f"open({str(trace)!r}, 'w')\n")
    alien = carrier.link.flwr.run(app)
    end = time.monotonic() + 60
    while "carries code" not in (told := details(carrier, alien)) and time.monotonic() < end:
        time.sleep(1)
    assert "the run carries code of its own ('shim.py'); refused" in told
    assert not trace.exists()
    hello(carrier)


def details(carrier, run):
    """What Flower says of how a run ended."""
    runs = carrier.link.flwr("list", "here")["runs"]
    return next(found["status-details"] for found in runs if found["run-id"] == run)


def program_of(carrier, name):
    (found,) = [p for p in carrier.link.programs if name in getattr(p, "words", [""])[0]]
    return found


@pytest.mark.slow
def test_a_node_that_is_killed_comes_back_and_gets_its_body(carrier):
    hello(carrier)
    carrier.send("north", b"hello")
    os.kill(program_of(carrier, "flower-supernode").running.pid, signal.SIGKILL)
    (parcel,) = carrier.poll(240)
    assert parcel.body == b"north " + digest(b"hello")


@pytest.mark.slow
def test_a_body_far_above_what_was_agreed_takes_no_more_memory_and_the_node_goes_on(tmp_path):
    carrier, homes = local_server(["north"], tmp_path / "flower")
    node = local_node(homes["north"], carrier.link.address.reached)
    carrier.link.programs.append(replace(node, largest_bytes=1 << 20).program())
    carrier.link.programs.append(AgentProcess(Clerk(tmp_path), "north", homes["north"]))
    with closing(carrier):
        hello(carrier)
        carrier.send("north", bytes(400_000_000))
        assert carrier.poll(30) == []
        hello(carrier)
        assert "MemoryError" in (homes["north"] / "supernode.log").read_text()


@pytest.mark.slow
def test_a_superlink_that_is_killed_is_started_again(carrier):
    hello(carrier)
    os.kill(program_of(carrier, "flower-superlink").running.pid, signal.SIGKILL)
    hello(carrier)


@pytest.mark.slow
def test_a_superlink_that_was_gone_for_long_gets_another_run(carrier):
    hello(carrier)
    link = program_of(carrier, "flower-superlink").running
    os.kill(link.pid, signal.SIGKILL)
    link.wait()
    time.sleep(90)
    hello(carrier)


@pytest.mark.slow
def test_a_relay_that_is_killed_is_replaced(carrier):
    hello(carrier)
    (relay,) = [process for process in psutil.process_iter() if is_relay(process, carrier)]
    relay.kill()
    hello(carrier)


def is_relay(process, carrier):
    try:
        ours = process.environ().get("FLWR_HOME") == str(carrier.link.home)
        return ours and "flwr-serverapp" in " ".join(process.cmdline())
    except psutil.Error:
        return False
