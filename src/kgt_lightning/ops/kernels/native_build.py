"""The compiled half of the native implementation: built once per machine, then loaded with ctypes.

One C file and the machine's own ``cc``, instead of

- ``torch.utils.cpp_extension``: needs ninja and a C++ compiler that fits torch's, and compiles torch's headers for
  tens of seconds, where the C file takes one;
- Numba: a second thread pool beside torch's, no say over vector registers, and a large dependency that holds back new
  Python versions;
- a binary wheel: built for the lowest common processor, it would leave most of the vector width unused.

The price is that a machine without a compiler has no ``native``: the package works there all the same, and says so.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import shutil
import stat
import subprocess
import sys
import tempfile
from functools import cache
from importlib import resources
from pathlib import Path

from kgt_lightning.ops.kernels.constant import assume_constant_result
from kgt_lightning.system.files import sha256

log = logging.getLogger(__name__)

# No -ffast-math: exp rounds by adding and subtracting a large number, and NaN must stay NaN.
FLAGS = ("-std=gnu11", "-O3", "-fPIC", "-march=native", "-fno-math-errno", "-fno-trapping-math", "-Wno-unknown-pragmas")


class NativeUnavailableError(RuntimeError):
    """The kernel could not be built or loaded; the message says why, in one line."""


@assume_constant_result
def why_unavailable() -> str | None:
    """Why this machine has no native kernel, in words; None where it has. Builds it when first asked."""
    return build_problem()


@cache
def build_problem() -> str | None:
    """The same; what is remembered cannot be traced by torch.compile, which takes the answer above as it is."""
    try:
        library(double=False)
    except NativeUnavailableError as error:
        return str(error)
    return None


@cache
def library(*, double: bool) -> ctypes.CDLL:
    """Kernels for float32, or for float64, ready to call.

    Raises:
        NativeUnavailableError: if there is no compiler, it fails, or the cache folder cannot be written.

    """
    # torch has loaded its OpenMP runtime already. The kernel is linked without one, so that it finds torch's: a second
    # runtime would be a second pool of threads spinning on the same cores. Only Linux shares symbols like that.
    if sys.platform == "linux":
        try:
            return _load(_build(double=double, openmp=True))
        except OSError as error:
            log.warning("native: torch's OpenMP runtime cannot be shared (%s); the kernel runs on one thread", error)
    else:
        log.warning("native: OpenMP is used on Linux only; the kernel runs on one thread")
    try:
        return _load(_build(double=double, openmp=False))
    except OSError as error:
        raise NativeUnavailableError(f"the compiled kernel does not load: {error}") from error


def _load(path: Path) -> ctypes.CDLL:
    loaded = ctypes.CDLL(str(path))
    pointer, integer = ctypes.c_void_p, ctypes.c_int64
    # shape, q, k, v, index, table, scale, then the results: see the end of native.c
    loaded.kgt_forward.argtypes = [pointer] * 8
    loaded.kgt_backward.argtypes = (*[pointer] * 13, integer)
    loaded.kgt_neighbours.argtypes = (pointer, *[integer] * 4, pointer, integer)
    loaded.kgt_weight_gradients.argtypes = (pointer, pointer, *[integer] * 3, pointer, pointer, integer)
    return loaded


def _build(*, double: bool, openmp: bool) -> Path:
    """Path of the shared library; compiled if this source, compiler and processor have not met before."""
    source = resources.files(__package__).joinpath("native.c").read_bytes()
    compiler = _compiler()
    flags = [*FLAGS, *(["-DKGT_DOUBLE"] if double else []), *(["-fopenmp"] if openmp else [])]
    version = _run([*compiler, "--version"])
    key = hashlib.sha256(b"\0".join([source, " ".join(flags).encode(), version.encode(), _processor().encode()]))
    folder = cache_folder()
    path = folder / f"native-{key.hexdigest()[:24]}.so"
    checksum = path.with_suffix(".sha256")
    try:
        _own(folder)
        if path.exists() and checksum.exists() and checksum.read_text() == sha256(path):
            return path
        with tempfile.TemporaryDirectory(dir=folder) as build:
            # Moved into place as a whole: other processes build the same file at the same time.
            built, unlinked = Path(build, "native.so"), Path(build, "native.o")
            Path(build, "native.c").write_bytes(source)
            _run([*compiler, *flags, "-c", str(Path(build, "native.c")), "-o", str(unlinked)])
            _run([*compiler, "-shared", str(unlinked), "-o", str(built)])
            Path(build, "sha256").write_text(sha256(built))
            os.replace(built, path)
            os.replace(Path(build, "sha256"), checksum)
    except OSError as error:
        raise NativeUnavailableError(f"the kernel cannot be stored in {folder}: {error}") from error
    log.info("native: compiled %s with %s", path, version.splitlines()[0])
    return path


def cache_folder() -> Path:
    """Where compiled kernels are kept: kgt_lightning in the user's cache folder (XDG_CACHE_HOME or ~/.cache)."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        folder = Path(base or Path.home() / ".cache", "kgt_lightning")
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():
        raise NativeUnavailableError("there is no home folder to keep it in: set XDG_CACHE_HOME to a folder of yours")
    return folder


def _compiler() -> list[str]:
    """The command that ``CC`` names, or else the first of cc, gcc and clang that is installed."""
    named = shlex.split(os.environ.get("CC", ""))
    if named and shutil.which(named[0]) is None:
        raise NativeUnavailableError(f"CC={named[0]} is not installed: unset CC, or name a C compiler")
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not named and found is None:
        raise NativeUnavailableError("no C compiler (cc, gcc or clang) is installed")
    return named or [str(found)]


def _own(folder: Path) -> None:
    """Make the folder, and see to it that nobody else can put a library there, which would be run."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    status = folder.stat()
    if status.st_uid != os.geteuid():
        raise NativeUnavailableError(f"{folder} belongs to another user: set XDG_CACHE_HOME to a folder of yours")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        folder.chmod(0o700)


def _processor() -> str:
    """Everything that -march=native depends on."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.platform() + platform.processor()
    named = [line for line in lines if line.startswith(("model name", "flags", "CPU part", "Features"))]
    return platform.machine() + "".join(sorted(set(named)))


def _run(command: list[str]) -> str:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        said = next((line for line in result.stderr.splitlines() if "error" in line), result.stderr.strip())
        raise NativeUnavailableError(f"{Path(command[0]).name} failed: {said}")
    return result.stdout
