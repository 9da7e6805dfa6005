"""What people type is what a command gets."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from kgt_lightning.config.arguments import as_given, readable
from kgt_lightning.config.command import CONF_DIR

NAMES = [
    "Fotos_für_Oma",
    "写真.png",
    "Photos (2)",
    "Anna's",
    "a&b+c",
    "#1.png",
    "x[1].png",
    "a,b.png",
    "epoch=3-step=9.ckpt",
    "2024",
    "1e5",
    "true",
    "a\\b",
    "a\\'b\\",
    '"quoted',
    "{a:b}",
    " blank ",
    "x" * 300,
    "~nobody's/x",
    "~/x y",
    "a:b;c|d*?",
]


def read(command, *arguments):
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose(command, readable(arguments, command=command))


def test_a_path_is_what_stands_behind_the_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        for given in (f"output={name}", f"--output={name}"):
            assert read("restore", "input=x", given).output == name
        if "=" not in name:
            assert read("restore", name, "b.png").input == [name, "b.png"]


def test_a_file_that_is_there_is_taken_however_it_is_called(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("epoch=3-step=9.ckpt", "[a,b]", "'x'", "${HOME}", "null", "a=b.png"):
        (tmp_path / name).touch()
        key = "checkpoint" if name.endswith("ckpt") else "input"
        assert read("restore", name)[key] == name
        assert read("restore", f"{key}={name}")[key] == name


def test_hydras_own_writing_goes_on():
    assert readable(["input='a b'", "output=${oc.env:HOME}/x", "checkpoint=null"], command="restore") == [
        "input='a b'",
        "output=${oc.env:HOME}/x",
        "checkpoint=null",
    ]
    assert read("analyze", "checkpoint=[a.ckpt,b.ckpt]").checkpoint == ["a.ckpt", "b.ckpt"]


def test_files_stand_alone():
    config = read("restore", "a.png", "b.png", "m.ckpt", "--output", "restored", "--overwrite", "--tile", "64")
    assert (config.input, config.checkpoint, config.output) == (["a.png", "b.png"], "m.ckpt", "restored")
    assert config.overwrite is True and config.tile == 64
    assert read("evaluate", "m.ckpt", "--save-images").save_images is True
    assert read("evaluate", "denoise").checkpoint == "denoise"
    assert read("analyze", "m.ckpt", "photo.png").input == "photo.png"


def test_a_sweep_goes_over_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c,d.ckpt").touch()
    assert readable(["-m", "checkpoint=a (1).ckpt,b.ckpt"], command="evaluate") == [
        "-m",
        "checkpoint='a (1).ckpt',b.ckpt",
    ]
    assert readable(["-m", "c,d.ckpt", "b.ckpt"], command="evaluate")[1] == "checkpoint='c,d.ckpt',b.ckpt"


def test_hydras_options_stay():
    arguments = ["--cfg", "job", "-m", "model.k=1,2", "--config-dir", "a b", "~callbacks.ema", "+x=1"]
    assert readable(arguments, command="train") == arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-x"], "-x is no option: --help"),
        (["--output"], "--output needs a value: --output <value>"),
        (["a.png", "input=b.png"], "a.png stands alone, and input= is given too"),
    ],
)
def test_what_cannot_be_meant_is_said(arguments, message):
    with pytest.raises(ValueError, match=message):
        readable(arguments, command="restore")


def test_references_in_arguments_are_kept_as_they_were_given():
    hydra = OmegaConf.create({"overrides": {"task": ["model.k=${model.window}", "seed=${nope}"]}})
    assert as_given(hydra.overrides.task) == ["model.k=${model.window}", "seed=${nope}"]
