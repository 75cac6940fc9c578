"""The journal: durable, locked, and the same bits after any kill."""

import gc
import os
import re
import resource
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from llmagentos.agent import AgentJournal
from llmagentos.engines import InProcessEngine
from llmagentos.errors import DiskFull, JournalError, QuorumError
from llmagentos.federation import ask, play_round, run, task_for
from llmagentos.journal import Answers, Journal
from llmagentos.messages import Enrolled
from llmagentos.strategies import fedadam
from tests.crashing import armed, ended, final_bits, interrupt, kills_survived
from tests.quadratics import Quadratic, federation, first_state, layout_of_size


def play(folder):
    """Three rounds."""
    parts = federation(folder, strategy=fedadam())
    for _ in run(parts):
        parts.journal.forget(updates=True)
    parts.journal.close()
    return final_bits(folder)


def test_resume_after_a_kill_at_any_write_is_bit_identical(tmp_path):
    assert kills_survived(tmp_path, play, stride=3) > 40


def test_resume_after_kills_again_and_again_is_bit_identical(tmp_path):
    play(tmp_path / "undisturbed")
    folder, kills = tmp_path / "killed", 0
    while (exitcode := ended(armed, 52, play, folder)) != 0:
        assert exitcode == -signal.SIGKILL
        kills += 1
        assert kills < 40, "what happens before the 52nd write is not enough to go on from"
    assert kills > 3
    assert final_bits(folder) == final_bits(tmp_path / "undisturbed")


def test_a_second_process_is_told_that_the_run_is_in_use(tmp_path):
    with Journal(tmp_path), pytest.raises(JournalError, match="in use by another process"):
        Journal(tmp_path)
    Journal(tmp_path).close()


def test_another_run_in_the_same_folder_is_noticed(tmp_path):
    with Journal(tmp_path) as journal:
        journal.begin(layout_of_size(1), {"base": "a"}, first_state)
    with Journal(tmp_path) as journal:
        with pytest.raises(JournalError, match="began with another base"):
            journal.begin(layout_of_size(1), {"base": "b"}, first_state)
        with pytest.raises(JournalError, match="began with another layout"):
            journal.begin(layout_of_size(2), {"base": "a"}, first_state)


def test_the_first_state_is_kept_whatever_a_resume_starts_from(tmp_path):
    with Journal(tmp_path) as journal:
        layout = layout_of_size(1)
        first = journal.begin(layout, {}, first_state)
        assert journal.begin(layout, {}, lambda: first_state([6.0])) == first
        assert journal.state().adapter.vector.tolist() == [5.0]


def test_half_written_and_orphaned_files_are_cleared_at_the_start(tmp_path):
    parts = federation(tmp_path)
    next(run(parts))
    parts.journal.forget(updates=False)
    parts.journal.close()
    before = set((tmp_path / "cas").iterdir())
    (tmp_path / "cas" / ".abc.part").write_bytes(b"half")
    (tmp_path / "cas" / ("0" * 64)).write_bytes(b"no row names it")
    Journal(tmp_path).close()
    assert set((tmp_path / "cas").iterdir()) == before


def test_bodies_are_dropped_after_their_round_and_hashes_stay(tmp_path):
    parts = federation(tmp_path)
    next(run(parts))
    parts.journal.forget(updates=False)
    assert len(list((tmp_path / "cas").iterdir())) == 3
    parts.journal.forget(updates=True)
    assert len(list((tmp_path / "cas").iterdir())) == 1
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as rows:
        bodies = rows.execute("SELECT body FROM answers WHERE kind='fit'").fetchall()
    assert [len(body) for (body,) in bodies] == [64, 64]


def spoil(folder, kind):
    """Flip a bit at the end of every kept answer of a kind: of an update, the sign of its delta."""
    for path in (folder / "cas").iterdir():
        body = bytearray(path.read_bytes())
        if rb"\"kind\":\"%b\"" % kind.encode() in body:
            body[-1] ^= 0x80
            path.write_bytes(body)


def test_an_update_that_changed_on_the_disk_is_asked_for_again(tmp_path, caplog):
    play(tmp_path / "undisturbed")
    parts = federation(tmp_path / "changed", strategy=fedadam())
    state = parts.journal.state()
    ask([task_for(agent, "fit", state, parts) for agent in parts.engine.roster], parts)
    parts.journal.close()
    spoil(tmp_path / "changed", "fit")
    play(tmp_path / "changed")
    assert caplog.text.count("does not hold what was written to it") == 2
    assert final_bits(tmp_path / "changed") == final_bits(tmp_path / "undisturbed")


