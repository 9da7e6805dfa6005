import csv
import json
import shutil
import subprocess
import sys

import pytest

from kgt_lightning import evaluate
from kgt_lightning.images.files import read_image
from kgt_lightning.report.__main__ import report
from kgt_lightning.training.module import RestorationModule


def results(tmp_path):
    [file] = tmp_path.glob("outputs/evaluate/*/results.json")
    found = json.loads(file.read_text())
    shutil.rmtree(tmp_path / "outputs")
    return found


def test_scores_come_as_table_json_and_csv(run_command, trained, photo_root, tmp_path):
    code, output, errors = run_command(evaluate.main, f"checkpoint={trained}", f"data_root={photo_root}")
    assert code == 0, errors
    assert "CBSD68 sigma=25" in output
    [file] = tmp_path.glob("outputs/evaluate/*/results.csv")
    with file.open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["image"] for row in rows] == ["0", "1", "2"]
    found = results(tmp_path)
    [(name, mean)] = found["means"].items()
    assert mean["psnr"] == pytest.approx(sum(float(row["psnr"]) for row in rows) / 3)
    assert found["protocol"].startswith("swinir: all channels of 8-bit images, crop 0")
    assert found["k"] == 8
    assert found["images"][0]["test_set"] == name
    # The checkpoint holds the weights that were tested at the end of the training.
    trained_with = json.loads((trained.parents[1] / "results.json").read_text())
    assert found["means"] == trained_with["means"]


def test_what_was_trained_with_can_be_changed(run_command, trained, photo_root, tmp_path):
    arguments = ("data.test=[Set12,CBSD68]", "degradation.test_sigma=[15,50]", "model.k=4", "protocol=grl")
    arguments += ("data.repeat_gray=true",)
    code, _, errors = run_command(evaluate.main, f"checkpoint={trained}", f"data_root={photo_root}", *arguments)
    assert code == 0, errors
    found = results(tmp_path)
    assert list(found["means"]) == [f"{name} sigma={sigma}" for name in ("Set12", "CBSD68") for sigma in (15, 50)]
    assert found["k"] == 4
    assert found["protocol"].startswith("grl")


def test_what_a_folder_holds_of_another_run_is_not_written_over(run_command, trained, photo_root, tmp_path):
    arguments = (f"checkpoint={trained}", f"data_root={photo_root}", "hydra.run.dir=tested")
    assert run_command(evaluate.main, *arguments)[0] == 0
    before = {file.name: file.read_bytes() for file in (tmp_path / "tested").glob("r*")}
    code, _, errors = run_command(evaluate.main, *arguments, "model.k=4")
    assert code == 2
    assert f"tested holds another run (checkpoint={trained} " in errors.splitlines()[-1]
    assert {file.name: file.read_bytes() for file in (tmp_path / "tested").glob("r*")} == before
    assert run_command(evaluate.main, *arguments)[0] == 0
    code, _, errors = run_command(evaluate.main, *arguments[:2], f"hydra.run.dir={trained.parents[1]}")
    assert code == 2, "the folder of the training"


def test_all_jobs_are_checked_before_the_first_starts(run_command, trained, photo_root, tmp_path):
    arguments = ("-m", f"data_root={photo_root}", "hydra.sweep.dir=tested", f"checkpoint={trained}")
    for wrong in ("model.k=4,999", "data.test=[CBSD68],[nope]", f"checkpoint={trained},nope.ckpt", "model.k=4,none"):
        code, _, errors = run_command(evaluate.main, *arguments, wrong)
        assert code == 2
        assert "no job is started, 1 of 2 are wrong, " in errors.splitlines()[-1]
    assert not list(tmp_path.rglob("run.json"))


def test_several_checkpoints_and_settings_are_tested_for_the_report(run_command, trained, photo_root, tmp_path):
    for run in ("first", "second"):
        (tmp_path / run / "checkpoints").mkdir(parents=True)
        shutil.copy(trained, tmp_path / run / "checkpoints/best.ckpt")
    checkpoints = ",".join(f"{run}/checkpoints/best.ckpt" for run in ("first", "second"))
    arguments = (f"checkpoint={checkpoints}", f"data_root={photo_root}", "model.k=4,8", "hydra.sweep.dir=tested")
    code, _, errors = run_command(evaluate.main, "-m", *arguments)
    assert code == 0, errors
    records = [json.loads((tmp_path / f"tested/{number}/run.json").read_text()) for number in range(4)]
    assert [each["config"]["model"]["k"] for each in records] == [4, 8, 4, 8]
    assert all(each["status"] == "finished" and each["seconds"] > 0 for each in records)
    page = report(tmp_path / "tested", output=tmp_path / "page", title=None, compare_images=())
    assert all(f"{run} tested with k" in page.read_text() for run in ("first", "second"))
    lines = (tmp_path / "page/runs.md").read_text().splitlines()[-4:]
    assert [line.split(" | ")[0] for line in lines] == [
        f"| {run} at k={k}" for run in ("first", "second") for k in (4, 8)
    ]


