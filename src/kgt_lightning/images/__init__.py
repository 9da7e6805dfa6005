"""Image files in and out, colour, MATLAB's resizing, tiled restoring."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kgt_lightning.images.color import luma
    from kgt_lightning.images.resize import imresize

__all__ = ["imresize", "luma"]


def __getattr__(name: str) -> Any:
    """Import PyTorch only for what needs it: listing files does not."""
    if name in __all__:
        return getattr(import_module(f"{__name__}.{'color' if name == 'luma' else 'resize'}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
