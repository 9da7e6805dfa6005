"""Takes the pictures of docs/howto/serve.md in a Chromium: python docs/serve_pictures.py (two minutes on a CPU)."""

import io
import shutil
import tempfile
import threading
from functools import partial
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from playwright.sync_api import Page as Tab
from playwright.sync_api import sync_playwright

from kgt_lightning.page.app import Page
from kgt_lightning.page.engine import Engine
from kgt_lightning.page.session import Limits
from kgt_lightning.runs.checkpoint import load_checkpoint
from kgt_lightning.serve import address, bound, server_of

FOLDER = Path(__file__).parent / "pictures"
FLAGS = ("gpu", "quic", "background-networking", "component-update", "sync")
LIMITS = Limits(megabytes=20, megapixels=5, pictures=5, pages=4, held_megabytes=200, minutes=30)
SIGMA = 25


def noisy_photograph(folder: Path) -> Path:
    """A photograph with white noise, in a file."""
    clean = skimage.data.chelsea().astype(float)
    noisy = clean + np.random.default_rng(0).normal(0, SIGMA, clean.shape)
    file = folder / "cat.png"
    Image.fromarray(noisy.clip(0, 255).round().astype(np.uint8)).save(file)
    return file


def keep(tab: Tab, name: str) -> None:
    """Write what the tab shows."""
    tab.wait_for_timeout(1500)
    Image.open(io.BytesIO(tab.screenshot())).convert("RGB").save(FOLDER / name, quality=82, method=6)


def take(tab: Tab, address: str, file: Path) -> None:
    """Restore the photograph in the tab."""
    tab.set_default_timeout(300_000)
    tab.goto(address)
    tab.locator("#model option").first.wait_for(state="attached")
    tab.set_input_files("#files", file)
    tab.locator(".state", has_text="restored in").wait_for()


def main() -> None:
    module = load_checkpoint("denoise").module()
    models = {"denoise": partial(Engine, name="denoise", module=module, tile=256, overlap=32)}
    with tempfile.TemporaryDirectory() as folder, bound(0) as listening, sync_playwright() as playwright:
        server = server_of(Page(models=models, limits=LIMITS, folder=Path(folder)), listening)
        serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        serving.start()
        file, opened = noisy_photograph(Path(folder)), address(listening)
        flags = ["--no-sandbox", "--no-first-run", *(f"--disable-{flag}" for flag in FLAGS)]
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        desktop = {"width": 1280, "height": 840}
        tab = browser.new_page(viewport=desktop)
        take(tab, opened, file)
        keep(tab, "serve.webp")
        tab = browser.new_page(viewport={"width": 1280, "height": 1180}, color_scheme="dark")
        take(tab, opened, file)
        tab.click("#four")
        tab.click("#graph")
        tab.hover("#view", position={"x": 345, "y": 245})
        tab.locator("#panels button").first.wait_for()
        keep(tab, "serve_key_graph.webp")
        tab = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=2)
        take(tab, opened, file)
        keep(tab, "serve_phone.webp")
        browser.close()
        server.should_exit = True
        serving.join()


if __name__ == "__main__":
    main()
