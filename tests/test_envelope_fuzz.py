"""Whatever bytes come to either end: refused in words, never an exception, never unpickled."""

import pickle
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmagentos.errors import Damaged
from llmagentos.federation import task_for
from llmagentos.identity import open_sealed, seal
from llmagentos.messages import decode, encode
from llmagentos.tasks import encode_task
from tests.coded import ROSTER, Homing
from tests.organisations import Organisations
from tests.test_remote import parts_over

MANY = settings(max_examples=300, deadline=None)


class Bomb:
    """Unpickled, it would be noticed."""

    gone_off = 0

    def __reduce__(self):
        return explode, ()


def explode():
    Bomb.gone_off += 1


BODIES = st.binary(max_size=200) | st.just(pickle.dumps(Bomb())) | st.just(b"../../" * 30)


@pytest.fixture(scope="module")
def ends(tmp_path_factory):
    """A server's engine that waits for an answer, the agents, a sealed task and a sealed answer."""
    folder = tmp_path_factory.mktemp("ends")
    organisations = Organisations(folder, ROSTER, Homing())
    parts = parts_over(folder, organisations)
    task = task_for("north", "fit", parts.journal.state(), parts)
    parts.engine.send(task)
    asked = parts.engine.carrier.sent[-1].body
    return organisations, parts.engine, task, asked, organisations.desks["north"].answer(asked)


def mutated(body, changes):
    """The body with bytes that differ at one place or more."""
    whole = bytearray(body)
    for place, value in dict(changes).items():
        whole[place % len(whole)] ^= value
    return bytes(whole) if whole != body else b""


def broken(whole, changes):
    """The whole thing with changed bytes, and cut off."""
    return mutated(whole, changes), whole[: changes[0][0] % len(whole)]


CHANGES = st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), min_size=1, max_size=3)


@MANY
@given(BODIES, CHANGES)
def test_an_agent_answers_anything_unsigned_in_words(ends, body, changes):
    organisations, _, _, asked, _ = ends
    desk = organisations.desks["north"]
    for sent in (body, *broken(asked, changes)):
        assert desk.answer(sent).startswith(b"refused: ")
    assert Bomb.gone_off == 0


@MANY
@given(BODIES, CHANGES)
def test_an_agent_survives_anything_that_its_coordinator_signed(ends, body, changes):
    organisations, _, task, asked, _ = ends
    own = organisations.keys["north"].public_key()
    theirs = organisations.coordinator.public_key()
    header = open_sealed(asked, theirs, own, 1 << 24).header
    for payload in (body, mutated(encode_task(task), changes)):
        answer = organisations.desks["north"].answer(
            seal(header, payload, organisations.coordinator)
        )
        if not answer.startswith(b"refused: "):
            assert decode(bytes(open_sealed(answer, own, theirs, 1 << 24).payload)).agent == "north"
    assert Bomb.gone_off == 0


@MANY
@given(BODIES, CHANGES)
def test_a_server_takes_anything_unsigned_for_damaged(ends, body, changes):
    _, engine, _, _, answer = ends
    for sent in (body, *broken(answer, changes)):
        engine.carrier.waiting.clear()
        engine.carrier.answers["north"] = lambda _, sent=sent: sent
        engine.carrier.send("north", b"")
        (reply,) = engine.poll()
        with pytest.raises(Damaged, match="unsealed"):
            decode(reply.body)
    assert Bomb.gone_off == 0


def test_an_untouched_answer_is_the_agents(ends):
    _, engine, _, _, answer = ends
    engine.carrier.waiting.clear()
    engine.carrier.answers["north"] = lambda _: answer
    engine.carrier.send("north", b"")
    (reply,) = engine.poll()
    update = decode(reply.body)
    assert reply.body == encode(replace(update))
    assert update.agent == "north"
