"""A whole model as one graph, for images of any height and width."""

import io

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from kgt_lightning.model import KeyGraphAttention
from kgt_lightning.model.padding import pad_to_multiple
from kgt_lightning.training.module import RestorationModule

SIZES = ((64, 64), (97, 131), (512, 512), (640, 360), (1, 1))
"""Heights and widths at which a file is compared with PyTorch."""

TOLERANCE = 1e-4
"""Of values in 0..1."""


class FromImageToImage(nn.Module):
    """Restored image [1, channels, H*scale, W*scale] in [0, 1] of a degraded one [1, degraded_channels, H, W]."""

    def __init__(self, module: RestorationModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, input: Tensor) -> Tensor:
        """Restored image, with everything that has to happen to a picture inside: padding, cropping, clipping."""
        height, width = (side * self.module.network.scale for side in input.shape[-2:])
        # Twice at least: a mosaic of 2 x 2 pixels is too small to be developed.
        whole = pad_to_multiple(input, self.module.grid, times=2) if self.module.grid > 1 else input
        return self.module(whole)[..., :height, :width].clamp(0, 1)


class FixedBias(nn.Module):
    """The table that a position bias has learned, instead of the network that makes it."""

    table: Tensor

    def __init__(self, table: Tensor) -> None:
        super().__init__()
        self.register_buffer("table", table)

    def forward(self) -> Tensor:
        """Bias table as of :class:`PositionBias`."""
        return self.table


def make_program(module: RestorationModule) -> ExportedProgram:
    """The module as a graph of :class:`FromImageToImage`, height and width left open; its position biases are fixed."""
    for layer in module.modules():
        if isinstance(layer, KeyGraphAttention):
            layer.position = FixedBias(layer.position().detach().contiguous())
    example = torch.rand(1, module.degraded_channels, 70, 100)
    sizes = {2: Dim("height", min=1), 3: Dim("width", min=1)}
    with torch.no_grad():
        return torch.export.export(FromImageToImage(module).eval(), (example,), dynamic_shapes={"input": sizes})


def picture(channels: int, height: int, width: int) -> Tensor:
    """Smooth colours with noise [1, channels, height, width] in [0, 1], the same every time."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, channels, 9, 9, generator=generator)
    smooth = nn.functional.interpolate(coarse, size=(height, width), mode="bilinear")
    return (smooth + 0.05 * torch.randn(smooth.shape, generator=generator)).clamp(0, 1)


def to_bytes(program: ExportedProgram, module: RestorationModule) -> bytes:
    """Content of a file for ``torch.export.load``, which needs nothing of the package but ``kgt_lightning.ops``.

    Raises:
        ValueError: if what is loaded again differs from the module.

    """
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    buffer.seek(0)
    loaded, expected = torch.export.load(buffer).module(), FromImageToImage(module)
    for height, width in SIZES:
        image = picture(module.degraded_channels, height, width)
        with torch.no_grad():
            difference = float((loaded(image) - expected(image)).abs().max())
        if difference > TOLERANCE:
            raise ValueError(f"the program differs by {difference:.2g} at {height}x{width}: it is not written")
    return buffer.getvalue()
