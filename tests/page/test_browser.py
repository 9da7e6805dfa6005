"""The page in a real browser: Debian's Chromium, driven by playwright."""

import base64
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kgt_lightning.page.engine import Engine

sync_api = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = ("gpu", "quic", "background-networking", "component-update", "sync")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium: apt-get install chromium"),
]

DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const dataTransfer = new DataTransfer();
  dataTransfer.items.add(new File([bytes], name));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true, cancelable: true}));
}"""
COUNT = """() => {
  const fetched = window.fetch;
  let open = 0;
  window.most = 0;
  window.fetch = async (asked, ...options) => {
    if (!`${asked.url ?? asked}`.includes("/layer/restored")) return fetched(asked, ...options);
    window.most = Math.max(window.most, ++open);
    try {
      return await fetched(asked, ...options);
    } finally {
      open -= 1;
    }
  };
}"""
"""Counts requests for what is restored as the page makes them: when a browser reports their ends is another matter."""
PIXEL = """([name, x, y]) => [...document.getElementById(name).getContext("2d").getImageData(x, y, 1, 1).data]"""


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{flag}" for flag in FLAGS)]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address: str) -> Iterator[Callable]:
    """Opens the page; at the end nothing may have gone wrong in it, or been asked of another machine."""
    problems = []
    contexts = []

    def open_one(**options):
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)
        sync_api.expect.set_options(timeout=60_000)
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text) if "Policy" in message.text else None)
        page.on(
            "request",
            lambda asked: None if asked.url.startswith((address, "data:", "blob:")) else problems.append(asked.url),
        )
        page.goto(address)
        page.locator("#model option").first.wait_for(state="attached")
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert problems == []


def drop(page, file: Path) -> None:
    page.evaluate(DROP, [file.name, base64.b64encode(file.read_bytes()).decode()])


def state(page, text: str):
    found = page.locator(".state", has_text=text)
    found.first.wait_for()
    return found


def test_a_dropped_photograph_is_restored_compared_adjusted_and_kept(open_page, photo_file, tmp_path):
    page = open_page()
    drop(page, photo_file)
    state(page, "restored in")
    before = np.asarray(Image.open(photo_file))[50, 75]
    sync_api.expect(page.locator("#download")).to_be_enabled()
    told = page.locator("[role=status][aria-live=polite]")
    sync_api.expect(told).to_have_text(re.compile("cat.png: restored in"))
    assert {".avif", ".jpg"} < set(page.locator("#files").get_attribute("accept").split(","))
    for layer, *place in (("before", 75, 50), ("restored", 75, 50), ("texture", 140, 90)):
        page.wait_for_function(f"values => ({PIXEL})(values)[3] === 255", arg=[layer, *place])
    assert page.evaluate(PIXEL, ["before", 75, 50])[:3] == before.tolist()

    clip = "document.getElementById('after').style.clipPath"
    middle = page.evaluate(clip)
    page.locator("#split").focus()
    page.keyboard.press("End")
    assert page.evaluate(clip) != middle
    assert page.locator("#split").get_attribute("aria-valuetext") == "100 % before, 0 % restored"
    box = page.locator("#divider").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 100)
    page.mouse.down()
    page.mouse.move(box["x"] - 300, box["y"] + 100)
    page.mouse.up()
    assert 0 < int(page.locator("#split").input_value()) < 90

    asked = []
    page.on("request", lambda request: asked.append(request.url))
    opacity = "['after', 'texture'].map((id) => document.getElementById(id).style.opacity)"
    page.locator("#strength").focus()
    page.keyboard.press("ArrowLeft")
    page.locator("#texture-amount").focus()
    page.keyboard.press("End")
    assert page.evaluate(opacity) == ["0.99", "1"]
    page.locator("#strength").focus()
    page.keyboard.press("Home")
    assert page.evaluate(opacity) == ["0", "1"]
    assert asked == [], "nothing is computed for that"
    page.locator("#view").focus()
    for key, button in (("1", "#one"), ("4", "#four")):
        page.keyboard.press(key)
        assert f"scale({key})" in page.evaluate("document.getElementById('scene').style.transform")
        assert page.locator(button).get_attribute("aria-pressed") == "true"
    with page.expect_download() as kept:
        page.click("#download")
    assert kept.value.suggested_filename == "cat-restored.png"
    kept.value.save_as(tmp_path / "kept.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "kept.png")), np.asarray(Image.open(photo_file)))


def test_neighbours_light_up_under_the_mouse_and_by_keys(open_page, photo_file):
    page = open_page()
    drop(page, photo_file)
    state(page, "restored in")
    page.click("#graph")
    box = page.locator("#view").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.locator("#panels button").nth(1).wait_for()
    said = page.locator("#graph-says").inner_text()
    zoom = page.evaluate("Number(document.getElementById('scene').style.getPropertyValue('--zoom'))")
    wide = page.evaluate("parseFloat(getComputedStyle(document.getElementById('node')).strokeWidth)")
    assert zoom > 1 and abs(wide * zoom - 2.5) < 0.1, "as wide on the screen at every zoom"
    assert "stage 1" in said and "stage 2" in said
    page.mouse.move(0, 0)
    page.locator("#view").focus()
    page.keyboard.press("ArrowRight")
    sync_api.expect(page.locator("#graph-says")).not_to_have_text(said)
    page.locator("#k").focus()
    page.keyboard.press("ArrowLeft")
    sync_api.expect(page.locator("#cost")).to_have_text(
        re.compile(r"s a tile, \d+ % of that with k = 8; .* changes by")
    )


def test_the_error_to_a_clean_picture_is_shown(open_page, photo_file):
    page = open_page()
    drop(page, photo_file)
    state(page, "restored in")
    page.click("#error")
    page.set_input_files("#clean-file", photo_file)
    sync_api.expect(page.locator("#error-says")).to_contain_text("dB restored")
    assert page.locator("#clean").is_visible()


def test_broken_files_leave_the_page_as_it_was(open_page, photo_file, tmp_path):
    page = open_page()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    (tmp_path / "notes.txt").write_text("no picture")
    page.set_input_files("#files", [tmp_path / "broken.jpg", tmp_path / "notes.txt", photo_file])
    state(page, "broken.jpg cannot be read")
    state(page, "notes.txt is no image")
    state(page, "restored in")


def test_two_tabs_have_their_own_pictures(open_page, photo_file):
    first, second = open_page(), open_page()
    for page in (first, second):
        drop(page, photo_file)
    for page in (first, second):
        state(page, "restored in")
        assert page.locator("#pictures li").count() == 1
    first.close()
    second.click("#restore")
    state(second, "restored in")


CONTRAST = """() => {
  const channels = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const light = (colour) => channels(colour).slice(0, 3).map((value) => value / 255)
    .map((value) => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4)
    .reduce((sum, value, channel) => sum + value * [0.2126, 0.7152, 0.0722][channel], 0);
  const ground = (node) => {
    const colour = getComputedStyle(node).backgroundColor;
    return (channels(colour)[3] ?? 1) === 1 ? colour : ground(node.parentElement);
  };
  const bad = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((child) => child.nodeType === Node.TEXT_NODE && child.data.trim());
    if (!own || !node.checkVisibility() || node.closest("#divider, :disabled")) continue;
    const [less, more] = [light(getComputedStyle(node).color), light(ground(node))].sort((a, b) => a - b);
    if ((more + 0.05) / (less + 0.05) < 4.5) bad.push(node.outerHTML.slice(0, 80));
  }
  return bad;
}"""
"""Texts with less contrast than 4.5:1 (WCAG 2.2, 1.4.3)."""


@pytest.mark.parametrize(("scheme", "colour"), [("light", "rgb(246, 246, 243)"), ("dark", "rgb(22, 24, 26)")])
def test_it_fits_a_phone_and_every_control_has_a_name(open_page, photo_file, scheme, colour):
    # Without motion: colours are measured, not what lies between them.
    page = open_page(viewport={"width": 360, "height": 740}, color_scheme=scheme, reduced_motion="reduce")
    drop(page, photo_file)
    state(page, "restored in")
    for mode in ("#compare", "#graph", "#error"):
        page.click(mode)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        assert page.evaluate(CONTRAST) == []
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, button, progress")]
           .filter((control) => !control.labels?.length && !control.ariaLabel && !control.textContent.trim())
           .map((control) => control.id)"""
    )
    assert nameless == []
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == colour


