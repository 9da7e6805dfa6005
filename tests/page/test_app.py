"""What the page asks for: restored in a queue, and what is wrong is said."""

import io
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from kgt_lightning.images.files import read_image
from kgt_lightning.restoring.picture import restore

PLACE = {"top": 0, "left": 0, "height": 100, "width": 150}


def test_a_picture_is_restored_tile_by_tile_and_kept(visitor, photo_file, module, tmp_path):
    told = visitor.add(photo_file)
    assert (told["width"], told["height"], told["channels"]) == (150, 100, 3)
    assert visitor.ask("POST", f"pictures/{told['number']}/restore", params={"model": "tiny"}).status_code == 202
    heard = visitor.hear("finished", "failed")
    assert heard[0]["event"] == "started"
    assert heard[-1]["event"] == "finished"
    tiles = [event for event in heard if event["event"] == "tile"]
    assert tiles[-1]["done"] == tiles[-1]["parts"] == 6
    assert tiles[-1]["left_seconds"] == 0

    kept = visitor.ask("GET", f"pictures/{told['number']}/download")
    assert kept.headers["content-disposition"] == "attachment; filename*=utf-8''cat-restored.png"
    (tmp_path / "kept.png").write_bytes(kept.content)
    expected = restore(module, read_image(photo_file).pixels, tile=64, overlap=16).clamp(0, 1)
    assert (read_image(tmp_path / "kept.png").pixels - expected).abs().max() < 1 / 255

    shown = visitor.ask("GET", f"pictures/{told['number']}/layer/restored", params=PLACE)
    array = np.asarray(Image.open(io.BytesIO(shown.content)))
    assert array.shape == (100, 150, 3)
    untouched = visitor.ask("GET", f"pictures/{told['number']}/download", params={"strength": 0})
    (tmp_path / "untouched.png").write_bytes(untouched.content)
    assert torch.equal(read_image(tmp_path / "untouched.png").pixels, read_image(photo_file).pixels)


@pytest.mark.parametrize(("suffix", "said"), [("png", None), ("jpg", "this model removes white noise, little of")])
def test_what_a_model_leaves_in_jpeg_files_is_said(visitor, photo_file, tmp_path, suffix, said):
    Image.open(photo_file).convert("RGB").save(tmp_path / f"cat.{suffix}")
    number = visitor.add(tmp_path / f"cat.{suffix}")["number"]
    visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    limit = visitor.hear("finished")[-1]["limit"]
    assert limit is None if said is None else limit.startswith(said)


def test_it_stops_with_a_picture_that_is_cancelled_and_goes_on_with_the_next(visitor, photo_file, module, monkeypatch):
    forward, cancelled = module.forward, threading.Event()

    def held(part):
        assert cancelled.wait(60)
        return forward(part)

    first, second = visitor.add(photo_file)["number"], visitor.add(photo_file)["number"]
    with monkeypatch.context() as patched:
        patched.setattr(module, "forward", held)
        for number in (first, second):
            visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
        visitor.ask("DELETE", f"pictures/{first}/restore")
        cancelled.set()
        heard = visitor.hear("finished")
    ends = {event["picture"]: event["event"] for event in heard if event["event"] in ("cancelled", "finished")}
    assert ends == {first: "cancelled", second: "finished"}


def test_broken_files_say_what_they_are(visitor, photo_file):
    whole = photo_file.read_bytes()
    for content, reason in (
        (b"", "is empty"),
        (b"no image", "cannot be read"),
        (whole[: len(whole) // 2], "cannot be read"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "cannot be read"),
    ):
        answer = visitor.ask("PUT", "pictures", params={"name": "broken.png"}, content=content)
        assert answer.status_code == 400
        assert "broken.png" in answer.json()["error"] and reason in answer.json()["error"]
        assert "/tmp" not in answer.json()["error"]
    visitor.add(photo_file)


@pytest.mark.parametrize(
    ("error", "reason"),
    [(RuntimeError("allocate memory"), "a smaller tile"), (KeyError("a"), "(KeyError): see the log"), (None, "finite")],
)
def test_a_picture_that_cannot_be_restored_says_why_and_the_next_is(
    visitor, photo_file, module, monkeypatch, error, reason
):
    number = visitor.add(photo_file)["number"]

    def forward(part):
        if error is not None:
            raise error
        return part * float("nan")

    with monkeypatch.context() as patched:
        patched.setattr(module, "forward", forward)
        visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
        assert reason in visitor.hear("finished", "failed")[-1]["reason"]
    assert visitor.ask("GET", f"pictures/{number}/download").status_code == 404
    visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    assert visitor.hear("finished", "failed")[-1]["event"] == "finished"
