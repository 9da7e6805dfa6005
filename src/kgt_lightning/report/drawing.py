"""How every plot looks, and a plot as SVG that takes the colours and the font of the page around it."""

import hashlib
import html
import io
import re
from collections.abc import Sequence
from typing import Any

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

PALETTE = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377")
"""Paul Tol's "bright" colours, told apart by colour-blind readers and seen on white and on black."""
DASHES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "D", "^", "v", "P")
GAIN, LOSS = PALETTE[0], PALETTE[1]

# Stand-ins that no plot contains otherwise; the page's own colours take their place.
INK, MUTED, GRID, SURFACE = "#010203", "#040506", "#070809", "#0a0b0c"
_OF_PAGE = {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--grid)", SURFACE: "var(--surface)"}

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.minor.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "lines.dash_capstyle": "round",
    "svg.hashsalt": "report",  # the same runs give the same page
    "svg.fonttype": "none",  # text stays text: it can be searched and copied, and is in the font of the page
}


class Drawing:
    """A figure of panels side by side, to be filled and turned into SVG under ``rc_context(STYLE)``.

    Args:
        panels: their number.
        across: how many stand in a row.
        height: of one row, in inches; the whole is 10 inches wide.

    """

    def __init__(self, *, panels: int, across: int, height: float) -> None:
        rows = -(-panels // across)
        layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.08)
        self.figure = Figure(figsize=(10, height * rows), layout=layout)
        FigureCanvasSVG(self.figure)
        axes = self.figure.subplots(rows, across, squeeze=False).flatten()
        for spare in axes[panels:]:
            spare.remove()
        self.axes: list[Axes] = list(axes[:panels])
        self._tips: list[str] = []

    def tip(self, artist: Artist, words: str) -> None:
        """Show words when the pointer rests on the artist."""
        artist.set_gid(f"tip{len(self._tips)}")
        self._tips.append(words)

    def legend(self, labels: Sequence[str]) -> None:
        """One legend below all panels, if there is more than one line to tell apart."""
        handles = {
            label: handle
            for axes in self.axes
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
            if label in labels
        }
        if len(handles) < 2:
            return
        columns = max(1, min(6, len(handles), 130 // (max(map(len, handles)) + 6)))
        self.figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=columns)

    def svg(self, *, alt: str) -> str:
        """The element, without anything that a browser would fetch; its ids appear nowhere else on the page."""
        stream = io.StringIO()
        nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        self.figure.savefig(stream, format="svg", transparent=True, metadata=nothing)
        body = stream.getvalue().partition("<svg")[2].partition(">")
        view = re.search(r'viewBox="[^"]+"', body[0])
        assert view is not None
        content = re.sub(r"<metadata>.*?</metadata>", "", body[2], flags=re.DOTALL)
        for number, words in enumerate(self._tips):
            opening = f'<g id="tip{number}">'
            content = content.replace(opening, f"{opening}<title>{html.escape(words)}</title>")
        content = _own_ids(content, hashlib.sha256((alt + content).encode()).hexdigest()[:8])
        for stand_in, colour in _OF_PAGE.items():
            content = content.replace(stand_in, colour)
        return f'<svg {view.group()} role="img" aria-label="{html.escape(alt)}">{content}'


def colour(index: int) -> str:
    """Colour of the line with this number."""
    return PALETTE[index % len(PALETTE)]


def dash(index: int) -> str:
    """Dashes of the line with this number: other ones when the colours begin anew."""
    return DASHES[index // len(PALETTE) % len(DASHES)]


def _own_ids(content: str, salt: str) -> str:
    """Ids that are referred to made unique by the salt, all others left out."""
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', content))

    def renamed(match: re.Match[str]) -> str:
        return f' id="{salt}-{match.group(1)}"' if match.group(1) in used else ""

    content = re.sub(r' id="([^"]+)"', renamed, content)
    content = re.sub(r'(url\(#|href="#)', rf"\g<1>{salt}-", content)
    return content
