"""Gray is one switch, data.channels=1, in every task."""

import json

import pytest

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.train import train

TASKS = [file.stem for file in sorted((CONF_DIR / "task").glob("[!_]*.yaml"))]
COLOUR_ALONE = {
    task: rf"data\.channels=1 must be 3: {degradation} takes no other images"
    for task, degradation in (("demosaic", "BayerMosaic"), ("camera", "CameraNoise"))
}
"""Why a task has no gray images."""


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_trained_and_tested_in_gray_or_says_why_not(tiny, tmp_path, task):
    config = tiny(tmp_path, f"task={task}", "data.channels=1", "data.train=[BSD400]", "data.test=[CBSD68]")
    if task in COLOUR_ALONE:
        with pytest.raises(Exception, match=COLOUR_ALONE[task]):
            train(config)
        return

    assert train(config) > 10

    images = json.loads((tmp_path / "results.json").read_text())["images"]
    assert {each["image"] for each in images} == {"0", "1", "2"}
    assert not any(key.endswith("_y") for key in images[0])
