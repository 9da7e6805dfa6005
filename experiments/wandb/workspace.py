"""Command: save at Weights & Biases the view of these runs that answers the usual questions.

python experiments/wandb/workspace.py --entity my-team       # needs an account, and the extra wandb-workspaces
python experiments/wandb/workspace.py --offline view.json    # writes the definition to a file instead

Runs are grouped by sweep, then by job: every job keeps its own colour. Each call saves a new view of the project.
"""

import argparse
import sys
from pathlib import Path
from typing import NoReturn

import wandb
import yaml

try:
    import wandb_workspaces.reports.v2 as panels
    import wandb_workspaces.workspaces as views
except ModuleNotFoundError as error:
    print(f"error: {error.name} is missing: pip install wandb-workspaces", file=sys.stderr)  # noqa: T201
    sys.exit(2)

LOGGER = Path(__file__).parents[2] / "conf" / "logger" / "wandb.yaml"
STEP = "trainer/global_step"
SCORE = "val/psnr"
SETTINGS = ("model.k", "model.train_k", "model.attention")


def workspace(*, entity: str, project: str) -> views.Workspace:
    """The view, not saved yet."""
    return views.Workspace(
        entity=entity,
        project=project,
        name="Key-Graph Transformer",
        sections=[quality(), training(), cost(), pictures(), key_graphs(), settings()],
        settings=views.WorkspaceSettings(x_axis=STEP, max_runs=30),
        runset_settings=views.RunsetSettings(
            # The line of a group is in its own colour: of a group of one, that of the job.
            groupby=[views.Metric("Group"), views.Metric("Name")],
            pinned_columns=[
                "run:displayName",
                "run:tags",
                *(f"summary:{key}" for key in (SCORE, "val/ssim", "train/samples_per_second", "train/peak_memory_mb")),
                *(f"config:{name}" for name in map(_column, SETTINGS)),
            ],
        ),
    )


def quality() -> views.Section:
    """How well the images are restored; which test sets there are, the task says."""
    return section(
        "Quality",
        line(SCORE, "PSNR of the validation images, dB"),
        line("val/ssim", "SSIM of the validation images"),
        panels.LinePlot(title="PSNR of each test set, degraded and restored, dB", x=STEP, metric_regex=r"test/.*_psnr"),
        panels.LinePlot(title="SSIM of each test set, degraded and restored", x=STEP, metric_regex=r"test/.*_ssim"),
        panels.WeavePanelSummaryTable(table_name="test/images"),
    )


def training() -> views.Section:
    """Whether the optimisation is sound."""
    return section(
        "Training",
        line("train/loss", "loss", log_y=True),
        line("train/lr", "learning rate"),
        line("train/gradient_norm", "norm of the gradient before clipping", log_y=True),
        line("train/k", "neighbours drawn for the step"),
    )


def cost() -> views.Section:
    """What it takes."""
    return section(
        "Cost",
        line("train/samples_per_second", "samples per second"),
        line("train/share_of_data", "share of the time for data"),
        line("train/peak_memory_mb", "peak memory, MB"),
        against("train/samples_per_second", "PSNR against speed"),
        against("train/peak_memory_mb", "PSNR against memory"),
    )


def pictures() -> views.Section:
    """What the scores look like."""
    return section(
        "Pictures",
        panels.MediaBrowser(
            title="degraded | restored | clean | error", media_keys=["panels"], num_columns=1, gallery_axis="step"
        ),
        columns=1,
    )


def key_graphs() -> views.Section:
    """Whom patches look at, of runs with callbacks=key_graphs."""
    browsers = [
        panels.MediaBrowser(title=name, media_keys=[f"key_graphs/{name}"], num_columns=1, gallery_axis="step")
        for name in ("neighbours", "statistics")
    ]
    return section("Key-Graphs", *browsers, columns=2)


def settings() -> views.Section:
    """Which setting matters."""
    columns = [panels.ParallelCoordinatesPlotColumn(metric=panels.Config(name)) for name in SETTINGS]
    columns.append(panels.ParallelCoordinatesPlotColumn(metric=panels.SummaryMetric(SCORE)))
    return section(
        "Settings",
        panels.ScatterPlot(
            title="PSNR against k", x=panels.Config("model.k"), y=panels.SummaryMetric(SCORE), log_x=True
        ),
        panels.ParallelCoordinatesPlot(title="Key-Graph settings and PSNR", columns=columns),
        panels.ParameterImportancePlot(with_respect_to=SCORE),
    )


def section(name: str, *content: panels.interface.Panel, columns: int = 3) -> views.Section:
    """An open section with its panels in rows of so many columns."""
    rows = -(-len(content) // columns)
    layout = views.SectionLayoutSettings(columns=columns, rows=rows)
    # Its own settings come before those of the view.
    axis = views.SectionPanelSettings(x_axis=STEP)
    return views.Section(name=name, panels=list(content), is_open=True, layout_settings=layout, panel_settings=axis)


def line(key: str, title: str, *, log_y: bool = False) -> panels.LinePlot:
    """A metric over the training steps."""
    return panels.LinePlot(title=title, x=STEP, y=[key], log_y=log_y)


def against(key: str, title: str) -> panels.ScatterPlot:
    """The score of each run over another of its numbers."""
    return panels.ScatterPlot(title=title, x=panels.SummaryMetric(key), y=panels.SummaryMetric(SCORE))


def _column(setting: str) -> str:
    """Name of a setting in the table of runs, as model.value.k: there a section is a value."""
    name, _, rest = setting.partition(".")
    return f"{name}.value.{rest}"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        _exit(f"{message} (--help shows what is)")


def _exit(message: str) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    sys.exit(2)


def main() -> None:
    """Command-line entry; a mistake ends in one line and exit code 2."""
    usual = yaml.safe_load(LOGGER.read_text())["wandb"]["project"]
    parser = _Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entity", default="", help="team or user, by default your own")
    parser.add_argument("--project", default=usual, help=f"of the runs, by default that of conf/logger ({usual})")
    parser.add_argument("--offline", type=Path, metavar="FILE", help="write the definition there, and send nothing")
    given = parser.parse_args()
    try:
        if given.offline:
            if given.offline.exists():
                _exit(f"{given.offline} exists: name another file, or remove it")
            view = workspace(entity=given.entity, project=given.project)._to_model()
            given.offline.write_text(view.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")
            print(given.offline)  # noqa: T201
            return
        if not wandb.login(prompt=False, verify=False):
            _exit(
                "no account at Weights & Biases on this machine: run wandb login, or write a file with --offline FILE"
            )
        entity = given.entity or wandb.Api().default_entity
        print(workspace(entity=entity, project=given.project).save().url)  # noqa: T201
    except (wandb.Error, ValueError, OSError) as error:
        _exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
