"""Checkpoints that are damaged, or made to do harm: refused in one line that names the file, or of use."""

import io
import json
import shutil
import struct
import zipfile

import numpy as np
import pytest
import torch
from damage import damaged, fewer
from hydra.utils import instantiate
from hypothesis import given
from hypothesis import strategies as st
from invariants import run
from odd_contents import WORD, wrong_content
from omegaconf import OmegaConf
from PIL import Image

from kgt_lightning import evaluate, restore
from kgt_lightning.images.files import read_shape
from kgt_lightning.runs.weights import ENTRY, weights_content

GB = 1 << 30
NOT_FINITE = "photo.png: the model computed values that are not finite"


def saved(content) -> bytes:
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


def with_members(archive: bytes, change, *, compression=zipfile.ZIP_STORED) -> bytes:
    """The archive with changed members, whose checksums are right: change(name, content)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(stream, "w", compression) as new:
        for member in old.infolist():
            new.writestr(member.filename, change(member.filename, old.read(member)), compression)
    return stream.getvalue()


@pytest.fixture(scope="module")
def content(tiny, tmp_path_factory):
    """Of a checkpoint, in its briefest form."""
    config = tiny(tmp_path_factory.mktemp("run"))
    resolved = OmegaConf.to_container(config, resolve=True)
    return {"config": resolved, "state_dict": dict(instantiate(config.module).state_dict()), "global_step": 4}


class File(bytes):
    """One that is not printed with every failure."""

    def __repr__(self):
        return f"<{len(self)} bytes>"


@pytest.fixture(scope="module")
def checkpoint(content):
    return File(saved(content))


@pytest.fixture(scope="module")
def safetensors(content):
    return File(weights_content(state=content["state_dict"], config=content["config"], step=4))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "photo.png")
    return folder


@pytest.fixture
def load(folder, photo_root, monkeypatch):
    """Gives a file to a command, which must refuse it by name, or do what it is for: what came out, None if nothing."""
    # A test begins when what it needs is built; here it ends there.
    monkeypatch.setattr(evaluate, "run_in_ranks", lambda *_: True)

    def give(file: bytes, *, suffix: str = ".ckpt", command=restore, memory=GB):
        (folder / f"model{suffix}").write_bytes(file)
        output = folder / "restored"
        shutil.rmtree(output, ignore_errors=True)
        rest = ["input=photo.png", "output=restored"] if command is restore else [f"data_root={photo_root}"]
        checkpoint = f"checkpoint=model{suffix}"
        outcome = run(
            command.main, checkpoint, *rest, "device=cpu" if command is restore else "trainer.accelerator=cpu",
            folder=folder, named=[checkpoint, NOT_FINITE], may_change=["outputs", "restored"], memory=memory,
        )  # fmt: skip
        if command is restore and outcome.code == 0:
            assert read_shape(output / "photo.png") == (3, 8, 8)
        else:
            assert not output.exists()
        return outcome

    return give


def test_the_undamaged_ones_are_of_use(load, checkpoint, safetensors):
    for command in (restore, evaluate):
        assert load(checkpoint, command=command).code == 0
        assert load(safetensors, suffix=".safetensors", command=command).code == 0
    assert load(with_members(checkpoint, lambda name, member: member)).code == 0


@fewer(2)
@given(data=st.data())
def test_damaged_files(load, checkpoint, safetensors, data):
    suffix = data.draw(st.sampled_from([".ckpt", ".safetensors"]))
    file = {".ckpt": checkpoint, ".safetensors": safetensors}[suffix]
    load(data.draw(damaged(file)), suffix=suffix)


@fewer(2)
@given(data=st.data())
def test_damaged_members_whose_checksums_are_right(load, checkpoint, data):
    names = zipfile.ZipFile(io.BytesIO(checkpoint)).namelist()
    pickled = next(name for name in names if name.endswith("data.pkl"))
    which = data.draw(st.one_of(st.just(pickled), st.sampled_from(names)))
    load(with_members(checkpoint, lambda name, member: data.draw(damaged(member)) if name == which else member))


@fewer(2)
@given(words=st.lists(WORD, max_size=12), data=st.data())
def test_hostile_pickles(load, folder, checkpoint, words, data):
    """Words alone, or in the midst of the pickle of a checkpoint."""
    place = data.draw(st.one_of(st.none(), st.integers(0, 2000)))

    def with_words(name, member):
        if not name.endswith("data.pkl"):
            return member
        if place is None:
            return b"\x80\2" + b"".join(words) + b"."
        return member[:place] + b"".join(words) + member[place:]

    load(with_members(checkpoint, with_words))
    assert not (folder / "hacked").exists()


@fewer(2)
@given(data=st.data())
def test_wrong_types_inside(load, folder, content, data):
    command = data.draw(st.sampled_from([restore, evaluate]))
    try:
        file = saved(data.draw(wrong_content(content)))
    except (UnicodeEncodeError, RecursionError):  # not every text can be pickled, nor lists of any depth
        return
    load(file, command=command)
    assert not (folder / "hacked").exists()


@fewer(2)
@given(data=st.data())
def test_wrong_types_inside_safetensors(load, folder, safetensors, data):
    """In what JSON says of the run, and of where the weights lie."""
    (size,) = struct.unpack("<Q", safetensors[:8])
    header = json.loads(safetensors[8 : 8 + size])
    told = {**header["__metadata__"], ENTRY: json.loads(header["__metadata__"][ENTRY])}
    wrong = data.draw(wrong_content({**header, "__metadata__": told}))
    metadata = wrong.get("__metadata__")
    if isinstance(metadata, dict) and not isinstance(metadata.get(ENTRY, ""), str):
        wrong = {**wrong, "__metadata__": {**metadata, ENTRY: _json(metadata[ENTRY])}}
    text = _json(wrong).encode(errors="surrogatepass")
    file = struct.pack("<Q", len(text)) + text + safetensors[8 + size :]
    load(file, suffix=".safetensors", command=data.draw(st.sampled_from([restore, evaluate])))
    assert not (folder / "hacked").exists()


def _json(node) -> str:
    try:
        return json.dumps(node, default=str)
    except (ValueError, TypeError):  # an endless list, keys that are tuples
        return "{}"


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_what_is_far_larger_inside_is_refused_before_it_is_unpacked(load, checkpoint, compression):
    """A fiftieth of the memory that is allowed as a file, thrice of it inside."""
    zeros = bytes(64 << 20)

    stream = io.BytesIO(checkpoint)
    with zipfile.ZipFile(stream, "a", compression) as archive:
        for number in range(3):
            archive.writestr(f"archive/data/{100 + number}", zeros, compression)
    assert len(stream.getvalue()) < 4 << 20
    outcome = load(stream.getvalue(), memory=64 << 20)
    assert outcome.code == 2
    assert "its parts are compressed, as no training writes them" in outcome.error
