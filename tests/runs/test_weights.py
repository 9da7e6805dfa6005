import json

import pytest
import torch
from safetensors.torch import save_file

from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.runs.weights import weights_content


@pytest.fixture
def written(trained, tmp_path):
    """A weights file of a trained model, and its checkpoint."""
    checkpoint = load_checkpoint(trained)
    content = torch.load(trained, weights_only=True)
    file = tmp_path / "model.safetensors"
    file.write_bytes(weights_content(state=checkpoint.state, config=content["config"], step=checkpoint.step))
    return file, checkpoint


def test_weights_and_configuration_come_back(written):
    file, checkpoint = written
    again = load_checkpoint(file)
    assert again.step == checkpoint.step
    assert again.state.keys() == checkpoint.state.keys()
    assert all(torch.equal(value, checkpoint.state[key]) for key, value in again.state.items())
    image = torch.rand(1, 3, 20, 28, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(again.module()(image), checkpoint.module()(image))


def test_the_same_model_gives_the_same_bytes_and_no_path_of_this_machine(written, trained, tmp_path):
    file, checkpoint = written
    other = tmp_path / "other.safetensors"
    state = dict(reversed(checkpoint.state.items()))
    other.write_bytes(
        weights_content(state=state, config=torch.load(trained, weights_only=True)["config"], step=checkpoint.step)
    )
    assert other.read_bytes() == file.read_bytes()
    header = file.read_bytes()[8 : 8 + int.from_bytes(file.read_bytes()[:8], "little")].decode()
    assert json.loads(json.loads(header)["__metadata__"]["kgt_lightning"])["step"] == 4
    assert str(trained.parents[2]) not in header


def test_files_below_the_root_are_named_from_there(trained, tmp_path):
    config = torch.load(trained, weights_only=True)["config"]
    root = config["data"]["root"]
    config["degradation"] |= {"root": root, "profiles": [f"{root}/own/noise.json", "/usr/share/noise.json"]}
    (tmp_path / "model.safetensors").write_bytes(weights_content(state={}, config=config, step=1))
    degradation = load_checkpoint(tmp_path / "model.safetensors").config.degradation
    assert (degradation.root, degradation.profiles) == (None, ["own/noise.json", "/usr/share/noise.json"])


def test_settings_of_a_weights_file_can_be_changed(written):
    file, _ = written
    checkpoint = load_checkpoint(file)
    checkpoint.change({"model": {"k": 4}, "data": {"root": "sets"}})
    assert checkpoint.module().network.backbone.k == 4


FOREIGN = {"task": "x", "model": {"_target_": "os.system"}, "degradation": {}, "module": {}, "data": {}}


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (None, "it carries no configuration of a run"),
        ({"config": {}, "step": 1}, "carries no configuration: it was not written"),
        ({"config": FOREIGN, "step": 1}, r"names os\.system, which is no class"),
    ],
)
def test_foreign_files_are_refused(tmp_path, metadata, message):
    file = tmp_path / "foreign.safetensors"
    given = None if metadata is None else {"kgt_lightning": json.dumps(metadata)}
    save_file({"a": torch.zeros(1)}, file, metadata=given)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(file)


def test_a_damaged_file_is_refused(written):
    file, _ = written
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="cannot be read, it is damaged"):
        load_checkpoint(file)
