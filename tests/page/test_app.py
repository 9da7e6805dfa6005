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
from PIL import Image
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from kgt_lightning.images.files import Picture, read_image, write_image
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
    assert kept.headers["content-disposition"] == 'attachment; filename="cat-restored.png"'
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


def test_files_lie_in_a_folder_that_is_deleted(make_page, visit, photo_file, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    address = "http://127.0.0.1:8765"
    with TestClient(make_page().app(port=8765), base_url=address, headers={"origin": address}) as client:
        with visit(client) as visitor:
            visitor.add(photo_file)
            assert len(list(tmp_path.rglob("kgt-serve-*/*/1.png"))) == 1
        assert client.get("/").status_code == 200
        assert list(tmp_path.rglob("kgt-serve-*/*/*")) == []
    assert list(tmp_path.glob("kgt-serve-*")) == []


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
    for name in ("style.css", "page.js", "viewer.js", "graph.js", "server.js"):
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
