"""What users do wrong is answered by one line that names the key, says what is allowed, and how to go on."""

import re

import pytest

from kgt_lightning import describe, evaluate, restore, train


def check_answer(result, expected):
    code, _, errors = result
    answers = [line for line in errors.splitlines() if line.startswith("error:")]
    assert code == 2, errors
    assert len(answers) == 1, errors
    assert "Traceback" not in errors
    assert "Error executing job" not in errors
    assert re.search(expected, answers[0]), answers[0]


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        ("model.kk=256", "model.kk is no setting: did you mean model.k"),
        ("degradation.sgima=25", "did you mean degradation.sigma"),
        ("data.sigma=25", "did you mean degradation.sigma"),
        ("max_steps=5", "did you mean trainer.max_steps"),
        ("modle.width=8", "did you mean model.width"),
        ("modle.wdith=8", "did you mean model.width"),
        ("model.zzz=5", "model.zzz is no setting: model has .*window"),
        ("zzz.yyy=5", "zzz.yyy is no setting: there are .*model"),
        ("trainer.limit_val_batches=1", r"set it with \+trainer.limit_val_batches=<value>"),
        ("model=foo", "model=foo does not exist: choose one of kgt_base, kgt_mini, kgt_nano, kgt_small, kgt_unet$"),
        ("model=null", "model=null does not exist: choose one of kgt_base"),
        ("task=0", "task=0 does not exist: choose one of .*denoise"),
        ("~task", "~task leaves out what is needed: only what lies below can be"),
        ("~loss=l1", "~loss=l1 leaves out what is needed"),
        ("~seed", "~seed leaves out what is needed"),
        (
            "~data.modulo.swinir",
            r"data.modulo lacks swinir, it has grl: give all of it, 'data.modulo=\{swinir: \.\.\.\}'",
        ),
        ("~data.patch", r"data.patch is not given: add \+data.patch=<value>"),
        ("+sed=1", "sed is no setting: nothing reads it"),
        ("logger=[]", r"logger=\[\] does not exist: choose one of csv"),
        ("hydra/job_logging=0", "hydra/job_logging=0 does not exist: choose one of"),
        ("experiment={a:1}", r"experiment=\{a:1\} does not exist: choose one of demo"),
        ("callbacks.pruning=20", "callbacks.pruning=20 must be a section or null"),
        ("callbacks={a:1}", "callbacks.a is no setting: callbacks has .*checkpoint"),
        ("optim=[1,2]", r"optim=\[1,2\] does not exist: choose one of .*cosine"),
        ("task={a:1}", r"task=\{a:1\} does not exist: choose one of .*denoise"),
        ("task=foo", "task=foo does not exist: choose one of .*denoise"),
        ("experiment=foo", "experiment=foo does not exist: choose one of demo, .*quick/denoise"),
        ("experiment=quick/foo", "experiment=quick/foo does not exist: choose one of demo, .*quick/denoise"),
        ("foo", "foo.*write key=value"),
        ("model.k=[", "quote brackets"),
        ("model.k=300", r"k=300 must lie in 1\.\.16 \(window=4"),
        ("model.k=abc", "model.k=abc must be a whole number"),
        ("model.train_k=[8,99]", "train_k=99 must lie in"),
        ("model.train_k=8", "model.train_k=8 must be a list"),
        (
            "model.layout._partial_=false",
            "model.layout is made later, with stage, width, shift: add model.layout._partial_=true",
        ),
        ("model.width=65", "width=65 must be a multiple of heads=2: change model.width, or"),
        ("model.window=1024", r"model.window=1024 must be a whole number in 1\.\.256"),
        ("model.attention=flash", "impl='flash' is not available.*choose auto or one of"),
        ("data.patch=0", "data.patch=0 must be a whole number in 1..4096"),
        ("data.batch_size=0", "data.batch_size=0 must be a whole number in 1..65536"),
        ("data.workers=-1", "data.workers=-1 must be a whole number in 0..1024"),
        ("data.validation_images=0", "data.validation_images=0 must be a whole number of at least 1"),
        ("data.validation_size=0", "data.validation_size=0 must be a whole number in 1..65536"),
        ("data.channels=2", r"data.channels=2 must be one of 3, 1"),
        ("degradation.sigma=-1", "degradation.sigma=-1 must be a level in 0..255"),
        ("degradation.sigma=abc", "degradation.sigma=abc must be a number or a list"),
        ("degradation.sigma=[]", r"degradation.sigma=\[\] must be"),
        ("degradation.sigma={low:50,high:5}", "degradation.sigma={'low': 50, 'high': 5} must be a range"),
        ("degradation.sigma={lo:5,high:50}", "must be a range {low:15,high:50}"),
        ("data.train=BSD400", r"data.train=BSD400 must be a list"),
        ("data.modulo.grl=", "data.modulo.grl= must be a whole number of at least 1$"),
        ("+data.modulo.x=3", r"data.modulo.x is no setting: a key of data.modulo must be one of swinir, grl"),
        ("data.default_test.3=1", r"data.default_test.3 cannot be given alone: .* 'data.default_test=\{3: ...\}'"),
        ("model.layout.depths.x=1", r"depths.x is no setting: .*depths is a list, .* 'model.layout.depths=\[...\]'"),
        ("data_root=/nowhere", "data_root=/nowhere is no folder.*BSD400"),
        ("loss=l3", "loss=l3 does not exist: choose one of charbonnier, l1, mse, psnr, smooth_l1"),
        ("module.loss=l3", "module.loss=l3 must be a section with a _target_: choose a file of conf/loss, loss=l3"),
        ("protocol=foo", "protocol=foo must be one of swinir, grl"),
        (
            "module.scoring.crops=[-1]",
            r"module.scoring.crops=\[-1\] must be a list .* each a whole number of at least 0",
        ),
        ("module.scoring.crops=[1000]", "crop=1000 must lie in"),
        ("module.scoring.metrics=[psnr,lpips]", "module.scoring.metrics=.*lpips.* must be a list .* one of psnr, ssim"),
        (
            "module.scoring.colours=[]",
            r"module.scoring.colours=\[\] must be a list .* of at least 1, each one of rgb, y",
        ),
        ("optim.lr=fast", "optim.lr=fast must be a number"),
        ("optim.lr=-1", "optim.lr=-1 must be a number above 0"),
        ("trainer.precision=99", "trainer.precision=99 must be one of .*bf16-mixed"),
        ("trainer.devices=0", "devices=0"),
        ("trainer.accelerator=foo", "foo.*cpu"),
        ("trainer.max_steps=0", "trainer.max_steps=0 must be a whole number of at least 1"),
        ("trainer.max_steps=-1", "trainer.max_steps=-1 must be"),
        ("trainer.val_check_interval=0", "trainer.val_check_interval=0 must be"),
        ("trainer.accumulate_grad_batches=0", "trainer.accumulate_grad_batches=0 must be"),
        ("callbacks.ema.decay=2", r"decay=2 must be a number of at least 0 and below 1"),
        ("callbacks.checkpoint.monitor=val/foo", "val/foo.*val/psnr"),
        ("seed=-1", "seed=-1 must be a whole number of at least 0 and below"),
        ("seed=abc", "seed=abc must be a whole number"),
        ("seed=${nope}", "error: seed: Interpolation key 'nope' not found"),
        ("optim.lr=${model.window}0000", "optim.lr=40000 must be"),
        ("degradation.sigma=${model}", "degradation.sigma.*must be a number"),
        ("resume=maybe", "resume=maybe must be true or false"),
        ("matmul_precision=foo", "matmul_precision=foo must be one of highest, high, medium"),
    ],
)
def test_train(run_command, tiny_arguments, tmp_path, argument, expected):
    check_answer(run_command(train.main, *tiny_arguments, argument), expected)
    assert not list(tmp_path.rglob("*.ckpt"))


