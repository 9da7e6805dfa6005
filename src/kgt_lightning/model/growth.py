"""A model that begins with the weights of a shallower one: the blocks that one lacks change nothing at first."""

from collections.abc import Collection

from torch import nn

from kgt_lightning.model.conv_ushape import ConvBlock
from kgt_lightning.model.feed_forward import LinearFFN
from kgt_lightning.model.stage import KeyGraphAttention, Layer, Stage


def grow(model: nn.Module, known: Collection[str]) -> list[str]:
    """Make the identity of blocks that follow on known ones in a list; their learning begins there.

    The last layer of a block's residual branch becomes zero (as in arXiv 1706.02677, section 5.1), so that the deeper
    model computes at first what the shallower one did.

    Args:
        model: with blocks in lists, as the layouts have them.
        known: names of the weights that another model has.

    Returns:
        Names of those blocks.

    """
    added: list[str] = []
    for path, blocks in model.named_modules():
        if not isinstance(blocks, nn.ModuleList):
            continue
        there = [any(name.startswith(f"{path}.{i}.") for name in known) for i in range(len(blocks))]
        for i in range(there.count(True), len(blocks) if any(there) else 0):
            outputs = output_layers(blocks[i])
            for layer in outputs:
                for weight in layer.parameters():
                    nn.init.zeros_(weight)
            if outputs:
                added.append(f"{path}.{i}")
    return added


def output_layers(block: nn.Module) -> list[nn.Module]:
    """The last layers of a block's residual branches; none where these are not known, as with a foreign mixer."""
    match block:
        case ConvBlock():
            return [block.second]
        case Stage():
            return [block.conv]
        case Layer(attention=KeyGraphAttention(projection=projection), ffn=ffn):
            return [projection, ffn[-1] if isinstance(ffn, LinearFFN) else ffn.reduce]
    return []
