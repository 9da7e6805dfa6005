"""What the page refuses: other hosts and origins, and paths."""

import pytest
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

ADDRESS = "http://127.0.0.1:8765"
SOCKET = "ws://127.0.0.1:8765/session"


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
    with TestClient(make_page().app(port=8765), base_url=ADDRESS) as client:
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