def test_a_damaged_update_goes_with_its_row(tmp_path):
    parts = federation(tmp_path)
    state = parts.journal.state()
    ask([task_for(agent, "fit", state, parts) for agent in parts.engine.roster], parts)
    parts.journal.close()
    spoil(tmp_path, "fit")
    with Journal(tmp_path) as journal:
        assert journal.answers.admitted(1, "fit") == []
        assert len(list((tmp_path / "cas").iterdir())) == 1


def test_an_evaluation_that_changed_on_the_disk_is_asked_for_again(tmp_path):
    parts = federation(tmp_path, rounds=1)
    interrupt(parts)
    parts.journal.close()
    spoil(tmp_path, "evaluate")
    (again,) = run(federation(tmp_path, rounds=1))
    (plain,) = run(federation(tmp_path / "plain", rounds=1))
    assert again.agents == plain.agents


class Gone(Quadratic):
    """Agents of which some cannot train any more."""

    def __init__(self, *gone):
        super().__init__()
        self.gone = gone

    def update(self, task):
        if task.agent in self.gone:
            raise OSError("no text")
        return super().update(task)


def test_an_update_that_is_lost_once_it_was_decided_on_and_not_made_again_does_not_count(tmp_path):
    parts = federation(tmp_path, rounds=1)
    interrupt(parts)
    parts.journal.close()
    spoil(tmp_path, "fit")
    parts = federation(tmp_path, rounds=1, trainer=Gone("north"))
    (report,) = run(parts)
    assert report.weights == {"south": 1.0}
    assert parts.journal.members(1) == ["south"]
    assert parts.journal.receipt("north", 2) is None


def test_a_round_whose_updates_are_all_lost_and_not_made_again_has_no_quorum(tmp_path):
    parts = federation(tmp_path, rounds=1)
    interrupt(parts)
    parts.journal.close()
    spoil(tmp_path, "fit")
    with pytest.raises(QuorumError, match="0 of 2 updates count"):
        list(run(federation(tmp_path, rounds=1, trainer=Gone("north", "south"))))


def test_an_answer_that_is_lost_while_the_run_goes_on_is_named(tmp_path):
    parts = federation(tmp_path)
    state = parts.journal.state()
    ask([task_for("north", "fit", state, parts)], parts)
    for path in (tmp_path / "cas").iterdir():
        path.unlink()
    with pytest.raises(JournalError, match="an answer of 'north' is lost, resume asks again"):
        parts.journal.answers.admitted(1, "fit")


def test_an_update_that_changes_between_gate_and_kernel_stops_the_run(tmp_path):
    parts = federation(tmp_path)
    state = parts.journal.state()
    ask([task_for(agent, "fit", state, parts) for agent in parts.engine.roster], parts)
    for path in (tmp_path / "cas").iterdir():
        body = bytearray(path.read_bytes())
        body[-1] ^= 1
        path.write_bytes(body)
    with pytest.raises(JournalError, match="changed on the disk"):
        play_round(state, parts)


@pytest.mark.parametrize("how", ["lost", "changed"])
def test_a_lost_state_is_named(tmp_path, how):
    federation(tmp_path).journal.close()
    for path in (tmp_path / "cas").iterdir():
        path.unlink() if how == "lost" else path.write_bytes(b"something else")
    with (
        Journal(tmp_path) as journal,
        pytest.raises(JournalError, match="state of round 1 is lost"),
    ):
        journal.state()


def test_a_full_disk_is_a_clear_error_and_the_run_goes_on_after_room_is_made(tmp_path):
    parts = federation(tmp_path / "full", strategy=fedadam())
    next(run(parts))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(DiskFull, match=f"{tmp_path}.*; make room there"):
            list(run(parts))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    parts.journal.close()
    play(tmp_path / "full")
    play(tmp_path / "undisturbed")
    assert final_bits(tmp_path / "full") == final_bits(tmp_path / "undisturbed")


NAMES = [f"agent{number:03}" for number in range(120)]


def play_many(folder, soft, hard, told):
    """A round of 120 agents in a process that may have so many files open."""
    gc.collect()  # closes what tests before this one left open
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    trainer = Quadratic(curvature=dict.fromkeys(NAMES, (1.0, 0.0)))
    engine = InProcessEngine(trainer, dict.fromkeys(NAMES, Enrolled()))
    try:
        (report,) = run(federation(folder, engine=engine, rounds=1))
        told.write_text(str(len(report.weights)))
    except JournalError as error:
        told.write_text(str(error))


