"""Scores of the images that a test has been through, so that one which was interrupted goes on after them."""

import hashlib
from pathlib import Path

import torch
from torch import Tensor

from kgt_lightning.data.datasets import Sample
from kgt_lightning.system.files import append_json_line, read_json_lines

RECORD = ".scored.jsonl"
"""In the folder of a test: which images were scored, by their content, and how."""


class ScoreRecord:
    """Scores by the content of both images, degraded and clean, in the file RECORD of a folder.

    Args:
        folder: of the test.
        how: digest of all that the scores depend on besides the images; what was scored otherwise is not found.

    """

    def __init__(self, *, folder: Path, how: str) -> None:
        self._file = folder / RECORD
        self._how = how
        self._known = {
            line["images"]: line["scores"]
            for line in read_json_lines(self._file)
            if line.get("how") == how and "images" in line and "scores" in line
        }

    def __len__(self) -> int:
        return len(self._known)

    def find(self, images: str) -> Tensor | None:
        """Scores [number] of the images with this content, None if they are still to be computed."""
        scores = self._known.get(images)
        return None if scores is None else torch.tensor(scores, dtype=torch.float64)

    def add(self, images: str, scores: Tensor) -> None:
        """Note scores [number], which were computed, of the images with this content."""
        append_json_line(self._file, {"how": self._how, "images": images, "scores": scores.double().cpu().tolist()})


def content(sample: Sample) -> str:
    """SHA-256 of both images, by which a record knows them."""
    digest = hashlib.sha256()
    for image in (sample.degraded, sample.clean):
        digest.update(str(tuple(image.shape)).encode())
        digest.update(image.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
