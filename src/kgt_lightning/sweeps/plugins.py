"""The launchers and the sweeper, made known to Hydra."""

from hydra.core.plugins import Plugins

from kgt_lightning.sweeps.launcher import CheckedLauncher, OwnProcessLauncher
from kgt_lightning.sweeps.slurm import SlurmLauncher
from kgt_lightning.sweeps.sweeper import OptunaSweeper

NAMESPACE = "hydra_plugins.kgt_lightning"
"""Hydra refuses a launcher or sweeper whose name does not begin with hydra_plugins; no such package is needed."""


def register_plugins() -> None:
    """Let ``hydra/launcher`` and ``hydra/sweeper`` name the classes as members of :data:`NAMESPACE`."""
    plugins = Plugins.instance()
    for plugin in (CheckedLauncher, OwnProcessLauncher, SlurmLauncher, OptunaSweeper):
        plugins.register(plugin)
        plugins.class_name_to_class[f"{NAMESPACE}.{plugin.__name__}"] = plugin
