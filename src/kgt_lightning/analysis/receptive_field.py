"""Which pixels a restored pixel comes from: the gradient of the restored image with respect to the degraded one."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor


def influence(
    restore: Callable[[Tensor], Tensor], image: Tensor, places: Sequence[tuple[int, int]]
) -> Iterator[Tensor]:
    """For each place how much every pixel of the image changes what is restored there: [H, W], its sum is 1.

    The absolute value of the gradient, summed over channels ("effective receptive field", arXiv 1701.04128). The choice
    of neighbours has no gradient: it is taken as made. ``restore`` makes [1, C', H*scale, W*scale] of [1, C, H, W], the
    image is [C, H, W], places are row and column in it.
    """
    given = image[None].detach().requires_grad_()
    with torch.enable_grad():
        restored = restore(given)
    scale = restored.shape[-1] // image.shape[-1]
    for row, column in places:
        [gradient] = torch.autograd.grad(restored[0, :, row * scale, column * scale].sum(), given, retain_graph=True)
        field = gradient[0].abs().sum(0)
        yield field / field.sum()


def radius(field: Tensor, place: tuple[int, int], *, share: float) -> float:
    """Distance in pixels from the place within which so large a share of the influence [H, W] lies."""
    rows, columns = (torch.arange(length, device=field.device) for length in field.shape)
    far = torch.hypot((rows - place[0]).double()[:, None], (columns - place[1]).double())
    order = far.flatten().argsort()
    within = field.flatten()[order].double().cumsum(0)
    return float(far.flatten()[order][(within < share * within[-1]).sum()])
