"""Mosaics and the filters that undo them under the names that users of the package import."""

from kgt_lightning.degradations.bayer import malvar, mosaic

__all__ = ["malvar", "mosaic"]
