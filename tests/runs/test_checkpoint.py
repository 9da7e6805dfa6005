import os
import sys

import pytest
import torch

from kgt_lightning.runs.checkpoint import load_checkpoint, read_checkpoint


@pytest.fixture
def forged(trained, tmp_path):
    """Writes the trained checkpoint with something else in its configuration."""

    def write(change):
        content = torch.load(trained, weights_only=True)
        change(content["config"])
        torch.save(content, tmp_path / "forged.ckpt")
        return tmp_path / "forged.ckpt"

    return write


def test_a_checkpoint_alone_gives_the_module(trained):
    checkpoint = load_checkpoint(trained)
    module = checkpoint.module()
    assert not module.training
    assert module.network.backbone.k == 8
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, checkpoint.state[name], rtol=0, atol=0)


def test_a_checkpoint_of_before_names_classes_that_have_moved(forged):
    def name_as_before(config):
        config["module"]["optim"]["_target_"] = "kgt_lightning.optim.AdamW"
        config["module"]["optim"]["schedule"]["_target_"] = "kgt_lightning.optim.Cosine"
        config["module"]["scoring"]["_target_"] = "kgt_lightning.scoring.Scoring"

    file = forged(name_as_before)
    assert read_checkpoint(file).config.module.optim.schedule._target_ == "kgt_lightning.training.optim.Cosine"
    checkpoint = load_checkpoint(file)
    assert checkpoint.config.module.scoring._target_ == "kgt_lightning.metrics.scoring.Scoring"
    checkpoint.module()


def test_settings_can_be_changed(trained):
    checkpoint = load_checkpoint(trained)
    checkpoint.change(
        {"model": {"k": 4}, "module": {"scoring": {"protocol": "grl"}}, "degradation": {"sigma": [15, 50]}}
    )
    module = checkpoint.module()
    assert (module.network.backbone.k, module.scoring.protocol) == (4, "grl")
    assert checkpoint.config.degradation.sigma == [15, 50]


@pytest.mark.parametrize(
    "target",
    [
        "os.system",
        "builtins.eval",
        "subprocess.Popen",
        "kgt_lightning.runs.checkpoint.torch.load",
        "kgt_lightning.runs.checkpoint.Path",
        "kgt_lightning.train.main",
        "kgt_lightning.images.files.write_image",
        "kgt_lightning",
        "kgt_lightning..os.system",
        "kgt_lightning_other.Thing",
        "",
    ],
)
@pytest.mark.parametrize("trust", [[], ["mine"]])
@pytest.mark.parametrize("section", ["module", "model", "data", "degradation", "layout", "list"])
def test_a_target_that_is_no_class_of_the_package_is_refused(forged, target, section, trust):
    def change(config):
        if section == "list":
            config["data"]["test"] = ({"_target_": target},)
        elif section == "layout":
            config["model"]["layout"]["_target_"] = target
        else:
            config[section]["_target_"] = target

    with pytest.raises(ValueError, match="is no class of kgt_lightning: it is not loaded"):
        load_checkpoint(forged(change), trust=trust)


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """A package of the user's own, its name."""
    name = "package_of_mine"
    folder = tmp_path / "own" / name
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text(
        "from os import system, path, PathLike\nfrom subprocess import Popen\n"
        "from kgt_lightning.training.module import RestorationModule\n"
        "class MyModule(RestorationModule):\n    def baseline(self, degraded):\n        return 0 * degraded\n"
        "def make(**settings):\n    return MyModule(**settings)\n"
        "instance = object()\n"
    )
    monkeypatch.syspath_prepend(folder.parent)
    yield name
    sys.modules.pop(name, None)


def named(target):
    return lambda config: config["module"].update(_target_=target)


def test_a_class_of_a_package_that_is_trusted(forged, mine):
    file = forged(named(f"{mine}.MyModule"))
    with pytest.raises(ValueError, match=rf"names {mine}\.MyModule, .*not loaded; add trust=\[{mine}\] if you trust"):
        load_checkpoint(file)
    assert mine not in sys.modules, "nothing of it is imported"
    assert type(load_checkpoint(file, trust=[mine]).module()).__name__ == "MyModule"


@pytest.mark.parametrize("name", ["system", "path.join", "PathLike", "Popen", "make", "instance", "none", "MyModule.x"])
def test_of_a_trusted_package_only_classes_that_it_defines(forged, mine, name):
    with pytest.raises(ValueError, match=rf"is no class that {mine} defines: it is not loaded$"):
        load_checkpoint(forged(named(f"{mine}.{name}")), trust=[mine])


@pytest.mark.parametrize("package", ["os", "builtins", "subprocess", "mine.part", "", 3])
def test_what_cannot_be_trusted(trained, package):
    with pytest.raises(ValueError, match=r"trust=\[.*must be the name of a package with classes of your own"):
        load_checkpoint(trained, trust=[package])


def test_loss_and_optimiser_of_others_need_no_trust(forged):
    """Only training needs them: they are not built, whatever they are."""

    def change(config):
        config["module"]["loss"] = {"_target_": "os.system", "command": "true"}
        config["module"]["optim"] = {"_target_": "mine.Optimizer"}

    file = forged(change)
    content = torch.load(file, weights_only=True)
    content["state_dict"]["loss.filters"] = torch.zeros(3)
    torch.save(content, file)
    module = load_checkpoint(file).module()
    assert module.loss is None
    assert module.optim is None


def test_a_value_to_be_looked_up_is_refused(forged):
    with pytest.raises(ValueError, match=r"sigma=.*is not loaded"):
        load_checkpoint(forged(lambda config: config["degradation"].update(sigma="${oc.env:HOME}")))


class Evil:
    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.mkdir, (self.file,)


def test_code_in_a_checkpoint_is_not_run(trained, tmp_path):
    content = torch.load(trained, weights_only=True)
    torch.save({**content, "extra": Evil(str(tmp_path / "made"))}, tmp_path / "evil.ckpt")
    with pytest.raises(
        ValueError, match=r"evil\.ckpt names posix\.mkdir, and of a file nothing but tensors.*is loaded"
    ):
        load_checkpoint(tmp_path / "evil.ckpt")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("kept", [0, 10, 1000, -100])
def test_a_damaged_file_is_named(trained, tmp_path, kept):
    (tmp_path / "part.ckpt").write_bytes(trained.read_bytes()[:kept])
    with pytest.raises(ValueError, match=r"part\.ckpt cannot be read, it is damaged or no checkpoint"):
        load_checkpoint(tmp_path / "part.ckpt")


@pytest.mark.parametrize("content", [{}, {"state_dict": {}}, {"state_dict": {}, "config": {"task": "x"}}, [1]])
def test_a_checkpoint_of_another_program_is_named(tmp_path, content):
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match=r"other\.ckpt carries no configuration"):
        load_checkpoint(tmp_path / "other.ckpt")


def test_weights_that_do_not_fit_are_named(trained):
    checkpoint = load_checkpoint(trained)
    checkpoint.change({"model": {"width": 16}})
    with pytest.raises(
        ValueError, match=r"do not fit the settings.*has shape \[8, .* in the file and shape \[16, .* in the model"
    ):
        checkpoint.module()
