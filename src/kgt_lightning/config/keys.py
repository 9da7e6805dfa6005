"""Keys of the configuration that do not change the result of a run: the one list, from which all others derive."""

from collections.abc import Sequence

BOOKKEEPING = ("run", "run_dir", "sweep", "resume", "retry", "hydra", "logger", "callbacks.pruning")
"""Where a run is kept, and whether it goes on."""

NOT_SHAPING = (
    *BOOKKEEPING,
    "callbacks.last",
    "callbacks.panels",
    "callbacks.key_graphs",
    "callbacks.gradient_norm",
    "callbacks.progress",
    "callbacks.speed",
    "data.cache_dir",
    "data.workers",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.plugins",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
)
"""Also how it is watched, and what it is computed on: runs that differ in nothing else have the same key.

What lies at a path is no such part, but the path is: other images may come to lie in a folder, and the checkpoint
that ``weights`` names may be gone when the run that began with it is resumed.
"""

NOT_NAMING = (*NOT_SHAPING, "data_root", "experiment")
"""Also what names of runs leave out: where the images lie, and the recipe, after which a sweep is named already."""


def lies_in(key: str, sections: Sequence[str]) -> bool:
    """Whether a key as it is typed, such as ``+model.k`` or ``hydra/launcher``, lies in one of the sections."""
    dotted = key.lstrip("+~").replace("/", ".")
    return any(dotted == section or dotted.startswith(f"{section}.") for section in sections)
