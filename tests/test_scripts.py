"""The organisations' scripts as they are run: help, checks, and a federation of the four."""

import http.server
import importlib.util
import io
import os
import ssl
import stat
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from llmagentos.corpus.own import own_examples
from llmagentos.engines import InProcessEngine, with_memory
from llmagentos.engines.flower.certificates import make_node_key
from llmagentos.engines.remote import RemoteEngine
from llmagentos.federation import Federation, run
from llmagentos.identity import Member, name_of, new_key, read_roster, write_key, write_roster
from llmagentos.journal import Journal
from llmagentos.recipes import checking, enrol, terms
from llmagentos.recipes.command import load_settings
from llmagentos.recipes.serving import serve
from llmagentos.recipes.tuning import taking_part
from llmagentos.settings import CodecSettings, FlowerSettings, RunSettings
from llmagentos.strategies import fedavg
from tests.organisations import Direct

ROOT = Path(__file__).parent.parent
SCRIPTS = {path.stem: path for path in sorted((ROOT / "agents").glob("*.py"))}
EASY = ["--limits.examples", "5", "--limits.rows", "5", "--limits.held_out", "1", "--threads", "1"]


def organisation(name):
    """What a script says of its organisation, without running it."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name.upper())


def run_settings():
    settings = load_settings(ROOT / "recipes" / "smoke.yaml")
    return replace(settings, trainer="single", threads=1, codec=CodecSettings("int8"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A coordinator's key and terms, and a key for each organisation."""
    folder = tmp_path_factory.mktemp("world")
    coordinator = new_key()
    agreed = terms.terms_of(run_settings(), name_of(coordinator))
    terms.write_terms(folder / "terms.yaml", agreed)
    keys = {name: new_key() for name in SCRIPTS}
    for name, key in keys.items():
        write_key(folder / f"{name}.key", key)
    make_node_key(folder / "node.key")
    return SimpleNamespace(folder=folder, coordinator=coordinator, terms=agreed, keys=keys)


def words_for(world, name, home, *more):
    known = {
        "corpus": f"invented/{name}",
        "terms": world.folder / "terms.yaml",
        "key": world.folder / f"{name}.key",
        "home": home / name,
        "node_key": world.folder / "node.key",
    }
    return [f"--{key}={value}" for key, value in known.items()] + [*EASY, *more]


