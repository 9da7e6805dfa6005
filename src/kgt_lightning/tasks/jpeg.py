"""JPEG compression under the name that users of the package import."""

from kgt_lightning.degradations.jpeg import compress

__all__ = ["compress"]
