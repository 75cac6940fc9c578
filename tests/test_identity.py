"""Keys, envelopes and the roster: what is not exactly right is refused with its reason."""

import hashlib
import json
import stat
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmagentos.errors import Damaged, SettingError
from llmagentos.identity import (
    Header,
    Member,
    key_of,
    name_of,
    new_key,
    open_sealed,
    read_key,
    read_roster,
    seal,
    write_key,
    write_roster,
)

SERVER, NORTH, STRANGER = new_key(), new_key(), new_key()
HEADER = Header(
    "run", 3, "fit", "north", name_of(SERVER), name_of(NORTH), "b" * 64, "0" * 32, weight=0.0
)
PAYLOAD = b"what was asked"
WHOLE = seal(HEADER, PAYLOAD, SERVER)


def opened(body, sender=SERVER, recipient=NORTH, largest=10_000):
    return open_sealed(body, sender.public_key(), recipient.public_key(), largest)


def test_what_was_sealed_is_opened():
    header, payload, _ = opened(WHOLE)
    assert (header, bytes(payload)) == (HEADER, PAYLOAD)
    assert seal(HEADER, PAYLOAD, SERVER) == WHOLE


@given(st.binary(max_size=300))
def test_no_bytes_do_anything_but_be_damaged(body):
    for start in (b"", WHOLE[:8], WHOLE[:60]):
        with pytest.raises(Damaged):
            opened(start + body)


@given(st.integers(0, len(WHOLE) - 1), st.integers(1, 255))
def test_no_byte_can_be_changed(place, change):
    body = bytearray(WHOLE)
    body[place] ^= change
    with pytest.raises(Damaged):
        opened(bytes(body))


@given(st.integers(0, len(WHOLE) - 1), st.binary(max_size=4))
def test_nothing_can_be_cut_or_put_in(place, piece):
    body = WHOLE[:place] + piece + WHOLE[place + 1 + len(piece) :]
    with pytest.raises(Damaged):
        opened(body)


def test_a_payload_cannot_be_exchanged():
    other = seal(HEADER, b"something else", SERVER)
    with pytest.raises(Damaged, match="payload is not the one that was signed"):
        opened(WHOLE[: -len(PAYLOAD)] + other[-len(b"something else") :])


def test_a_strangers_signature_is_refused():
    with pytest.raises(Damaged, match="not signed by the key that was agreed on"):
        opened(seal(HEADER, PAYLOAD, STRANGER))


def test_what_is_for_somebody_else_is_refused():
    with pytest.raises(Damaged, match="for somebody else"):
        opened(WHOLE, recipient=STRANGER)


def test_an_envelope_may_not_come_back_to_its_sender():
    with pytest.raises(Damaged):
        opened(WHOLE, sender=NORTH, recipient=SERVER)


def test_what_is_too_large_is_not_even_read():
    with pytest.raises(Damaged, match="more than the 100 that it may have"):
        opened(WHOLE, largest=100)


def test_a_header_that_promises_too_much_is_refused():
    with pytest.raises(Damaged, match="cannot have a header of 4294967295"):
        opened(WHOLE[:8] + b"\xff" * 4 + WHOLE[12:])


def signed(text, payload=PAYLOAD):
    """An envelope with any header, signed by the server; as the format's description has it."""
    signature = SERVER.sign(b"llmaos-1" + text)
    return b"".join((b"llmaos-1", len(text).to_bytes(4, "little"), text, signature, payload))


def said(**changes):
    return {**vars(HEADER), "payload": hashlib.sha256(PAYLOAD).hexdigest(), **changes}


def canonical(fields):
    return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()


def test_the_header_is_canonical_json_that_names_the_payload_by_its_hash():
    assert signed(canonical(said())) == WHOLE


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"\xff", "its header is not JSON"),
        (b"[" * 9999, "its header is not JSON"),
        (b"[1]", "not that of an envelope"),
        (json.dumps(said(), sort_keys=True).encode(), "not that of an envelope"),
        (canonical(said(more=1)), "not that of an envelope"),
        (bytes(65_536), "its header is not JSON"),
        (bytes(65_537), "cannot have a header of 65537"),
    ],
)
def test_what_is_signed_but_no_header_is_refused(text, reason):
    with pytest.raises(Damaged, match=reason):
        opened(signed(text), largest=100_000)


def test_an_envelope_may_be_as_large_as_was_agreed():
    assert opened(WHOLE, largest=len(WHOLE)).header == HEADER
    with pytest.raises(Damaged, match=f"more than the {len(WHOLE) - 1} that it may have"):
        opened(WHOLE, largest=len(WHOLE) - 1)


def test_a_payload_cannot_be_written_to():
    assert opened(bytearray(WHOLE)).payload.readonly


