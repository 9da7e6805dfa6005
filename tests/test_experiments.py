"""What the experiments say is what their files hold, and no link leads nowhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
PAGES += [*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "experiments").rglob("*.md"))]
TABLES = sorted((ROOT / "experiments").rglob("runs*.md")) + sorted((ROOT / "experiments").rglob("reach.md"))


@pytest.mark.parametrize("page", PAGES, ids=[page.relative_to(ROOT).as_posix() for page in PAGES])
def test_links_lead_to_files(page):
    targets = re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text())
    made = ("auto_gallery/", "api/")  # when the site is; its own test looks at links to them
    here = [target for target in targets if "://" not in target and not any(part in target for part in made)]
    missing = [target for target in here if not (page.parent / target).exists()]
    assert not missing


@pytest.mark.parametrize("table", TABLES, ids=[table.relative_to(ROOT).as_posix() for table in TABLES])
def test_tables_are_those_that_a_command_wrote(table):
    page = (table.parent / "README.md").read_text().splitlines()
    lines = [line for line in table.read_text().splitlines() if line.startswith("|")]
    assert len(lines) > 2
    assert [line for line in lines if line not in page] == []
