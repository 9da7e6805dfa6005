"""Published numbers are found again, and never compared with ours where they were computed in another way."""

import csv
import io
from contextlib import redirect_stdout
from importlib.resources import files

import pytest

from kgt_lightning.metrics.published import ALIASES, comparison, match, published
from kgt_lightning.metrics.scoring import Column

ROWS = list(csv.DictReader(files("kgt_lightning.metrics").joinpath("published.csv").read_text().splitlines()))


def columns(*, colour="rgb", crop=0, ssim="ssim"):
    return [Column("psnr", "psnr", colour, crop, "dB", True), Column(ssim, ssim, colour, crop, "", True)]


def one(method, training="", **where):
    [row] = [row for row in published(**where) if (row.method, row.training) == (method, training)]
    return row


def text(table):
    with redirect_stdout(io.StringIO()) as stream:
        table.show()
    return stream.getvalue()


def lines(table):
    """Cells of each row of the printed table."""
    rows = [line.split("│")[1:-1] for line in text(table).splitlines() if "│" in line]
    return [[cell.strip() for cell in row] for row in rows]


SR = {"task": "sr", "channels": 3, "test_set": "Set5", "setting": "x2"}
NOISE = {"task": "denoise", "channels": 3, "test_set": "CBSD68", "setting": "sigma=25"}
JPEG = {"task": "jpeg", "channels": 1, "test_set": "LIVE1", "setting": "quality=10"}
BLUR = {"task": "deblur", "channels": 3, "test_set": "GoPro", "setting": "given"}
BAYER = {"task": "demosaic", "channels": 3, "test_set": "McMaster", "setting": "RGGB"}
WEATHER = {"task": "weather", "channels": 3, "test_set": "RainDrop", "setting": "given"}


def test_every_row_is_found_again():
    assert len(ROWS) > 300
    for fields in ROWS:
        found = published(
            task=fields["task"],
            channels=int(fields["channels"]),
            test_set=fields["test_set"],
            setting=fields["setting"],
        )
        numbers = [(row.method, row.training, row.psnr, row.ssim) for row in found]
        ssim = float(fields["ssim"]) if fields["ssim"] else None
        assert (fields["method"], fields["training"], float(fields["psnr"]), ssim) in numbers, fields


def test_words_of_the_file_are_those_that_are_explained():
    """A typing error would make a row differ from everything."""
    allowed = {
        "channels": {"1", "3"},
        "training": {"", "per level", "blind", "GoPro", "all weathers"},
        "family": {"swinir", "grl", "unknown"},
        "colour": {"rgb", "y", "unknown"},
        "crop": {"0", "2", "3", "4", "10", "unknown"},
        "basis": {"code", "run", "inferred", "unknown"},
    }
    for name, values in allowed.items():
        assert {row[name] for row in ROWS} == values, name
    assert all((row["ssim_form"] == "") == (row["ssim"] == "") for row in ROWS)
    assert {row["ssim_form"] for row in ROWS} == {"", "valid", "zero-padded", "3-D", "unknown"}
    assert all(10 < float(row["psnr"]) < 50 for row in ROWS)
    assert all(0.7 < float(row["ssim"]) < 1 for row in ROWS if row["ssim"])
    keys = [tuple(row[name] for name in [*list(row)[:6], "crop", "images"]) for row in ROWS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "change",
    [{"task": "dehaze"}, {"channels": 1}, {"test_set": "Set6"}, {"setting": "x8"}],
    ids=lambda change: next(iter(change)),
)
def test_what_is_unknown_gives_nothing(change):
    assert published(**SR)
    where = {**SR, **change}
    assert published(**where) == ()
    mean = {(where.pop("test_set"), where.pop("setting")): {"psnr": 38.0, "ssim": 0.96}}
    assert comparison(**where, means=mean, columns=columns(colour="y", crop=2), family="swinir") is None


@pytest.mark.parametrize("alias", ALIASES)
def test_sets_are_known_by_their_other_names(alias):
    task, setting = {"B100": ("sr", "x2"), "Snow100K-L": ("weather", "given")}[alias]
    rows = [published(task=task, channels=3, test_set=name, setting=setting) for name in (alias, ALIASES[alias])]
    assert rows[0] == rows[1] != ()
    assert published(task=task, channels=3, test_set=alias.lower(), setting=setting) == rows[0]


def test_the_two_versions_of_kodak_are_two_sets():
    small, large = (published(**{**BAYER, "test_set": name}) for name in ("Kodak24", "Kodak"))
    assert small
    assert not set(small) & set(large)
    assert not [row for row in small if row.method == "KGT"]


