"""Draws docs/architecture.md's picture of the packages from their imports: python docs/draw_architecture.py."""

import ast
from pathlib import Path

import grimp

PAGE = Path(__file__).with_name("architecture.md")
BEGIN, END = "<!-- drawn from the imports by make architecture -->\n", "<!-- end -->\n"
PACKAGE = Path(__file__).parents[1] / "src" / "kgt_lightning"
COMMANDS = "commands"


def edges() -> set[tuple[str, str]]:
    """Pairs of packages of which the first imports the second; the files that lie beside them are the commands."""
    graph = grimp.build_graph("kgt_lightning", exclude_type_checking_imports=True)
    found = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = (_package(importer), _package(imported))
            if None not in pair and pair[0] != pair[1]:
                found.add(pair)
    return found


def without_detours(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs that no way over other packages replaces; of a circle all are left."""
    return {(a, b) for a, b in pairs if _reaches(pairs, b, a) or not _reaches(pairs - {(a, b)}, a, b)}


def drawing() -> str:
    """The packages as a Mermaid flowchart, arrows from what imports to what is imported."""
    pairs = edges()
    names = sorted({name for pair in pairs for name in pair}, key=lambda name: (-_depth(pairs, name), name))
    lines = ["```mermaid", "flowchart TD"]
    for name in names:
        lines.append(f'    {name}["<b>{name}</b><br>{_about(name)}"]')
    lines += [f"    {a} --> {b}" for a, b in sorted(without_detours(pairs))]
    return "\n".join([*lines, "```", ""])


def page() -> str:
    """The page with the drawing as it is now."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return before + BEGIN + drawing() + END + rest.partition(END)[2]


def _package(module: str) -> str | None:
    parts = module.split(".")
    if len(parts) < 2:
        return None
    return parts[1] if (PACKAGE / parts[1]).is_dir() else COMMANDS


def _reaches(pairs: set[tuple[str, str]], start: str, goal: str) -> bool:
    seen, left = {start}, [start]
    while left:
        here = left.pop()
        for a, b in pairs:
            if a == here and b not in seen:
                seen.add(b)
                left.append(b)
    return goal in seen


def _depth(pairs: set[tuple[str, str]], name: str) -> int:
    """Number of packages that a package needs, also by detours."""
    return sum(_reaches(pairs, name, other) for other in {b for _, b in pairs})


def _about(name: str) -> str:
    if name == COMMANDS:
        return ", ".join(sorted(file.stem for file in PACKAGE.glob("[!_]*.py")))
    docstring = ast.get_docstring(ast.parse((PACKAGE / name / "__init__.py").read_text())) or ""
    return docstring.splitlines()[0].rstrip(".").replace('"', "'")


if __name__ == "__main__":
    PAGE.write_text(page())
