"""Types of settings with their ranges, for signatures; and the keys that no signature of ours declares."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval, Len, MinLen

Whole = Annotated[int, Ge(0)]
Count = Annotated[int, Ge(1)]
Size = Annotated[int, Interval(ge=1, le=2**16)]
"""Of what takes memory: beyond it is a slip, and would hang before it fails."""
WindowSide = Annotated[int, Interval(ge=1, le=2**8)]
"""In nodes; beyond it the scores of a window alone would take more memory than there is."""
Seed = Annotated[int, Interval(ge=0, lt=2**32)]
NotNegative = Annotated[float, Ge(0)]
Positive = Annotated[float, Gt(0)]
Ratio = Annotated[float, Interval(gt=0, le=2**8)]
Share = Annotated[float, Interval(ge=0, le=1)]
Name = Annotated[str, MinLen(1)]
MetricProtocol = Literal["swinir", "grl"]
"""Families of papers whose numbers must not be mixed, see :mod:`kgt_lightning.metrics.psnr_ssim`."""
PATH = "path"
FilePath = Annotated[str, MinLen(1), PATH]
"""As people have them: what is typed for such a key is taken as it is."""
Section = dict[str, Any]
Sections = dict[str, Section | None]
Points = Annotated[Sequence[Annotated[Sequence[Share], Len(2, 2)]], MinLen(1)]
"""Places in an image, down and across."""
Sizes = Annotated[Sequence[Size], MinLen(1)]

FOREIGN: dict[str, dict[str, Any]] = {
    "lightning.Trainer": {
        "max_steps": Count,
        "max_epochs": Literal[-1] | None,  # training is one endless epoch, counted in steps
        "min_epochs": None,
        "max_time": None,
        # Without 16-true, in which an optimiser's small numbers are zero.
        "precision": Literal["64-true", "32-true", "bf16-true", "bf16-mixed", "16-mixed", "bf16", 16, 32, 64],
        "val_check_interval": Count,
        "check_val_every_n_epoch": None,
        "accumulate_grad_batches": Count,
        "gradient_clip_val": NotNegative | None,
        "log_every_n_steps": Count,
        "num_nodes": Count,
        "num_sanity_val_steps": Whole,
        "fast_dev_run": Literal[False],
    },
    "lightning.pytorch.callbacks.ModelCheckpoint": {"mode": Literal["min", "max"]},
    "torch.optim.AdamW": {"weight_decay": NotNegative, "betas": Annotated[Sequence[Share], Len(2, 2)], "eps": Positive},
    "torch.optim.Muon": {"weight_decay": NotNegative},
    "torch.nn.SmoothL1Loss": {"beta": NotNegative},
}
"""Settings of other libraries' classes where their annotations take what makes no sense here; None takes null alone."""

_MODEL = {"checkpoint": FilePath | list[FilePath], "trust": list[str]}
_TASK = {"task.name": str | None}
COMMANDS: dict[str, dict[str, Any]] = {
    "train": {
        "data_root": FilePath | None,
        "seed": Seed,
        "resume": bool,
        "run": Name,
        "run_dir": FilePath,
        "weights": FilePath | None,
        "sweep": Name | None,
        "retry": bool,
        "matmul_precision": Literal["highest", "high", "medium"],
        "protocol": MetricProtocol,
        "callbacks": Sections,
        "callbacks.checkpoint": Section,
        "logger": Sections,
    },
    "evaluate": {
        **_MODEL,
        **_TASK,
        "checkpoint": FilePath,
        "data_root": FilePath | None,
        "protocol": MetricProtocol | None,
        "self_ensemble": bool,
        "save_images": bool,
        "run_dir": FilePath,
    },
    "restore": {
        **_MODEL,
        **_TASK,
        "checkpoint": FilePath | None,
        "input": FilePath | list[FilePath],
        "output": FilePath,
        "suffix": Name | None,
        "strength": Share,
        "texture": Share,
        "overwrite": bool,
        "tile": Count,
        "overlap": Whole,
        "self_ensemble": bool,
        "device": Literal["auto", "cpu", "cuda", "mps"],
    },
    "export": {
        **_MODEL,
        "checkpoint": FilePath,
        "format": Literal["onnx", "darktable", "torch", "safetensors"],
        "output": FilePath,
        "overwrite": bool,
    },
    "serve": {
        **_MODEL,
        "checkpoint": FilePath | None,
        "port": Annotated[int, Interval(ge=0, le=65535)],
        "tile": Count,
        "overlap": Whole,
        "device": Literal["auto", "cpu", "cuda", "mps"],
        "limits.megabytes": Positive,
        "limits.megapixels": Positive,
        "limits.pictures": Count,
        "limits.pages": Count,
        "limits.held_megabytes": Positive,
        "limits.minutes": Positive,
    },
    "analyze": {**_MODEL, "input": FilePath, "size": Size, "grid": Size, "points": Points, "run_dir": FilePath},
    "describe": {"size": Annotated[list[Size], Len(2, 2)], "timed": bool},
    "bench": {
        "what": Literal["attention", "graph", "model", "data"],
        "device": Name,
        "threads": Count | None,
        "dtype": Literal["float32", "float16", "bfloat16", "float64"],
        "seconds": NotNegative,
        "attention.num_nodes": Sizes,
        "attention.k": Sizes,
        "attention.impl": list[str] | None,
        "attention.windows": Size,
        "attention.heads": Size,
        "attention.width": Size,
        "attention.bias": bool,
        "attention.backward": bool,
        "graph.num_nodes": Sizes,
        "graph.k": Sizes,
        "graph.windows": Size,
        "graph.channels": Size,
        "whole_model.scale": Literal[1, 2, 3, 4],
        "whole_model.sizes": Annotated[list[Annotated[list[Size], Len(2, 2)]], MinLen(1)],
        "whole_model.dense": bool,
        "whole_model.baselines": bool,
        "whole_model.training_batch": Whole,
        "pipeline.workers": Annotated[list[Whole], MinLen(1)],
        "pipeline.batches": Count,
        "data_root": FilePath | None,
        "run_dir": FilePath,
        "seed": Seed,
    },
}
"""The keys of the files of conf/ that the commands read by themselves."""

PATHS = ("data.degraded", "data.clean", "data.cache_dir", "data.root", "hydra.run.dir", "hydra.sweep.dir")
"""Further keys whose values are paths, in sections."""
