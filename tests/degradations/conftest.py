from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from kgt_lightning.degradations.drops import Drops
from kgt_lightning.degradations.rain import Rain
from kgt_lightning.degradations.snow import Snow
from kgt_lightning.degradations.veil import Veil
from kgt_lightning.images.color import to_uint8

AIR = {"low": 0.7, "high": 0.9}


def make_veil(low: float = 0, high: float = 0) -> Veil:
    return Veil(beta={"low": low, "high": high}, airlight=AIR)


RAIN = {"strength": 1, "density": 0.01, "length": 30, "radius": 1.4, "brightness": 0.5, "slant": 20}
SNOW = {"strength": 1, "density": 0.01, "radius": 4.5, "length": 10, "opacity": 2.2, "slant": 30}
DROPS = {"strength": 1, "coverage": 0.3, "radius": 12, "shrink": 4, "softness": 0.4}


@pytest.fixture
def veil() -> Callable[..., Veil]:
    """Makes a veil whose beta lies between low and high."""
    return make_veil


@pytest.fixture
def rain() -> Callable[..., Rain]:
    """Makes rain without veil, with changes."""
    return lambda **changes: Rain(**({**RAIN, "veil": make_veil()} | changes))


@pytest.fixture
def snow() -> Callable[..., Snow]:
    """Makes snow without veil, with changes."""
    return lambda **changes: Snow(**({**SNOW, "veil": make_veil()} | changes))


@pytest.fixture
def drops() -> Callable[..., Drops]:
    """Makes drops, with changes."""
    return lambda **changes: Drops(**(DROPS | changes))


@pytest.fixture(params=["rain", "snow", "drops"])
def weather(request, veil) -> Callable[..., Rain | Snow | Drops]:
    """Makes each kind of weather, with its veil, with changes."""
    make = request.getfixturevalue(request.param)
    thick = {} if request.param == "drops" else {"veil": veil(0.4, 0.8)}
    return lambda **changes: make(**(thick | changes))


@pytest.fixture
def image() -> Tensor:
    """Noise of 8 bits, [3, 70, 91], no value near the ends of the range."""
    return torch.from_numpy(np.random.default_rng(0).integers(20, 200, (3, 70, 91))).float() / 255


@pytest.fixture
def is_8_bit() -> Callable[[Tensor], bool]:
    """Whether all values are n/255 in [0, 1]."""
    return lambda image: torch.equal(to_uint8(image).float() / 255, image)
