"""The compiled CPU kernel: what it promises beyond agreeing with the reference (test_attention.py has that)."""

import logging
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from kgt_lightning.ops import KeyGraph, available_implementations, build_key_graph, key_graph_attention
from kgt_lightning.ops.attention.native import split_heads
from kgt_lightning.ops.kernels import native_build

pytestmark = pytest.mark.skipif(
    native_build.why_unavailable() is not None, reason=f"no native kernel: {native_build.why_unavailable()}"
)


def make_inputs(*, window=6, width=20, windows=3, heads=2, dtype=torch.float32):
    """Views of one packed projection, as the model has them, and a bias table."""
    generator = torch.Generator().manual_seed(1)
    packed = torch.randn(windows, window**2, 3, heads, width, generator=generator, dtype=dtype)
    table = torch.randn(heads, (2 * window - 1) ** 2, generator=generator, dtype=dtype)
    graph = build_key_graph(torch.randn(windows, window**2, 5, generator=generator), 11)
    return packed, table, graph


def attend(packed, table, graph, *, impl="native"):
    """Output and the gradients of the packed projection and the table."""
    packed, table = packed.clone().requires_grad_(), table.clone().requires_grad_()
    q, k, v = packed.permute(2, 0, 3, 1, 4).unbind(0)
    out = key_graph_attention(q, k, v, graph, scale=q.shape[-1] ** -0.5, bias_table=table, impl=impl)
    merged = out.transpose(1, 2).flatten(2)
    weights = torch.linspace(-1, 1, merged.numel(), dtype=merged.dtype).view_as(merged)
    return [out.detach(), *torch.autograd.grad((merged * weights).sum(), [packed, table])]


@pytest.mark.parametrize("width", [1, 15, 16, 33, 48, 64, 65, 130])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_head_width(width, dtype):
    packed, table, graph = make_inputs(width=width, dtype=dtype)
    expected = attend(packed.double(), table.double(), graph, impl="reference")
    for ours, theirs in zip(attend(packed, table, graph), expected, strict=True):
        assert (ours - theirs).norm() / theirs.norm() < (1e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("k", [1, 15, 16, 17, 31, 32, 33, 100])
def test_every_length_of_list(k):
    generator = torch.Generator().manual_seed(2)
    q, k_, v = torch.randn(3, 1, 2, 100, 8, generator=generator)
    graph = build_key_graph(torch.randn(1, 100, 4, generator=generator), k)
    ours, theirs = (key_graph_attention(q, k_, v, graph, scale=1.0, impl=impl) for impl in ("native", "reference"))
    torch.testing.assert_close(ours, theirs)


def test_the_same_bits_twice_and_for_any_number_of_threads():
    packed, table, graph = make_inputs(window=12, windows=5)
    before = torch.get_num_threads()
    runs = []
    try:
        for threads in (1, 2, 2, 7):
            torch.set_num_threads(threads)
            runs.append(attend(packed, table, graph))
    finally:
        torch.set_num_threads(before)
    for other in runs[1:]:
        assert all(torch.equal(a, b) for a, b in zip(runs[0], other, strict=True))


def test_large_scores_stay_finite_and_small_weights_vanish():
    packed, table, graph = make_inputs()
    out, *grads = attend(packed * 100, table, graph)
    assert all(torch.isfinite(t).all() for t in (out, *grads))
    expected = attend(packed.double() * 100, table.double(), graph, impl="reference")[0]
    # Scores reach 1e5, where float32 resolves 1e-2: only nearly equal best neighbours may differ.
    assert (out - expected).norm() / expected.norm() < 1e-3


def test_a_bias_of_minus_infinity_removes_a_neighbour():
    packed, table, graph = make_inputs()
    table[:, ::3] = -torch.inf
    ours, theirs = (attend(packed, table, graph, impl=impl)[0] for impl in ("native", "reference"))
    torch.testing.assert_close(ours, theirs)


def test_nan_is_not_hidden():
    packed, table, graph = make_inputs()
    packed[0, 3] = torch.nan
    out = attend(packed, table, graph)[0]
    assert out[0, :, 3].isnan().all()
    assert not out[1:].isnan().any()


def test_no_windows_give_no_output_and_no_gradient():
    packed, table, graph = make_inputs()
    out, grad_packed, grad_table = attend(packed[:0], table, graph.windows(0, 0))
    assert out.shape == (0, 2, 36, 20)
    assert grad_packed.shape == (0, 36, 3, 2, 20)
    assert not grad_table.any()


def test_merging_the_heads_costs_no_copy():
    packed, table, graph = make_inputs()
    merged = attend(packed, table, graph)[0].transpose(1, 2)
    assert merged.is_contiguous()


@pytest.mark.parametrize("impl", ["native", "reference"])
def test_gradients_of_split_heads_are_those_of_views(monkeypatch, impl):
    packed, table, graph = make_inputs(dtype=torch.float64)
    stacked, stack = [], torch.stack
    monkeypatch.setattr(torch, "stack", lambda tensors: stacked.append(1) or stack(tensors))

    def gradient(split):
        leaf = packed.clone().requires_grad_()
        out = key_graph_attention(*split(leaf), graph, scale=0.3, bias_table=table, impl=impl)
        weights = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).view_as(out)
        return torch.autograd.grad((out * weights).sum(), leaf)[0]

    assert torch.equal(gradient(split_heads), gradient(lambda leaf: leaf.permute(2, 0, 3, 1, 4).unbind(0)))
    assert len(stacked) == (impl != "native")  # those of the kernel lie packed already


