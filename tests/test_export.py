import io
import json
import zipfile

import pytest
import torch

from kgt_lightning import export as command
from kgt_lightning.exports.program import FromImageToImage, picture
from kgt_lightning.runs.checkpoint import load_checkpoint

pytest.importorskip("onnxruntime")


@pytest.fixture
def run(run_command, trained):
    return lambda *arguments: run_command(command.main, f"checkpoint={trained}", *arguments)


@pytest.mark.slow
def test_darktable_gets_a_model_that_is_compared_with_pytorch(run, tmp_path):
    from kgt_lightning.exports.onnx_file import session_of

    code, said, errors = run("format=darktable", "output=best.dtmodel", "model.k=5")
    assert code == 0, errors
    assert said.count("largest difference") == 5 and " 640 x 360" in said and "opset 20" in said
    with zipfile.ZipFile(tmp_path / "best.dtmodel") as archive:
        assert archive.namelist() == ["denoise-kgt-best/config.json", "denoise-kgt-best/model.onnx"]
        config, content = json.loads(archive.read(archive.namelist()[0])), archive.read(archive.namelist()[1])
    assert config["id"] == "denoise-kgt-best" and config["task"] == "denoise" and config["num_inputs"] == 1
    (given,), (restored,) = session_of(content).get_inputs(), session_of(content).get_outputs()
    assert (given.name, given.shape, given.type) == ("input", [1, 3, "height", "width"], "tensor(float)")
    assert restored.name == "output"


@pytest.mark.slow
def test_a_program_is_loaded_without_the_model_classes(run, trained, tmp_path):
    code, _, errors = run("format=torch", "output=best.pt2")
    assert code == 0, errors
    loaded = torch.export.load(tmp_path / "best.pt2").module()
    image = picture(3, 33, 50)
    with torch.no_grad():
        expected = FromImageToImage(load_checkpoint(trained).module())(image)
        torch.testing.assert_close(loaded(image), expected)


def test_a_mosaic_is_developed_inside():
    """Also one that is too small for the filters."""
    from kgt_lightning.exports.program import make_program

    module = load_checkpoint("demosaic").module()
    mosaic = picture(1, 38, 70)
    with torch.no_grad():
        torch.testing.assert_close(FromImageToImage(module)(mosaic), module(mosaic).clamp(0, 1), rtol=0, atol=1e-5)
        assert make_program(module).module()(picture(1, 1, 1)).shape == (1, 3, 1, 1)


def test_nothing_is_replaced_and_wrong_arguments_are_explained(run, tmp_path):
    (tmp_path / "best.onnx").write_text("mine")
    code, _, errors = run("output=best.onnx")
    assert code == 2 and "output=best.onnx is already there" in errors
    assert (tmp_path / "best.onnx").read_text() == "mine"
    code, _, errors = run("output=best.pth")
    assert code == 2 and "output=best.pth must end in .onnx for format=onnx" in errors
    code, _, errors = run("output=best.onnx", "format=tflite")
    assert code == 2 and "format=tflite must be one of onnx, darktable, torch, safetensors" in errors


def test_neighbours_that_are_less_similar_than_others_are_found():
    from kgt_lightning.exports.onnx_file import GivenNeighbours

    nodes = torch.tensor([[[1.0], [2.0], [3.0]]])
    judge = GivenNeighbours(torch.fx.symbolic_trace(torch.nn.Identity()), [torch.tensor([[[2], [2], [1]]]).numpy()])
    judge.call_function(torch.ops.kgt.most_similar.default, (nodes, 1), {})
    assert judge.others == 1 and judge.nodes == 3 and judge.error == pytest.approx(1 / 3)


def test_darktable_has_no_use_for_some_models():
    from kgt_lightning.exports.darktable import why_not

    assert why_not(channels=3, scale=1) is None and why_not(channels=3, scale=4) is None
    assert "takes 1" in why_not(channels=1, scale=1)
    assert "this model by 3" in why_not(channels=3, scale=3)


def test_a_dtmodel_without_its_folder_is_refused():
    from kgt_lightning.exports.darktable import check_dtmodel

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("config.json", "{}")
    with pytest.raises(ValueError, match=r"all files must lie in one folder, there are config\.json"):
        check_dtmodel(buffer.getvalue(), [64])
