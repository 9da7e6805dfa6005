"""What the page is shown and keeps: files, layers, neighbours, costs and scores."""

import io
import struct

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from PIL import Image, ImageCms
from starlette.testclient import TestClient

from kgt_lightning.images.files import Picture, read_raster, write_image
from kgt_lightning.page.photo import suffixes
from kgt_lightning.restoring.files import restore_raster
from kgt_lightning.restoring.mixing import Mixing
from kgt_lightning.restoring.noise import noise_level

ADDRESS = "http://127.0.0.1:8765"


def test_neighbours_of_a_point_are_those_of_its_window(visitor, photo_file):
    number = visitor.add(photo_file)["number"]
    asked = {"model": "tiny", "k": 5, "x": 140, "y": 90}
    stages = visitor.ask("GET", f"pictures/{number}/neighbours", params=asked).json()["stages"]
    assert len(stages) == 2
    for stage in stages:
        left, top, side = stage["window"]
        assert 1 <= len(stage["neighbours"]) <= 5
        assert all(left <= x < left + side and top <= y < top + side for x, y in [*stage["neighbours"], stage["node"]])
        x, y = stage["node"]
        assert x <= 140 < x + stage["cell"] and y <= 90 < y + stage["cell"]


def test_another_k_says_what_it_costs(visitor, photo_file):
    number = visitor.add(photo_file)["number"]
    found = visitor.ask("GET", f"pictures/{number}/cost", params={"model": "tiny", "k": 2, "x": 70, "y": 50}).json()
    assert found["usual_k"] == 8
    assert found["seconds"] > 0 < found["usual_seconds"]
    assert found["difference"] > 0
    assert found["png"].startswith("data:image/png;base64,")
    refused = visitor.ask("GET", f"pictures/{number}/cost", params={"model": "tiny", "k": 17})
    assert refused.status_code == 400
    assert "1..16" in refused.json()["error"]


def test_a_clean_picture_gives_scores(visitor, photo_file, tmp_path):
    number = visitor.add(photo_file)["number"]
    visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    visitor.hear("finished")
    clean = {"params": {"name": "cat.png"}, "content": photo_file.read_bytes()}
    assert visitor.ask("PUT", f"pictures/{number}/clean", **clean).status_code == 201
    found = visitor.ask("GET", f"pictures/{number}/scores").json()
    assert found["before"] is None, "the same picture"
    assert found["restored"] > 0
    write_image(tmp_path / "small.png", Picture(pixels=torch.zeros(3, 4, 4)))
    clean["content"] = (tmp_path / "small.png").read_bytes()
    refused = visitor.ask("PUT", f"pictures/{number}/clean", **clean)
    assert "4 x 4" in refused.json()["error"] and refused.status_code == 400


DISPLAY_P3 = {"rXYZ": (0.5151, 0.2412, -0.0011), "gXYZ": (0.292, 0.6922, 0.0419), "bXYZ": (0.1571, 0.0666, 0.7841)}


