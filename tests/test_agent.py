"""An agent's desk: what it refuses, what it remembers, and what a killed one finds again."""

import multiprocessing
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from llmagentos.agent import AgentJournal, Limits
from llmagentos.agent.desk import largest_task
from llmagentos.agent.journal import KEPT
from llmagentos.agent.limits import check_limits
from llmagentos.codecs.container import LARGEST_HEADER_BYTES
from llmagentos.errors import JournalError, Refused, SettingError
from llmagentos.federation import task_for
from llmagentos.identity import Header, name_of, new_key, open_sealed, seal
from llmagentos.messages import Failure, Update, decode
from llmagentos.tasks import encode_task
from tests.coded import ROSTER, Homing, federation
from tests.crashing import arm
from tests.lora_world import LAYOUT, layout_of
from tests.organisations import BASE, Organisations
from tests.quadratics import layout_of_size
from tests.test_remote import told


@pytest.fixture
def north(tmp_path):
    return Asked(tmp_path)


class Asked:
    """A desk with a coordinator that can ask it anything."""

    def __init__(self, folder):
        self.organisations = Organisations(folder, ROSTER, Homing())
        self.desk = self.organisations.desks["north"]
        parts = federation(folder / "server", "fp32", settings=told("fp32"))
        self.task = task_for("north", "fit", parts.journal.state(), parts)

    def header(self, task, **changes):
        organisations = self.organisations
        known = {name: getattr(task, name) for name in ("run", "round", "kind", "agent")}
        known |= {
            "sender": name_of(organisations.coordinator),
            "recipient": organisations.members["north"].key,
            "base": BASE,
            "nonce": "0" * 32,
            "weight": 0.0,
        }
        return Header(**(known | changes))

    def sealed(self, key=None, header=(), **changes):
        """The task with some fields changed, in its envelope."""
        task = replace(self.task, **changes)
        key = key or self.organisations.coordinator
        return seal(self.header(task, **dict(header)), encode_task(task), key)

    def ask(self, desk=None, **asked):
        """The desk's raw answer."""
        return (desk or self.desk).answer(self.sealed(**asked))

    def answered(self, **asked):
        """The answer's header and payload."""
        theirs = self.organisations.keys["north"].public_key()
        own = self.organisations.coordinator.public_key()
        return open_sealed(self.ask(**asked), theirs, own, 1 << 24)

    def reply(self, **asked):
        """The answer out of its envelope."""
        return decode(bytes(self.answered(**asked).payload))

    def told(self, **settings):
        return {"settings": {**self.task.settings, **settings}}


def test_a_task_within_the_limits_is_answered(north):
    assert isinstance(north.reply(), Update)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"round": 101}, "rounds=101: I agreed to at most 100"),
        ({"settings": {"steps": 201}}, "steps=201: I agreed to at most 200"),
        ({"settings": {"steps": 51}}, "epochs=5.1: I agreed to at most 5"),
        ({"settings": {"steps": 26, "accumulation": 2}}, "epochs=5.2: I agreed to at most 5"),
        ({"settings": {"strategy": "sale"}}, "strategies='sale': I agreed to fedavg"),
        ({"settings": {"aggregation": "sale"}}, "aggregations='sale': I agreed to naive"),
        ({"settings": {"codec": {"name": "gzip"}}}, "codecs='gzip': I agreed to fp32, bf16"),
        ({"settings": {"steps": -1}}, "local.steps=-1: needs at least 1"),
        ({"kind": "measure", "settings": {"rows": 1}}, "held_out=1: I agreed to 2 or more"),
        ({"kind": "measure", "settings": {"rows": "all"}}, "held_out='all': I agreed to 2 or more"),
        ({"settings": {"aggregation": "fedsa"}}, "sent='both': aggregation='fedsa' has 'A'"),
        (
            {"settings": {"aggregation": "ffa", "sent": "B"}},
            "trained='both': aggregation='ffa' has",
        ),
        (
            {"settings": {"aggregation": "fedsa", "sent": "A", "beside": ["control"]}},
            "beside=['control']: of the adapter only A leaves",
        ),
        ({"vectors": {"residual": np.ones(8, np.float32)}}, "vector 'residual': I know adapter"),
        ({"vectors": {"linear": np.ones(8, np.float32)}}, "vector 'linear': I know adapter"),
        ({"agent": "south"}, "the task is for 'south', I am 'north'"),
        (
            {"layout": layout_of_size(1 << 40), "settings": {"correction": "scaffold"}},
            "trains an adapter of 1099511627776 values, agent 'north' has one of 300;",
        ),
    ],
)
def test_a_task_beyond_a_limit_is_a_signed_failure_that_names_it(north, changes, reason):
    if "settings" in changes:
        changes |= north.told(**changes["settings"])
    answer = north.reply(**changes)
    assert isinstance(answer, Failure)
    assert reason in answer.reason


