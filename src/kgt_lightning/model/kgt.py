"""The Key-Graph Transformer: a backbone from image to features, and the whole restorer around it."""

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal, Protocol

import torch
from annotated_types import MinLen
from torch import Tensor, nn

from kgt_lightning.config.types import Count, Ratio, Size, WindowSide
from kgt_lightning.model.backbone import Backbone
from kgt_lightning.model.conv_ushape import ConvUShape
from kgt_lightning.model.layouts import Columnar, UShape
from kgt_lightning.model.padding import pad_to_multiple
from kgt_lightning.model.stage import KeyGraphAttention, MixerFactory, Stage


class LayoutFactory(Protocol):
    """Wires stages; the depths and heads of a preset are bound before."""

    def __call__(self, *, stage: partial[Stage], width: int, shift: bool) -> Columnar | UShape | ConvUShape:
        """The layout, its stages made by ``stage``."""
        ...


class KGT(nn.Module):
    """Features of an image: stem, then stages of Key-Graph Attention in one of the layouts (arXiv 2402.02634).

    Args:
        channels: of the image.
        width: channels of the features.
        layout: wires the stages, :class:`Columnar`, :class:`UShape` or :class:`ConvUShape`.
        window: side of the windows in nodes.
        k: neighbours of each node, 1..window*window; can be set anew at any time.
        train_k: values one of which is drawn for every training step ("random top-k"); None trains with k.
        stride: pixels a node is wide: the stem folds stride x stride pixels into one node.
        ffn: feed-forward network of a layer: linear, depthwise, gated or conv, see :data:`FFNS`.
        ffn_ratio: hidden width of the feed-forward network over its width.
        share_graph: builds the Key-Graph once for all layers of a stage, instead of from the input of each layer.
        shift: moves the windows by half their side in every second stage.
        mixer: makes the attention of each layer; None takes :class:`KeyGraphAttention`.
        attention: implementation of Key-Graph Attention, see :func:`key_graph_attention`.
        checkpointing: recomputes the layers in the backward pass instead of keeping their activations.
        compile: compiles the layout with torch.compile.

    Raises:
        ValueError: if k or one of train_k does not fit the window.

    """

    def __init__(
        self,
        *,
        channels: Literal[1, 3],
        width: Size,
        layout: LayoutFactory,
        window: WindowSide,
        k: Count,
        train_k: Annotated[Sequence[Count], MinLen(1)] | None,
        stride: Size,
        ffn_ratio: Ratio,
        share_graph: bool,
        shift: bool,
        mixer: MixerFactory | None,
        attention: str,
        checkpointing: bool,
        compile: bool,
        ffn: Literal["linear", "depthwise", "gated", "conv"] = "linear",  # as all checkpoints before there was a choice
    ) -> None:
        super().__init__()
        self.channels: int = channels
        self.width = width
        self.window = window
        self.stride = stride
        self.k = self.check_k(k)
        self.train_k = tuple(self.check_k(each, name="train_k") for each in train_k or [k])
        self.stem = nn.Sequential(nn.PixelUnshuffle(stride), nn.Conv2d(channels * stride**2, width, 3, padding=1))
        stage = partial(
            Stage,
            window=window,
            ffn=ffn,
            ffn_ratio=ffn_ratio,
            mixer=mixer or partial(KeyGraphAttention, implementation=attention),
            share_graph=share_graph,
            checkpointing=checkpointing,
        )
        self.layout = layout(stage=stage, width=width, shift=shift)
        if compile:
            self.layout.compile()

    @property
    def multiple(self) -> int:
        """Sides of the image must be multiples of this."""
        return self.window * self.stride * self.layout.reduction

    def check_k(self, k: int, *, name: str = "k") -> int:
        """K itself.

        Raises:
            ValueError: if it does not lie in 1..window*window, under the name of the setting.

        """
        if not 1 <= k <= self.window**2:
            raise ValueError(
                f"{name}={k} must lie in 1..{self.window**2} (window={self.window} has {self.window**2} nodes):"
                " choose a smaller k or a larger window"
            )
        return k

    def forward(self, image: Tensor, k: int | None = None) -> Tensor:
        """Features [B, width, H/stride, W/stride] of an image [B, channels, H, W] whose sides are multiples."""
        # Channels last, as convolutions and windows read them: sums of two memory formats cost 30 times as much.
        features = self.stem(image).contiguous(memory_format=torch.channels_last)
        return self.layout(features, self.k if k is None else self.check_k(k))


class Restorer(nn.Module):
    """Backbone and head, for images of any size: padded inside, cropped after."""

    def __init__(self, *, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.scale: int = head.scale  # type: ignore[assignment]
        self.backbone: Any = backbone  # a module, which a Protocol cannot say
        self.head = head

    def forward(self, degraded: Tensor, k: int | None = None) -> Tensor:
        """Restored image [B, C, H*scale, W*scale] of a degraded one [B, C, H, W], k neighbours if given (KGT only)."""
        height, width = degraded.shape[-2:]
        padded = pad_to_multiple(degraded, self.backbone.multiple)
        features = self.backbone(padded) if k is None else self.backbone(padded, k)
        restored = self.head(features, padded)
        return restored[..., : height * self.scale, : width * self.scale]
