"""The page about the architecture says what the code does."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "architecture.md"
ANSWERS = re.findall(r"\]\(([^)]+\.py)\), `(\w+)`", PAGE.read_text())


def test_the_drawing_is_that_of_the_imports():
    drawn = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))["page"]()
    assert drawn == PAGE.read_text(), "make architecture"


def test_a_way_over_others_replaces_an_arrow():
    without_detours = runpy.run_path(str(ROOT / "docs" / "draw_architecture.py"))["without_detours"]
    assert without_detours({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}
    circle = {("a", "b"), ("b", "c"), ("c", "a")}
    assert without_detours(circle) == circle


@pytest.mark.parametrize(("file", "name"), ANSWERS)
def test_what_is_said_to_be_in_a_file_is_there(file, name):
    source = (PAGE.parent / file).resolve().read_text()
    assert re.search(rf"^(?:class|def) {name}\b", source, re.MULTILINE)
