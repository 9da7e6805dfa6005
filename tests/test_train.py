import json
from types import SimpleNamespace

import pytest
import torch
from hydra.utils import instantiate
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from kgt_lightning import train as command
from kgt_lightning.images.files import read_image
from kgt_lightning.runs.checkpoint import load_checkpoint, read_checkpoint
from kgt_lightning.runs.curves import read_curve
from kgt_lightning.train import train


def losses(folder):
    return read_curve(folder, "train/loss")


def weights(folder, name="last"):
    content = torch.load(folder / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return content["state_dict"], content["current_model_state"]


class StopAfter(Callback):
    """Ends the process as a kill would, in the middle of a run."""

    step = None

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            raise SystemExit(9)


def test_a_run_leaves_checkpoints_curves_panels_and_results(tiny, tmp_path):
    psnr = train(tiny(tmp_path, "trainer.max_steps=4", "trainer.val_check_interval=2"))

    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 4
    assert content["config"]["model"]["k"] == 8
    assert content["config"]["module"]["backbone"]["channels"] == 3, "the configuration is resolved"
    assert list(losses(tmp_path)) == [1, 2, 3, 4]
    psnrs = read_curve(tmp_path, "val/psnr")
    assert list(psnrs) == [2, 4]
    assert all(15 < value < 40 for value in psnrs.values())
    panels = sorted(tmp_path.glob("panels/*/*.png"))
    assert [panel.parent.name for panel in panels] == ["step_0000002", "step_0000004"]
    assert read_image(panels[0]).pixels.shape == (3, 32, 4 * 32 + 3 * 4)
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["means"]["CBSD68 sigma=25"]["psnr"] == psnr
    assert results["means"]["CBSD68 sigma=25"]["images"] == 3
    assert (tmp_path / "curves.png").exists()


def test_the_end_of_a_run_is_validated_also_between_two_validations(tiny, tmp_path):
    arguments = ("trainer.val_check_interval=3", "callbacks.last.every_minutes=60")
    validated = []
    for steps in ("trainer.max_steps=5", "trainer.max_steps=7"):
        train(tiny(tmp_path, *arguments, steps, "resume=true"))
        validated.append(list(read_curve(tmp_path, "val/psnr")))
    assert validated == [[3, 5], [3, 5, 6, 7]]


@pytest.mark.parametrize(("last", "told"), [(29.0, True), (30.0, False)])
def test_a_run_says_when_its_best_is_not_its_last(caplog, last, told):
    callback = ModelCheckpoint(monitor="val/psnr")
    callback.best_model_path = "best.ckpt"
    callback.best_model_score, callback.current_score = torch.tensor(30.0), torch.tensor(last)
    caplog.set_level("INFO")
    assert command.tell_best(SimpleNamespace(checkpoint_callback=callback)) == "best.ckpt"
    assert ("the best is not the last: val/psnr 30.00 against 29.00 at the end" in caplog.text) is told


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_a_resumed_run_ends_with_the_same_bits(tiny, tmp_path, monkeypatch, workers):
    arguments = (
        "trainer.max_steps=8",
        "trainer.val_check_interval=4",
        "model.train_k=[2,4,8]",
        "degradation.sigma=[15,25,50]",
        f"data.workers={workers}",
        f"+callbacks.stop._target_={__name__}.StopAfter",
    )
    train(tiny(tmp_path / "whole", *arguments))
    monkeypatch.setattr(StopAfter, "step", 6)
    with pytest.raises(SystemExit):
        train(tiny(tmp_path / "parts", *arguments))
    monkeypatch.setattr(StopAfter, "step", None)
    assert max(losses(tmp_path / "parts")) >= 4
    train(tiny(tmp_path / "parts", *arguments, "resume=true"))

    for ours, theirs in zip(weights(tmp_path / "parts"), weights(tmp_path / "whole"), strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0)
    averaged, raw = weights(tmp_path / "whole")
    assert any(not torch.equal(averaged[name], raw[name]) for name in raw), "the average differs from the weights"
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole"), "the file of curves goes on after a resume"


def test_the_same_settings_give_the_same_losses_and_another_seed_others(tiny, tmp_path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tiny(tmp_path / name, f"seed={seed}", "trainer.max_steps=2"))
    assert losses(tmp_path / "a") == losses(tmp_path / "b")
    assert losses(tmp_path / "a") != losses(tmp_path / "c")


def test_a_run_is_not_written_over(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=1"))
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(ValueError, match="already holds a run: go on with resume=true"):
        train(tiny(tmp_path, "trainer.max_steps=1"))
    with pytest.raises(ValueError, match=r"made with another module\.backbone: width=8 there and 16 here"):
        train(tiny(tmp_path, "resume=true", "model.width=16"))
    last = tmp_path / "checkpoints" / "last.ckpt"  # killed between its best checkpoint and its first state
    last.rename(tmp_path / "last")
    with pytest.raises(ValueError, match="already holds a run"):
        train(tiny(tmp_path, "trainer.max_steps=1"))
    (tmp_path / "last").rename(last)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}


def test_a_second_phase_goes_on_with_another_schedule_and_patch(tiny, tmp_path):
    train(tiny(tmp_path, "optim=constant_cosine", "optim.lr=1e-3"))
    second = ("optim.lr=1e-3", "optim.schedule.milestones=[0.5]", "optim.schedule.warmup=0", "optim.schedule.gamma=0.1")
    train(
        tiny(
            tmp_path,
            "optim=multistep",
            *second,
            "data.patch=32",
            "data.batch_size=1",
            "trainer.max_steps=8",
            "resume=true",
        )
    )
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 8
    assert content["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(1e-4)


def test_resume_of_nothing_starts_anew(tiny, tmp_path):
    train(tiny(tmp_path, "resume=true", "trainer.max_steps=1"))
    assert (tmp_path / "checkpoints" / "last.ckpt").exists()


def test_a_run_begins_with_the_weights_of_another_and_goes_on_with_its_own(tiny, trained, tmp_path):
    (tmp_path / "given.ckpt").write_bytes(trained.read_bytes())
    begin = (f"weights={tmp_path / 'given.ckpt'}", "optim.lr=1e-9", "model.k=4")
    train(tiny(tmp_path / "run", *begin, "trainer.max_steps=1"))
    given = torch.load(trained, weights_only=True)["state_dict"]
    for ours in weights(tmp_path / "run"):
        for name, value in given.items():
            torch.testing.assert_close(ours[name], value, rtol=0, atol=1e-6)
    (tmp_path / "given.ckpt").unlink()
    train(tiny(tmp_path / "run", *begin, "trainer.max_steps=2", "resume=true"))
    assert list(losses(tmp_path / "run")) == [1, 2]


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        (["task=jpeg"], []),
        (["task=sr", "degradation.scale=3", "data.patch=48"], ["head"]),
        (["data.channels=1"], ["stem", "head"]),
    ],
)
def test_only_what_must_differ_begins_anew(tiny, trained, tmp_path, caplog, arguments, left):
    config = tiny(tmp_path, *arguments)
    module = instantiate(config.module)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    command.load_pretrained(read_checkpoint(trained), module, config)
    given = torch.load(trained, weights_only=True)["state_dict"]
    for name, value in module.state_dict().items():
        expected = before if any(f".{part}." in name for part in left) else given
        assert torch.equal(value, expected[name]), name
    assert (f"task differ: {' and '.join(left)}" in caplog.text) == bool(left)


