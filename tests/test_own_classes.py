"""Classes of a user's own folder: each trains, goes on after a kill, is tested, swept and evaluated, with nothing said
in the package about it."""

import json
import os
import sys

import pytest
import torch

from kgt_lightning import evaluate
from kgt_lightning.train import train

PYTHON_FILE = '''
import os
import signal

import torch
from torch import nn

from kgt_lightning.model import Columnar, ResidualHead
from kgt_lightning.training.module import RestorationModule
from kgt_lightning.training.optim import Cosine
from lightning.pytorch.callbacks import Callback


class Module(RestorationModule):
    def training_step(self, batch, batch_idx):
        return 2 * super().training_step(batch, batch_idx)


class EdgeLoss(nn.Module):
    """Has weights, which are saved with the others and which nobody needs afterwards."""

    def __init__(self, *, weight):
        super().__init__()
        self.weight = weight
        self.register_buffer("filter", torch.ones(1))

    def forward(self, restored, clean):
        error = restored - clean
        return error.abs().mean() + self.weight * (self.filter * error.diff(dim=-1)).abs().mean()


def squared(restored, clean, *, power):
    return (restored - clean).abs().pow(power).mean()


class Sign(torch.optim.Optimizer):
    def __init__(self, params, *, lr, momentum):
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    mean = self.state[weights].setdefault("mean", torch.zeros_like(weights))
                    mean.lerp_(weights.grad, 1 - group["momentum"])
                    weights -= group["lr"] * mean.sign()


class Halves:
    def factor(self, step, max_steps):
        return 0.5**step


class Worst:
    """The largest error."""

    name, unit, higher_is_better = "worst", "", False

    def __call__(self, restored, clean):
        return (restored - clean).abs().amax(dim=(1, 2, 3))


class Layout(nn.Module):
    """A single stage, with nothing around it."""

    reduction = 1

    def __init__(self, *, stage, width, shift, depth):
        super().__init__()
        self.stage = stage(width=width, heads=2, depth=depth, shifted=shift)

    def forward(self, features, k):
        return self.stage(features, k)


class MeanOfNeighbours(nn.Module):
    def __init__(self, *, width, heads, window):
        super().__init__()
        self.linear = nn.Linear(width, width)

    def forward(self, nodes, graph):
        windows = torch.arange(len(nodes))[:, None, None]
        return self.linear(nodes[windows, graph.index.long()].mean(2))


class Backbone(nn.Module):
    def __init__(self, *, channels, width, kernel):
        super().__init__()
        self.channels, self.width, self.stride, self.multiple = channels, width, 1, 1
        self.conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2)

    def forward(self, image):
        return self.conv(image).relu()


class Head(ResidualHead):
    def forward(self, features, degraded):
        return super().forward(features, degraded).clamp(0, 1)


class StopAt(Callback):
    """Ends the process at a step, as a kill would or by one."""

    def on_train_batch_end(self, trainer, *args):
        if str(trainer.global_step) == os.environ.get("EXIT_AT"):
            raise SystemExit(9)
        if str(trainer.global_step) == os.environ.get("KILL_AT"):
            os.kill(os.getpid(), signal.SIGKILL)
'''

YAML_FILES = {
    "model/mine": "_target_: classes_of_mine.Backbone\nchannels: ${data.channels}\nwidth: 8\nkernel: 3\n",
    "loss/edges": "# @package module.loss\n_target_: classes_of_mine.EdgeLoss\nweight: 0.1\n",
    "optim/sign": """
_target_: kgt_lightning.training.optim.Optim
_convert_: partial
lr: 1e-3
optimizer: {_target_: classes_of_mine.Sign, _partial_: true, momentum: 0.9}
groups: {}
schedule: {_target_: classes_of_mine.Halves}
""",
}