def test_a_key_that_another_refers_to_may_be_added(run_command, tmp_path):
    assert run_command(train.main, "task=denoise", "+mine=64", "model.k=${mine}", "--cfg", "job")[0] == 0
    check_answer(run_command(train.main, "+mine=300", "model.k=${mine}"), "k=300 must lie in")


def test_a_set_that_is_missing_is_found_before_training(run_command, tiny_arguments, tmp_path):
    arguments = (*tiny_arguments, f"data.cache_dir={tmp_path}/cache", "data.test=[CBSD68,Urban100]")
    expected = r"lacks Urban100, it holds BSD400, BSD68, CBSD68, .*data\.test=\[\.\.\.\]"
    check_answer(run_command(train.main, *arguments), expected)
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "checkpoint is not given: add checkpoint=<value>"),
        (["checkpoint=missing.ckpt"], r"checkpoint=missing.ckpt does not exist: name a \.ckpt file"),
        (["checkpoint={trained}", "task=sr"], "was trained for task=denoise, not sr"),
        (["checkpoint=/etc/passwd"], "checkpoint=/etc/passwd cannot be read, it is damaged or no checkpoint"),
        (["checkpoint={trained}", "data.test=[Set12"], r"error: data.test=\[Set12 cannot be read: write key=value"),
        (["checkpoint={trained}", "data.foo=3"], "data.foo is no setting of checkpoint=.*it has .*test_gray"),
        (["checkpoint={trained}", "model.layout.depths={{}}"], "model.layout={'depths': .*is of another kind than in"),
        (["checkpoint={trained}", "degradation.foo=3"], "degradation.foo is no setting of checkpoint=.*it has .*sigma"),
        (["checkpoint={trained}", "model.foo=3"], "model.foo is no setting"),
        (["checkpoint={trained}", "model._target_=os.system"], "model._target_ is no setting"),
        (
            ["checkpoint={trained}", "module.backbone=1e9"],
            "module.backbone of checkpoint=.* is what model says: change model.",
        ),
        (["checkpoint={trained}", "data.degradation.sigma=3"], "is what degradation says: change degradation.<key>"),
        (["checkpoint={trained}", "hydra.run.dir="], "hydra.run.dir= names no folder: hydra.run.dir=<folder>"),
        (["checkpoint={trained}", "model.k=99"], r"k=99 must lie in 1\.\.16"),
        (["checkpoint={trained}", "model.k=abc"], "model.k=abc must be a whole number"),
        (["checkpoint={trained}", "model.layout.foo=1"], "model.layout.foo is no setting of Columnar"),
        (["checkpoint={trained}", "model.width=16"], "weights do not fit the settings"),
        (["checkpoint={trained}", "data.channels=1"], "data.channels=1: the model in the checkpoint takes 3"),
        (["checkpoint={trained}", "data.test=[Urban100]", "data_root={root}"], "lacks Urban100"),
        (["checkpoint={trained}", "checkpiont=3"], "checkpiont is no setting: did you mean checkpoint"),
    ],
)
def test_evaluate(run_command, trained, photo_root, arguments, expected):
    arguments = [each.format(trained=trained, root=photo_root) for each in arguments]
    check_answer(run_command(evaluate.main, *arguments), expected)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "input is not given: add input=<value>"),
        (["input=missing", "output=out", "checkpoint=missing"], "input=missing does not exist: name an image file"),
        (["input={root}/Set12", "output=out", "checkpoint=missing"], "checkpoint=missing does not exist"),
        (
            ["input={root}/Set12", "output=out"],
            "checkpoint is not given: add checkpoint=<file>, or task=",
        ),
        (["input={root}/Set12", "output=out", "task=fog"], "task=fog: the package brings no model for it"),
        (["input={root}/Set12", "output=out", "checkpoint={trained}", "task=denoise"], "leave task=denoise out"),
        (["input={root}/Set12", "output={root}/Set12", "checkpoint={trained}"], "folder of the input"),
        (["input={root}/Set12", "output={root}/Set12/0.png", "checkpoint={trained}"], "0.png is a file: name a folder"),
        (
            ["input={root}", "output=out", "checkpoint={trained}", "tile=0"],
            "tile=0 must be a whole number",
        ),
        (["input={root}", "output=out", "checkpoint={trained}", "overlap=256"], r"overlap=256 must lie in 0\.\.255"),
        (
            ["input={root}", "output=out", "checkpoint={trained}", "device=tpu"],
            "device=tpu must be one of auto, cpu, cuda, mps",
        ),
        (["input={trained}", "output=out", "checkpoint={trained}"], r"best.ckpt cannot be written.*\.png"),
    ],
)
def test_restore(run_command, trained, photo_root, tmp_path, arguments, expected):
    arguments = [each.format(trained=trained, root=photo_root) for each in arguments]
    check_answer(run_command(restore.main, *arguments), expected)
    assert not (tmp_path / "out").exists()


def test_a_wrong_key_beside_a_sweep_over_recipes(run_command):
    check_answer(run_command(train.main, "-m", "experiment=quick/sr,quick/jpeg", "minutes=1"), "minutes is no setting")


def test_describe(run_command):
    check_answer(run_command(describe.main, "model.kk=3"), "did you mean model.k")
