"""Writes the gallery as notebooks with their outputs: python docs/make_notebooks.py [name ...], or make notebooks."""

import base64
import io
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image
from sphinx_gallery.gen_gallery import DEFAULT_GALLERY_CONF
from sphinx_gallery.notebook import jupyter_notebook
from sphinx_gallery.py_source_parser import split_code_and_text_blocks
from traitlets.config import Config

GALLERY = Path(__file__).with_name("gallery")
LARGE = 100_000
"""Characters of a picture."""
FOLDER = Path(__file__).parents[1] / "notebooks"


def notebook(script: Path) -> nbformat.NotebookNode:
    """The script as a notebook that was not run: its text as cells of Markdown."""
    _, blocks = split_code_and_text_blocks(str(script))
    made = nbformat.from_dict(jupyter_notebook(blocks, DEFAULT_GALLERY_CONF, str(FOLDER)))
    for number, cell in enumerate(made.cells):
        cell["id"] = f"cell-{number}"
        cell.metadata.pop("collapsed", None)
        # Cells of text may use the roles of the site.
        cell.source = "".join(cell.source).replace(":func:", "").replace(":class:", "")
    made.nbformat_minor = 5
    return made


def with_outputs(made: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook after it was run; what it wrote beside its output, such as warnings, is left out."""
    # Over sockets of files, which only their owner can read, instead of ports.
    local = Config({"KernelManager": {"transport": "ipc"}})
    NotebookClient(made, timeout=600, kernel_name="python3", config=local).execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)
        cell.outputs = [out for out in cell.get("outputs", []) if out.get("name") != "stderr"]
        if cell.cell_type != "code":
            del cell["outputs"]
        for out in cell.get("outputs", []):
            lighten(out.get("data", {}))
    made.metadata.pop("language_info", None)
    return made


def lighten(data: dict[str, str]) -> None:
    """Keep a large picture as JPEG, so that the repository stays small."""
    picture = data.get("image/png", "")
    if len(picture) > LARGE:
        stream = io.BytesIO()
        Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB").save(stream, "JPEG", quality=88)
        del data["image/png"]
        data["image/jpeg"] = base64.b64encode(stream.getvalue()).decode()


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    wanted = sys.argv[1:] or [script.stem for script in sorted(GALLERY.glob("plot_*.py"))]
    for name in wanted:
        nbformat.write(with_outputs(notebook(GALLERY / f"{name}.py")), FOLDER / f"{name}.ipynb")