@pytest.mark.parametrize(
    ("hard", "said"), [(1000, "^120$"), (90, "open files; a round maps.*ulim")]
)
def test_a_round_may_have_more_agents_than_a_process_has_files_at_first(tmp_path, hard, said):
    assert ended(play_many, tmp_path / "run", 80, hard, tmp_path / "told") == 0
    assert re.search(said, (tmp_path / "told").read_text())


def test_a_database_that_is_damaged_is_not_taken_for_a_full_disk(tmp_path):
    play(tmp_path)
    path = tmp_path / "journal.sqlite"
    body = path.read_bytes()
    path.write_bytes(body[:4096] + b"Z" * (len(body) - 4096))
    with pytest.raises(JournalError, match="disk image is malformed"), Journal(tmp_path) as journal:
        journal.state()


def of_another_schema(path):
    with closing(sqlite3.connect(path)) as rows:
        rows.execute("CREATE TABLE answers (other)")
        rows.execute("CREATE TABLE rounds (other)")


@pytest.mark.parametrize("journal", [Journal, AgentJournal])
@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (Path.mkdir, "unable to open"),
        (lambda path: path.write_bytes(b"Z" * 4096), "not a database"),
        (of_another_schema, "no such column"),
    ],
    ids=["a folder", "no database", "another schema"],
)
def test_a_folder_that_could_not_be_opened_is_let_go(tmp_path, journal, damage, said):
    folder = tmp_path / "run"
    folder.mkdir()
    damage(folder / "journal.sqlite")
    # A notebook keeps the last error, and with it all that its traceback knows.
    with pytest.raises(JournalError, match=said) as kept:
        journal(folder)
    (folder / "journal.sqlite").rename(tmp_path / "damaged")
    journal(folder).close()
    assert kept.traceback


@pytest.mark.parametrize(
    ("report", "words"),
    [("'{'", "Expecting property name"), ("CAST(x'7bff' AS TEXT)", "Could not decode to UTF-8")],
)
def test_a_report_that_is_damaged_is_told(tmp_path, report, words):
    play(tmp_path)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as rows:
        rows.execute(f"UPDATE rounds SET report={report} WHERE round=1")
        rows.commit()
    with Journal(tmp_path) as journal, pytest.raises(JournalError, match=f"be used: {words}"):
        journal.reports()


@pytest.mark.parametrize(
    ("lost", "asked"),
    [
        ("rounds", lambda journal: journal.state()),
        ("rounds", lambda journal: journal.members(1)),
        ("facts WHERE name='layout'", lambda journal: journal.state()),
        ("facts", lambda journal: journal.run),
    ],
)
def test_a_row_that_is_gone_is_told(tmp_path, lost, asked):
    play(tmp_path)
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as rows:
        rows.execute(f"DELETE FROM {lost}")
        rows.commit()
    with Journal(tmp_path) as journal, pytest.raises(JournalError, match="began with is gone"):
        asked(journal)


def test_a_table_whose_name_is_no_text_is_told(tmp_path):
    play(tmp_path)
    file = tmp_path / "journal.sqlite"
    file.write_bytes(file.read_bytes().replace(b"CREATE TABLE rounds", b"CREATE \xffABLE rounds"))
    with pytest.raises(JournalError, match=r"cannot be used: 'utf-8' codec can't decode byte 0xff"):
        Journal(tmp_path)


def test_a_page_that_is_damaged_is_told_when_it_is_read(tmp_path):
    facts = {f"fact {number:02}": "value" * 100 for number in range(40)}
    with Journal(tmp_path) as journal:
        journal.begin(layout_of_size(1), facts, first_state)
    path = tmp_path / "journal.sqlite"
    body = bytearray(path.read_bytes())
    last = body.rindex(b"fact 39") // 4096 * 4096  # the table's; its index begins before it
    body[last : last + 4096] = b"Z" * 4096
    path.write_bytes(body)
    with Journal(tmp_path) as journal, pytest.raises(JournalError, match="disk image is malformed"):
        journal.begin(layout_of_size(1), facts, first_state)


def test_ctrl_c_waits_for_the_entry(tmp_path, monkeypatch):
    parts = federation(tmp_path)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    task_written = []
    record = Answers._insert_answer

    def interrupted(self, *args):
        os.kill(os.getpid(), signal.SIGINT)
        record(self, *args)
        task_written.append(args[0].agent)

    monkeypatch.setattr(Answers, "_insert_answer", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(run(parts))
    assert task_written == ["north"]
    assert [a.update.agent for a in parts.journal.answers.admitted(1, "fit")] == ["north"]


def test_state_vectors_are_read_only(tmp_path):
    parts = federation(tmp_path)
    with pytest.raises(ValueError, match="read-only"):
        parts.journal.state().adapter.vector[0] = np.float32(1)
