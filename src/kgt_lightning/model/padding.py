"""Padding to the sizes that a model takes."""

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

PadRule = Literal["reflect", "swinir", "grl"]


def pad_to_multiple(image: Tensor, multiple: int, *, rule: PadRule = "reflect", times: int = 1) -> Tensor:
    """Image [..., H, W] extended at the bottom and right to multiples of `multiple`; `[..., :H, :W]` crops it back.

    - "reflect": mirrored without repeating the edge, again and again where the image is smaller than the padding; to
      `times` multiples at least.
    - "swinir": mirrored with the edge repeated, always extended: to (n // multiple + 1) * multiple.
    - "grl": as "reflect", but zeros on both sides if one side is too short for a single reflection.

    Any dtype, differentiable; nothing is copied when nothing is to be added.

    Raises:
        ValueError: multiple below 1, an image without pixels, or an unknown rule.

    """
    if rule not in get_args(PadRule):
        raise ValueError(f"rule={rule!r} must be one of {', '.join(get_args(PadRule))}")
    height, width = image.shape[-2:]
    if multiple < 1 or height < 1 or width < 1:
        raise ValueError(f"multiple={multiple} and the image size {height} x {width} must be at least 1")
    if rule == "swinir":
        below, right = multiple - height % multiple, multiple - width % multiple
    else:
        below, right = (torch.sym_max(-side % multiple, multiple * times - side) for side in (height, width))
    if rule == "grl" and (below >= height or right >= width):
        return F.pad(image, (0, right, 0, below))
    for dim, added in ((-2, below), (-1, right)):
        # Of a size that torch.export keeps open it is not known whether anything is to be added.
        if not isinstance(added, int) or added:
            image = _extend(image, dim, multiple, times, repeat_edge=rule == "swinir")
    return image


def _extend(image: Tensor, dim: int, multiple: int, times: int, *, repeat_edge: bool) -> Tensor:
    length = image.shape[dim]
    count = length // multiple + 1 if repeat_edge else torch.sym_max((length + multiple - 1) // multiple, times)
    if not isinstance(count, int):
        # A number of its own: else torch.export would make differences between sizes that need no padding and others.
        count = torch.full((), count).item()
        torch._check(count >= times)
    padded = count * multiple
    position = torch.arange(padded, device=image.device)
    if repeat_edge:
        position = position % (2 * length)
        source = torch.minimum(position, 2 * length - 1 - position)
    else:
        # A tensor: torch.export takes a size that is kept open to be above 1, and would drop the bound.
        period = torch.full((), 2 * length - 2, device=image.device).clamp(min=1)
        position = position % period
        source = torch.minimum(position, (period - position) % period)
    return image.index_select(dim, source)
