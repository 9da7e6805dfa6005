"""Where Triton's kernels run in a test, and memory that shows when a result was not written."""

import pytest
import torch

CUDA = torch.cuda.is_available()


@pytest.fixture(
    params=[
        pytest.param("cpu", marks=pytest.mark.skipif(CUDA, reason="the interpreter is for machines without a GPU")),
        pytest.param("cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not CUDA, reason="needs a CUDA device")]),
    ],
    ids=["interpreter", "cuda"],
)
def triton_device(request, monkeypatch):
    """Device of the tensors: the CPU under Triton's interpreter, and the GPU for real.

    The kernels were imported in the root conftest, with the interpreter on where there is no GPU.
    """
    pytest.importorskip("triton")
    if request.param == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")
    return request.param


@pytest.fixture
def poisoned_memory(monkeypatch):
    """Fresh memory holds NaN, or large negative integers, until it is written."""

    def poisoned(make):
        def empty(*args, **kwargs):
            tensor = make(*args, **kwargs)
            return tensor.fill_(torch.nan if tensor.is_floating_point() else -(2**31))

        return empty

    monkeypatch.setattr(torch, "empty", poisoned(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poisoned(torch.empty_like))