def test_tiles_of_a_large_picture_appear_until_it_is_cancelled(open_page, photo_file, monkeypatch, tmp_path):
    tiles, looked_at = Engine.tiles, threading.Event()

    def held(self, pixels, *, k):
        for number, done in enumerate(tiles(self, pixels, k=k)):
            if number == 400:
                looked_at.wait(120)
            yield done

    monkeypatch.setattr(Engine, "tiles", held)
    waves = (127 + 60 * np.sin(np.arange(3000) / 40) + 60 * np.cos(np.arange(2000) / 50)[:, None]).astype(np.uint8)
    Image.fromarray(waves).convert("RGB").save(tmp_path / "large.jpg")
    page = open_page()
    page.evaluate(COUNT)
    page.set_input_files("#files", tmp_path / "large.jpg")
    told = re.compile(r"^([2-9]\d|\d{3,}) of \d+ tiles, \d+ (s|min) left$")
    sync_api.expect(page.locator(".state").first).to_have_text(told)
    page.set_input_files("#files", photo_file)
    state(page, "waiting, 1 before it")
    assert page.evaluate(PIXEL, ["restored", 20, 20])[3] == 255, "it is there before the rest is"
    page.get_by_role("button", name="Cancel large.jpg").click()
    looked_at.set()
    state(page, "cancelled")
    assert page.evaluate("most") == 1, (
        "tiles that come at once are asked for together, or all else would wait behind them"
    )
    last = page.evaluate("[before.width - 1, before.height - 1]")
    page.wait_for_function(f"values => ({PIXEL})(values)[3] === 255", arg=["before", *last], timeout=20000)
    assert page.evaluate(PIXEL, ["restored", *last])[3] == 0
    state(page, "restored in")
    sync_api.expect(page.locator("#download")).to_be_disabled()