MINE = "classes_of_mine"
KINDS = {
    "module": [f"module._target_={MINE}.Module"],
    "loss": ["loss=edges"],
    "loss function": [f"module.loss._target_={MINE}.squared", "+module.loss._partial_=true", "+module.loss.power=1.5"],
    "optimiser and schedule": ["optim=sign"],
    "metric": [f"module.scoring.metrics=[{{_target_:{MINE}.Worst}},psnr]"],
    "layout": [f"model.layout._target_={MINE}.Layout", "+model.layout.depth=2"],
    "mixer": [f"model.mixer={{_target_:{MINE}.MeanOfNeighbours,_partial_:true}}"],
    "head": [f"module.head._target_={MINE}.Head"],
    "backbone": ["model=mine"],
}
OWN = {
    "module": ["Module"],
    "loss": ["EdgeLoss"],
    "loss function": ["squared"],
    "optimiser and schedule": ["Sign", "Halves"],
    "metric": ["Worst"],
    "layout": ["Layout"],
    "mixer": ["MeanOfNeighbours"],
    "head": ["Head"],
    "backbone": ["Backbone"],
}
"""Their names in the configuration."""
NEED_NO_TRUST = ("loss", "loss function", "optimiser and schedule")
"""What only training needs."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Outside the package: one Python file, and a folder of YAML files."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / f"{MINE}.py").write_text(PYTHON_FILE)
    for name, text in YAML_FILES.items():
        file = folder / "conf" / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return folder


@pytest.fixture
def arguments(folder, tiny_arguments, monkeypatch):
    """Arguments of a tiny training with a class of that kind."""
    monkeypatch.syspath_prepend(folder)

    def of_kind(kind):
        gone = {"backbone": ("model.window", "model.k", "model.layout"), "layout": ("model.layout",)}.get(kind, ())
        shared = [each for each in tiny_arguments if not gone or not each.startswith(gone)]
        if kind == "layout":
            shared += ["~model.layout.depths", "~model.layout.heads"]
        steps = ["trainer.max_steps=6", "trainer.val_check_interval=2", f"+callbacks.stop._target_={MINE}.StopAt"]
        return [f"hydra.searchpath=[{folder}/conf]", *KINDS[kind], *shared, *steps]

    yield of_kind
    sys.modules.pop(MINE, None)


def run_of(compose, where, arguments):
    return train(compose("train", *arguments, f"run_dir={where}", "run=test"))


def state_of(where):
    content = torch.load(where / "checkpoints" / "last.ckpt", weights_only=True)
    return content["state_dict"], content["optimizer_states"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_goes_on_exactly_and_is_tested(
    composed, run_command, photo_root, arguments, tmp_path, monkeypatch, kind
):
    given = arguments(kind)
    score = run_of(composed, tmp_path / "whole", given)
    monkeypatch.setenv("EXIT_AT", "5")
    with pytest.raises(SystemExit):
        run_of(composed, tmp_path / "parts", given)
    monkeypatch.delenv("EXIT_AT")
    assert run_of(composed, tmp_path / "parts", [*given, "resume=true"]) == score
    torch.testing.assert_close(state_of(tmp_path / "parts"), state_of(tmp_path / "whole"), rtol=0, atol=0)

    results = json.loads((tmp_path / "whole" / "results.json").read_text())
    first = results["columns"][0]
    assert first["higher_is_better"] == (kind != "metric")
    assert results["means"]["CBSD68 sigma=25"][first["name"]] == score
    best = tmp_path / "whole" / "checkpoints" / "best.ckpt"
    chosen_by = f"'monitor': 'val/{first['name']}', 'mode': '{'min' if kind == 'metric' else 'max'}'"
    assert any(chosen_by in key for key in torch.load(best, weights_only=True)["callbacks"])

    evaluated = (f"checkpoint={best}", f"data_root={photo_root}", "hydra.run.dir=evaluated")
    code, _, errors = run_command(evaluate.main, *evaluated)
    if kind not in NEED_NO_TRUST:
        assert code == 2
        assert f"which is no class of kgt_lightning: it is not loaded; add trust=[{MINE}]" in errors
        code, _, errors = run_command(evaluate.main, *evaluated, f"trust=[{MINE}]")
    assert code == 0, errors
    again = json.loads((tmp_path / "evaluated" / "results.json").read_text())
    assert again["means"] == results["means"]


TOGETHER = [kind for kind in KINDS if kind not in ("backbone", "loss function")]
"""All that fit into one configuration: an own backbone has no layout, and there is one loss."""


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [TOGETHER, ["backbone", "loss function"]], ids=["together", "backbone"])
def test_a_sweep_survives_a_kill(arguments, train_process, folder, tmp_path, kinds):
    path = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    # What "layout" and "backbone" leave out of the tiny model is left out once.
    given = ["-m", *arguments("backbone" if "backbone" in kinds else "layout"), "sweep=own", "seed=1,2"]
    given += [argument for kind in kinds for argument in KINDS[kind] if argument not in given]
    assert train_process(*given, PYTHONPATH=path, KILL_AT="3").returncode != 0
    second = train_process(*given, PYTHONPATH=path)
    assert second.returncode == 0, second.stderr
    for seed in (1, 2):
        record = json.loads((tmp_path / "outputs" / "sweeps" / "own" / f"seed={seed}" / "run.json").read_text())
        assert record["status"] == "finished"
        assert all(name in str(record["config"]) for name in [f"{MINE}.{name}" for kind in kinds for name in OWN[kind]])
    assert "going on from step 2" in second.stderr + second.stdout