class Clockless(http.server.BaseHTTPRequestHandler):
    """A web server that tells a time of its own."""

    off = timedelta(0)

    def do_HEAD(self):
        self.send_response(200)
        self.end_headers()

    def date_time_string(self, timestamp=None):
        return super().date_time_string((datetime.now(UTC) + self.off).timestamp())

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def superlink(tmp_path_factory):
    """A TLS server of this machine, its certificate, and its clock."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), False)
    made = made.add_extension(x509.BasicConstraints(True, 0), True).sign(key, hashes.SHA256())
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    handler = type("Handler", (Clockless,), {})
    server = http.server.HTTPServer(("localhost", 0), handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    port = server.server_address[1]
    words = [f"--superlink=localhost:{port}", f"--authority={folder / 'ca.pem'}"]
    yield SimpleNamespace(words=words, handler=handler)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_answers_help_without_torch(name):
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{str(SCRIPTS[name])!r}, '--help']\n"
        "try:\n"
        f"    runpy.run_path({str(SCRIPTS[name])!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0\n"
        "assert not {'torch', 'transformers', 'datasets'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"usage: {name}.py" in done.stdout
    assert "--limits.epochs" in done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_short(name):
    assert len(SCRIPTS[name].read_text().splitlines()) <= 60


def checked(name, world, tmp_path, superlink, capsys, *more):
    words = [*words_for(world, name, tmp_path, *more), *superlink.words, "--check"]
    code = serve(organisation(name), words)
    return code, capsys.readouterr().out.splitlines()


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_check_finds_nothing_wrong_where_nothing_is(name, world, tmp_path, superlink, capsys):
    pytest.importorskip("flwr")
    code, lines = checked(name, world, tmp_path, superlink, capsys)
    assert code == 0, lines
    assert [line[:3] for line in lines] == ["ok "] * len(checking.LINES)
    assert "a step took" in lines[-1]


def test_a_check_says_what_is_wrong_and_how_to_mend_it(world, tmp_path, superlink, capsys):
    base = replace(world.terms, base="0" * 64)
    terms.write_terms(tmp_path / "terms.yaml", base)
    key = tmp_path / "open.key"
    write_key(key, new_key())
    key.chmod(0o644)
    more = [f"--key={key}", f"--terms={tmp_path / 'terms.yaml'}", "--superlink=localhost:1"]
    words = [*words_for(world, "bank", tmp_path, *superlink.words, *more), "--check"]
    assert serve(organisation("bank"), words) == 1
    lines = {line.split()[1]: line for line in capsys.readouterr().out.splitlines()}
    assert lines["key"].startswith("NO")
    assert "chmod 600" in lines["key"]
    assert lines["server"].startswith("NO")
    assert "does the firewall let" in lines["server"]
    assert lines["clock"] == "--  clock     not tried; mend server first"
    assert lines["model"].startswith("NO")
    assert "the terms want 000000000000" in lines["model"]
    assert lines["training"] == "--  training  not tried; mend model first"
    assert lines["corpus"].startswith("ok")


def line_of(name, world, tmp_path, superlink, capsys, *more):
    code, lines = checked("hospital", world, tmp_path, superlink, capsys, *more)
    assert code == 1
    return next(line for line in lines if line.split()[1] == name)


def test_a_clock_that_runs_ahead_is_told(world, tmp_path, superlink, capsys):
    superlink.handler.off = timedelta(seconds=-60)
    try:
        line = line_of("clock", world, tmp_path, superlink, capsys, "--corpus=nowhere")
    finally:
        superlink.handler.off = timedelta(0)
    assert line.startswith("NO  clock     +6")
    assert "let NTP set it" in line


def test_another_authoritys_server_is_told(world, tmp_path, superlink, capsys):
    other = ssl.get_default_verify_paths().openssl_cafile
    other = other if os.path.exists(other) else "/etc/ssl/certs/ca-certificates.crt"  # noqa: PTH110
    more = (f"--authority={other}", "--corpus=nowhere")
    words = [*words_for(world, "hospital", tmp_path), *superlink.words, *more, "--check"]
    assert serve(organisation("hospital"), words) == 1
    assert "certificate verify failed" in capsys.readouterr().out


def test_too_little_text_or_disk_is_told(world, tmp_path, superlink, capsys, monkeypatch):
    monkeypatch.setattr(checking, "NEEDED_BYTES", 1 << 62)
    few = ("--limits.examples", "2000")
    assert "limits.examples=2000 wants more" in line_of(
        "corpus", world, tmp_path, superlink, capsys, *few
    )
    assert "make room" in line_of("disk", world, tmp_path, superlink, capsys, *few)


def test_a_loss_of_too_few_rows_is_never_told(world, tmp_path, superlink, capsys):
    more = ("--limits.held_out", "13")
    line = line_of("model", world, tmp_path, superlink, capsys, *more)
    assert "limits.held_out=13: the corpus has 12 held-out rows" in line


def test_a_column_that_is_missing_is_named(world, tmp_path, superlink, capsys):
    (tmp_path / "letters.csv").write_text("term,diagnosis\nfever,fever\n")
    more = (f"--corpus={tmp_path / 'letters.csv'}",)
    line = line_of("corpus", world, tmp_path, superlink, capsys, *more)
    assert "letters.csv, line 2: no column 'prompt' among term, diagnosis" in line


def test_serving_wants_a_superlink(world, tmp_path, capsys):
    assert serve(organisation("city"), words_for(world, "city", tmp_path)) == 2
    assert "superlink is not set" in capsys.readouterr().err


def test_a_private_file_is_scrubbed_before_it_is_learnt(tmp_path):
    file = tmp_path / "desk.csv"
    file.write_text(
        "prompt,response\nMail ana@example.org about EUR 12.50,Card 4111 1111 1111 1111\n"
    )
    (example,) = own_examples(str(file), organisation("bank").to_example)
    assert (example.prompt, example.response) == ("Mail [mail] about [amount]", "Card [number]")
    file.write_text("prompt,response\nOperator: J. Smith saw E1042,Part 77 changed\n")
    (example,) = own_examples(str(file), organisation("factory").to_example)
    assert example.prompt == "[person] saw E1042"
    file.write_text("prompt,response\nThe operator pressed stop,Signed Ana Ruiz\n")
    (example,) = own_examples(str(file), organisation("factory").to_example)
    assert (example.prompt, example.response) == ("The operator pressed stop", "[person]")
    file.write_text("prompt,response\nA hole at 12b Oak Street and Elm Rd. 7,Road crew\n")
    (example,) = own_examples(str(file), organisation("city").to_example)
    assert example.prompt == "A hole at [address] and [address]"


def test_the_fifth_organisation_of_the_docs_works_as_printed(tmp_path):
    text = (ROOT / "docs" / "organisations.md").read_text()
    script = tmp_path / "library.py"
    script.write_text(text.split("```python\n")[1].split("```")[0])
    done = subprocess.run([sys.executable, script, "--help"], capture_output=True, check=True)
    assert b"A library's agent" in done.stdout
    (tmp_path / "questions.csv").write_text(
        "question,shelf\nWhere is my loan?,Desk\nWrite to ana@example.org about Kant,B 2798\n"
    )
    spec = importlib.util.spec_from_file_location("library", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    (example,) = own_examples(str(tmp_path / "questions.csv"), module.to_example)
    assert (example.prompt, example.response) == ("Write to [mail] about Kant", "B 2798")


def once(name, world, home, monkeypatch):
    """The answer of a script that is started for one task."""

    def answer(body):
        out = SimpleNamespace(buffer=io.BytesIO(), flush=lambda: None, write=lambda _: None)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(body)))
            patched.setattr(sys, "stdout", out)
            assert serve(organisation(name), words_for(world, name, home, "--once")) == 0
        return out.buffer.getvalue()

    return answer


def members_of(world):
    return {name: Member(name_of(key), 1000, 100_000) for name, key in world.keys.items()}


def test_four_scripts_are_a_federation_with_the_bits_of_one_process(world, tmp_path, monkeypatch):
    from llmagentos.lm.trainer import untracked
    from llmagentos.recipes.session import open_session, plan_of

    settings = run_settings()
    examples = {
        name: own_examples(f"invented/{name}", organisation(name).to_example) for name in SCRIPTS
    }
    session = open_session(settings, examples, untracked)
    answers = {name: once(name, world, tmp_path, monkeypatch) for name in SCRIPTS}
    there = RemoteEngine(Direct(answers), members_of(world), world.coordinator, session.base.hash)
    here = InProcessEngine(with_memory(session.trainer, tmp_path / "memory"), session.roster)
    ended = [bits_of(session, plan_of(settings, "run"), e, tmp_path) for e in (here, there)]
    assert ended[0] == ended[1]
    assert [refused for _, refused in ended[1][0]] == [{}, {}]


@pytest.mark.slow
def test_scripts_that_dial_in_over_flower_have_the_bits_of_one_process(world, tmp_path):
    pytest.importorskip("flwr")
    from llmagentos.engines.flower.carrier import FlowerCarrier
    from llmagentos.engines.flower.certificates import make_certificates
    from llmagentos.engines.flower.link import Address
    from llmagentos.engines.flower.local import free_port
    from llmagentos.lm.trainer import untracked
    from llmagentos.recipes.session import open_session, plan_of

    names, settings = ("bank", "city"), run_settings()
    examples = {n: own_examples(f"invented/{n}", organisation(n).to_example) for n in names}
    session = open_session(settings, examples, untracked)
    make_certificates(tmp_path, ["localhost"])
    address = Address(tmp_path, port=free_port())
    keys = {name: make_node_key(tmp_path / f"{name}.node") for name in names}
    members = {name: member for name, member in members_of(world).items() if name in names}
    carrier = FlowerCarrier(tmp_path / "link", address, keys)
    agents = [start_agent(name, world, tmp_path, address) for name in names]
    there = RemoteEngine(carrier, members, world.coordinator, session.base.hash)
    here = InProcessEngine(with_memory(session.trainer, tmp_path / "memory"), session.roster)
    try:
        ended = [bits_of(session, plan_of(settings, "run"), e, tmp_path) for e in (here, there)]
    finally:
        for agent in agents:
            agent.terminate()
            agent.wait()
        there.close()
    assert ended[0] == ended[1]


def start_agent(name, world, home, address):
    """A script in a process of its own that serves until it is told to end."""
    node = [f"--superlink={address.reached}", f"--authority={home / 'ca.pem'}"]
    words = words_for(world, name, home, *node, f"--node-key={home / f'{name}.node'}")
    told = (home / f"{name}.log").open("wb")
    with told:
        return subprocess.Popen([sys.executable, str(SCRIPTS[name]), *words], stderr=told)


def bits_of(session, plan, engine, folder):
    """Losses, refusals and the final adapter of a run over an engine."""
    with Journal(folder / type(engine).__name__) as journal:
        journal.begin(session.layout, {}, session.first_state)
        parts = Federation(fedavg(), engine, journal, plan)
        reports = [(report.loss, report.refused) for report in run(parts)]
        return reports, journal.state().adapter.vector.tobytes()


def test_a_task_goes_through_a_real_pipe(world, tmp_path):
    words = [sys.executable, str(SCRIPTS["bank"]), *words_for(world, "bank", tmp_path, "--once")]
    done = subprocess.run(words, input=b"no task", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout == b"refused: not an envelope: b'no task'"
    assert stat.S_IMODE((tmp_path / "bank").stat().st_mode) == 0o700


def test_an_agent_is_enrolled_listed_and_revoked(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert enrol.main(["key", "--file", "north.key"]) == 0
    key = capsys.readouterr().out.split()[-1]
    assert "PRIVATE" not in key
    assert len(key) == 64
    rows = ["--examples", "663", "--tokens", "7145"]
    assert enrol.main(["add", "--name", "north", "--key", key, *rows]) == 0
    assert enrol.main(["add", "--name", "north", "--key", key, *rows]) == 2
    assert enrol.main(["add", "--name", "twin", "--key", key, *rows]) == 2
    assert "'north' and 'twin' have the same key" in capsys.readouterr().err
    assert enrol.main(["list"]) == 0
    assert capsys.readouterr().out.split()[:2] == ["enrolled", "north"]
    assert enrol.main(["revoke", "--name", "north"]) == 0
    assert read_roster(tmp_path / "roster.yaml") == {"north": Member(key, 663, 7145, revoked=True)}
    assert enrol.main(["update", "--name", "north", "--examples", "700"]) == 0
    assert read_roster(tmp_path / "roster.yaml") == {"north": Member(key, 700, 7145, revoked=True)}
    assert enrol.main(["revoke", "--name", "south"]) == 2
    assert "not in roster.yaml; there are north" in capsys.readouterr().err
    assert enrol.main(["expel"]) == 2


def test_what_an_agent_enrolled_with_is_corrected_or_left(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "roster.yaml"
    bank = Member(name_of(new_key()), 50, 500)
    write_roster(path, {"bank": bank})
    assert enrol.main(["update", "--name", "bank", "--examples", "53", "--tokens", "540"]) == 0
    assert read_roster(path) == {"bank": Member(bank.key, 53, 540)}
    for words, told in {
        ("--name", "bank"): "examples=0: say --examples, --tokens or both",
        ("--name", "bank", "--examples", "-1"): "examples=-1: needs a number above 0",
        ("--name", "city", "--tokens", "9"): "name='city': not in roster.yaml; there are bank",
    }.items():
        assert enrol.main(["update", *words]) == 2
        assert told in capsys.readouterr().err
    assert read_roster(path) == {"bank": Member(bank.key, 53, 540)}


def test_certificates_are_made_once_and_never_in_silence_kept(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert enrol.main(["certificates"]) == 0
    made = (tmp_path / "certificates" / "ca.pem").read_bytes()
    assert enrol.main(["certificates", "--hosts", "[fl.example.org]"]) == 2
    assert "folder='certificates': has certificates already" in capsys.readouterr().err
    assert (tmp_path / "certificates" / "ca.pem").read_bytes() == made


def test_the_agents_of_a_roster_take_part_and_not_the_coordinators_own_silos(tmp_path):
    rows = {"north": Member(name_of(new_key()), 9, 99)}
    gone = {"south": Member(name_of(new_key()), 9, 99, revoked=True)}
    write_roster(tmp_path / "roster.yaml", rows | gone)
    flower = FlowerSettings(roster=str(tmp_path / "roster.yaml"))
    settings = RunSettings(engine="flower", flower=flower)
    assert list(taking_part(settings, ["bank", "city"])) == ["north"]
    assert list(taking_part(RunSettings(), ["bank", "city"])) == ["bank", "city"]


def test_the_coordinator_writes_terms_that_agents_can_read(tmp_path, capsys):
    key, file = tmp_path / "coordinator.key", tmp_path / "terms.yaml"
    write_key(key, new_key())
    words = ["--config", "smoke", f"--key={key}", f"--terms={file}"]
    assert terms.main(words) == 0
    found = terms.read_terms(file)
    told = capsys.readouterr().out
    assert f"coordinator: {found.coordinator}\nbase: {found.base}" in told
    assert (found.model.source, found.rows.max_tokens) == ("tiny", 96)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("coordinator: abc", "coordinator='abc': needs 64 hex digits"),
        ("base: 5", "base"),
        ("salary: 5", "unknown setting salary"),
        ("!!python/object/apply:os.system [ls]", "python"),
    ],
)
def test_terms_that_are_wrong_are_named(tmp_path, text, reason):
    from llmagentos.errors import SettingError

    (tmp_path / "terms.yaml").write_text(text + "\n")
    with pytest.raises(SettingError, match=reason):
        terms.read_terms(tmp_path / "terms.yaml")
