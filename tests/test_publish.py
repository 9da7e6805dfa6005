"""A run becomes a model of the package: its file, its card, and what can be done with its name."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import kgt_lightning
from kgt_lightning import models
from kgt_lightning.publish import main, publish
from kgt_lightning.runs.card import as_markdown
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.runs.model_table import with_tables


def test_a_run_becomes_a_model_with_a_card(trained, evaluated, photo_root, tmp_path):
    weights, json_file, markdown = publish(
        trained.parents[1], "denoise", [evaluated], root=photo_root, folder=tmp_path / "models"
    )
    card = json.loads(json_file.read_text())
    assert card["bytes"] == weights.stat().st_size
    assert card["training"]["steps"] == 4
    assert card["training"]["data"] == [
        {"name": "BSD400", "images": 10, "licence": "non-commercial research and education (stated on its home page)"}
    ]
    score, clean = card["scores"]
    assert clean["degraded_psnr"] is None
    assert (score["set"], score["psnr"], score["published"]["DnCNN"]) == ("CBSD68 sigma=25", 21.0, 31.24)
    assert all(value >= 0 for value in card["measures"].values())
    assert len(card["measures"]) == 7
    assert (card["experimental"], card["degraded_channels"], card["tile"] % card["multiple"]) == (False, 3, 0)
    text = markdown.read_text()
    assert "xperimental" not in text
    assert "**Experimental**" in as_markdown(card | {"experimental": True})
    assert "| CBSD68 sigma=25 | 3 | 20.50 | 21.00 | DnCNN 31.24" in text
    assert "| CBSD68 sigma=0 | 3 | clean | 45.00 |" in text
    assert "test images in the training data: none" in text
    assert str(photo_root) not in text + json_file.read_text(), "no path of this machine"


def test_a_model_of_the_package_is_used_by_its_name(trained, evaluated, photo_root, tmp_path, monkeypatch):
    publish(trained.parents[1], "denoise", [evaluated], root=photo_root, folder=tmp_path)
    monkeypatch.setattr(models, "FOLDER", tmp_path)
    image = torch.rand(2, 3, 30, 21, generator=torch.Generator().manual_seed(0))
    model = kgt_lightning.pretrained("denoise")
    with torch.no_grad():
        assert torch.equal(model(image), load_checkpoint(trained).module()(image).clamp(0, 1))
    assert (model.info.task, model.info.scale, model.info.channels) == ("denoise", 1, 3)
    assert model.info.tile % model.info.multiple == 0
    with pytest.raises(ValueError, match=r"images have shape \[2, 1, 30, 21\]; denoise takes \[B, 3, H, W\]"):
        model(image[:, :1])
    assert load_checkpoint("denoise").step == 4, "a checkpoint may be given as a name"


@pytest.mark.parametrize("page", ["README.md", "experiments/models/README.md"])
def test_pages_show_what_the_cards_say(page):
    """If not: python -m kgt_lightning.publish --table README.md experiments/models/README.md."""
    text = (Path(__file__).parents[1] / page).read_text()
    cards = [json.loads(models.model_file(name).with_suffix(".json").read_text()) for name in models.NAMES]
    assert with_tables(text, cards) == text
    assert "DnCNN 31.24" in text


def test_a_page_without_a_place_is_refused(run_command, tmp_path):
    (tmp_path / "page.md").write_text("no table")
    code, _, errors = run_command(main, "--table", str(tmp_path / "page.md"))
    assert (code, "add <!-- every score" in errors) == (2, True)
    assert run_command(main, "runs/x")[0] == 2


def test_a_name_of_no_model_is_refused():
    with pytest.raises(ValueError, match=r"model 'denoisse' is none of those that the package brings: .*denoise"):
        kgt_lightning.pretrained("denoisse")


def test_other_evaluations_and_unfinished_runs_are_refused(trained, evaluated, photo_root, tmp_path):
    run = trained.parents[1]
    with pytest.raises(ValueError, match=r"holds no results\.json"):
        publish(run, "denoise", [tmp_path], root=photo_root, folder=tmp_path)
    with pytest.raises(ValueError, match=r"holds no run\.json"):
        publish(tmp_path, "denoise", [evaluated], root=photo_root, folder=tmp_path)
    content = json.loads((evaluated / "results.json").read_text())
    (evaluated / "results.json").write_text(json.dumps({**content, "checkpoint": "other.ckpt"}))
    with pytest.raises(ValueError, match=r"is an evaluation of other\.ckpt"):
        publish(run, "denoise", [evaluated], root=photo_root, folder=tmp_path)


def test_asking_for_the_version_imports_no_torch():
    line = "import sys, kgt_lightning; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", line]).returncode == 0
