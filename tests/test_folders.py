import pytest

from llmagentos.folders import whole_folder


def fill(folder, text):
    for name in ("a.txt", "b.txt"):
        (folder / name).write_text(text)


def read(folder):
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_a_folder_appears_whole(tmp_path):
    target = tmp_path / "deep" / "target"
    with whole_folder(target) as part:
        fill(part, "first")
        assert not target.exists()
    assert read(target) == {"a.txt": "first", "b.txt": "first"}
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_folder_that_is_there_gets_the_new_files_and_keeps_the_others(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "note.txt").write_text("mine")
    with whole_folder(target) as part:
        fill(part, "second")
    assert read(target) == {"a.txt": "second", "b.txt": "second", "note.txt": "mine"}


def test_a_writer_that_fails_leaves_the_old_folder_and_no_trace(tmp_path):
    target = tmp_path / "target"
    with whole_folder(target) as part:
        fill(part, "first")

    def fail_half_way():
        with whole_folder(target) as part:
            (part / "a.txt").write_text("second")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail_half_way()
    assert read(target) == {"a.txt": "first", "b.txt": "first"}
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_a_folder_of_a_longer_name_is_not_taken_for_what_was_left(tmp_path):
    with whole_folder(tmp_path / "merged.v2") as longer:
        fill(longer, "longer")
        with whole_folder(tmp_path / "merged") as part:
            fill(part, "shorter")
    assert read(tmp_path / "merged.v2") == {"a.txt": "longer", "b.txt": "longer"}
    assert read(tmp_path / "merged") == {"a.txt": "shorter", "b.txt": "shorter"}


def test_what_a_killed_writer_left_is_removed(tmp_path):
    left = tmp_path / ".target.abc.part"
    left.mkdir()
    (left / "a.txt").write_text("half")
    with whole_folder(tmp_path / "target") as part:
        fill(part, "whole")
    assert not left.exists()
