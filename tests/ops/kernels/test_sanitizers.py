"""native.c under the compiler's sanitizers: no access outside its tensors, nothing undefined, no races.

Nothing of Python is instrumented, so that every report is one about native.c.
"""

import os
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from kgt_lightning.ops.kernels import native_build

TESTS = Path(__file__).parents[1]
FLAGS = [flag for flag in native_build.FLAGS if not flag.startswith("-O")]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="sanitizers of GCC on Linux"),
    pytest.mark.skipif(native_build.why_unavailable() is not None, reason=str(native_build.why_unavailable())),
]

REFERENCE_TESTS = (
    "attention/test_native.py",
    "attention/test_attention.py",
    "key_graph/test_select.py",
    "test_linear.py",
)
CHOSEN = "every or threads or infinity or nan or no_windows"
CHOSEN += " or native and (reference or cosine_scores or slow_choice or products)"

OUTSIDE = """
import torch
from kgt_lightning.ops.kernels.native_build import library
nodes, index = torch.zeros(4, 16), torch.zeros(5, 2, dtype=torch.int32)
choose = library(double=False).kgt_neighbours
print(choose(nodes.data_ptr(), 1, 4, 16, 2, index.data_ptr(), 1))
choose(nodes.data_ptr(), 1, 5, 16, 2, index.data_ptr(), 1)
"""


def library_of(name):
    """Path of a library of the compiler, or nothing."""
    found = subprocess.run(
        ["gcc", f"-print-file-name={name}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return found if Path(found).is_absolute() else pytest.skip(f"{name} is not installed")


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Variables under which Python builds and loads a native.c that watches addresses and undefined behaviour."""
    folder = tmp_path_factory.mktemp("sanitized")
    compiler = folder / "cc"
    # At -O3 the checks would take minutes to compile.
    sanitized = "-O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all"
    compiler.write_text(f'#!/bin/sh\nunset LD_PRELOAD\nexec gcc "$@" {sanitized}\n')
    compiler.chmod(0o755)
    # The library of C++ as well: its exceptions go through the sanitizer.
    preload = f"{library_of('libasan.so')}:{library_of('libstdc++.so.6')}"
    options = {"ASAN_OPTIONS": f"detect_leaks=0:log_path={folder}/report", "OMP_NUM_THREADS": "2"}
    return {**os.environ, **options, "CC": str(compiler), "XDG_CACHE_HOME": str(folder), "LD_PRELOAD": preload}


def reports(environment):
    return "".join(file.read_text() for file in Path(environment["XDG_CACHE_HOME"]).glob("report*"))


def test_reference_tests_under_sanitizers(environment):
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--noconftest",
        "-p",
        "no:cacheprovider",
        *REFERENCE_TESTS,
        "-k",
        CHOSEN,
    ]
    done = subprocess.run(command, env=environment, cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:] + reports(environment)[:3000]
    assert " passed" in done.stdout and not reports(environment)


def test_a_read_outside_is_found(environment):
    done = subprocess.run([sys.executable, "-c", OUTSIDE], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "0"
    assert done.returncode and "heap-buffer-overflow" in reports(environment) + done.stderr


def test_no_thread_races_another(tmp_path):
    """Forward, backward and the choice of neighbours; a race that is there on purpose is found."""
    source, program = Path(__file__).with_name("native_threads.c"), tmp_path / "threads"
    kernels = files(native_build.__package__)
    command = [
        "gcc",
        *FLAGS,
        "-O1",
        "-g",
        "-fsanitize=thread",
        "-fopenmp",
        f"-I{kernels}",
        "-c",
        source,
        "-o",
        f"{program}.o",
    ]
    subprocess.run(command, check=True)
    # Without the compiler's OpenMP: the file brings its own.
    subprocess.run(["gcc", "-fsanitize=thread", f"{program}.o", "-o", program, "-lpthread", "-lm"], check=True)
    done = subprocess.run([program], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr[:3000]
    done = subprocess.run([program, "race"], capture_output=True, text=True)
    assert done.returncode and "data race" in done.stderr
