"""Underscored names of other libraries, which may change or go with any release: where they are used, and why."""

import ast
import importlib
import inspect
import pkgutil
from pathlib import Path

import kgt_lightning

SOURCES = Path(kgt_lightning.__file__).parent

ALLOWED: dict[str, set[str]] = {"ops/kernels/constant.py": {"_dynamo_marked_constant"}}
"""At most four files in the end, each a small one with a test that fails when the library changes."""

PUBLIC = {"_replace", "_asdict", "_fields", "_exit", "_check"}
"""Documented in spite of the underscore: of named tuples, of os, and of torch."""

# The last is written into every torch.autograd.Function by its metaclass.
OF_PYTHON = {"_abc_impl", "_is_protocol", "_is_runtime_protocol", "_field_defaults", "_make", *PUBLIC, "_backward_cls"}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__") and name != "_"


def used_in(source: str) -> set[str]:
    """Underscored names of others in a file: fetched from an object, or imported."""
    tree = ast.parse(source)
    nodes = list(ast.walk(tree))
    own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    own |= {node.target.id for node in nodes if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)}
    own |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
    }
    found = {node.attr for node in nodes if isinstance(node, ast.Attribute) and is_private(node.attr)} - own
    for node in nodes:
        modules = {}
        if isinstance(node, ast.ImportFrom):
            modules = {node.module or "": [each.name for each in node.names]}
        elif isinstance(node, ast.Import):
            modules = {each.name: [] for each in node.names}
        for module, names in modules.items():
            if not module.startswith("kgt_lightning"):
                found |= {part for part in (*module.split("."), *names) if is_private(part)}
    return found - PUBLIC


def overridden(cls: type) -> set[str]:
    """Underscored members of a class that take the place of another library's."""
    others = [base for base in cls.__mro__[1:] if not base.__module__.startswith("kgt_lightning")]
    mine = {name for name in vars(cls) if is_private(name)} - OF_PYTHON
    return {name for name in mine if any(name in vars(base) for base in others)}


def test_the_search_finds_what_it_is_for():
    assert used_in("import torch\ntorch.cpu._is_avx512_supported()") == {"_is_avx512_supported"}
    assert used_in("from torch.distributed import _tensor") == {"_tensor"}
    assert used_in("import torch._dynamo") == {"_dynamo"}
    assert (
        used_in("class A:\n def _f(self): return self._x\n def g(self, other): return other._x + other._f()") == set()
    )


def test_no_other_private_names_are_used():
    for file in sorted(SOURCES.rglob("*.py")):
        name = file.relative_to(SOURCES).as_posix()
        assert used_in(file.read_text()) <= ALLOWED.get(name, set()), name


def test_no_other_private_members_are_overridden():
    for found in pkgutil.walk_packages([str(SOURCES)], "kgt_lightning."):
        if ".triton_" in found.name or found.name.endswith("__main__") or "compile_kernels" in found.name:
            continue  # need Triton, or start a command
        module = importlib.import_module(found.name)
        for cls in (each for _, each in inspect.getmembers(module, inspect.isclass) if each.__module__ == found.name):
            allowed = ALLOWED.get(found.name.partition(".")[2].replace(".", "/") + ".py", set())
            assert overridden(cls) <= allowed, cls


def test_the_exceptions_are_few():
    assert len(ALLOWED) <= 4
