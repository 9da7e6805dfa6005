"""Hydra's sweeper for searches: ``train -m hydra/sweeper=optuna``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

from kgt_lightning.config.errors import one_line
from kgt_lightning.config.extras import require
from kgt_lightning.config.schema import check_types
from kgt_lightning.runs.run import config_key
from kgt_lightning.sweeps.jobs import problem_of


class OptunaSweeper(Sweeper):
    """Jobs that Optuna proposes from the results of those before, see :class:`kgt_lightning.sweeps.search.Search`.

    Args:
        n_trials: number of trials in all, over all starts.
        n_jobs: trials at once; the next are proposed when all of them have ended.
        direction: of the value that is validated.
        sampler: proposes; a section with ``_target_`` and ``seed``.
        pruner: stops; a section with ``_target_``, or None.
        params: spaces and fixed arguments by key, as texts; those of the command line take their place.

    """

    def __init__(
        self,
        *,
        n_trials: int,
        n_jobs: int,
        direction: Literal["maximize", "minimize"],
        sampler: Any,
        pruner: Any,
        params: dict[str, Any],
    ) -> None:
        self.n_trials = n_trials
        self.n_jobs = n_jobs
        self.direction = direction
        self.sampler = sampler
        self.pruner = pruner
        self.params = params

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Make the launcher."""
        require("hydra/sweeper=optuna", "search", "optuna")
        try:
            target = f"{__name__}.{type(self).__name__}"
            check_types(OmegaConf.create({"hydra": {"sweeper": {**config.hydra.sweeper, "_target_": target}}}))
        except ImportError as error:
            raise ValueError(f"hydra.sweeper: {one_line(error)}") from error
        for name in ("n_trials", "n_jobs"):
            if getattr(self, name) < 1:
                raise ValueError(f"hydra.sweeper.{name}={getattr(self, name)} must be at least 1")
        seed = self.sampler.get("seed")
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"hydra.sweeper.sampler.seed={seed} must be a whole number of at least 0")
        with open_dict(config):
            if "at_once" in config.hydra.launcher:
                config.hydra.launcher.at_once = self.n_jobs
            if "trials" in config.hydra.launcher:
                config.hydra.launcher.trials = True
        self.config = config
        self.loader = hydra_context.config_loader
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the search to its end."""
        # Optuna is optional.
        from kgt_lightning.sweeps.search import Search
        from kgt_lightning.sweeps.spaces import read_space, refuse_impossible

        assert self.config is not None and self.launcher is not None, "setup comes first"
        launcher = self.launcher
        parser = OverridesParser.create(config_loader=self.loader)
        params = [f"{key}={value}" for key, value in self.params.items()]
        # Of several arguments for the same key the last counts.
        given = {override.key_or_group: override for override in parser.parse_overrides([*params, *arguments])}
        searched = [override for override in given.values() if override.is_sweep_override()]
        spaces = {override.get_key_element(): read_space(override) for override in searched}
        fixed = [str(override.input_line) for override in given.values() if not override.is_sweep_override()]
        if not spaces:
            raise ValueError("there is nothing to search: name spaces, such as 'optim.lr=tag(log,interval(1e-4,3e-3))'")
        refuse_impossible(spaces, problem=lambda point: problem_of(self._composed([*fixed, *point])))
        shared = self._composed(fixed)
        folder = Path(self.config.hydra.sweep.dir)

        def launch(trials: Sequence[Sequence[str]], first: int) -> list[Path]:
            jobs = launcher.launch([[*fixed, *chosen] for chosen in trials], initial_job_idx=first)
            return [Path(job.hydra_cfg.hydra.runtime.output_dir) for job in jobs]  # type: ignore[union-attr]

        Search(
            folder=folder,
            spaces=spaces,
            key=config_key(shared),
            monitor=shared.callbacks.checkpoint.monitor,
            n_trials=self.n_trials,
            n_jobs=self.n_jobs,
            direction=self.direction,
            sampler=self.sampler,
            pruner=self.pruner,
            retry=shared.retry,
        ).run(launch)

    def _composed(self, arguments: Sequence[str]) -> DictConfig:
        assert self.config is not None, "setup comes first"
        config = self.loader.load_sweep_config(self.config, list(arguments)).copy()
        OmegaConf.set_struct(config, False)
        config.pop("hydra")
        return config
