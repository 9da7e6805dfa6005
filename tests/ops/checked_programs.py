"""Launches under Triton's interpreter with what a GPU would not say: each is checked, access by access.

Programs run in random order. Every load and store must meet an element of a tensor that the kernel was given, exactly;
no place may be read before it was set; rows must begin where the kernel promises the compiler they do; and what one
program writes no other may read or write, but for atomic additions.
"""

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.ops.kernels.triton_launch import Launch


def addresses_of(tensor: Tensor) -> np.ndarray:
    """Addresses of the elements."""
    offsets = np.zeros(1, np.int64)
    for size, stride in zip(tensor.shape, tensor.stride(), strict=True):
        offsets = np.add.outer(offsets, np.arange(size) * stride).ravel()
    return (tensor.data_ptr() + offsets * tensor.element_size()).astype(np.uint64)


def among(values: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Which of the values are among the known, which are sorted."""
    if not known.size:
        return np.zeros(values.shape, bool)
    return known[np.searchsorted(known, values).clip(max=known.size - 1)] == values


class CheckedPrograms:
    """Replaces the interpreter's access to memory, and how launches are run, until monkeypatch undoes it."""

    def __init__(self, monkeypatch, builder, *, seed=0):
        self.random = np.random.default_rng(seed)
        self.fresh: list[Tensor] = []
        """Tensors made by torch.empty, held so that no other takes their place."""
        self.starts, self.ends, self.flags = np.zeros(0, np.uint64), np.zeros(0, np.uint64), np.zeros(0, bool)
        """Addresses of their memory, in rising order, and which of its bytes were set, one after the other."""
        self.launches: list[str] = []
        self.builder, self.original = builder, {}
        for name in ("set_grid_idx", "create_masked_load", "create_masked_store", "create_atomic_rmw"):
            self.original[name] = getattr(builder, name)
            monkeypatch.setattr(builder, name, getattr(self, name))
        run, empty, empty_like = Launch.run, torch.empty, torch.empty_like
        monkeypatch.setattr(Launch, "run", lambda launch: self.run(launch, run))
        monkeypatch.setattr(torch, "empty", lambda *size, **options: self.note(empty(*size, **options)))
        monkeypatch.setattr(torch, "empty_like", lambda *like, **options: self.note(empty_like(*like, **options)))

    def note(self, tensor: Tensor) -> Tensor:
        size = tensor.untyped_storage().nbytes()
        if size and not tensor.is_meta:
            start = np.uint64(tensor.untyped_storage().data_ptr())
            at = int(np.searchsorted(self.starts, start))
            self.flags = np.insert(self.flags, int(self.offsets()[at]), np.zeros(size, bool))
            self.starts = np.insert(self.starts, at, start)
            self.ends = np.insert(self.ends, at, start + np.uint64(size))
            self.fresh.append(tensor)
        return tensor

    def offsets(self) -> np.ndarray:
        """Where the flags of each fresh tensor begin, and where they end."""
        return np.concatenate([np.zeros(1, np.uint64), np.cumsum(self.ends - self.starts, dtype=np.uint64)])

    def run(self, launch: Launch, run) -> None:
        tensors = [value for value in launch.arguments.values() if isinstance(value, Tensor)]
        self.allowed = np.unique(np.concatenate([addresses_of(tensor) for tensor in tensors]))
        self.order = self.random.permutation(launch.programs)
        self.launch_offsets = self.offsets()
        self.faults: list[str] = []
        self.reads, self.writes, self.atomics = [], [], []
        run(launch)
        self.find_races()
        name = launch.kernel.__name__
        self.launches.append(name)
        assert not self.faults, f"{name}: {'; '.join(dict.fromkeys(self.faults))}"

    def set_grid_idx(self, x, y, z):
        self.program = int(self.order[x])
        self.original["set_grid_idx"](self.program, y, z)

    def create_masked_load(self, pointers, mask, *others):
        mask = self.checked(pointers, mask, "reads", self.reads)
        if not self.flags[self.places(pointers.data[mask.data])].all():
            self.faults.append("reads what nothing has set")
        return self.original["create_masked_load"](pointers, mask, *others)

    def create_masked_store(self, pointers, value, mask, *others):
        mask = self.checked(pointers, mask, "writes", self.writes)
        self.flags[self.places(pointers.data[mask.data])] = True
        return self.original["create_masked_store"](pointers, value, mask, *others)

    def create_atomic_rmw(self, operation, pointers, value, mask, *others):
        mask = self.checked(pointers, mask, "adds", self.atomics)
        return self.original["create_atomic_rmw"](operation, pointers, value, mask, *others)

    def checked(self, pointers, mask, what, log):
        """The mask without what lies outside, so that the test goes on to its end."""
        active = np.broadcast_to(mask.data, pointers.data.shape)
        inside = among(pointers.data, self.allowed)
        if (active & ~inside).any():
            self.faults.append(f"{what} outside its tensors")
        bytes_ = pointers.attr.get("tt.divisibility", [1])[-1]
        if pointers.data.ndim == 2 and (pointers.data[:, 0] % bytes_).any():
            self.faults.append(f"{what} rows that do not begin at multiples of {bytes_} bytes")
        active = active & inside
        log.append((self.program, pointers.data[active]))
        return type(mask)(active, mask.dtype)

    def places(self, addresses):
        """Places among the flags of those addresses that point into fresh tensors."""
        if not self.fresh:
            return np.zeros(0, np.int64)
        tensor = np.searchsorted(self.starts, addresses, side="right").astype(np.int64) - 1
        there = (tensor >= 0) & (addresses < self.ends[tensor])
        tensor, addresses = tensor[there], addresses[there]
        return (self.launch_offsets[tensor] + addresses - self.starts[tensor]).astype(np.int64)

    def find_races(self):
        def joined(log):
            programs = [np.full(addresses.size, program) for program, addresses in log]
            both = np.stack([np.concatenate([np.zeros(0, np.uint64), *(addresses for _, addresses in log)]),
                             np.concatenate([np.zeros(0, np.int64), *programs]).astype(np.uint64)])  # fmt: skip
            return np.unique(both, axis=1)

        (written, writer), (read, reader) = joined(self.writes), joined(self.reads)
        if (written[1:] == written[:-1]).any():
            self.faults.append("two programs write to one place")
        seen = among(read, written)
        if written.size and (writer[np.searchsorted(written, read[seen])] != reader[seen]).any():
            self.faults.append("a program reads what another writes")
        added, _ = joined(self.atomics)
        if among(added, written).any() or among(added, read).any():
            self.faults.append("a place is added to and read or written")
