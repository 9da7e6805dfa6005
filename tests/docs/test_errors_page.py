"""docs/howto/when_something_goes_wrong.md knows every error that the package can raise, and none that it cannot."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "howto" / "when_something_goes_wrong.md"
NOT_FOR_USERS = ("AttributeError", "AssertionError", "SignalException", "SystemExit")


def words(node):
    """Text of an expression, … for what is only known when it runs."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return words(node.left) + words(node.right) if isinstance(node, ast.BinOp) else "…"


def told(tree, file):
    """Arguments of raised errors and of exits, and the messages that are composed elsewhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
            if ast.unparse(node.exc.func) not in NOT_FOR_USERS:
                yield node.exc.args[0]
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("exit_with", "_told") and node.args:
            yield node.args[-1]
        elif isinstance(node, ast.Return) and isinstance(node.value, ast.JoinedStr) and file.name in COMPOSED:
            yield node.value


COMPOSED = ("ending.py", "errors.py", "divergence.py")


def messages():
    for file in sorted((ROOT / "src").rglob("*.py")):
        for node in told(ast.parse(file.read_text(encoding="utf-8")), file):
            text = words(node)
            if re.search(r"\w+\W+\w+", text):  # a message that another one carries is none of its own
                yield text, f"{file.relative_to(ROOT)}:{node.lineno}"


def phrases():
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    return [phrase for row in rows for phrase in re.findall(r"`([^`]+)`", row.split(" | ")[0])]


def matches(phrase, text):
    return re.search(".*".join(map(re.escape, phrase.split("…"))), text) is not None


def test_every_error_is_on_the_page():
    known = phrases()
    missing = [f"{place}: {text}" for text, place in messages() if not any(matches(each, text) for each in known)]
    assert not missing, "\n".join(missing)


def test_the_page_holds_no_error_that_is_gone():
    texts = [text for text, _ in messages()]
    gone = [phrase for phrase in phrases() if not any(matches(phrase, text) for text in texts)]
    assert not gone, gone
