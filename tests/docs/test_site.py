"""The site builds without a warning, its links lead somewhere, and it needs no network."""

import ast
import json
import runpy
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "docs" / "gallery").glob("plot_*.py"))
checks = runpy.run_path(str(ROOT / "docs" / "check_links.py"))
problems, PACKAGES = checks["problems"], checks["PACKAGES"]
needs_sphinx = pytest.mark.skipif(find_spec("sphinx_gallery") is None, reason="needs the extra docs")


@pytest.mark.slow
@needs_sphinx
def test_the_site_builds_without_a_warning(tmp_path):
    """All but the gallery's outputs; make docs runs it."""
    for part in ("conf", "docs", "experiments", "examples", "src"):
        left_out = shutil.ignore_patterns("__pycache__", "_build", "api", "auto_gallery", "outputs")
        shutil.copytree(ROOT / part, tmp_path / part, ignore=left_out)
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-t", "quick", "-c", "docs", ".", "html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert problems(tmp_path / "html") == []
    method = (tmp_path / "html" / "docs" / "method.html").read_text()
    assert method.count("<math") >= 6


def test_links_that_lead_nowhere_are_named(tmp_path):
    (tmp_path / "a.html").write_text('<a href="b.html#there">b</a> <a href="b.html#gone">b</a> <a href="c.html">c</a>')
    (tmp_path / "b.html").write_text('<p id="there"><script src="https://cdn.example/x.js"></script>')
    assert problems(tmp_path) == [
        "a.html: b.html#gone: there is no such place on the page",
        "a.html: c.html is not there",
        "b.html: fetches https://cdn.example/x.js",
    ]


def test_a_page_that_shows_where_it_was_made_is_named(tmp_path):
    (tmp_path / "a.html").write_text(f"<pre>{PACKAGES}/library.py:21: this is deprecated</pre>")
    assert problems(tmp_path) == [f"a.html: shows {PACKAGES}, a folder of this machine"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_what_the_gallery_imports_of_the_package_is_there(script):
    """make docs runs the scripts whole, which takes minutes."""
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("kgt_lightning"):
            module = import_module(str(node.module))
            assert [each.name for each in node.names if not hasattr(module, each.name)] == []


@needs_sphinx
@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_notebook_is_that_of_the_script_and_has_outputs(script):
    from sphinx_gallery.py_source_parser import split_code_and_text_blocks

    cells = json.loads((ROOT / "notebooks" / f"{script.stem}.ipynb").read_text())["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    _, blocks = split_code_and_text_blocks(str(script))
    written = [block[1].strip() for block in blocks if block[0] == "code"]
    assert ["".join(cell["source"]).strip() for cell in code] == [text for text in written if text], "make notebooks"
    assert any(cell["outputs"] for cell in code)
