"""The Triton kernels against the float64 reference, output and all gradients, over sizes and types.

Ordinary runs take a few of all combinations; ``python tests/ops/attention/test_triton_sizes.py`` takes all, with one
head and one window under the interpreter where there is no GPU. Of N=1024 it takes every pair of k and width once.
"""

import itertools
import os
import sys
import time

import pytest
import torch

if __name__ == "__main__" and not torch.cuda.is_available():
    os.environ["TRITON_INTERPRET"] = "1"

from triton_cases import BF16, FP16, FP32, agrees_with_reference

pytest.importorskip("triton")

WIDTHS = (16, 30, 32, 64)

CASES = {
    "N64-k7-D30-fp32": {"window": 8, "k": 7, "width": 30, "dtype": FP32, "windows": 2, "heads": 2},
    "N64-k1-D16-fp32": {"window": 8, "k": 1, "width": 16, "dtype": FP32},
    "N64-kN-D32-fp16": {"window": 8, "k": 64, "width": 32, "dtype": FP16, "deterministic": True},
    "N81-k20-D30-fp16-duplicates": {"window": 9, "k": 20, "width": 30, "dtype": FP16, "duplicates": True},
    "N81-k33-D64-bf16": {"window": 9, "k": 33, "width": 64, "dtype": BF16, "deterministic": True},
    "N100-k50-D30-plain": {"window": 10, "k": 50, "width": 30, "dtype": FP32, "bias": False},
    "N36-k5-D100-fp32": {"window": 6, "k": 5, "width": 100, "dtype": FP32, "duplicates": True},
    "N289-k9-D16-fp32": {"window": 17, "k": 9, "width": 16, "dtype": FP32},
    # Columns of four tiles, whose lists hold more than one turn of the loop.
    "N1024-k8-D16-fp16": {"window": 32, "k": 8, "width": 16, "dtype": FP16},
}


@pytest.mark.slow
@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_agrees_with_reference(triton_device, case):
    agrees_with_reference(triton_device, **case)


def all_cases():
    """Arguments of every combination."""
    for window in (8, 16):
        nodes = window**2
        sizes = itertools.product((1, 7, nodes // 4, nodes), WIDTHS, (FP32, FP16, BF16), (False, True))
        for number, (k, width, dtype, duplicates) in enumerate(sizes):
            chosen = {"k": k, "width": width, "dtype": dtype, "duplicates": duplicates}
            yield {"window": window, **chosen, "deterministic": number % 5 == 0}
    for number, (k, width) in enumerate(itertools.product((1, 24, 256, 1024), WIDTHS)):
        dtype = (FP32, FP16, BF16)[number % 3]
        yield {"window": 32, "k": k, "width": width, "dtype": dtype, "duplicates": (number + number // 4) % 2 == 1}


if __name__ == "__main__":
    start, failed = time.monotonic(), 0
    device = "cuda" if torch.cuda.is_available() else "cpu"
    for number, case in enumerate(all_cases(), 1):
        try:
            agrees_with_reference(device, **case)
        except AssertionError as error:
            failed += 1
            print(f"{case}: {error}", flush=True)
        if number % 16 == 0:
            print(f"{number} combinations, {failed} failed, {time.monotonic() - start:.0f} s", flush=True)
    print(f"{number} combinations in all, {failed} failed")
    sys.exit(failed > 0)
