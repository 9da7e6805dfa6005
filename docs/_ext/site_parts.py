"""What the site needs beside Sphinx, so that it opens without network: formulas as MathML, and results as tables."""

import csv
import re
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import Directive, directives
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

SENTENCE = 40
"""Characters of a cell that is longer than a name or a number."""


class Mermaid(Directive):
    """A flowchart in Mermaid's words as a table: each box with what it says, and where its arrows lead."""

    has_content = True

    def run(self) -> list[nodes.Node]:
        """The table; forges that know Mermaid draw the same text."""
        text = "\n".join(self.content)
        boxes = re.findall(r'^\s*(\w+)\["<b>\w+</b><br>(.*)"\]$', text, re.MULTILINE)
        arrows = re.findall(r"^\s*(\w+) --> (\w+)$", text, re.MULTILINE)
        rows = [["package", "what it holds", "imports directly"]]
        rows += [[name, about, ", ".join(b for a, b in arrows if a == name)] for name, about in boxes]
        return [table(rows)]


class Results(Directive):
    """Columns of a CSV file that a command wrote, by its path in the repository; fractions to four digits."""

    required_arguments = 1
    option_spec: ClassVar = {"columns": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        """The table; a column that the file lacks stops the build."""
        file = Path(__file__).parents[2] / self.arguments[0]
        self.state.document.settings.record_dependencies.add(str(file))
        columns = [name.strip() for name in self.options["columns"].split(",")]
        with file.open(newline="") as lines:
            rows = [[shown(row[name]) for name in columns] for row in csv.DictReader(lines)]
        return [table([[name.replace("_", " ") for name in columns], *rows])]


def shown(value: str) -> str:
    """A number with a fraction to four digits, anything else as it is."""
    try:
        return f"{float(value):.4g}" if "." in value else value
    except ValueError:
        return value


def keep_tables(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Show tables of docstrings as they are typed; Sphinx calls it with the lines of each."""
    drawn = [line.startswith("|") for line in lines]
    lines[:] = [
        text
        for line, now, before in zip(lines, drawn, [False, *drawn], strict=False)
        for text in (["::", "", f"    {line}"] if now and not before else [f"    {line}" if now else line])
    ]


def table(rows: list[list[str]]) -> nodes.table:
    """A table of texts, the first row its head."""
    group = nodes.tgroup(cols=len(rows[0]))
    group += [nodes.colspec(colwidth=1) for _ in rows[0]]
    for part, of_part in ((nodes.thead(), rows[:1]), (nodes.tbody(), rows[1:])):
        for row in of_part:
            line = nodes.row()
            for cell in row:
                line += nodes.entry("", nodes.paragraph("", cell))
            part += line
        group += part
    return nodes.table("", group)


def mark_words(app: Sphinx, document: nodes.document) -> None:
    """Give cells of columns that hold sentences the class ``words``, which keeps them wide enough to be read."""
    for body in document.findall(nodes.tbody):
        for column in zip(*(row.children for row in body.children), strict=False):
            if max(len(cell.astext()) for cell in column) > SENTENCE:
                for cell in column:
                    cell["classes"].append("words")


def inline_math(translator, node) -> None:  # noqa: ANN001  # Sphinx's own interface
    translator.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def displayed_math(translator, node) -> None:  # noqa: ANN001
    translator.body.append(f"<div class='math'>{tex2mathml(node.astext(), as_block=True)}</div>")
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, bool]:
    """Tell Sphinx of the parts."""
    app.add_directive("mermaid", Mermaid)
    app.add_directive("results", Results)
    app.connect("autodoc-process-docstring", keep_tables)
    app.connect("doctree-read", mark_words)
    app.add_html_math_renderer("mathml", inline_renderers=(inline_math, None), block_renderers=(displayed_math, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
