"""Checkpoints that are damaged, or made to do harm: refused in one line that names the file, or of use."""

import collections
import copy
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
from omegaconf import OmegaConf
from PIL import Image

from kgt_lightning import evaluate, restore
from kgt_lightning.images.files import read_shape
from kgt_lightning.runs.weights import ENTRY, weights_content

GB = 1 << 30
NOT_FINITE = "photo.png: the model computed values that are not finite"
BIG = 10**9


def deep(levels: int, make):
    node = make(0)
    for _ in range(levels):
        node = make(node)
    return node


def endless():
    node = []
    node.append(node)
    return node


ODD = {
    "nothing": None,
    "truth": True,
    "minus": -1,
    "zero": 0,
    "huge": 2**70,
    "nan": float("nan"),
    "inf": float("inf"),
    "no text": "",
    "text": "text",
    "lookup": "${oc.env:HOME}",
    "lines": "a\nerror: b",
    "surrogate": "\ud800",
    "program": "os.system",
    "own function": "kgt_lightning.restore.main",
    "list": [],
    "numbers": [0, -1, 1e9],
    "lists": [[]],
    "many": [0] * 200_000,
    "mapping": {},
    "target": {"_target_": "os.system", "_args_": ["touch hacked"]},
    "numbered": {1: 2},
    "tuple": (1, (2,)),
    "bytes": b"bytes",
    "set": {1},
    "counter": collections.Counter("ab"),
    "ordered": collections.OrderedDict(a=1),
    "complex": 1j,
    "dtype": torch.float16,
    "shape": torch.Size([1]),
    "device": torch.device("cuda:7"),
    "deep": deep(300, lambda node: [node]),
    "endless": endless(),
    "empty": torch.empty(0),
    "scalar": torch.tensor(1.0),
    "whole": torch.ones(3, dtype=torch.int64),
    "truths": torch.ones(3, dtype=torch.bool),
    "half": torch.ones(3, dtype=torch.float16),
    "complex weights": torch.ones(3, dtype=torch.complex64),
    "sparse": torch.eye(3).to_sparse(),
    "rows": torch.eye(3).to_sparse_csr(),
    "meta": torch.empty(BIG, BIG, device="meta"),
    "stretched": torch.zeros(1).expand(BIG, 3),
    "quantised": torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
    "float8": torch.ones(3).to(torch.float8_e4m3fn),
    "nan weights": torch.full((3,), float("nan")),
    "large weights": torch.full((3,), 3e38),
    "parameter": torch.nn.Parameter(torch.ones(3)),
    "gradient": torch.ones(3, requires_grad=True),
}
KEYS = ["_target_", "_partial_", "_recursive_", "_convert_", "_args_", "", "a.b", "key", 7, -1]
OTHER_KEYS = [*KEYS, None, True, 1.5, (1, 2), deep(5000, lambda node: (node,))]
SHORT = st.binary(max_size=6)
# Of pickle, as torch's own unpickler knows them: what is called, what it is called with, and what is built.
NAMES = [
    b"cos\nsystem\n",
    b"cbuiltins\neval\n",
    b"cbuiltins\nbytearray\n",
    b"cbuiltins\nset\n",
    b"ccollections\nOrderedDict\n",
    b"ccollections\nCounter\n",
    b"c_codecs\nencode\n",
    b"ctorch\nFloatTensor\n",
    b"ctorch\nFloatStorage\n",
    b"ctorch\nSize\n",
    b"ctorch\ndevice\n",
    b"ctorch\nTensor\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch._utils\n_rebuild_meta_tensor_no_storage\n",
    b"ctorch._utils\n_rebuild_sparse_tensor\n",
    b"ctorch._utils\n_rebuild_parameter\n",
    b"ctorch._tensor\n_rebuild_from_type_v2\n",
    b"ckgt_lightning.train\nmain\n",
]
INTEGER = st.sampled_from([0, 1, -1, 7, 2**31 - 1]).map(lambda number: b"J" + struct.pack("<i", number))
LONG = st.binary(max_size=9).map(lambda number: b"\x8a" + bytes([len(number)]) + number)
TEXT = st.one_of(SHORT, st.sampled_from([b"storage", b"cpu", b"0", b"config", b"state_dict"])).map(
    lambda text: b"X" + struct.pack("<I", len(text)) + text
)
STORAGE = st.just(b"(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" + b"0X\3\0\0\0cpuJ\xff\xff\xff\x7ftQ")
WORD = st.one_of(
    st.sampled_from(NAMES),
    st.sampled_from(
        [*map(bytes, zip(b"(})]tausb0eRQN\x81\x88\x89\x85\x86\x87.")), b"q\0", b"h\0", b"h\x09", b"\x80\2"]
    ),
    INTEGER,
    LONG,
    TEXT,
    STORAGE,
    SHORT,
)


def walk(node, path=()):
    """Paths of all places in nested mappings and lists; one of the odd ones has no end."""
    yield path
    if isinstance(node, (dict, list)) and len(path) < 8:
        for key in node if isinstance(node, dict) else range(len(node)):
            yield from walk(node[key], (*path, key))


def changed(content, path, change):
    """The content after its place has been changed: change(of what is around it, key)."""
    content = copy.copy(content)
    node = content
    for key in path[:-1]:
        node[key] = copy.copy(node[key])
        node = node[key]
    change(node, path[-1])
    return content


@st.composite
def wrong_content(draw, content):
    """The content of a checkpoint with up to three places that hold something else, more, or nothing."""
    for _ in range(draw(st.integers(1, 3))):
        path = draw(st.sampled_from([each for each in walk(content) if each]))
        value = ODD[draw(st.sampled_from(sorted(ODD)))]
        keys = OTHER_KEYS if path[0] == "state_dict" else KEYS
        kind = draw(st.sampled_from(["other", "other", "none", "more"]))
        if kind == "other":
            content = changed(content, path, lambda node, key, value=value: node.__setitem__(key, value))
        elif kind == "none":
            content = changed(content, path, lambda node, key: node.__delitem__(key))
        else:
            new = draw(st.sampled_from(range(len(keys))))
            path = (*path[:-1], keys[new])
            content = changed(
                content,
                path,
                lambda node, key, value=value: (
                    node.append(value) if isinstance(node, list) else node.update({key: value})
                ),
            )
    return content


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
    except UnicodeEncodeError:  # not every text can be pickled
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
