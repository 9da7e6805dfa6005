"""What the page asks for: restored in a queue, looked into, kept as a file; and what it is refused."""

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import anyio
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from kgt_lightning.images.files import Picture, read_image, read_raster, write_image
from kgt_lightning.page.photo import read_photo, suffixes
from kgt_lightning.restoring.files import read_and_restore, restore_raster
from kgt_lightning.restoring.mixing import Mixing
from kgt_lightning.restoring.picture import restore

SOCKET = "ws://127.0.0.1:8765/session"
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


def test_it_stops_with_a_picture_that_is_cancelled_and_goes_on_with_the_next(visitor, photo_file):
    first, second = visitor.add(photo_file)["number"], visitor.add(photo_file)["number"]
    for number in (first, second):
        visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    visitor.ask("DELETE", f"pictures/{first}/restore")
    heard = visitor.hear("finished")
    ends = {event["picture"]: event["event"] for event in heard if event["event"] in ("cancelled", "finished")}
    assert ends[second] == "finished"
    assert ends.get(first) in ("cancelled", None) or len(ends) == 1


def test_a_closed_page_leaves_nothing(client, visit, photo_file, tmp_path, monkeypatch):
    with visit(client) as visitor:
        number = visitor.add(photo_file)["number"]
        key = visitor.hello["key"]
        assert visitor.ask("GET", f"pictures/{number}/layer/before", params=PLACE).status_code == 200
    gone = client.get(f"/{key}/pictures/{number}/layer/before", params=PLACE)
    assert gone.status_code == 404


def test_a_file_lies_on_the_disk_only_while_it_is_read(visitor, photo_file, tmp_path, monkeypatch):
    seen = []

    def read(file, **options):
        seen.append(file)
        return read_photo(file, **options)

    monkeypatch.setattr("kgt_lightning.page.app.read_photo", read)
    number = visitor.add(photo_file)["number"]
    visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    visitor.hear("finished")
    assert visitor.ask("GET", f"pictures/{number}/download").status_code == 200
    visitor.ask("PUT", "pictures", params={"name": "a.png"}, content=b"broken")
    assert [file.parent for file in seen] == [tmp_path / "served"] * 2
    assert list((tmp_path / "served").iterdir()) == []


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


def test_texture_is_that_of_kgt_restore(visitor, module, photo, tmp_path):
    """Its noise does not come back, as it would if the page did not estimate it."""
    torch.manual_seed(0)
    noisy = photo[0, :, 100:228, 100:228] + torch.randn(3, 128, 128) * 25 / 255
    write_image(tmp_path / "a.png", Picture(pixels=noisy.clamp(0, 1)))
    number = visitor.add(tmp_path / "a.png")["number"]
    visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
    visitor.hear("finished")
    kept = visitor.ask("GET", f"pictures/{number}/download", params={"texture": 100})
    (tmp_path / "kept.png").write_bytes(kept.content)
    place = {"top": 0, "left": 0, "height": 128, "width": 128}
    shown = visitor.ask("GET", f"pictures/{number}/layer/texture", params=place)
    options = {"tile": 64, "overlap": 16, "progress": lambda *_: None}
    expected = read_and_restore(module, tmp_path / "a.png", mixing=Mixing(texture=1), **options)[0].array
    noise_too = restore_raster(module, read_raster(tmp_path / "a.png"), mixing=Mixing(texture=1), **options).array
    for array in (read_raster(tmp_path / "kept.png").array, np.asarray(Image.open(io.BytesIO(shown.content)))):
        away = [np.abs(array.astype(float) - other).mean() for other in (expected, noise_too)]
        assert away[0] < 1 < away[1]


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


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1", "127.0.0.1:8766", "127.0.0.1.nip.io:8765"]
)
def test_another_host_is_refused(client, host):
    answer = client.get("/", headers={"host": host})
    assert answer.status_code == 403
    assert "http://127.0.0.1:8765" in answer.json()["error"]


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:8765", "http://localhost:8765"])
def test_another_origin_is_refused(client, visitor, photo_file, origin):
    for method, path in (("GET", "/"), ("PUT", f"/{visitor.hello['key']}/pictures?name=a.png")):
        assert client.request(method, path, headers={"origin": origin}).status_code == 403
    with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET, headers={"origin": origin}):
        pass


