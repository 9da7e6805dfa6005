import copy
import json

import golden_losses
import pytest

GOLDEN = json.loads(golden_losses.FILE.read_text())


@pytest.mark.parametrize("task", golden_losses.TASKS)
def test_training_gives_the_golden_losses(task):
    same = GOLDEN["machine"] == golden_losses.machine()

    assert golden_losses.difference(golden_losses.run(task), GOLDEN["tasks"][task], same_machine=same) is None


def test_a_difference_is_named():
    golden = GOLDEN["tasks"]["denoise"]
    changed = copy.deepcopy(golden)
    changed["losses"][1] *= 1 + 1e-5

    assert "at step 2" in golden_losses.difference(changed, golden, same_machine=True)
    assert golden_losses.difference(changed, golden, same_machine=False) is None
    changed["losses"][4] *= 1 + 1e-3
    assert golden_losses.difference(changed, golden, same_machine=False) is None
    changed["losses"][4] *= 1 + 2e-2
    assert "at step 5" in golden_losses.difference(changed, golden, same_machine=False)
    changed["losses"][1] *= 1 + 1e-3
    assert "at step 2" in golden_losses.difference(changed, golden, same_machine=False)
    assert "weights" in golden_losses.difference({**golden, "weights": ""}, golden, same_machine=True)
