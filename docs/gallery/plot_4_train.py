"""
Train in two minutes
====================

A small model, the photographs that come with scikit-image and scikit-learn, and a few hundred steps: a training from
the command's own configuration, in Python.
"""

# %%
# ``kgt train`` composes this configuration from ``conf/`` and the arguments; here Hydra is asked for it directly.
# On the command line: ``kgt train experiment=demo trainer.max_steps=150 data.batch_size=4 data.patch=32
# model.width=32``.
import os
from pathlib import Path
from tempfile import mkdtemp

from hydra import compose, initialize_config_dir

from kgt_lightning.config.command import CONF_DIR
from kgt_lightning.train import train

folder = Path(mkdtemp())
os.environ.pop("KGT_DATA", None)  # the images inside scikit-image and scikit-learn
arguments = [
    "experiment=demo",
    "trainer.max_steps=150",
    "trainer.val_check_interval=30",
    "trainer.accelerator=cpu",
    "data.batch_size=4",
    "trainer.log_every_n_steps=5",
    "+trainer.enable_progress_bar=false",
    "~callbacks.progress",
    "model.width=32",
    "data.patch=32",
    "data.validation_size=128",
    "data.validation_images=4",
    f"data.cache_dir={folder}/cache",
    f"run_dir={folder}",
    "run=gallery",
]
with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
    config = compose("train", arguments)
psnr = train(config)
print(f"{psnr:.2f} dB on the first test set")

# %%
# What the run logged lies in ``metrics.jsonl``, one object a line. ``curves.png`` beside it shows the same.
import json

import matplotlib.pyplot as plt

logged = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
figure, panels = plt.subplots(1, 2, figsize=(8, 3), layout="constrained")
for axes, (key, title) in zip(
    panels, {"train/loss": "loss", "val/psnr": "PSNR of held-out photographs, dB"}.items(), strict=True
):
    points = [(row["step"], row[key]) for row in logged if key in row]
    axes.plot(*zip(*points, strict=True), "o-", markersize=3)
    axes.set(xlabel="step", title=title)
    axes.ticklabel_format(axis="y", useOffset=False)
plt.show()

# %%
# The files of the run: checkpoints that know their configuration, scores of every test image, panels.
for file in sorted(folder.rglob("*")):
    if file.is_file() and "cache" not in file.parts and not file.name.startswith("."):
        print(file.relative_to(folder))

# %%
# ``kgt evaluate checkpoint=<folder>/checkpoints/best.ckpt`` tests it again, ``kgt restore`` restores with it. The
# default model trains longer: ``make demo`` takes five minutes on two cores.