def test_a_deeper_model_begins_as_the_one_whose_weights_it_takes(tiny, trained, tmp_path, caplog):
    config = tiny(tmp_path, "model.layout.depths=[2,1]")
    module = instantiate(config.module).eval()
    with caplog.at_level("INFO"):
        command.load_pretrained(read_checkpoint(trained), module, config)
    image = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(module(image), load_checkpoint(trained).module()(image), rtol=0, atol=1e-6)
    assert "begin as the identity: network.backbone.layout.stages.0.layers.1" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["weights=missing.ckpt"], "weights=missing.ckpt does not exist: name a .ckpt file"),
        (["weights=3"], "weights=3 does not exist: name a .ckpt file"),
        (["weights={trained}", "model.width=16"], "weights={trained} is of another model: width=8 there and 16 here"),
        (["weights={trained}", "model.layout.heads=4"], "is of another model: layout={{"),
    ],
)
def test_weights_that_cannot_be_begun_with_are_named(
    run_command, tiny_arguments, trained, tmp_path, arguments, message
):
    given = [each.format(trained=trained) for each in arguments]
    code, _, errors = run_command(command.main, *tiny_arguments, "run=mine", *given)
    assert code == 2
    [line] = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert message.format(trained=trained) in line
    assert not (tmp_path / "outputs" / "denoise" / "mine" / "checkpoints").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["degradation.sigma=50"],
        ["degradation.sigma=[15,25,50]", "optim=multistep"],
        ["degradation.sigma={low:5,high:50}", "loss=charbonnier"],
        ["data.channels=1", "model.train_k=[2,4]"],
        ["trainer.precision=bf16-mixed", "trainer.accumulate_grad_batches=2"],
        ["callbacks.ema=null", "callbacks.panels=null", "callbacks.speed=null"],
        ["data.patch=64", "model.attention=mask"],  # images smaller than the patch
        ["logger=tensorboard"],
    ],
    ids=" ".join,
)
def test_plain_arguments(tiny, tmp_path, arguments):
    psnr = train(tiny(tmp_path, "trainer.max_steps=2", *arguments))
    assert 10 < psnr < 50
    assert all(loss < 1 for loss in losses(tmp_path).values())
    # Without the average the file holds the weights alone.
    content = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert ("current_model_state" in content) == ("callbacks.ema=null" not in arguments)