def test_what_was_just_agreed_to_is_answered(north):
    north.desk.limits = Limits(rounds=1, steps=50, held_out=8, clip=1.0)
    told = north.told(steps=50, privacy={"clip": 1.0})
    assert isinstance(north.reply(**told), Update)
    assert isinstance(north.reply(kind="measure", settings={"rows": 8, "batch": 4}), Update)


@pytest.mark.parametrize("name", ["rounds", "steps", "epochs", "examples", "rows", "held_out"])
def test_an_agent_may_agree_to_one_of_everything(name):
    assert getattr(Limits(**{name: 1}), name) == 1


def test_what_a_task_adds_to_the_base_is_of_the_agreed_rank_at_the_most(north):
    added = replace(north.task, layout=LAYOUT, vectors={"residual.1": LAYOUT_OF_FOUR})
    check_limits(added, Limits(residual_rank=4), 40)
    with pytest.raises(Refused, match="residual_rank=4: I agreed to at most 3"):
        check_limits(added, Limits(residual_rank=3), 40)


LAYOUT_OF_FOUR = np.zeros(LAYOUT.ranked(4).size, np.float32)


def test_four_vectors_and_a_residual_are_the_largest_task(north):
    layout = layout_of([(2400, 2400)], rank=300)
    empty = LARGEST_HEADER_BYTES + (1 << 16)
    vectors = {f"{k}": np.ones(layout.size, np.float32) for k in range(4)}
    residual = {"residual.1": np.ones(layout.ranked(400).size, np.float32)}
    body = north.sealed(layout=layout, vectors=vectors | residual)
    largest = largest_task(layout, residual_rank=400)
    assert len(body) <= largest < len(body) + empty < len(body) + 4 * layout.size


def test_too_few_rows_make_no_update(north):
    north.desk.examples = 19
    assert "examples=19: I agreed to 20 or more" in north.reply().reason


def test_no_training_loss_of_too_few_rows_is_told(north):
    few = north.reply(**north.told(steps=1, batch=7))
    assert few.reason == "rows=7: I agreed to 8 or more"
    assert isinstance(north.reply(**north.told(steps=2, batch=4)), Update)
    north.desk.examples, north.desk.limits = 9, Limits(examples=1, rows=10)
    assert north.reply(**north.told(steps=3, batch=4)).reason == "rows=9: I agreed to 10 or more"


@pytest.mark.parametrize(
    ("privacy", "reason"),
    [
        ({}, "privacy.clip=None: I agreed to at most 2"),
        ({"clip": 3.0}, "privacy.clip=3.0: I agreed to at most 2"),
        ({"clip": 1.0, "noise": 0.1}, "privacy.noise=0.1: I agreed to 0.5 or more"),
    ],
)
def test_a_change_that_says_more_than_agreed_never_leaves(north, privacy, reason):
    north.desk.limits = Limits(clip=2.0, noise=0.5)
    assert reason in north.reply(**north.told(privacy=privacy)).reason
    agreed = north.reply(**north.told(privacy={"clip": 1.5, "noise": 0.5}))
    assert isinstance(agreed, Update)


