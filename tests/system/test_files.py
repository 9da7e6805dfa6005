"""What a killed process leaves is removed, and nothing else; paths begin with a home folder."""

import fcntl
from pathlib import Path

import pytest

from kgt_lightning.system.files import alone_in, remove_leftovers, user_path, write_atomic

LEFT, WRITTEN, NEW = (f".{digit * 32}.part" for digit in "abc")


def test_leftovers_of_killed_writers_are_removed_and_nothing_of_anybody_else(tmp_path):
    others = [".mine.part", f"{'a' * 32}.part", f".{'a' * 32}.part.bak", "photo.png"]
    for name in (LEFT, WRITTEN, *others):
        (tmp_path / name).write_text("half")
    (tmp_path / NEW).touch()  # whose writer has not locked it yet
    (tmp_path / f".{'d' * 32}.part").symlink_to("photo.png")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / LEFT).write_text("half")
    with (tmp_path / WRITTEN).open("r+b") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
    left = sorted([WRITTEN, NEW, f".{'d' * 32}.part", "below", *others])
    assert sorted(path.name for path in tmp_path.iterdir()) == left
    assert (tmp_path / "below" / LEFT).exists()
    with alone_in(tmp_path):
        assert not (tmp_path / "below" / LEFT).exists()


def test_what_is_being_written_is_locked(tmp_path, monkeypatch):
    seen = []

    def replace(part, file):
        remove_leftovers(tmp_path)
        seen.append(part.read_text())

    monkeypatch.setattr("os.replace", replace)
    write_atomic(tmp_path / "a.txt", "whole")
    assert seen == ["whole"]


def test_a_path_may_begin_with_a_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert user_path("~/photos") == tmp_path / "photos"
    assert user_path("photos/~0") == Path("photos/~0")
    with pytest.raises(ValueError, match=r"^~0/a\.png begins with the home folder of no user: write \./~0/a\.png for"):
        user_path("~0/a.png")
