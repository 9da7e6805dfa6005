import errno

import pytest
import torch

from kgt_lightning.system.files import checksum_error
from kgt_lightning.training.checkpoint_io import AtomicCheckpointIO, newest_intact


@pytest.fixture
def save(tmp_path):
    def write(name, content=None):
        AtomicCheckpointIO().save_checkpoint(content or {"weights": torch.arange(1000.0)}, tmp_path / name)
        return tmp_path / name

    return write


def test_a_checkpoint_is_read_back_and_nothing_else_is_left(save, tmp_path):
    content = torch.load(save("folder/last.ckpt"), weights_only=True)
    assert torch.equal(content["weights"], torch.arange(1000.0))
    assert [file.name for file in (tmp_path / "folder").iterdir()] == ["last.ckpt"]


def test_a_full_disk_leaves_the_checkpoint_that_was_there(save, tmp_path, monkeypatch):
    path = save("last.ckpt")
    before = path.read_bytes()

    def full(checkpoint, stream):
        stream.write(b"PK")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        save("last.ckpt")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("length", [0, 10, 1000, -100])
def test_a_cut_file_is_damaged(save, length):
    path = save("last.ckpt")
    path.write_bytes(path.read_bytes()[:length])
    assert checksum_error(path)


def test_one_changed_bit_of_a_weight_is_damage_which_loading_does_not_notice(save):
    path = save("last.ckpt")
    assert checksum_error(path) is None
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 5] ^= 1
    path.write_bytes(content)
    assert not torch.equal(torch.load(path, weights_only=True)["weights"], torch.arange(1000.0))
    assert "data/0 in it has changed" in checksum_error(path)


def test_the_newest_intact_checkpoint_is_taken(save, tmp_path, caplog):
    assert newest_intact(tmp_path) is None
    previous, last = save("previous.ckpt"), save("last.ckpt")
    assert newest_intact(tmp_path) == last
    last.write_bytes(b"")
    assert newest_intact(tmp_path) == previous
    assert f"{last} is damaged (File is not a zip file)" in caplog.text
    last.unlink()  # as a kill between two renamings leaves it
    assert newest_intact(tmp_path) == previous


def test_if_all_are_damaged_it_is_said(tmp_path):
    (tmp_path / "last.ckpt").touch()
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read"):
        newest_intact(tmp_path)
