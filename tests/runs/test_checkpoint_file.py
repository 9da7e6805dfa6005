import resource
import zipfile
from collections import OrderedDict

import pytest
import torch

from kgt_lightning.runs.checkpoint_file import read_content


@pytest.fixture(scope="module")
def content(trained):
    return torch.load(trained, weights_only=True)


def refused(content, file):
    torch.save(content, file)
    with pytest.raises(ValueError, match=r"^checkpoint=") as error:
        read_content(file, where=f"checkpoint={file}")
    [line] = str(error.value).splitlines()
    assert line.startswith(f"checkpoint={file}")
    assert "weights_only" not in line, "PyTorch's advice to load it unsafely"
    return line


def of_itself():
    found = []
    found.append(found)
    return found


def doubling():
    found = [1]
    for _ in range(40):
        found = [found, found]
    return found


@pytest.mark.parametrize(
    ("part", "make", "message"),
    [
        ("state_dict", lambda s: list(s.values()), "state_dict is a list: it must map names to weights"),
        ("state_dict", lambda s: {f"module.{k}": v for k, v in s.items()}, "begin with module., as DataParallel"),
        (
            "state_dict",
            lambda s: {k: v * torch.nan for k, v in s.items()},
            "holds values that are not finite: the training had diverged",
        ),
        ("state_dict", lambda s: {**s, "x": torch.ones(1).expand(10**6, 10**6)}, "x is no tensor of weights"),
        ("state_dict", lambda s: {**s, "x": "text"}, "x is no tensor of weights"),
        ("state_dict", lambda s: {**s, None: torch.ones(1)}, "None is no tensor of weights"),
        ("state_dict", lambda s: {**s, "x": torch.ones(1).to(torch.float8_e4m3fn)}, "x is no tensor of weights"),
        ("state_dict", lambda s: {**s, "x": torch.ones(1, dtype=torch.complex64)}, "x is no tensor of weights"),
        ("global_step", lambda s: "many", "global_step='many' is no number of steps"),
        ("config", lambda c: {**c, "data": [1]}, "carries no configuration: it was not written by kgt_lightning.train"),
        ("config", lambda c: {**c, "x": of_itself()}, "config.x is no text, number, list or mapping"),
        ("config", lambda c: {**c, "x": doubling()}, "has more than 100000 values"),
        ("config", lambda c: {**c, "x": torch.ones(2)}, "config.x is no text, number, list or mapping"),
        ("config", lambda c: {**c, "x": torch.Size([1])}, "config.x is no text, number, list or mapping"),
        ("config", lambda c: {**c, "x": OrderedDict(a=1)}, "config.x is no text, number, list or mapping"),
    ],
    ids=[
        *("list", "module.", "nan", "view", "text", "name", "float8", "complex"),
        *("step", "section", "itself", "doubling", "tensor", "size", "ordered"),
    ],
)
def test_what_others_write_is_said_in_a_line(content, tmp_path, part, make, message):
    assert message in refused({**content, part: make(content[part])}, tmp_path / "other.ckpt")


def test_what_a_file_of_others_holds_is_named(tmp_path):
    assert "(it holds params, ema)" in refused({"params": {}, "ema": {}}, tmp_path / "other.ckpt")


def test_a_changed_byte_is_found(content, trained, tmp_path):
    data = trained.read_bytes()
    weight = max(content["state_dict"].values(), key=lambda weight: weight.numel()).numpy().tobytes()
    place = data.index(weight) + 5
    (tmp_path / "flipped.ckpt").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
    with pytest.raises(ValueError, match=r"flipped\.ckpt cannot be read.*has changed"):
        read_content(tmp_path / "flipped.ckpt", where="flipped.ckpt")


def test_a_small_file_takes_little_memory(content, tmp_path):
    """Two files that PyTorch would make 16 GB of: compressed zeros, and a bytearray of a size."""
    torch.save({**content, "x": torch.zeros(2**20)}, tmp_path / "plain.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "plain.ckpt") as plain,
        zipfile.ZipFile(tmp_path / "bomb.ckpt", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in plain.namelist():
            bomb.writestr(name, plain.read(name))
    pickled = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x04\x85R."
    with zipfile.ZipFile(tmp_path / "bytes.ckpt", "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        archive.writestr("x/version", "3\n")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for name, reason in (("bomb", "its parts are compressed"), ("bytes", "it holds a bytearray")):
        with pytest.raises(ValueError, match=rf"{name}\.ckpt cannot be read.*{reason}"):
            read_content(tmp_path / f"{name}.ckpt", where=f"{name}.ckpt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + 100_000
