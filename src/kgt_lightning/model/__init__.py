"""The Key-Graph Transformer in plain PyTorch: backbone, layouts and heads."""

from kgt_lightning.model.conv_ushape import ConvUShape
from kgt_lightning.model.heads import PixelShuffleHead, ResidualHead
from kgt_lightning.model.kgt import KGT, Restorer
from kgt_lightning.model.layouts import Columnar, UShape
from kgt_lightning.model.stage import Stage

__all__ = ["KGT", "Columnar", "ConvUShape", "PixelShuffleHead", "ResidualHead", "Restorer", "Stage", "UShape"]