def test_noise_is_required_of_a_length(north):
    with pytest.raises(SettingError, match=r"limits\.noise=0\.5: noise is measured in units"):
        Limits(noise=0.5)


def test_a_kind_that_was_not_agreed_to_is_refused(north):
    north.desk.limits = Limits(kinds=("fit",))
    answer = north.reply(kind="evaluate", settings={"rows": 8, "batch": 4})
    assert answer.reason == "kind='evaluate': I agreed to fit"


def test_a_task_of_another_version_is_a_failure(north):
    assert "does not say aggregation" in north.reply(settings=LOCAL_WITHOUT_AGGREGATION).reason


LOCAL_WITHOUT_AGGREGATION = {k: v for k, v in told("fp32")["fit"].items() if k != "aggregation"}


def test_another_base_model_is_refused(north):
    assert (
        "base model cccccccccccc: I agreed to bbbbbbbbbbbb"
        in north.reply(header={"base": "c" * 64}).reason
    )


def test_a_failure_says_which_base_the_agent_has_and_weighs_nothing(north):
    header = north.answered(header={"base": "c" * 64}).header
    assert (header.base, header.weight) == (BASE, 0.0)


def test_the_log_tells_what_was_refused_and_why(north, caplog):
    north.ask(key=new_key())
    north.ask(header={"base": "c" * 64})
    assert "agent 'north' refused what came: it is not signed" in caplog.messages[0]
    assert "fit of round 1: base model cccccccccccc" in caplog.messages[1]


def test_of_an_error_that_nobody_foresaw_the_log_tells_all_and_the_answer_its_kind(north, caplog):
    class Broken(Homing):
        def update(self, task):
            raise ZeroDivisionError("of a private number")

    north.desk.trainer = Broken()
    assert north.reply().reason == "ZeroDivisionError; the agent's own log says more"
    assert "of a private number" in caplog.text


@pytest.mark.parametrize("name", ["run", "round", "kind", "agent"])
def test_a_header_that_names_another_task_is_refused(north, name):
    other = {"run": "x", "round": 9, "kind": "measure", "agent": "south"}[name]
    assert north.ask(header={name: other}) == f"refused: header and task differ in {name}".encode()


def test_a_stranger_gets_no_signature(north):
    stranger = new_key()
    assert b"not signed by the key that was agreed on" in north.ask(key=stranger)
    forged = north.ask(key=stranger, header={"sender": name_of(stranger)})
    assert forged.startswith(b"refused: ")


@pytest.mark.parametrize("body", [b"", b"\x80\x04\x95pickle", b"../../etc/passwd", bytes(9)])
def test_whatever_else_comes_is_refused_in_words(north, body):
    assert north.desk.answer(body).startswith(b"refused: not an envelope")


def test_another_task_under_an_answered_key_is_refused(north):
    assert isinstance(north.reply(), Update)
    assert "fit of round 1 was answered for another task" in north.reply(seed=99).reason


def test_the_log_tells_what_was_done_and_what_came_again(north, caplog):
    with caplog.at_level("INFO", "llmagentos.agent.desk"):
        first = north.ask()
        assert north.ask() == first
    done, again = caplog.messages
    assert done.startswith("fit of round 1: done in ")
    assert again == "fit of round 1 came again: the same answer"


def test_a_failure_may_be_tried_again(north):
    assert isinstance(north.reply(**north.told(steps=999)), Failure)
    assert isinstance(north.reply(), Update)


def test_training_never_goes_back(north):
    assert isinstance(north.reply(round=5), Update)
    assert north.reply(round=4).reason == "round 4 is over: round 5 was answered"
    assert isinstance(north.reply(round=1, run="another run"), Update)


