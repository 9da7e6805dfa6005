"""The Key-Graph Transformer for image restoration, as an open experiment platform."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from kgt_lightning.runs.pretrained import Pretrained

__version__ = "0.1.0"


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
