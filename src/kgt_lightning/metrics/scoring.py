"""Which numbers are reported for every test image, and the protocol they are computed under."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal, NamedTuple, Protocol, cast

import torch
from annotated_types import MinLen
from hydra.utils import instantiate
from torch import Tensor

from kgt_lightning.config.types import MetricProtocol, Whole
from kgt_lightning.metrics.psnr_ssim import PSNR, PSNRB, SSIM, SSIM3D, describe_protocol, prepare


class Metric(Protocol):
    """A number for each restored image, such as :class:`.psnr_ssim.PSNR`; any class with these four will do."""

    @property
    def name(self) -> str:
        """Of the column: small letters, digits and underscores, as ``psnr_b``."""
        ...

    @property
    def unit(self) -> str:
        """Such as dB; empty if there is none."""
        ...

    @property
    def higher_is_better(self) -> bool:
        """Direction: decides which checkpoint is the best and which run stands first."""
        ...

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """[B] of images [B, C, H, W] in [0, 1], float64, rounded to 8 bits and cropped; C is 1 for gray and Y."""
        ...


class Column(NamedTuple):
    """One number for every image."""

    name: str
    metric: str
    """Name of the metric, which several columns may have."""
    colour: str
    crop: int
    unit: str
    higher_is_better: bool


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """Scores of restored images: every metric in every colour space and crop.

    The first of each makes the columns ``psnr``, ``ssim``, ...; further ones are named ``psnr_y`` or ``psnr_crop0``.

    Raises:
        ValueError: if a list is empty or names something unknown, a metric is named twice, or a crop is negative.

    """

    protocol: MetricProtocol
    """Family of metrics: ``swinir`` or ``grl``; their numbers must not be mixed."""
    metrics: Annotated[Sequence[Literal["psnr", "ssim", "ssim_3d", "psnr_b"] | Metric], MinLen(1)]
    """Ours by their short names, others as objects."""
    colours: Annotated[Sequence[Literal["rgb", "y"]], MinLen(1)]
    """``rgb`` scores all channels, of gray images the only one; ``y`` MATLAB's luma of RGB."""
    crops: Annotated[Sequence[Whole], MinLen(1)]
    """Border pixels that are not scored."""

    def __post_init__(self) -> None:
        names = [metric.name for metric in self._metrics]
        if len(set(names)) < len(names):
            raise ValueError(f"module.scoring.metrics={names} must list each metric once")

    @cached_property
    def _metrics(self) -> tuple[Metric, ...]:
        return tuple(metric_of(metric, protocol=self.protocol) for metric in self.metrics)

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        """What is computed, in the order of the scores."""
        return tuple(
            Column(
                name=metric.name + (i > 0) * f"_{colour}" + (j > 0) * f"_crop{crop}",
                metric=metric.name,
                colour=colour,
                crop=crop,
                unit=metric.unit,
                higher_is_better=metric.higher_is_better,
            )
            for j, crop in enumerate(self.crops)
            for i, colour in enumerate(self.colours)
            for metric in self._metrics
        )

    def __call__(self, restored: Tensor, clean: Tensor) -> Tensor:
        """Scores [columns] of one image, both [1, C, H, W] in [0, 1]."""
        scores = []
        for crop in self.crops:
            for colour in self.colours:
                images = prepare(restored, clean, crop=crop, luma=colour == "y", protocol=self.protocol)
                scores += [metric(*images).reshape(1) for metric in self._metrics]
        return torch.cat(scores)

    def describe(self) -> str:
        """One line that says how the numbers were computed."""
        plain = describe_protocol(colours=self.colours, crops=self.crops, protocol=self.protocol)
        volume = "SSIM 3D 11x11x11 over RGB with the border repeated" if "ssim_3d" in self.metrics else ""
        others = [metric for metric in self.metrics if not isinstance(metric, str)]
        named = [f"{metric.name} by {type(metric).__module__}.{type(metric).__qualname__}" for metric in others]
        return ", ".join(filter(None, [plain, volume, *named]))


def first_metric(what: Literal["name", "mode"], metrics: Sequence[Any]) -> str:
    """Name of the first of ``module.scoring.metrics`` as configured, or ``max`` or ``min``: which value of it is best.

    Raises:
        ValueError: if there is none.

    """
    if not metrics:
        raise ValueError("module.scoring.metrics=[] must list some metrics")
    first = metrics[0] if isinstance(metrics[0], str) else instantiate(metrics[0])
    metric = metric_of(first, protocol="swinir")
    return {"name": metric.name, "mode": "max" if metric.higher_is_better else "min"}[what]


def metric_of(metric: str | Metric, *, protocol: MetricProtocol) -> Metric:
    """The metric itself, or ours of this short name.

    Raises:
        ValueError: if there is none of this name.

    """
    if not isinstance(metric, str):
        return metric
    ours: dict[str, Callable[[], Any]] = {
        "psnr": PSNR,
        "ssim": lambda: SSIM(protocol=protocol),
        "ssim_3d": SSIM3D,
        "psnr_b": PSNRB,
    }
    if metric not in ours:
        raise ValueError(
            f"module.scoring.metrics: {metric} must be one of {', '.join(ours)}, or a section with a _target_"
        )
    return cast(Metric, ours[metric]())