def test_of_old_answers_only_the_fact_is_kept(north):
    for round_ in range(1, KEPT + 2):
        assert isinstance(north.reply(round=round_), Update)
    assert len(list((north.desk.journal.folder / "cas").iterdir())) <= KEPT
    assert north.reply(round=1).reason == "fit of round 1 was answered long ago"
    assert isinstance(north.reply(round=2), Update)


def test_a_lost_answer_is_made_again_with_the_same_bits(north):
    before = north.ask()
    home = north.desk.journal
    home.close()
    (file,) = (home.folder / "cas").iterdir()
    file.write_bytes(b"half")
    assert north.ask(desk=north.organisations.open_desk("north")) == before


FORK = multiprocessing.get_context("fork")


def serve(organisations, folder, bodies, killed_at=None):
    """Answer the bodies in a folder; kill this process before the write of that number."""
    if killed_at is not None:
        arm(killed_at)
    organisations.folder = folder
    desk = organisations.open_desk("north")
    answers = [desk.answer(body) for body in bodies]
    (folder / "answers").write_text(" ".join(answer.hex() for answer in answers))


def answers_after(organisations, folder, bodies, killed_at=None):
    """The exit code of a process of its own that serves, and what it answered if it lived."""
    process = FORK.Process(target=serve, args=(organisations, folder, bodies, killed_at))
    process.start()
    process.join()
    file = folder / "answers"
    return process.exitcode, file.read_text().split() if file.exists() else None


def test_an_agent_that_is_killed_at_any_write_answers_with_the_same_bytes(tmp_path):
    north = Asked(tmp_path / "keys")
    lossy = north.told(codec={"name": "top_k", "top_k": 0.1})
    bodies = [
        north.sealed(**lossy),
        north.sealed(kind="evaluate", settings={"rows": 8, "batch": 4}),
        north.sealed(round=2, receipt=1, **lossy),
        north.sealed(round=3, receipt=2, **lossy),
    ]
    code, expected = answers_after(north.organisations, tmp_path / "calm", bodies)
    assert code == 0
    assert len(set(expected)) == len(bodies)
    kills, point, alive = 0, 0, False
    while not alive:
        folder = tmp_path / f"at{point}"
        code, _ = answers_after(north.organisations, folder, bodies, point)
        alive = code == 0
        assert code in (0, -signal.SIGKILL)
        kills += not alive
        assert answers_after(north.organisations, folder, bodies) == (0, expected)
        point += 2
    assert kills > 20


def test_a_task_of_another_run_takes_nothing_from_what_is_remembered(tmp_path):
    ended = []
    for name in ("calm", "wild"):
        north = Asked(tmp_path / name)
        lossy = north.told(codec={"name": "top_k", "top_k": 0.1})
        north.reply(**lossy)
        if name == "wild":
            assert isinstance(north.reply(run="another run", **lossy), Update)
        update = north.reply(round=2, receipt=1, **lossy)
        ended.append({part: values.tobytes() for part, values in update.vectors.items()})
    assert ended[0] == ended[1]


def test_a_desk_answers_in_whatever_thread_it_is_asked(north):
    with ThreadPoolExecutor(1) as other:
        assert other.submit(north.ask).result() == north.ask()


def test_one_process_an_agent(north):
    with pytest.raises(JournalError, match="in use by another process"):
        AgentJournal(north.desk.journal.folder)


def test_a_full_disk_is_a_failure_and_nothing_is_forgotten(north, monkeypatch):
    assert isinstance(north.reply(), Update)

    def full(body):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(north.desk.journal._files, "put", full)
    assert "No space left" in north.reply(round=2).reason
    monkeypatch.undo()
    assert isinstance(north.reply(round=2), Update)


@pytest.mark.parametrize("name", ["rounds", "steps", "epochs", "examples", "rows", "held_out"])
def test_a_limit_of_nothing_is_a_wrong_setting(name):
    with pytest.raises(SettingError, match=f"limits.{name}=0: needs to be above 0"):
        Limits(**{name: 0})
