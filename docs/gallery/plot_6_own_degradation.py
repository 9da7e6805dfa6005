"""
A degradation of your own
=========================

What happened to the clean image is one class. Here it is stripes, as a bad sensor leaves them; with it, training, tests
and reports work as for any other.
"""

# %%
# A degradation says ``__call__``: the degraded image of a clean one, all chance from the generator that it is given.
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kgt_lightning.degradations.degradation import Degradation, rng_for


@dataclass(frozen=True, kw_only=True)
class Stripes(Degradation):
    """degraded = clean + s, one offset s ~ N(0, strength^2) for each row."""

    strength: float

    def __call__(self, clean: Tensor, rng: np.random.Generator) -> Tensor:
        """Striped image [C, H, W]."""
        offsets = rng.normal(0, self.strength, (1, clean.shape[1], 1))
        return clean + torch.from_numpy(offsets.astype(np.float32))


# %%
# The same name gives the same stripes on every machine, so that tests can be repeated.
import matplotlib.pyplot as plt
import skimage.data

clean = torch.from_numpy(skimage.data.coffee()).permute(2, 0, 1).float()[:, 60:316, 120:376] / 255
striped = Stripes(strength=0.1)(clean, rng_for("coffee"))
figure, panels = plt.subplots(1, 2, figsize=(8, 4), layout="constrained")
for axes, (title, image) in zip(panels, {"clean": clean, "striped": striped}.items(), strict=True):
    axes.imshow(image.clamp(0, 1).permute(1, 2, 0))
    axes.set_title(title)
    axes.set_axis_off()
plt.show()

# %%
# A training that is to undo it: the usual configuration, in which ``degradation`` names this class. Outside a
# notebook the class lies in a file, ``stripes.py``, and is named ``stripes.Stripes``; `an example of two files
# <../../examples/own_task/README.html>`_ shows the commands.
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
    "~degradation",
    f"+degradation={{_target_: {Stripes.__module__}.Stripes, strength: 0.1}}",
    "trainer.max_steps=150",
    "trainer.val_check_interval=150",
    "trainer.accelerator=cpu",
    "data.batch_size=4",
    "+trainer.enable_progress_bar=false",
    "~callbacks.progress",
    "model.width=32",
    "data.patch=32",
    "data.validation_size=128",
    "data.validation_images=4",
    f"data.cache_dir={folder}/cache",
    f"run_dir={folder}",
    "run=stripes",
]
with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
    psnr = train(compose("train", arguments))
print(f"{psnr:.2f} dB on the first test set")

# %%
# What 150 steps give: fine stripes are gone, wide ones fade. The checkpoint names a class of ours, so that it is loaded
# only where we say that we trust it.
from kgt_lightning.runs.checkpoint import load_checkpoint

module = load_checkpoint(folder / "checkpoints" / "best.ckpt", trust=[Stripes.__module__]).module()
with torch.no_grad():
    restored = module(striped[None])[0]
figure, panels = plt.subplots(1, 2, figsize=(8, 4.3), layout="constrained")
for axes, (title, image) in zip(panels, {"striped": striped, "restored": restored}.items(), strict=True):
    db = float(-10 * (image.clamp(0, 1) - clean).square().mean().log10())
    axes.imshow(image.clamp(0, 1).permute(1, 2, 0))
    axes.set_title(f"{title}, {db:.1f} dB")
    axes.set_axis_off()
plt.show()
