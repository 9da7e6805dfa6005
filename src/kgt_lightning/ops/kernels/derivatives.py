"""What the compiled attentions share in being differentiated: once, in reverse, also by torch.func and under vmap."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class ReverseOnly(torch.autograd.Function):
    """An operation with gradients of its own, whose forward and backward torch.vmap can take apart.

    Its forward names every input, also those that the backward alone takes: torch.compile counts them, and takes no
    ``*inputs``. PyTorch refuses forward mode (jvp), because none is defined; torch.compile would take no operation that
    refuses it in its own words.
    """

    generate_vmap_rule = True


class Gradients(ReverseOnly):
    """The gradients of an operation, as an operation that has none itself."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        """Keep nothing."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> None:
        """Refuse second derivatives.

        Raises:
            ValueError: always.

        """
        raise ValueError("a second derivative is not possible with impl='native' or 'triton': choose gather or mask")


def one_by_one(operation: Callable[..., Any]) -> Callable[..., Any]:
    """Rule by which torch.vmap runs an operation of torch.library: once for each element of the batch."""

    def rule(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[Any, Any]:
        given = list(zip(arguments, in_dims, strict=True))
        results = [
            operation(*(each if dim is None else each.select(dim, i) for each, dim in given))
            for i in range(info.batch_size)
        ]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(map(torch.stack, zip(*results, strict=True))), (0,) * len(results[0])

    return rule
