"""The package's models beside published numbers, as Markdown tables made from their cards."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kgt_lightning.metrics.published import Published, published

SMALL = 1.0
"""Million parameters up to which a published model stands in the short table."""


def full_table(cards: Sequence[Mapping[str, Any]]) -> str:
    """Every score of every model, with its size and cost, and all that is published for the same set and setting."""
    lines = [
        "| model | million parameters | CPU s a megapixel | set | degraded dB | restored dB | published |",
        "|---|---|---|---|---|---|---|",
    ]
    for card in cards:
        cost = [f"{card['parameters'] / 1e6:.2f}", f"{card['seconds_per_megapixel']:.1f}"]
        for number, score in enumerate(card["scores"]):
            first = [_name(card), *cost] if number == 0 else ["", "", ""]
            beside = ", ".join(_told(row) for row in sorted(_beside(card, score), key=lambda row: row.psnr))
            lines.append(f"| {' | '.join([*first, score['set'], *_pair(score), beside])} |")
    return "\n".join(lines)


def short_table(cards: Sequence[Mapping[str, Any]]) -> str:
    """The first score of every model, with the published models of about its size."""
    lines = ["| model | set | degraded dB | restored dB | published, of similar size |", "|---|---|---|---|---|"]
    for card in cards:
        score = card["scores"][0]
        rows = [row for row in _beside(card, score) if row.params_m is not None and row.params_m <= SMALL]
        beside = ", ".join(_told(row) for row in sorted(rows, key=lambda row: row.psnr))
        name = f"[`{card['name']}`](src/kgt_lightning/models/{card['name']}.md)"
        degraded, restored = _pair(score)
        lines.append(f"| {_name(card, name)} | {score['set']} | {degraded} | **{restored}** | {beside} |")
    return "\n".join(lines)


TABLES: Mapping[str, Callable[[Sequence[Mapping[str, Any]]], str]] = {
    "<!-- every score, written by kgt publish --table -->": full_table,
    "<!-- first scores, written by kgt publish --table -->": short_table,
}
"""Comment below which a page holds a table, up to ``<!-- end -->``."""


def with_tables(page: str, cards: Sequence[Mapping[str, Any]]) -> str:
    """The page with its tables written anew.

    Raises:
        ValueError: if it has no place for one.

    """
    if not any(mark in page for mark in TABLES):
        raise ValueError(f"the page has no place for a table: add {' or '.join(TABLES)}, and <!-- end --> below it")
    for mark, table in TABLES.items():
        pattern = re.compile(re.escape(mark) + ".*?<!-- end -->", re.DOTALL)
        page = pattern.sub(lambda _, mark=mark, table=table: f"{mark}\n{table(cards)}\n<!-- end -->", page)  # type: ignore[misc]
    return page


def _beside(card: Mapping[str, Any], score: Mapping[str, Any]) -> list[Published]:
    name, _, setting = score["set"].partition(" ")
    rows = published(task=card["task"], channels=card["channels"], test_set=name, setting=setting)
    return [row for row in rows if f"{row.psnr:.2f}" != f"{score['degraded_psnr'] or 0:.2f}"]


def _told(row: Published) -> str:
    return f"{row.method}{'*' * (row.training == 'per level')} {row.psnr:.2f}"


def _name(card: Mapping[str, Any], name: str | None = None) -> str:
    return (name or f"`{card['name']}`") + ", experimental" * card["experimental"]


def _pair(score: Mapping[str, Any]) -> tuple[str, str]:
    degraded = score["degraded_psnr"]
    return "clean" if degraded is None else f"{degraded:.2f}", f"{score['psnr']:.2f}"
