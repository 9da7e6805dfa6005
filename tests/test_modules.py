"""Every module can be imported: a name that has moved is found here, not by a user of a command that no test starts."""

import importlib
import pkgutil

import pytest

import kgt_lightning

MODULES = [module.name for module in pkgutil.walk_packages(kgt_lightning.__path__, "kgt_lightning.")]
TRITON = ("triton_", "compile_kernels")


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_it_can_be_imported(name):
    if any(part in name for part in TRITON):
        pytest.importorskip("triton")
    importlib.import_module(name)
