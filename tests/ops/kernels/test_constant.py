"""The mark is the one that PyTorch's own decorator leaves."""

import torch

from kgt_lightning.ops.kernels.constant import assume_constant_result


def test_the_mark_is_that_of_pytorch():
    def ours() -> int:
        return 1

    def theirs() -> int:
        return 1

    assert vars(assume_constant_result(ours)) == vars(torch.compiler.assume_constant_result(theirs))
