"""Photographs out of Debian packages: checked, made smaller, written once. No package is downloaded here."""

import hashlib
import io
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kgt_lightning.data.__main__ import main
from kgt_lightning.data.debian import NOISE, DebianPhoto, fetch_debian, fetch_noise, file_of, listed_photos


def packaged(seed):
    """A picture of 9 x 7 pixels as the content of a PNG file."""
    pixels = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return pixels, stream.getvalue()


def photo(content, *, path="usr/share/wallpapers/Kite/contents/images/9x7.png", split="train"):
    return DebianPhoto(
        split=split,
        package="walls",
        version="1-2",
        path=path,
        licence="CC0-1.0",
        sha256=hashlib.sha256(content).hexdigest(),
        downscale=2,
        clean_size=(4, 3),
    )


@pytest.fixture
def unpack():
    """Puts the content into a folder, in place of apt; counts how often it is asked."""
    asked = []

    def put(files):
        def unpack(package, version, folder):
            asked.append((package, version))
            for path, content in files.items():
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / path).write_bytes(content)

        return unpack, asked

    return put


def test_photographs_are_averaged_over_squares_and_written_once(tmp_path, unpack):
    pixels, content = packaged(0)
    photos = [photo(content), photo(content, path="usr/share/backgrounds/sea.png", split="val")]
    put, asked = unpack({each.path: content for each in photos})
    assert fetch_debian(tmp_path, photos=photos, unpack=put) == 2
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.*")) == [
        "debian_photos/Kite.png",
        "debian_photos/LICENCES.csv",
        "debian_photos_val/LICENCES.csv",
        "debian_photos_val/sea.png",
    ]
    expected = pixels[:6, :8].reshape(3, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(np.asarray(Image.open(tmp_path / "debian_photos" / "Kite.png")) - expected).max() <= 0.5
    assert "Kite,walls,1-2,usr/share/wallpapers/Kite" in (tmp_path / "debian_photos" / "LICENCES.csv").read_text()
    assert fetch_debian(tmp_path, photos=photos, unpack=put) == 0
    assert asked == [("walls", "1-2")], "one package, and only while something is missing"


def test_another_file_than_was_listed_is_refused(tmp_path, unpack):
    listed = photo(packaged(0)[1])
    with pytest.raises(ValueError, match=r"walls 1-2 holds another usr.*9x7\.png than was listed"):
        fetch_debian(tmp_path, photos=[listed], unpack=unpack({listed.path: packaged(1)[1]})[0])
    with pytest.raises(ValueError, match="walls 1-2 lacks usr"):
        fetch_debian(tmp_path, photos=[listed], unpack=unpack({})[0])
    assert not file_of(listed, tmp_path).exists()


def test_measured_noise_is_checked_and_written_once(tmp_path, unpack):
    with pytest.raises(ValueError, match=r"darktable 4\.2\.1-4 holds another .*noiseprofiles\.json than was listed"):
        fetch_noise(tmp_path, unpack=unpack({NOISE.path: b"{}"})[0])
    (tmp_path / "darktable").mkdir()
    there = tmp_path / "darktable" / "noiseprofiles.json"
    there.write_text("own")
    put, asked = unpack({})
    asked.clear()
    assert fetch_noise(tmp_path, unpack=put) == there
    assert there.read_text() == "own"
    assert not asked


def test_the_list_names_every_photograph_apart():
    photos = listed_photos()
    assert len(photos) == 46
    assert len({file_of(each, Path()) for each in photos}) == 46
    assert all(each.downscale >= 2 and len(each.sha256) == 64 for each in photos)


def test_without_apt_the_command_says_what_to_do(run_command, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    code, _, error = run_command(main, "fetch-debian", f"--root={tmp_path}")
    assert (code, error.splitlines()) == (
        2,
        ["error: there is no apt-get: run this on Debian, or in a container of it, and copy the folders it makes"],
    )


def test_what_apt_says_is_passed_on(run_command, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda tool: tool)
    failed = subprocess.CompletedProcess([], 100, stdout="", stderr="E: Version not found")
    monkeypatch.setattr(subprocess, "run", lambda *args, **options: failed)
    code, _, error = run_command(main, "fetch-debian", f"--root={tmp_path}")
    assert code == 2
    assert "=1.26.0-1 cannot be had (E: Version not found): Debian 12 has it" in error
