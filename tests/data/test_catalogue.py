"""The catalogue of image sets and its command: list, check, leak."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

from kgt_lightning.data.__main__ import main
from kgt_lightning.data.catalogue import describe_missing, expanded, read_catalogue

Command = Callable[..., tuple[int, str, str]]
CAT = skimage.data.chelsea()
OTHER = skimage.data.coffee()
MINE = """
Mine:
  {tasks: [denoise], use: [test], images: 3, channels: 3, size: [40, 30], files: ["a1..3"], layout: files, licence: own}
Pairs:
  tasks: [deblur]
  use: [test]
  images: 2
  channels: 3
  layout: rain and clean
  licence: own
  pairs: [{degraded: "data/*_rain", clean: "gt/*_clean"}]
"""


def save(file: Path, pixels: np.ndarray, **options: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file, **options)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(MINE)
    for i in (1, 2, 3):
        save(tmp_path / f"Mine/a{i}.png", CAT[40 * i :][:30, :40])
    return tmp_path


def check(run_command: Command, root: Path, name: str) -> tuple[int, list[str]]:
    code, out, _ = run_command(main, "check", name, f"--root={root}", f"--catalogue={root / 'mine.yaml'}")
    return code, out.splitlines()


def test_a_whole_set_is_whole(run_command, root):
    assert check(run_command, root, "Mine") == (0, ["Mine: 3 of 3 images, nothing wrong"])


def test_every_fault_is_named(run_command, root):
    folder = root / "Mine"
    (folder / "a1.png").write_bytes((folder / "a1.png").read_bytes()[:-300])
    save(folder / "a2.png", CAT[:30, :40, 0])
    save(folder / "b.jpg", CAT[:20, :40])
    (folder / "a3.png").unlink()
    code, lines = check(run_command, root, "Mine")
    assert code == 1
    for start in ("unreadable a1:", "channels   a2: gray", "size       b: 40 x 20", "extra      b:", "missing    a3:"):
        assert sum(line.startswith(start) for line in lines) == 1, (start, lines)
    assert lines[-1] == "Mine: 3 of 3 images, 5 wrong"


def test_a_truncated_jpeg_and_a_copy_are_found(run_command, root):
    save(root / "Mine/a1.jpg", CAT[:30, :40])
    (root / "Mine/a1.png").unlink()
    (root / "Mine/a1.jpg").write_bytes((root / "Mine/a1.jpg").read_bytes()[:-200])
    save(root / "Mine/a3.png", CAT[80:110, :40])
    _, lines = check(run_command, root, "Mine")
    assert [line.split()[0] for line in lines[:-1]] == ["unreadable", "duplicate"]


def test_partners_are_checked(run_command, root):
    for name, height in {"data/0_rain": 30, "data/1_rain": 30, "gt/0_clean": 20, "gt/7_clean": 30}.items():
        save(root / f"Pairs/{name}.png", CAT[: height + int(name[-6] == "1")])
    code, lines = check(run_command, root, "Pairs")
    assert code == 1
    assert any("data/1_rain: without its clean image gt/1_clean" in line for line in lines)
    assert any("gt/7_clean: without a degraded image" in line for line in lines)
    assert any(line.startswith("size       data/0_rain") for line in lines)


def test_small_versions_have_the_size_of_their_scale(run_command, root):
    for i in (1, 2, 3):
        (root / f"Mine/a{i}.png").rename(root / f"Mine/{i}.tmp")
        save(root / f"Mine/HR/a{i}.png", CAT[40 * i :][:30, :40])
        save(root / f"Mine/LR_bicubic/X2/a{i}x2.png", CAT[: 15 - i // 3, :20])
    _, lines = check(run_command, root, "Mine")
    assert lines[:-1] == ["size       LR_bicubic/X2/a3x2: 14 x 20 pixels, 15 x 20 expected"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "Sett5"], "did you mean Set5"),
        (["check", "Urban100"], "lacks Urban100: Urban100 is 100 colour images"),
        (["leak", "Mine", "Nowhere"], "Nowhere is no folder below"),
        (["leak", "Mine", "Mine"], "name different sets"),
        (["chekc"], "invalid choice"),
    ],
)
def test_wrong_use_is_one_line(run_command, root, arguments, message):
    code, _, error = run_command(main, *arguments, *([f"--root={root}"] if len(arguments) > 1 else []))
    assert code == 2
    assert message in error
    assert error.startswith("error: ") and error.count("\n") == 1


def test_leaks_are_found_and_nothing_else(run_command, root):
    save(root / "T/cat.png", CAT)
    save(root / "T/coffee.png", OTHER)
    bricks = skimage.data.brick()
    save(root / "T/bricks.png", bricks[:250, :250])
    rng = np.random.default_rng(0)
    noisy = np.clip(CAT + rng.normal(0, 25, CAT.shape), 0, 255).astype(np.uint8)
    save(root / "E/exact.bmp", CAT)
    save(root / "E/flipped.png", CAT[:, ::-1])
    save(root / "E/jpeg.jpg", CAT, quality=10)
    save(root / "E/cut.png", CAT[20:-10, 10:-25])
    save(root / "E/half.png", np.asarray(Image.fromarray(CAT).resize((225, 150))))
    save(root / "E/noisy.png", noisy)
    save(root / "E/other_bricks.png", bricks[256:506, 256:506])
    save(root / "E/unrelated.png", skimage.data.astronaut())
    save(root / "E/flat.png", np.full((64, 64, 3), 128, np.uint8))
    code, out, _ = run_command(main, "leak", "T", "E", f"--root={root}")
    lines = [line.split() for line in out.splitlines()]
    assert code == 1
    assert {line[3] for line in lines[:-1]} == {
        f"E/{name}" for name in ("exact.bmp", "flipped.png", "jpeg.jpg", "cut.png", "half.png", "noisy.png")
    }
    assert {line[2] for line in lines[:-1]} == {"T/cat.png"}
    assert [line[3] for line in lines if line[0] == "exact"] == ["E/exact.bmp"]
    assert [line[3] for line in lines if line[-1] == "(mirrored)"] == ["E/flipped.png"]
    assert out.splitlines()[-1].startswith("6 of 9 test images")


def test_sets_apart_end_with_0(run_command, root):
    save(root / "E/coffee.png", OTHER)
    assert run_command(main, "leak", "Mine", "E", f"--root={root}")[0] == 0


def test_the_list_counts_what_is_there(run_command, root):
    arguments = (f"--root={root}", f"--catalogue={root / 'mine.yaml'}")
    sets = {each["name"]: each for each in json.loads(run_command(main, "list", "--json", *arguments)[1])}
    assert sets["Mine"]["found"] == sets["Mine"]["images"] == 3
    assert sets["Set5"]["found"] == 0
    assert "3 / 3" in run_command(main, "list", *arguments)[1]


def test_a_wrong_field_is_named(run_command, root):
    (root / "mine.yaml").write_text(MINE.replace("licence", "license"))
    code, _, error = run_command(main, "list", f"--catalogue={root / 'mine.yaml'}")
    assert (code, "unknown field license" in error) == (2, True)


def test_the_catalogue_agrees_with_itself():
    for name, each in read_catalogue().items():
        assert each.files is None or len(each.files) == each.images, name
        assert set(each.unverified) <= set(vars(each)), name
        assert set(each.tasks) <= {"denoise", "sr", "jpeg", "demosaic", "deblur", "weather"}, name


def test_what_is_missing_is_described():
    assert describe_missing("Urban100").startswith("Urban100 is 100 colour images")
    assert describe_missing("urban10") == "did you mean Urban100?"
    assert describe_missing("holiday images") == ""
    assert expanded(["kodim08..10", "x"]) == ["kodim08", "kodim09", "kodim10", "x"]