def test_what_changes_something_needs_an_origin(make_page):
    with TestClient(make_page().app(port=8765), base_url="http://127.0.0.1:8765") as client:
        assert client.get("/").status_code == 200
        assert client.put("/key/pictures?name=a.png", content=b"").status_code == 403
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(SOCKET):
            pass


def test_the_browser_loads_nothing_from_elsewhere(client):
    answer = client.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "frame-ancestors 'none'" in policy
    for name in ("style.css", "page.js", "models.js", "viewer.js", "graph.js", "server.js"):
        file = client.get(f"/static/{name}")
        assert file.status_code == 200
        assert "://" not in file.text.replace("ws://${location.host}", "")
    assert "://" not in answer.text


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "", "a.exe", "a.svg", "x.png/../../y.sh"])
def test_a_file_of_no_image_format_is_refused(visitor, name):
    answer = visitor.ask("PUT", "pictures", params={"name": name}, content=b"x")
    assert answer.status_code == 400
    assert "known kind" in answer.json()["error"]


def test_folders_in_a_name_mean_nothing(visitor, photo_file, tmp_path):
    assert visitor.add(photo_file, name="../../../tmp/ä evil\r\n;$(x).png")["name"] == "ä evil____(x).png"
    assert visitor.add(photo_file, name="C:\\photos\\cat.PNG")["name"] == "cat.png"


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static//etc/passwd", "/..%2f..%2fetc/passwd"]
)
def test_no_file_from_outside_is_served(client, path):
    assert client.get(path).status_code in (400, 404)


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


def test_a_bomb_is_refused_before_it_is_decoded(visitor):
    """A small PNG whose header says a gigapixel."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 19000, 19000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10**6)))
        + chunk(b"IEND", b"")
    )
    answer = visitor.ask("PUT", "pictures", params={"name": "bomb.png"}, content=bomb)
    assert answer.status_code == 413
    assert "more than 25 megapixels" in answer.json()["error"]


def test_a_large_upload_is_refused_without_being_read(make_page, visit):
    page = make_page()
    app = page.app(port=8765)
    address = "http://127.0.0.1:8765"
    with TestClient(app, base_url=address, headers={"origin": address}) as client, visit(client) as visitor:
        path = f"/{visitor.hello['key']}/pictures"
        headers = {"host": "127.0.0.1:8765", "origin": address, "content-length": str(10**9)}
        sent = []

        async def receive():
            raise AssertionError("it was read")

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "PUT",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"name=a.png",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "root_path": "",
            "scheme": "http",
            "server": ("127.0.0.1", 8765),
            "client": None,
            "http_version": "1.1",
        }
        anyio.run(app, scope, receive, send)
        assert sent[0]["status"] == 413
        # One that says no length, or a wrong one, ends at the limit.
        answer = visitor.ask("PUT", "pictures", params={"name": "a.png"}, content=(bytes(10**6) for _ in range(8)))
        assert answer.status_code == 413
        assert "at most 4" in answer.json()["error"]


def test_pictures_have_limits(visitor, photo_file, make_page):
    for _ in range(3):
        visitor.add(photo_file)
    answer = visitor.ask("PUT", "pictures", params={"name": "cat.png"}, content=photo_file.read_bytes())
    assert answer.status_code == 413
    assert "3 pictures" in answer.json()["error"]
    assert visitor.ask("DELETE", "pictures/1").status_code == 204
    visitor.add(photo_file)


def test_fifty_at_once_leave_it_serving(client, visit, photo_file):
    content = photo_file.read_bytes()
    with ExitStack() as stack:
        visitors = [stack.enter_context(visit(client)) for _ in range(50)]
        refused = [visitor for visitor in visitors if visitor.hello["event"] == "refused"]
        assert len(refused) == 46
        assert "4 pages are open" in refused[0].hello["reason"]
        served = [visitor for visitor in visitors if visitor not in refused]

        def drop(number):
            answer = served[number % 4].ask("PUT", "pictures", params={"name": "cat.png"}, content=content)
            return answer.status_code

        with ThreadPoolExecutor(50) as pool:
            codes = list(pool.map(drop, range(50)))
        assert codes.count(201) == 12 and codes.count(413) == 38
    with visit(client) as visitor:
        assert visitor.hello["event"] == "hello"
        visitor.add(photo_file)