@pytest.mark.parametrize(
    ("row", "ours", "family", "psnr", "ssim"),
    [
        (("SwinIR", "", SR), columns(colour="y", crop=2), "swinir", (), ()),
        (
            ("SwinIR", "", SR),
            columns(colour="y", crop=2),
            "grl",
            ("Y not rounded",),
            ("Y not rounded", "SSIM of the valid region"),
        ),
        (("KGT-S", "", SR), columns(colour="y", crop=2), "grl", (), ()),
        (
            ("KGT-S", "", SR),
            columns(colour="y", crop=2),
            "swinir",
            ("Y rounded (inferred)",),
            ("Y rounded (inferred)", "SSIM zero-padded (inferred)"),
        ),
        (("SwinIR", "", SR), columns(), "swinir", ("Y", "crop 2"), ("Y", "crop 2")),
        (("Restormer", "blind", NOISE), columns(), "swinir", (), None),
        (("Restormer", "blind", NOISE), columns(), "grl", ("test images as SwinIR's",), None),
        (("SwinIR", "per level", NOISE), columns(), "swinir", ("noise drawn in BGR",), None),
        (("KGT", "blind", NOISE), columns(), "grl", (), None),
        (("KGT", "blind", NOISE), columns(), "swinir", ("test images as GRL's (inferred)",), None),
        (("DnCNN", "blind", NOISE), columns(), "swinir", ("noise seed unknown",), None),
        (("GRL-S", "per level", JPEG), columns(), "swinir", (), ("SSIM zero-padded",)),
        (("SwinIR", "per level", JPEG), columns(), "swinir", (), ()),
        (("SwinIR", "per level", {**JPEG, "test_set": "Urban100"}), columns(), "grl", (), ("form of SSIM unknown",)),
        (("Restormer", "GoPro", BLUR), columns(), "swinir", (), ("3-D SSIM",)),
        (("Restormer", "GoPro", BLUR), columns(ssim="ssim_3d"), "grl", (), ()),
        (("DRUNet", "", BAYER), columns(crop=10), "swinir", (), None),
        (("DRUNet", "", BAYER), columns(), "swinir", ("crop 10 (inferred)",), None),
        (("GRL", "", {**BAYER, "test_set": "Kodak"}), columns(), "grl", ("version of Kodak unknown",), None),
        (("KGT", "all weathers", WEATHER), columns(), "swinir", ("RGB or Y unknown", "crop unknown"), None),
    ],
)
def test_differences_in_words(row, ours, family, psnr, ssim):
    method, training, where = row
    row = one(method, training, **where)
    assert match(row, "psnr", columns=ours, family=family).differs == psnr
    if ssim is not None:
        assert match(row, "ssim", columns=ours, family=family).differs == ssim


def test_the_column_that_was_computed_in_the_same_way_is_taken():
    ours = [*columns(crop=10), Column("psnr_crop0", "psnr", "rgb", 0, "dB", True)]
    assert match(one("DRUNet", **BAYER), "psnr", columns=ours, family="grl").name == "psnr"
    assert match(one("GRL", **BAYER), "psnr", columns=ours, family="grl") == ("psnr_crop0", ())
    assert match(one("GRL", **BAYER), "psnr", columns=ours, family="swinir") == (
        "psnr_crop0",
        ("test images as GRL's",),
    )


def test_metrics_that_we_lack():
    assert match(one("SwinIR", **SR), "psnr", columns=[], family="swinir") == (None, ("no PSNR",))
    assert match(one("SwinIR", **SR), "ssim", columns=columns(ssim="psnr_b"), family="swinir").differs == ("no SSIM",)


@pytest.mark.parametrize("family", ["swinir", "grl"])
@pytest.mark.parametrize("where", [SR, NOISE, JPEG, BLUR, BAYER, WEATHER], ids=lambda where: where["task"])
def test_a_gap_is_given_only_where_nothing_differs(where, family):
    ours = columns(colour="y" if where["task"] == "sr" else "rgb", crop=2 if where["task"] == "sr" else 0)
    mean = {"psnr": 30.0, "ssim": 0.9}
    key = (where["test_set"], where["setting"])
    table = comparison(task=where["task"], channels=where["channels"], means={key: mean}, columns=ours, family=family)
    rows = published(**where)
    own, *printed = lines(table)
    assert own[:2] == [" ".join(key), "ours"]
    assert len(printed) == len(rows)
    for row, cells in zip(rows, printed, strict=True):
        _, method, training, _, psnr, psnr_gap, *scores, _ = cells
        assert (method, training, psnr) == (row.method, row.training, f"{row.psnr:.2f}")
        differs = match(row, "psnr", columns=ours, family=family).differs
        assert psnr_gap == ("" if differs else f"{30 - row.psnr:+.2f}")
        if row.ssim is None:
            assert not scores
        else:
            differs = match(row, "ssim", columns=ours, family=family).differs
            assert scores == [f"{row.ssim:.4f}", "" if differs else f"{0.9 - row.ssim:+.4f}"]


def test_both_sides_of_the_table_and_what_is_inferred():
    means = {("B100", "x2"): {"psnr": 32.0, "ssim": 0.9}, ("mine", "x2"): {"psnr": 30.0, "ssim": 0.8}}
    shown = text(comparison(task="sr", channels=3, means=means, columns=columns(colour="y", crop=2), family="grl"))
    assert "B100 x2" in shown
    assert "mine" not in shown
    assert "as ours (inferred)" in shown
    assert "Y not rounded" in shown
