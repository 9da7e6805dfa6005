"""
Restore a photograph
====================

A noisy photograph, restored by the model that the package brings; nothing has to be trained.
"""

# %%
# On the command line it is ``kgt restore task=denoise input=photo.png output=restored``. In Python
# :func:`kgt_lightning.pretrained` is a plain module for images [B, 3, H, W] with values from 0 to 1.
import matplotlib.pyplot as plt
import skimage.data
import torch

import kgt_lightning
from kgt_lightning.degradations.noise import seeded_noise

model = kgt_lightning.pretrained("denoise")
model.info

# %%
# Noise of three levels is added, and removed again. The model is blind: it is not told the level.
clean = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1).float()[:, :256, 96:352] / 255
sigmas = [15, 25, 50]
noisy = torch.stack([seeded_noise(clean, sigma=sigma) for sigma in sigmas])
with torch.no_grad():
    restored = model(noisy)

# %%
figure, panels = plt.subplots(2, 4, figsize=(11, 5.8), layout="constrained")
panels[0, 0].imshow(clean.permute(1, 2, 0))
panels[0, 0].set_title("clean")
panels[1, 0].set_visible(False)
for (above, below), sigma, before, after in zip(panels.T[1:], sigmas, noisy, restored, strict=True):
    for axes, image in ((above, before), (below, after)):
        axes.imshow(image.clamp(0, 1).permute(1, 2, 0), interpolation="nearest")
        db = float(-10 * (image - clean).square().mean().log10())
        axes.set_title(f"sigma {sigma}: {db:.1f} dB")
for axes in panels.flat:
    axes.set_axis_off()
plt.show()

# %%
# What was removed should look like noise and not like the photograph. Here no shape of the face can be seen in it.
figure, axes = plt.subplots(figsize=(4, 4), layout="constrained")
axes.imshow((0.5 + 3 * (noisy[1] - restored[1])).clamp(0, 1).permute(1, 2, 0))
axes.set_title("what was removed at sigma 25, three times")
axes.set_axis_off()
plt.show()

# %%
# Large photographs go through in tiles, so that memory does not grow with them: the sides of tiles are multiples
# of what the model pads to.
from kgt_lightning.images.tiling import assembled, tiles

large = noisy[1:2].repeat(1, 1, 2, 2)
with torch.no_grad():
    whole = model(large)
    tiled = assembled(tiles(model, large, tile=model.info.tile, overlap=model.info.multiple, scale=model.info.scale))
difference = 255 * (whole - tiled).abs()
print(f"tiles against the whole: mean {difference.mean():.3f}, largest {difference.max():.1f} of 255")
