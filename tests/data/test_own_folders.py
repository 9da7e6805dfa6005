"""kgt data check and leak of folders that are in no catalogue."""

import numpy as np
import pytest
from PIL import Image

from kgt_lightning.data.__main__ import main


@pytest.fixture
def folder(tmp_path):
    """Three images, two of them damaged in different ways, and one with the pixels of the third."""
    folder = tmp_path / "mine"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b", "c"):
        Image.fromarray(rng.integers(256, size=(64, 64, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    (folder / "d.png").write_bytes((folder / "c.png").read_bytes())
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:500])
    (folder / "b.png").write_bytes(b"text")
    return folder


def test_all_that_is_wrong_is_named_at_once(run_command, folder):
    code, output, _ = run_command(main, "check", str(folder))
    assert code == 1
    kinds = [line.split()[:2] for line in output.splitlines()[:-1]]
    assert kinds == [["unreadable", "a:"], ["unreadable", "b:"], ["duplicate", "d:"]]
    assert output.splitlines()[-1] == f"{folder}: 4 images, 3 wrong"


def test_a_leak_is_not_looked_for_among_damaged_files_which_are_all_named(run_command, folder, tmp_path):
    whole = tmp_path / "whole"
    whole.mkdir()
    (whole / "c.png").write_bytes((folder / "c.png").read_bytes())
    code, _, errors = run_command(main, "leak", str(folder), str(whole))
    assert code == 2
    assert "2 files cannot be compared" in errors
    assert "a.png" in errors
    assert "b.png" in errors
    for name in ("a", "b"):
        (folder / f"{name}.png").unlink()
    code, output, _ = run_command(main, "leak", str(folder), str(whole))
    assert code == 1
    assert output.startswith("exact")
