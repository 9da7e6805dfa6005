"""How fast the input pipeline of a task delivers training batches."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning

from kgt_lightning.benchmarks.measure import Row
from kgt_lightning.data.datamodule import RestorationData


def bench_data(*, make_data: Callable[..., RestorationData], workers: Sequence[int], batches: int) -> Iterator[Row]:
    """One row for each number of worker processes: seconds to the first batch, then patches in a second.

    ``make_data`` takes ``workers``, of which 0 prepares batches in this process; timed are so many batches after the
    first.
    """
    quiet: Any = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    for number in workers:
        data = make_data(workers=number)
        data.trainer = lightning.Trainer(max_steps=batches + 1, **quiet)
        start = time.perf_counter()
        loader = iter(data.train_dataloader())
        next(loader)
        first = time.perf_counter()
        delivered = sum(len(clean) for _, clean in loader)
        seconds = time.perf_counter() - first
        yield {
            "task": type(data.degradation).__name__,
            "workers": number,
            "batch_size": data.batch_size,
            "patch": data.patch,
            "first_batch_s": first - start,
            "patches_per_s": delivered / seconds,
            "ms_per_batch": seconds * 1e3 / batches,
            "status": "ok",
        }
