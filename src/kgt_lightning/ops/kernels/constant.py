"""Marks functions whose answer torch.compile may take as a constant."""

from collections.abc import Callable
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def assume_constant_result(function: F) -> F:
    """The function itself, marked as by torch.compiler.assume_constant_result.

    That one imports torch._dynamo, which takes a second or two, in every command; its mark is this attribute.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function