def test_k_is_drawn_anew_for_every_step(tiny, tmp_path):
    train(tiny(tmp_path, "trainer.max_steps=12", "model.train_k=[2,4,8]", "data.patch=8"))
    assert set(read_curve(tmp_path, "train/k").values()) == {2.0, 4.0, 8.0}


def test_the_command_names_runs_and_resumes_the_newest(run_command, tiny_arguments, tmp_path):
    runs = tmp_path / "outputs" / "denoise"
    for name in ("first", "second"):
        assert run_command(command.main, *tiny_arguments, "trainer.max_steps=1", f"run={name}")[0] == 0
    code, output, _ = run_command(command.main, *tiny_arguments, "trainer.max_steps=2", "resume=true")
    assert code == 0
    assert "CBSD68 sigma=25" in output
    assert sorted(folder.name for folder in runs.iterdir()) == ["first", "second"]
    assert list(losses(runs / "first")) == [1]
    assert list(losses(runs / "second")) == [1, 2]
    # Each start keeps the configuration it was given.
    assert len(list((runs / "second" / ".hydra").iterdir())) in (1, 2)
    assert run_command(command.main, *tiny_arguments, "run=first")[0] == 2
    assert list(losses(runs / "first")) == [1]


@pytest.mark.slow
def test_no_job_of_a_multirun_starts_while_one_is_wrong(run_command, tiny_arguments, tmp_path):
    arguments = ("-m", *tiny_arguments, "trainer.max_steps=1", "model.k=99,4", "hydra.sweep.dir=sweep")
    code, _, errors = run_command(command.main, *arguments)
    assert code == 2
    assert "error: no job is started, 1 of 2 are wrong, k=99: k=99 must lie in 1..16" in errors
    assert not list(tmp_path.glob("sweep/*/results.json"))
