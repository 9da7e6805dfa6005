import pytest
import torch

from kgt_lightning.metrics.per_image import Scores


def test_an_image_that_was_given_twice_counts_once():
    scores = Scores(images=4, number=2)
    for index, value in ((0, 1.0), (1, 2.0), (0, 1.0)):
        scores.update(index, torch.tensor([value, value / 2]))
    assert scores.compute() == {0: [1.0, 0.5], 1: [2.0, 1.0]}


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric Scores was called before")
def test_no_image_has_no_scores():
    assert Scores(images=3, number=2).compute() == {}
