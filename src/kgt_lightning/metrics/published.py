"""Published numbers beside our own, with a gap only where both were computed the same way.

``published.csv`` holds the tables of the KGT paper (arXiv 2402.02634), and some baselines recomputed with public code.
Of its columns say how a number was computed:

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
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from kgt_lightning.metrics.scoring import Column
from kgt_lightning.system.tables import Table

ALIASES = {"B100": "BSD100", "Snow100K-L": "SnowTest100k-L"}
"""Further names of test sets. Kodak (768 x 512) and Kodak24 (500 x 500) are different images, and not among them."""

_UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Published:
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
    crop: int | None
    """None if unknown."""
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


def match_psnr(row: Published, *, columns: Sequence[Column], family: str) -> Match:
    """Our PSNR to compare with the row: the first that differs least."""
    return _closest(
        {each.name: _differences(row, each, family) for each in columns if each.metric == "psnr"}, missing="no PSNR"
    )


def match_ssim(row: Published, *, columns: Sequence[Column], family: str) -> Match:
    """Our SSIM to compare with the row, as :func:`match_psnr`."""
    forms = {"ssim": {"swinir": "valid", "grl": "zero-padded"}[family], "ssim_3d": "3-D"}
    found = {
        each.name: _differences(row, each, family) + _form_differs(row, forms[each.metric])
        for each in columns
        if each.metric in forms
    }
    return _closest(found, missing="no SSIM")


def comparison(
    *,
    task: str,
    channels: int,
    means: Mapping[tuple[str, str], Mapping[str, float]],
    columns: Sequence[Column],
    family: str,
) -> Table | None:
    """Table of our means beside the published ones, None if there are none.

    Args:
        task: name of the task.
        channels: of the clean images.
        means: by (test set, setting), then by the names of the columns.
        columns: our numbers.
        family: of our metrics, ``swinir`` or ``grl``.

    """
    found = {
        (test_set, setting): rows
        for test_set, setting in means
        if (rows := published(task=task, channels=channels, test_set=test_set, setting=setting))
    }
    if not found:
        return None
    with_ssim = any(row.ssim is not None for rows in found.values() for row in rows)
    table: list[list[str]] = []
    for (test_set, setting), rows in found.items():
        mean = means[test_set, setting]
        ssim = [_first(mean, columns, ("ssim", "ssim_3d"), ".4f"), ""] if with_ssim else []
        own = [f"{test_set} {setting}", "ours", "", "", _first(mean, columns, ("psnr",), ".2f"), "", *ssim, ""]
        table += [[], own, *(["", *_cells(row, mean, columns, family, with_ssim=with_ssim)] for row in rows)]
    scores = ["M params", "PSNR", "gap", *(["SSIM", "gap"] if with_ssim else [])]
    return Table(
        title=f"{task}: beside published numbers",
        columns=["test set", "method", "training", *scores, "how it was computed"],
        rows=table,
        note="gap: ours less published, only where both were computed in the same way",
    )


def _cells(
    row: Published, mean: Mapping[str, float], columns: Sequence[Column], family: str, *, with_ssim: bool
) -> list[str]:
    psnr = match_psnr(row, columns=columns, family=family)
    ssim = match_ssim(row, columns=columns, family=family) if row.ssim is not None else Match(None, ())
    gaps = [_gap(psnr, mean, row.psnr, "+.2f"), _gap(ssim, mean, row.ssim, "+.4f")]
    remarks = list(dict.fromkeys(psnr.differs + ssim.differs))
    if row.basis == "inferred" and any(gaps):
        remarks.append("otherwise as ours (inferred)" if remarks else "as ours (inferred)")
    return [
        row.method,
        row.training,
        "" if row.params_m is None else f"{row.params_m:.2f}",
        f"{row.psnr:.2f}",
        gaps[0],
        *(["" if row.ssim is None else f"{row.ssim:.4f}", gaps[1]] if with_ssim else []),
        ", ".join(remarks),
    ]


def _gap(match: Match, mean: Mapping[str, float], value: float | None, digits: str) -> str:
    """Our number less the published one, with the name of ours unless it is the plain one; empty where they differ."""
    if match.name is None or match.differs or value is None:
        return ""
    name = "" if match.name in ("psnr", "ssim") else f" ({match.name})"
    return f"{mean[match.name] - value:{digits}}{name}"


def _first(mean: Mapping[str, float], columns: Sequence[Column], metrics: Sequence[str], digits: str) -> str:
    return next((f"{mean[each.name]:{digits}}" for each in columns if each.metric in metrics), "")


def _closest(found: Mapping[str, tuple[str, ...]], *, missing: str) -> Match:
    if not found:
        return Match(None, (missing,))
    name = min(found, key=lambda each: len(found[each]))
    return Match(name, found[name])


def _differences(row: Published, ours: Column, family: str) -> tuple[str, ...]:
    """What differs in the test images, the colour, the rounding of Y and the crop."""
    found = []
    if row.images not in ("any", family):
        found.append({"swinir": "test images as SwinIR's", "grl": "test images as GRL's"}.get(row.images, row.images))
    if row.colour == _UNKNOWN:
        found.append("RGB or Y unknown")
    elif row.colour != ours.colour:
        found.append({"rgb": "all channels", "y": "Y"}[row.colour])
    elif row.colour == "y" and row.family != family:
        found.append({"swinir": "Y not rounded", "grl": "Y rounded"}.get(row.family, "rounding of Y unknown"))
    if row.crop is None:
        found.append("crop unknown")
    elif row.crop != ours.crop:
        found.append(f"crop {row.crop}")
    return tuple(_marked(row, words) for words in found)


def _form_differs(row: Published, form: str) -> tuple[str, ...]:
    if row.ssim_form == form:
        return ()
    words = {"valid": "SSIM of the valid region", "zero-padded": "SSIM zero-padded", "3-D": "3-D SSIM"}
    return (_marked(row, words.get(row.ssim_form, "form of SSIM unknown")),)


def _marked(row: Published, words: str) -> str:
    return words if row.basis != "inferred" or _UNKNOWN in words else f"{words} (inferred)"


def _canonical(test_set: str) -> str:
    return {alias.lower(): name for alias, name in ALIASES.items()}.get(test_set.lower(), test_set).lower()


@cache
def _rows() -> tuple[Published, ...]:
    lines = files("kgt_lightning.metrics").joinpath("published.csv").read_text(encoding="utf-8").splitlines()
    return tuple(_row(fields) for fields in csv.DictReader(lines))


def _row(fields: Mapping[str, str]) -> Published:
    return Published(
        task=fields["task"],
        channels=int(fields["channels"]),
        test_set=fields["test_set"],
        setting=fields["setting"],
        training=fields["training"],
        method=fields["method"],
        params_m=float(fields["params_m"]) if fields["params_m"] else None,
        psnr=float(fields["psnr"]),
        ssim=float(fields["ssim"]) if fields["ssim"] else None,
        family=fields["family"],
        colour=fields["colour"],
        crop=None if fields["crop"] == _UNKNOWN else int(fields["crop"]),
        ssim_form=fields["ssim_form"],
        images=fields["images"],
        basis=fields["basis"],
        source=fields["source"],
    )