@pytest.mark.parametrize("change", [{"round": -1}, {"run": 5}, {"agent": "\n"}, {"nonce": None}])
def test_a_signed_header_of_another_form_is_refused(change):
    with pytest.raises(Damaged, match="not that of an envelope"):
        opened(seal(replace(HEADER, **change), PAYLOAD, SERVER))


def test_a_key_is_kept_where_only_its_owner_can_read_it(tmp_path):
    path = tmp_path / "north.key"
    write_key(path, NORTH)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    assert name_of(read_key(path)) == name_of(NORTH)
    assert name_of(key_of(name_of(NORTH))) == name_of(NORTH)


def test_a_key_is_never_overwritten(tmp_path):
    path = tmp_path / "north.key"
    write_key(path, NORTH)
    with pytest.raises(SettingError, match="exists; keep that key"):
        write_key(path, STRANGER)
    assert name_of(read_key(path)) == name_of(NORTH)


def test_a_key_that_cannot_be_written_or_read_is_named(tmp_path):
    nowhere = tmp_path / "missing" / "north.key"
    with pytest.raises(SettingError, match=r"north\.key cannot be written: No such file"):
        write_key(nowhere, NORTH)
    with pytest.raises(SettingError, match=r"north\.key: No such file.*make one with"):
        read_key(nowhere)


def test_a_key_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "north.key"
    write_key(path, NORTH)
    path.chmod(0o640)
    with pytest.raises(SettingError, match="chmod 600"):
        read_key(path)


@pytest.mark.parametrize("body", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAA==\n"])
def test_a_file_without_a_key_is_named(tmp_path, body):
    path = tmp_path / "north.key"
    path.touch(0o600)
    path.write_bytes(body)
    with pytest.raises(SettingError, match=r"north\.key holds no Ed25519 key"):
        read_key(path)


MEMBER = Member(name_of(NORTH), 663, 7145.0)


def test_a_roster_is_read_as_it_was_written(tmp_path):
    members = {"Städtisches Klinikum": MEMBER, "bank": Member(name_of(SERVER), 1, 1, revoked=True)}
    write_roster(tmp_path / "roster.yaml", members)
    found = read_roster(tmp_path / "roster.yaml")
    assert list(found.items()) == list(members.items())
    assert "Städtisches Klinikum:" in (tmp_path / "roster.yaml").read_text("utf-8")


def test_a_roster_that_could_not_be_read_again_is_not_written(tmp_path):
    path = tmp_path / "roster.yaml"
    write_roster(path, {"north": MEMBER})
    with pytest.raises(SettingError, match="'north' and 'south' have the same key"):
        write_roster(path, {"north": MEMBER, "south": MEMBER})
    assert read_roster(path) == {"north": MEMBER}


KEY = name_of(NORTH)


@pytest.mark.parametrize("written", [KEY.upper(), f"{KEY[:32]} {KEY[32:]}"])
def test_a_key_may_be_written_in_capitals_or_with_blanks(tmp_path, written):
    line = f"north: {{key: {written}, examples: 1, tokens: 1}}\n"
    (tmp_path / "roster.yaml").write_text(line)
    assert read_roster(tmp_path / "roster.yaml")["north"].key == KEY
    (tmp_path / "roster.yaml").write_text(
        line + line.replace("north", "south").replace(written, KEY)
    )
    with pytest.raises(SettingError, match="'north' and 'south' have the same key"):
        read_roster(tmp_path / "roster.yaml")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("north: {key: abc, examples: 1, tokens: 1}", "'abc' is no public key"),
        (f"north: {{key: {KEY}, examples: 0, tokens: 1}}", "'north': examples=0: needs a number"),
        (f"north: {{key: {KEY}, examples: .inf, tokens: 1}}", "'north': examples=inf"),
        (f"north: {{key: {KEY}, examples: 1, tokens: 1, revoked: 1}}", "needs true or false"),
        (f"north: {{key: {KEY}, examples: 1, tokens: 1, admin: true}}", "not {'key'"),
        (f"7: {{key: {KEY}, examples: 1, tokens: 1}}", "a name is text"),
        (
            f"a: {{key: {KEY}, examples: 1, tokens: 1}}\nb: {{key: {KEY}, examples: 1, tokens: 1}}",
            "'a' and 'b' have the same key",
        ),
        ("- north", "needs a name, a key and the rows"),
        ("!!python/object/apply:os.system [ls]", "is not YAML"),
    ],
)
def test_a_roster_that_is_wrong_names_agent_and_remedy(tmp_path, text, reason):
    path = tmp_path / "roster.yaml"
    path.write_text(text)
    with pytest.raises(SettingError, match=reason):
        read_roster(path)
