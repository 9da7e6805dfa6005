"""Runs are read with what they have; a damaged one is named and does not stop the others."""

import json

import pytest

from kgt_lightning.report.runs import read_runs


def test_all_runs_are_found_at_any_depth(sweep):
    runs, left_out = read_runs(sweep.parent)
    assert [run.path for run in runs] == [
        f"sweep/{name}" for name in ("again", "bad", "k16", "k256", "k64", "large", "now")
    ]
    assert left_out == []
    run = next(run for run in runs if run.path == "sweep/k256")
    assert (run.status, run.k, run.protocol[:6], run.seconds, run.ranked) == ("finished", 256, "swinir", 356.0, True)
    assert run.means["CBSD68 sigma=25"]["images"] == 3
    assert run.images["Kodak sigma=25"]["kodak_01"]["degraded_psnr"] == 20.18


def test_a_folder_that_is_itself_a_run_is_named_after_itself(write_run, tmp_path):
    folder = write_run(tmp_path / "alone", gains={"Set12 sigma=25": [9.0]})
    [run], _ = read_runs(folder)
    assert run.path == "alone"


def test_results_alone_are_a_run(tmp_path, results):
    (tmp_path / "evaluate").mkdir()
    content = results({"Set12 sigma=25": [9.0]}, k=32, checkpoint="a/checkpoints/best.ckpt", parameters=7)
    (tmp_path / "evaluate" / "results.json").write_text(json.dumps(content))
    [run], _ = read_runs(tmp_path)
    assert (run.task, run.status, run.k, run.parameters, run.config) == ("denoise", "finished", 32, 7, {})
    assert run.ranked


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("run.json", '{"task": "deno', "run.json is damaged: Unterminated string"),
        ("run.json", "[1, 2]", "run.json is damaged: it holds no object but a list"),
        ("run.json", '{"status": "fine"}', "status='fine' is none of running, finished, pruned, failed, out of memory"),
        ("run.json", '{"seconds": "ten"}', "run.json: seconds='ten' is no number"),
        ("run.json", '{"config": [1]}', "run.json: config=[1] is no object"),
        ("results.json", "", "results.json is damaged"),
        ("results.json", '{"means": {"A": 3}}', "results.json: means, A=3 is no object of scores"),
        ("results.json", '{"means": {"A": {"psnr": "x"}}}', "results.json: means, A, psnr='x' is no number"),
        ("results.json", '{"columns": ["psnr"]}', "results.json: one of its columns has no name"),
        ("results.json", '{"images": [{"psnr": 1}]}', "results.json: image 1 has no test_set or no name"),
    ],
)
def test_a_damaged_run_is_named_and_left_out(sweep, file, content, reason):
    (sweep / "k64" / file).write_text(content)
    runs, [left_out] = read_runs(sweep)
    assert len(runs) == 6
    assert left_out.path == "k64"
    assert reason in left_out.reason
    assert "\n" not in left_out.reason


def test_bytes_that_are_no_text_are_damage(sweep):
    (sweep / "k64" / "run.json").write_bytes(b"\xff\xfe{")
    assert "run.json is damaged" in read_runs(sweep)[1][0].reason


def test_no_folder_and_no_runs_are_said(tmp_path):
    with pytest.raises(ValueError, match=r"holds no run: no run\.json or results\.json"):
        read_runs(tmp_path)
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        read_runs(tmp_path / "nowhere")


def test_a_trial_that_was_stopped_is_not_ranked(write_run, tmp_path, config):
    write_run(tmp_path / "a", gains=None, configuration=config(), status="pruned", error="20 dB at step 100")
    [run], left_out = read_runs(tmp_path)
    assert (run.status, run.error, run.ranked, left_out) == ("pruned", "20 dB at step 100", False, [])


def test_a_run_that_goes_on_is_not_ranked_by_scores_of_an_earlier_end(write_run, tmp_path, config):
    write_run(tmp_path / "a", gains={"Set12 sigma=25": [9.0]}, configuration=config(), status="running")
    [run], _ = read_runs(tmp_path)
    assert run.means and not run.ranked
