"""Published numbers beside our own, with a gap only where both were computed the same way.

``published.csv`` holds the tables of the KGT paper (arXiv 2402.02634), small models as their papers report them, and
some baselines recomputed with public code. Of its columns say how a number was computed:

| column    | values                                                                                               |
|-----------|------------------------------------------------------------------------------------------------------|
| family    | swinir, grl (see :mod:`.psnr_ssim`: decides whether Y is rounded), unknown                           |
| colour    | rgb (all channels, of gray images the only one), y, unknown                                          |
| crop      | border pixels that were not scored, unknown                                                          |
| ssim_form | valid, zero-padded, 3-D, unknown                                                                     |
| images    | family whose test images were used, any where all use the same, or in words what is special          |
| basis     | code (the method's published code), run (found again by running it), inferred, unknown               |
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any, Literal, NamedTuple

from kgt_lightning.metrics.scoring import Column
from kgt_lightning.system.tables import Table

ALIASES = {"B100": "BSD100", "Snow100K-L": "SnowTest100k-L"}
"""Further names of test sets. Kodak (768 x 512) and Kodak24 (500 x 500) are different images, and not among them."""

_IMAGES = {"swinir": "test images as SwinIR's", "grl": "test images as GRL's"}
_COLOURS = {"rgb": "all channels", "y": "Y", "unknown": "RGB or Y unknown"}
_ROUNDING = {"swinir": "Y not rounded", "grl": "Y rounded", "unknown": "rounding of Y unknown"}
_FORMS = {"valid": "SSIM of the valid region", "zero-padded": "SSIM zero-padded", "3-D": "3-D SSIM"}
_TITLES = ("test set", "method", "training", "M params", "PSNR", "gap", "SSIM", "gap", "how it was computed")


class Published(NamedTuple):
    """One published result, a mean over the images of a test set; see the columns above."""

    task: str
    channels: int
    test_set: str
    setting: str
    training: str
    """Such as ``per level``, ``blind`` (one model for all levels), or the training data; empty if there is one way."""
    method: str
    params_m: float | None
    """Million parameters."""
    psnr: float
    ssim: float | None
    family: str
    colour: str
    crop: str
    ssim_form: str
    images: str
    basis: str
    source: str


class Match(NamedTuple):
    """Our number that comes closest to a published one."""

    name: str | None
    """Of our column; None where we have no such metric."""
    differs: tuple[str, ...]
    """What was done differently there, in a few words each; empty where the two can be compared."""


def published(*, task: str, channels: int, test_set: str, setting: str) -> tuple[Published, ...]:
    """Results of this test set in this setting, in the order of the file; none if nothing is known."""
    wanted = (task, channels, _canonical(test_set), setting)
    return tuple(row for row in _rows() if (row.task, row.channels, _canonical(row.test_set), row.setting) == wanted)


def match(row: Published, score: Literal["psnr", "ssim"], *, columns: Sequence[Column], family: str) -> Match:
    """Our PSNR or SSIM to compare with that of the row: the first that differs least."""
    forms = {"ssim": {"swinir": "valid", "grl": "zero-padded"}[family], "ssim_3d": "3-D"}
    if score == "psnr":
        forms = {"psnr": row.ssim_form}
    found = {
        column.name: _differences(row, column, family, forms[column.metric])
        for column in columns
        if column.metric in forms
    }
    if not found:
        return Match(None, (f"no {score.upper()}",))
    name = min(found, key=lambda name: len(found[name]))
    return Match(name, found[name])


def comparison(
    *,
    task: str,
    channels: int,
    means: Mapping[tuple[str, str], Mapping[str, float]],
    columns: Sequence[Column],
    family: str,
) -> Table | None:
    """Table of our means beside the published ones, None if there are none.

    Means go by (test set, setting), then by the names of our columns; the channels are those of the clean images, the
    family is that of our metrics, ``swinir`` or ``grl``.
    """
    table: list[list[str]] = []
    for (test_set, setting), mean in means.items():
        if rows := published(task=task, channels=channels, test_set=test_set, setting=setting):
            psnr = next((f"{mean[column.name]:.2f}" for column in columns if column.metric == "psnr"), "")
            ssim = next((f"{mean[column.name]:.4f}" for column in columns if column.metric in ("ssim", "ssim_3d")), "")
            own = [f"{test_set} {setting}", "ours", "", "", psnr, "", ssim, "", ""]
            table += [[], own, *(_cells(row, mean, columns, family) for row in rows)]
    if not table:
        return None
    with_ssim = any(row and row[6] and row[1] != "ours" for row in table)
    shown = [index for index in range(len(_TITLES)) if with_ssim or index not in (6, 7)]
    return Table(
        title=f"{task}: beside published numbers",
        columns=[_TITLES[index] for index in shown],
        rows=[[row[index] for index in shown] if row else [] for row in table],
        note="gap: ours less published, only where both were computed in the same way",
    )


def _cells(row: Published, mean: Mapping[str, float], columns: Sequence[Column], family: str) -> list[str]:
    psnr = match(row, "psnr", columns=columns, family=family)
    ssim = Match(None, ()) if row.ssim is None else match(row, "ssim", columns=columns, family=family)
    gaps = [_gap(psnr, mean, row.psnr, "+.2f"), _gap(ssim, mean, row.ssim, "+.4f")]
    remarks = list(dict.fromkeys(psnr.differs + ssim.differs))
    if row.basis == "inferred" and any(gaps):
        remarks.append("otherwise as ours (inferred)" if remarks else "as ours (inferred)")
    params = "" if row.params_m is None else f"{row.params_m:.2f}"
    scores = [f"{row.psnr:.2f}", gaps[0], "" if row.ssim is None else f"{row.ssim:.4f}", gaps[1]]
    return ["", row.method, row.training, params, *scores, ", ".join(remarks)]


def _gap(ours: Match, mean: Mapping[str, float], value: float | None, digits: str) -> str:
    """Our number less the published one, with the name of ours unless it is the plain one; empty where they differ."""
    if ours.name is None or ours.differs or value is None:
        return ""
    name = "" if ours.name in ("psnr", "ssim") else f" ({ours.name})"
    return f"{mean[ours.name] - value:{digits}}{name}"


def _differences(row: Published, ours: Column, family: str, form: str) -> tuple[str, ...]:
    """What differs in the test images, the colour, the rounding of Y, the crop and the form of SSIM."""
    found = []
    if row.images not in ("any", family):
        found.append(_IMAGES.get(row.images, row.images))
    if row.colour != ours.colour:
        found.append(_COLOURS[row.colour])
    elif row.colour == "y" and row.family != family:
        found.append(_ROUNDING[row.family])
    if row.crop != str(ours.crop):
        found.append(f"crop {row.crop}")
    if row.ssim_form != form:
        found.append(_FORMS.get(row.ssim_form, "form of SSIM unknown"))
    inferred = row.basis == "inferred"
    return tuple(f"{words} (inferred)" if inferred and "unknown" not in words else words for words in found)


def _canonical(test_set: str) -> str:
    return {alias.lower(): name for alias, name in ALIASES.items()}.get(test_set.lower(), test_set).lower()


@cache
def _rows() -> tuple[Published, ...]:
    convert: dict[str, Callable[[str], Any]] = {"channels": int, "psnr": float, "params_m": _number, "ssim": _number}
    lines = files("kgt_lightning.metrics").joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    return tuple(
        Published(**{name: convert.get(name, str)(text) for name, text in fields.items()})
        for fields in csv.DictReader(lines)
    )


def _number(text: str) -> float | None:
    return float(text) if text else None
