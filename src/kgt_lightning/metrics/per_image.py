"""Scores of each image of a set, over all processes."""

import torch
from torch import Tensor
from torchmetrics import Metric


class Scores(Metric):
    """Scores of every image of a set, each image once, however many processes were given it.

    Args:
        images: of the set.
        number: of scores for each image.

    """

    full_state_update = False
    sums: Tensor
    counts: Tensor

    def __init__(self, *, images: int, number: int) -> None:
        super().__init__()
        # A place for every image in every process: also one that was given none has something to add.
        # float32 is enough for thousandths of a decibel, and every device has it.
        self.add_state("sums", torch.zeros(images, number), dist_reduce_fx="sum")
        self.add_state("counts", torch.zeros(images, 1), dist_reduce_fx="sum")

    def update(self, index: int, values: Tensor) -> None:
        """Take the scores [number] of the image at this position of the set."""
        self.sums[index] += values.to(self.sums)
        self.counts[index] += 1

    def compute(self) -> dict[int, list[float]]:
        """Scores by position in the set."""
        means = (self.sums / self.counts).tolist()
        return {index: means[index] for index in self.counts[:, 0].nonzero()[:, 0].tolist()}
