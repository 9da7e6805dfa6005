"""Whole models over image sizes: sparse against dense attention and other networks, and how the time grows."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from kgt_lightning.benchmarks.baselines import DenseWindows, DnCNN
from kgt_lightning.benchmarks.measure import Row, time_and_memory
from kgt_lightning.model import KGT, Backbone, Columnar, PixelShuffleHead, ResidualHead
from kgt_lightning.model.kgt import Restorer


def bench_model(
    *,
    make_backbone: Callable[..., KGT],
    scale: int,
    sizes: Sequence[Sequence[int]],
    dense: bool,
    baselines: bool,
    training_batch: int,
    device: torch.device,
    seconds: float,
) -> Iterator[Row]:
    """One row for each image size [height, width] and model: milliseconds for one image, and for each pixel.

    The model as configured is called sparse. Dense is the same with all nodes of a window as neighbours. The baselines
    are a SwinIR of the same width and depths, for columnar models, and a DnCNN, where the image keeps its size.
    With a ``training_batch`` forward and backward of so many images are measured too; the optimiser's part is left out.
    ``make_backbone`` takes ``attention`` and ``k`` where they are not the configured ones.

    Raises:
        ValueError: if the model's output differs from that with the reference attention.

    """
    ours = _restorer(make_backbone(), scale=scale).to(device)

    def same_weights(**changes: Any) -> Restorer:
        other = _restorer(make_backbone(**changes), scale=scale).to(device)
        other.load_state_dict(ours.state_dict())
        return other

    models: dict[str, nn.Module] = {"sparse": ours}
    if dense:
        models["dense"] = same_weights(attention="mask", k=ours.backbone.window**2)
    if baselines:
        models |= {name: model.eval().to(device) for name, model in _baselines(ours.backbone, scale).items()}
    _check(ours, same_weights(attention="reference"), device)
    for height, width in sizes:
        image = torch.rand(1, ours.backbone.channels, height, width, device=device)
        sparse: Row = {}
        for name, model in models.items():
            run = torch.no_grad()(partial(model, image))
            ms, megabytes, status = time_and_memory(run, device=device, seconds=seconds)
            row: Row = {
                "device": device.type,
                "scale": scale,
                "height": height,
                "width": width,
                "model": name,
                "parameters": sum(parameter.numel() for parameter in model.parameters()),
                "k": {"sparse": ours.backbone.k, "dense": ours.backbone.window**2}.get(name),
                "ms": ms,
                "us_per_pixel": ms * 1e3 / (height * width) if ms else None,
                "peak_mb": megabytes,
                "status": status,
            }
            if training_batch and status == "ok":
                step = partial(_step, model, image.expand(training_batch, -1, -1, -1))
                row["step_ms"], row["step_mb"], row["status"] = time_and_memory(step, device=device, seconds=seconds)
            sparse = sparse or row
            row |= {"sparse_over_this": _ratio(sparse["ms"], ms)}
            if training_batch:
                row |= {"sparse_step_over_this": _ratio(sparse.get("step_ms"), row.get("step_ms"))}
            yield row


def _step(model: nn.Module, images: Tensor) -> None:
    model.zero_grad()
    model(images).abs().mean().backward()


def _ratio(ours: float | None, theirs: float | None) -> float | None:
    return ours / theirs if ours and theirs else None


def _baselines(backbone: KGT, scale: int) -> dict[str, nn.Module]:
    found: dict[str, nn.Module] = {}
    if isinstance(backbone.layout, Columnar):
        depths = [len(stage.layers) for stage in backbone.layout.stages]  # type: ignore[arg-type]
        heads = 6 if backbone.width % 6 == 0 else 4
        swinir = DenseWindows(
            channels=backbone.channels, width=backbone.width, stride=backbone.stride, heads=heads, depths=depths
        )
        found["SwinIR"] = _restorer(swinir, scale=scale)
    if scale == 1:
        found["DnCNN"] = DnCNN(channels=backbone.channels)
    return found


def _restorer(backbone: Backbone, *, scale: int) -> Restorer:
    make_head = PixelShuffleHead if scale > 1 else ResidualHead
    head = make_head(width=backbone.width, stride=backbone.stride, channels=backbone.channels, scale=scale)
    # The residual head starts with zero weights, which would hide every difference of the backbone.
    torch.nn.init.normal_(next(iter(head.parameters())), std=0.02)
    return Restorer(backbone=backbone, head=head).eval()


@torch.no_grad()
def _check(model: Restorer, truth: Restorer, device: torch.device) -> None:
    """Compare one image of the smallest size with the reference attention."""
    side = model.backbone.multiple
    image = torch.rand(1, model.backbone.channels, side, side, device=device)
    ours, right = model(image), truth(image)
    error = ((ours - right).norm() / right.norm()).item()
    if not error <= 1e-3:
        raise ValueError(f"the model differs by {error:.1e} from itself with attention=reference: it is not timed")
