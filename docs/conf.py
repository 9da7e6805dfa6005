"""The site: make docs, or sphinx-build -t quick -c docs . <folder> without running the gallery.

Pages lie in docs/, experiments/ and examples/, so that their links work in the repository too.
"""

import os
import sys
from pathlib import Path

from kgt_lightning.config.reference import reference

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_ext"))
(ROOT / "docs" / "configuration.md").write_text(reference())
# Examples of the gallery run in small processes, quietly.
os.environ.setdefault("OMP_NUM_THREADS", "2")

project = "kgt_lightning"
copyright = "the contributors, MIT licence"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.apidoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "site_parts",
]
root_doc = "docs/index"
include_patterns = ["docs/**", "experiments/**", "examples/**/README.md", "src/kgt_lightning/models/*.md"]
exclude_patterns = [
    "docs/_build",
    "docs/gallery",
    "docs/_ext",
    "**/sg_execution_times.rst",
    "docs/auto_gallery/*.ipynb",
    "experiments/**/runs.md",
    "experiments/reach/reach.md",
]
suppress_warnings = ["config.cache"]  # the gallery's own settings hold classes

html_theme = "furo"
html_title = "kgt_lightning"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_extra"]  # index.html, which leads to docs/index.html
templates_path: list[str] = []

myst_enable_extensions = ["dollarmath", "deflist"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]
suppress_warnings += ["myst.header", "ref.python"]  # several classes have a height, which is no reference

apidoc_modules = [
    {
        "path": "../src/kgt_lightning",
        "destination": "docs/api",
        "max_depth": 2,
        "separate_modules": False,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
        "exclude_patterns": ["**/triton_*.py", "**/__main__.py", "**/compile_kernels.py", "**/conf"],
    }
]
autodoc_default_options = {"ignore-module-all": True}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True

sphinx_gallery_conf = {
    "examples_dirs": "docs/gallery",
    "gallery_dirs": "docs/auto_gallery",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "plot_gallery": not tags.has("quick"),  # noqa: F821  # Sphinx puts tags here: sphinx-build -t quick
    "abort_on_example_error": True,
}
