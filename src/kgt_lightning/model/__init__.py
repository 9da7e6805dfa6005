"""The Key-Graph Transformer in plain PyTorch: backbone, layouts and heads."""

from kgt_lightning.model.backbone import Backbone
from kgt_lightning.model.conv_ushape import ConvUShape
from kgt_lightning.model.heads import HeadFactory, PixelShuffleHead, ResidualHead
from kgt_lightning.model.kgt import KGT, Restorer
from kgt_lightning.model.layouts import Columnar, UShape
from kgt_lightning.model.stage import KeyGraphAttention, Stage

__all__ = [
    "KGT",
    "Backbone",
    "Columnar",
    "ConvUShape",
    "HeadFactory",
    "KeyGraphAttention",
    "PixelShuffleHead",
    "ResidualHead",
    "Restorer",
    "Stage",
    "UShape",
]
