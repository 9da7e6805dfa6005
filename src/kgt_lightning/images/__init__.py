"""Image files in and out, colour, MATLAB's resizing, tiled restoring."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgt_lightning.images.color import luma
    from kgt_lightning.images.resize import imresize

__all__ = ["imresize", "luma"]


def __getattr__(name: str) -> Any:
    """Import PyTorch only for what needs it: listing files does not."""
    if name == "luma":
        from kgt_lightning.images.color import luma

        return luma
    if name == "imresize":
        from kgt_lightning.images.resize import imresize

        return imresize
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
