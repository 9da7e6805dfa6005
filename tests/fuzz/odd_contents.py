"""What no checkpoint of ours holds: odd values in every place of one, and words of pickles."""

import collections
import copy
import struct

import torch
from hypothesis import strategies as st

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
                    node.append(value) if isinstance(node, list) else node.__setitem__(key, value)
                ),
            )
    return content
