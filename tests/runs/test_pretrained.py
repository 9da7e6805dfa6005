"""Models in folders of their own, and on the Hub, of which only the public functions are replaced here."""

import json
import re
import shutil

import pytest
import torch
from omegaconf import OmegaConf

import kgt_lightning
from kgt_lightning import export
from kgt_lightning.models import model_file
from kgt_lightning.runs import hub
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.runs.weights import read_weights, weights_content


@pytest.fixture
def folder(run_command, trained, tmp_path):
    """A trained model as a folder."""
    arguments = (f"checkpoint={trained}", "format=safetensors", f"output={tmp_path / 'mine'}", "model.k=5")
    code, _, errors = run_command(export.main, *arguments)
    assert code == 0, errors
    return tmp_path / "mine"


@pytest.fixture
def image():
    return torch.rand(1, 3, 21, 30, generator=torch.Generator().manual_seed(0))


def restored(model, image):
    with torch.no_grad():
        return model(image)


def test_a_folder_is_the_model(folder, trained, image):
    model = kgt_lightning.from_pretrained(folder)
    checkpoint = load_checkpoint(trained)
    checkpoint.change({"model": {"k": 5}})
    assert torch.equal(restored(model, image), restored(checkpoint.module(), image).clamp(0, 1))
    assert (model.info.name, model.info.task, model.info.scale, model.info.degraded_channels) == (
        "mine",
        "denoise",
        1,
        3,
    )
    assert sorted(file.name for file in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    card = (folder / "README.md").read_text()
    head, settings = card.split("---\n")[1], re.search("```yaml\n(.*?)```", card, re.DOTALL)[1]
    assert OmegaConf.create(head)["tags"] == ["image-restoration", "denoise"]
    assert OmegaConf.create(settings).model.k == 5
    content = b"".join(file.read_bytes() for file in folder.iterdir())
    assert str(trained.parents[2]).encode() not in content, "no path of this machine"


def test_a_folder_is_written_again_as_it_is(folder, tmp_path):
    model = kgt_lightning.from_pretrained(folder)
    again = model.save_pretrained(tmp_path / "again")
    for file in folder.iterdir():
        assert (again / file.name).read_bytes() == file.read_bytes(), file.name


def test_a_model_of_the_package_brings_its_card(tmp_path, image):
    model = kgt_lightning.pretrained("denoise")
    folder = model.save_pretrained(tmp_path / "denoise")
    again = kgt_lightning.from_pretrained(folder)
    assert torch.equal(restored(again, image), restored(model, image))
    card = (folder / "README.md").read_text()
    assert "## Scores" in card and again.info.sha256 in card
    with torch.no_grad():
        next(model.restorer.parameters()).add_(1e-3)
    card = (model.save_pretrained(tmp_path / "changed") / "README.md").read_text()
    assert "## Scores" not in card, "they are of other weights"


def test_nothing_is_replaced(run_command, folder, trained):
    arguments = (f"checkpoint={trained}", "format=safetensors", f"output={folder}")
    code, _, errors = run_command(export.main, *arguments)
    assert code == 2 and "mine is already there" in errors
    assert run_command(export.main, *arguments, "overwrite=true")[0] == 0
    assert kgt_lightning.from_pretrained(folder).checkpoint.config.model.k == 8


def test_foreign_folders_are_looked_at_first(folder):
    weights, info = folder / hub.WEIGHTS, folder / hub.INFO
    content = read_weights(weights)
    content["config"]["model"]["_target_"] = "elsewhere.Model"
    weights.write_bytes(
        weights_content(state=content["state_dict"], config=content["config"], step=content["global_step"])
    )
    with pytest.raises(ValueError, match=r"names elsewhere\.Model, which is no class of .* add trust=\[elsewhere\]"):
        kgt_lightning.from_pretrained(folder)
    shutil.copy(model_file("denoise"), weights)
    with pytest.raises(ValueError, match=r"model\.safetensors is not the file of its card"):
        kgt_lightning.from_pretrained(folder)
    info.write_text(json.dumps({"name": "mine", "version": "1", "sha256": "x", "experimental": 1}))
    with pytest.raises(ValueError, match=r"config\.json does not tell experimental"):
        kgt_lightning.from_pretrained(folder)
    for wrong in ("no json", "[" * 10**5):
        info.write_text(wrong)
        with pytest.raises(ValueError, match=r"config\.json cannot be read"):
            kgt_lightning.from_pretrained(folder)


@pytest.fixture
def on_the_hub(monkeypatch, tmp_path):
    """The Hub as a folder, by the functions that it documents; the calls that were made."""
    package = pytest.importorskip("huggingface_hub")
    calls = []

    def snapshot_download(repo_id, *, revision, allow_patterns, local_files_only):
        calls.append((repo_id, revision, local_files_only))
        place = tmp_path / "hub" / repo_id
        if local_files_only or not place.is_dir():
            raise FileNotFoundError("no such model\nat all")
        fetched = tmp_path / "fetched"
        fetched.mkdir()
        for name in allow_patterns:
            shutil.copy(place / name, fetched)
        return str(fetched)

    class HfApi:
        def create_repo(self, repo_id, *, private, exist_ok):
            if repo_id.startswith("others/"):
                raise PermissionError("403 forbidden")
            calls.append((repo_id, private, exist_ok))
            return f"https://hub/{repo_id}"

        def upload_folder(self, *, repo_id, folder_path, commit_message):
            shutil.copytree(folder_path, tmp_path / "hub" / repo_id)

    monkeypatch.setattr(package, "snapshot_download", snapshot_download)
    monkeypatch.setattr(package, "HfApi", HfApi)
    return calls


def test_the_way_to_the_hub_and_back(folder, on_the_hub, image):
    model = kgt_lightning.from_pretrained(folder)
    assert model.push_to_hub("me/mine") == "https://hub/me/mine"
    again = kgt_lightning.from_pretrained("me/mine", download=True, revision="main")
    assert torch.equal(restored(again, image), restored(model, image))
    assert again.info == model.info
    assert on_the_hub == [("me/mine", True, True), ("me/mine", "main", False)]


def test_nothing_is_fetched_by_itself(on_the_hub):
    with pytest.raises(ValueError, match=r"me/mine is no folder, and was not fetched before: download=True fetches it"):
        kgt_lightning.from_pretrained("me/mine")
    assert on_the_hub == [("me/mine", None, True)]
    with pytest.raises(ValueError, match=r"me/mine is no folder, and cannot be fetched from the Hub \(no such model\)"):
        kgt_lightning.from_pretrained("me/mine", download=True)
    with pytest.raises(ValueError, match=r"outputs/a/b is no folder, and no name on the Hub, which is owner/name"):
        kgt_lightning.from_pretrained("outputs/a/b", download=True)
    with pytest.raises(ValueError, match=r"others/mine cannot be sent to the Hub \(403 forbidden\): log in"):
        hub.push(None, "others/mine", private=True, message="")
