"""The Key-Graph Transformer for image restoration, as an open experiment platform."""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kgt_lightning.runs.pretrained import Pretrained

__version__ = "0.1.0"

if sys.argv[:1] == ["-m"] and any(each.startswith(f"{__name__}.") for each in sys.orig_argv):
    # python -m kgt_lightning.<command>, whose imports take seconds, in which Ctrl+C is one line too
    from kgt_lightning.system.ending import end_at_interrupt

    end_at_interrupt()


def pretrained(name: str) -> "Pretrained":
    """A model that the package brings, such as ``denoise``: restored images in [0, 1] of degraded ones [B, C, H, W].

    Raises:
        ValueError: if there is none of this name.

    """
    from kgt_lightning.runs.pretrained import pretrained as load  # torch is imported when it is needed

    return load(name)


def from_pretrained(
    source: "str | Path", *, download: bool = False, revision: str | None = None, trust: "Sequence[str]" = ()
) -> "Pretrained":
    """The model in a folder of ``kgt export format=safetensors``, or of such a name as ``owner/name`` on the Hub.

    Args and errors as of :func:`kgt_lightning.runs.pretrained.from_pretrained`.
    """
    from kgt_lightning.runs.pretrained import from_pretrained as load

    return load(source, download=download, revision=revision, trust=trust)