def test_an_interrupted_test_goes_on_after_the_last_image(run_command, trained, photo_root, tmp_path, monkeypatch):
    arguments = (f"checkpoint={trained}", f"data_root={photo_root}", f"hydra.run.dir={tmp_path / 'test'}")
    whole = RestorationModule.forward
    restored = []

    def interrupted_at_the_third(module, degraded):
        if degraded.is_meta:  # operations are counted
            return whole(module, degraded)
        if len(restored) == 2:
            raise MemoryError("too large")
        restored.append(degraded)
        return whole(module, degraded)

    monkeypatch.setattr(RestorationModule, "forward", interrupted_at_the_third)
    code, _, _ = run_command(evaluate.main, *arguments)
    assert code != 0
    file = tmp_path / "test" / ".scored.jsonl"
    file.write_bytes(file.read_bytes() + b'{"how": "ab')  # what a kill may leave
    restored.clear()
    code, _, errors = run_command(evaluate.main, *arguments)
    assert code == 0, errors
    assert len(restored) == 1
    again = json.loads((tmp_path / "test" / "results.json").read_text())
    trained_with = json.loads((trained.parents[1] / "results.json").read_text())
    assert again["means"] == trained_with["means"]
    restored.clear()
    code, _, errors = run_command(evaluate.main, *arguments, "trainer.precision=bf16-mixed")
    assert code != 0  # all three are scored anew, and the third is interrupted
    assert len(restored) == 2


def test_the_environment_names_the_folder(run_command, trained, photo_root, tmp_path, monkeypatch):
    monkeypatch.setenv("KGT_DATA", str(photo_root))
    code, _, errors = run_command(evaluate.main, f"model={trained}", "task=denoise")  # checkpoint= in another word
    assert code == 0, errors
    assert results(tmp_path)["means"]["CBSD68 sigma=25"]["images"] == 3


def test_images_are_saved_on_request(run_command, trained, photo_root, tmp_path):
    arguments = (f"checkpoint={trained}", f"data_root={photo_root}", "save_images=true")
    assert run_command(evaluate.main, *arguments)[0] == 0
    [folder] = tmp_path.glob("outputs/evaluate/*")
    for kind in ("degraded", "restored", "panels"):
        files = sorted((folder / kind / "CBSD68_sigma=25").iterdir())
        assert [file.name for file in files] == ["0.png", "1.png", "2.png"]
    clean = read_image(photo_root / "CBSD68" / "1.png").pixels
    assert read_image(folder / "restored" / "CBSD68_sigma=25" / "1.png").pixels.shape == clean.shape
    panel = read_image(folder / "panels" / "CBSD68_sigma=25" / "1.png").pixels
    assert (panel[..., -clean.shape[-1] :] == clean).all()


def test_own_pairs_are_evaluated(run_command, trained, photo_root, tmp_path):
    folder = photo_root / "CBSD68"
    arguments = (f"checkpoint={trained}", f"data.degraded={folder}", f"data.clean={folder}")
    code, _, errors = run_command(evaluate.main, *arguments)
    assert code == 0, errors
    found = results(tmp_path)
    [(name, mean)] = found["means"].items()
    assert (name, mean["images"]) == ("CBSD68 given", 3)
    assert mean["degraded_ssim"] == pytest.approx(1), "degraded and clean are the same files"
    assert found["versions"][name].startswith("3 images ")


def test_the_self_ensemble_is_named_with_its_numbers(run_command, trained, photo_root, tmp_path):
    arguments = (f"checkpoint={trained}", f"data_root={photo_root}")
    found = {}
    for choice in ("true", "false"):
        code, _, errors = run_command(evaluate.main, *arguments, f"self_ensemble={choice}")
        assert code == 0, errors
        found[choice] = results(tmp_path)
    assert "self-ensemble of 8" in found["true"]["protocol"]
    assert "self-ensemble" not in found["false"]["protocol"]
    once, eight = (found[choice]["means"]["CBSD68 sigma=25"] for choice in ("false", "true"))
    assert once["degraded_psnr"] == eight["degraded_psnr"]
    assert once["psnr"] != eight["psnr"]


@pytest.mark.slow
def test_several_processes_count_each_image_once(trained, photo_root, tmp_path):
    def scores(*arguments):
        command = [sys.executable, "-m", "kgt_lightning.evaluate", f"checkpoint={trained}", f"data_root={photo_root}"]
        done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=250)
        assert done.returncode == 0, done.stderr
        return results(tmp_path)["images"]

    # Of four processes one has none of three images.
    alone = scores("trainer.accelerator=cpu")
    together = scores("trainer.accelerator=cpu", "trainer.devices=4", "trainer.strategy=ddp")
    assert len(alone) == 3
    for ours, theirs in zip(together, alone, strict=True):
        assert ours.keys() == theirs.keys()
        for name in theirs:
            assert ours[name] == (theirs[name] if isinstance(theirs[name], str) else pytest.approx(theirs[name]))
