"""What pages may hold, and what is left of them."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import anyio
from starlette.testclient import TestClient

from kgt_lightning.page.photo import read_photo

ADDRESS = "http://127.0.0.1:8765"
ORIGIN = {"origin": ADDRESS}
PLACE = {"top": 0, "left": 0, "height": 100, "width": 150}


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
    tags = ((256, 19000), (257, 19000), (258, 8), (259, 8), (262, 1), (273, 8), (277, 1), (278, 19000), (279, 1000))
    tiff = struct.pack("<4sIH", b"II*\0", 8, len(tags)) + b"".join(
        struct.pack("<HHII", tag, 4, 1, x) for tag, x in tags
    )
    for name, content in (("bomb.png", bomb), ("bomb.tif", tiff + bytes(1000))):
        answer = visitor.ask("PUT", "pictures", params={"name": name}, content=content)
        assert answer.status_code == 413
        assert "megapixels" in answer.json()["error"]


def test_a_large_upload_is_refused_without_being_read(make_page, visit):
    page = make_page()
    app = page.app(port=8765)
    with TestClient(app, base_url=ADDRESS, headers=ORIGIN) as client, visit(client) as visitor:
        path = f"/{visitor.hello['key']}/pictures"
        headers = {"host": "127.0.0.1:8765", "origin": ADDRESS, "content-length": str(10**9)}
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


def test_pictures_of_all_pages_have_a_limit_together(make_page, visit, photo_file):
    app = make_page(held_megabytes=0.08).app(port=8765)
    with TestClient(app, base_url=ADDRESS, headers=ORIGIN) as client, visit(client) as first, visit(client) as second:
        number = first.add(photo_file)["number"]
        asked = {"params": {"name": "cat.png"}, "content": photo_file.read_bytes()}
        refused = [second.ask("PUT", "pictures", **asked), first.ask("PUT", f"pictures/{number}/clean", **asked)]
        refused.append(first.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"}))
        assert [answer.status_code for answer in refused] == [413] * 3
        assert all("limits.held_megabytes" in answer.json()["error"] for answer in refused)
        first.ask("DELETE", f"pictures/{number}")
        second.add(photo_file)


def test_a_page_that_nobody_uses_is_ended(make_page, visit, photo_file):
    with TestClient(make_page(minutes=0).app(port=8765), base_url=ADDRESS, headers=ORIGIN) as client:
        with visit(client) as visitor:
            number = visitor.add(photo_file)["number"]
            visitor.ask("POST", f"pictures/{number}/restore", params={"model": "tiny"})
            assert "nobody used this page" in visitor.hear("refused")[-1]["reason"]
        assert client.get(f"/{visitor.hello['key']}/models/tiny").status_code == 404


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
