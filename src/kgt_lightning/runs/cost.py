"""What one forward pass costs, without computing it."""

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch.utils.flop_counter import FlopCounterMode

from kgt_lightning.training.module import RestorationModule


def count_flops(config: DictConfig, *, height: int, width: int) -> tuple[int, RestorationModule]:
    """Operations for one degraded image (two for each multiply-add, padding included), and the module without weights.

    They are counted on the meta device: nothing is computed and no memory is taken. Attention counts as its neighbours
    only, whatever implementation ``config.model`` names, and the Key-Graph of each stage as its similarity product.
    """
    with torch.device("meta"):
        # ``gather`` multiplies exactly the neighbours, so that counting its products counts the method's.
        changes = {"attention": "gather", "compile": False}
        known = {key: value for key, value in changes.items() if key in config.module.backbone}
        module: RestorationModule = instantiate(config.module, backbone=known, loss=None, optim=None)
        image = torch.empty(1, module.degraded_channels, height, width)
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(image)
    return counter.get_total_flops(), module
