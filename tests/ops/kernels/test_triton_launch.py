"""Why a machine cannot run the Triton kernels."""

import pytest
import torch

from kgt_lightning.ops.kernels.triton_launch import why_unavailable

pytest.importorskip("triton")


def test_a_gpu_without_a_c_compiler(monkeypatch, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setenv("CC", "cc")
    assert why_unavailable() is None
    monkeypatch.delenv("CC")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert why_unavailable() == "there is no C compiler (gcc or clang), with which Triton builds its driver"