def test_split_heads_can_be_differentiated_twice():
    packed = torch.randn(1, 3, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    torch.autograd.gradgradcheck(lambda leaf: sum(t.square().sum() for t in split_heads(leaf)), packed)


def test_neighbours_outside_the_window_are_refused():
    q = torch.randn(1, 1, 4, 8)
    graph = KeyGraph(torch.tensor([[[0, 1], [1, 2], [2, 3], [3, 4]]]))
    with pytest.raises(ValueError, match=r"neighbours 0\.\.4 must lie in 0\.\.3"):
        key_graph_attention(q, q, q, graph, scale=1.0, impl="native")


def test_operators_follow_the_rules_of_torch_library():
    """Schema and fake tensors (torch.compile, torch.export), as PyTorch checks them; gradcheck has the gradients."""
    packed, table, graph = make_inputs(dtype=torch.float64)
    q, k, v = (t.detach().clone() for t in packed.permute(2, 0, 3, 1, 4).unbind(0))
    arguments = (q, k, v, graph.index32, table, torch.tensor([0.3, 2.0], dtype=torch.float64), True)
    torch.library.opcheck(torch.ops.kgt.native_attention.default, arguments)
    torch.library.opcheck(torch.ops.kgt.native_attention_backward.default, (torch.ones_like(q), *arguments))


RUNTIMES = """
import torch
from kgt_lightning.ops import build_key_graph, key_graph_attention
q = torch.randn(4, 2, 64, 8)
key_graph_attention(q, q, q, build_key_graph(torch.randn(4, 64, 3), 5), scale=1.0, impl="native")
mapped = {line.split()[-1] for line in open("/proc/self/maps") if "/" in line}
print(sum("libgomp" in path or "libomp" in path or "libiomp" in path for path in mapped))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="OpenMP is used on Linux only")
def test_torch_openmp_is_shared():
    """A second OpenMP runtime would bring a second pool of threads spinning on the same cores."""
    result = subprocess.run([sys.executable, "-c", RUNTIMES], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "1", result.stdout + result.stderr


@pytest.fixture
def fresh_build():
    """Building is remembered for the life of a process: forget it before and after."""
    for remembered in (native_build.build_problem, native_build.library):
        remembered.cache_clear()
    yield
    for remembered in (native_build.build_problem, native_build.library):
        remembered.cache_clear()


def test_built_once_and_kept(fresh_build, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with caplog.at_level(logging.INFO):
        native_build.library(double=False)
        native_build.library.cache_clear()
        native_build.library(double=False)
    assert caplog.text.count("compiled") == 1
    assert sorted(path.suffix for path in (tmp_path / "kgt_lightning").iterdir()) == [".sha256", ".so"]


@pytest.mark.parametrize("content", [b"", b"no library", None], ids=["empty", "foreign", "truncated"])
def test_a_damaged_library_is_built_again(fresh_build, monkeypatch, tmp_path, content):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native_build.library(double=False)
    (library,) = (tmp_path / "kgt_lightning").glob("*.so")
    whole = library.read_bytes()
    library.unlink()  # the loaded file itself stays as it is
    library.write_bytes(whole[: len(whole) // 2] if content is None else content)
    native_build.library.cache_clear()
    native_build.library(double=False)
    assert library.stat().st_size == len(whole)


def test_others_cannot_write_to_the_cache_folder(fresh_build, monkeypatch, tmp_path):
    folder = tmp_path / "kgt_lightning"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native_build.why_unavailable() is None
    assert folder.stat().st_mode & 0o777 == 0o700
    native_build.build_problem.cache_clear()
    native_build.library.cache_clear()
    monkeypatch.setattr("os.geteuid", lambda: folder.stat().st_uid + 1)
    assert "belongs to another user: set XDG_CACHE_HOME" in native_build.why_unavailable()


@pytest.mark.parametrize("home", ["", None])
def test_without_a_home_folder_another_implementation_is_taken(fresh_build, monkeypatch, home, caplog):
    def no_home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home if home is None else lambda: Path(home))
    packed, table, graph = make_inputs(window=5)
    with caplog.at_level(logging.INFO):
        attend(packed, table, graph, impl="auto")
    assert "native" not in available_implementations()
    assert "set XDG_CACHE_HOME" in native_build.why_unavailable()


def test_the_compiler_that_cc_names_is_taken(fresh_build, monkeypatch, tmp_path):
    compiler = tmp_path / "mine"
    compiler.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/calls\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", f"{compiler} -g0")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native_build.why_unavailable() is None
    assert "-g0 -std=gnu11" in (tmp_path / "calls").read_text()
    native_build.build_problem.cache_clear()
    native_build.library.cache_clear()
    monkeypatch.setenv("CC", "no-such-compiler")
    assert native_build.why_unavailable() == "CC=no-such-compiler is not installed: unset CC, or name a C compiler"


def test_without_a_compiler_auto_says_what_it_takes_instead(fresh_build, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    packed, table, graph = make_inputs(window=5)
    assert "native" not in available_implementations()
    with caplog.at_level(logging.INFO):
        attend(packed, table, graph, impl="auto")
    assert "auto chose mask (native is unavailable: no C compiler" in caplog.text
    with pytest.raises(ValueError, match=r"impl='native' is not available \(no C compiler.*choose auto or one of"):
        attend(packed, table, graph)


def test_a_compiler_that_fails_is_quoted(fresh_build, monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && exit 0\necho "native.c:1: error: no such target" >&2; exit 1\n'
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert native_build.why_unavailable() == "cc failed: native.c:1: error: no such target"


def test_a_cache_folder_that_cannot_be_written_is_named(fresh_build, monkeypatch, tmp_path):
    blocker = Path(tmp_path, "kgt_lightning")
    blocker.write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert str(blocker) in native_build.why_unavailable()