def display_p3() -> bytes:
    """An ICC profile (version 2.1) of Display P3's primaries, adapted to D50, with gamma 2.2."""
    tags = {"desc": b"desc" + struct.pack(">4xI", 11) + b"Display P3\0" + bytes(78), "cprt": b"text\0\0\0\0none\0"}
    for name, values in {"wtpt": (0.9642, 1, 0.8249), **DISPLAY_P3}.items():
        tags[name] = b"XYZ " + struct.pack(">4x3i", *(round(value * 65536) for value in values))
    tags |= dict.fromkeys(("rTRC", "gTRC", "bTRC"), b"curv" + struct.pack(">4xIH", 1, round(2.2 * 256)))
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name.encode() + struct.pack(">II", 132 + 12 * len(tags) + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = struct.pack(">I4xI4s4s4s12x4s28x3i48x", 132 + 12 * len(tags) + len(body), 0x02100000, b"mntr", b"RGB ",
                       b"XYZ ", b"acsp", 63190, 65536, 54061)  # fmt: skip
    return head + table + body


def test_a_download_tells_all_that_the_photograph_told(visitor, photo, tmp_path):
    """As a telephone writes it: lying on its side, with its place, in Display P3."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 12.0)})
    lying = Image.fromarray((photo[0, :, 100:180, 100:200].permute(1, 2, 0) * 255).byte().numpy())
    profile, xmp = display_p3(), b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>by hand</x:xmpmeta>"
    assert ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(profile))).strip() == "Display P3"
    lying.save(tmp_path / "a.jpg", exif=exif, icc_profile=profile, xmp=xmp)
    told = visitor.add(tmp_path / "a.jpg")
    assert (told["width"], told["height"]) == (80, 100), "upright"
    visitor.ask("POST", f"pictures/{told['number']}/restore", params={"model": "tiny"})
    visitor.hear("finished")
    kept = visitor.ask("GET", f"pictures/{told['number']}/download")
    with Image.open(io.BytesIO(kept.content)) as image:
        assert (image.format, image.size) == ("JPEG", (80, 100))
        assert image.info["icc_profile"] == profile
        assert image.info["xmp"] == xmp
        assert 0x0112 not in image.getexif()
        assert [float(part) for part in image.getexif().get_ifd(0x8825)[2]] == [47, 22, 12]


def test_a_download_keeps_sixteen_bits_and_alpha(visitor, photo, tmp_path):
    pixels, alpha = photo[0, :, 100:180, 100:200], photo[0, :1, :80, :100]
    write_image(tmp_path / "a.png", Picture(pixels=pixels, alpha=alpha, bits=16))
    number = visitor.add(tmp_path / "a.png")["number"]
    visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    visitor.hear("finished")
    for strength, equal in ((0, True), (100, False)):
        kept = visitor.ask("GET", f"pictures/{number}/download", params={"strength": strength})
        (tmp_path / "kept.png").write_bytes(kept.content)
        before, after = read_raster(tmp_path / "a.png").array, read_raster(tmp_path / "kept.png").array
        assert np.array_equal(before[..., 3], after[..., 3])
        assert after.dtype == np.uint16 and np.array_equal(before, after) == equal


def test_alpha_is_enlarged_as_restore_does_it(tiny, make_page, visit, photo, tmp_path):
    config = tiny(tmp_path / "run", "task=sr", "degradation.scale=2").module
    config.update({"loss": None, "optim": None})
    torch.manual_seed(0)
    module = instantiate(config).eval()
    for weights in module.network.head.parameters():
        torch.nn.init.normal_(weights, std=0.05)
    picture = Picture(pixels=photo[0, :, 100:140, 100:200], alpha=photo[0, 1:2, :40, :100])
    write_image(tmp_path / "a.png", picture)
    app = make_page(module=module).app(port=8765)
    with TestClient(app, base_url=ADDRESS, headers={"origin": ADDRESS}) as client, visit(client) as one:
        number = one.add(tmp_path / "a.png")["number"]
        one.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
        heard = one.hear("finished")
        kept = one.ask("GET", f"pictures/{number}/download", params={"strength": 30})
    told = [event for event in heard if event["event"] in ("tile", "opacity")]
    assert [event["done"] for event in told] == list(range(1, told[-1]["parts"] + 1))
    (tmp_path / "kept.png").write_bytes(kept.content)
    asked = {"tile": 64, "overlap": 16, "progress": lambda done, parts: None}
    expected = restore_raster(module, read_raster(tmp_path / "a.png"), mixing=Mixing(strength=0.3), **asked).array
    found, expected = (array[..., 3].astype(int) for array in (read_raster(tmp_path / "kept.png").array, expected))
    assert np.abs(found - expected).max() <= 1, "of what is rounded twice"
    bilinear = torch.nn.functional.interpolate(picture.alpha[None], scale_factor=2, mode="bilinear")[0, 0].numpy()
    assert np.abs(expected - bilinear * 255).max() > 20


def test_texture_leaves_the_noise_out_that_is_estimated(visitor, photo, tmp_path):
    torch.manual_seed(0)
    noisy = photo[0, :, 100:228, 100:228] + torch.randn(3, 128, 128) * 25 / 255
    write_image(tmp_path / "a.png", Picture(pixels=noisy.clamp(0, 1)))
    number = visitor.add(tmp_path / "a.png")["number"]
    visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    visitor.hear("finished")
    place = {"top": 0, "left": 0, "height": 128, "width": 128}
    answers = {
        "restored": visitor.ask("GET", f"pictures/{number}/download"),
        "kept": visitor.ask("GET", f"pictures/{number}/download", params={"texture": 100}),
        "shown": visitor.ask("GET", f"pictures/{number}/layer/texture", params=place),
    }
    arrays = {name: np.array(Image.open(io.BytesIO(answer.content))) for name, answer in answers.items()}
    before = read_raster(tmp_path / "a.png").array
    original, restored = (torch.from_numpy(each).permute(2, 0, 1)[None] / 255 for each in (before, arrays["restored"]))
    expected, noise_too = (
        Mixing(texture=1, noise=noise)(original, restored).clamp(0, 1)[0].permute(1, 2, 0).numpy() * 255
        for noise in (noise_level(before), 0)
    )
    for array in (arrays["kept"], arrays["shown"]):
        assert np.abs(array - expected).max() < 3, "of what is rounded twice"
        assert np.abs(array - noise_too).mean() > 3


def test_photographs_of_an_extra_are_taken_where_it_is_installed(visitor, photo, tmp_path, monkeypatch):
    heif = pytest.importorskip("pillow_heif")
    assert {".heic", ".avif", ".jpg"} < set(visitor.hello["suffixes"])
    image = Image.fromarray((photo[0, :, :64, :96].permute(1, 2, 0) * 255).byte().numpy())
    heif.from_pillow(image).save(tmp_path / "a.heic")
    told = visitor.add(tmp_path / "a.heic", name="a.HEIC")
    assert (told["width"], told["height"]) == (96, 64)
    visitor.ask("POST", f"pictures/{told['number']}/restore", params={"model": "tiny"})
    visitor.hear("finished")
    kept = visitor.ask("GET", f"pictures/{told['number']}/download")
    assert kept.headers["content-disposition"].endswith("a-restored.png"), "HEIC is read, not written"
    assert Image.open(io.BytesIO(kept.content)).size == (96, 64)

    monkeypatch.setattr("kgt_lightning.config.extras.find_spec", lambda package: None)
    assert ".heic" not in suffixes() and ".avif" in suffixes()
    refused = visitor.ask("PUT", "pictures", params={"name": "a.heic"}, content=b"x")
    assert refused.status_code == 400
    assert "pip install 'kgt-lightning[heif]'" in refused.json()["error"]
