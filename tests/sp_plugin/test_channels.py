"""Images of any number of channels in a plain loop, for each kind of backbone."""

from __future__ import annotations

import pytest
from image_backbones import BACKBONES, CHANNELS
from plain_loop import SIDE, batches, check_training


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("name", BACKBONES)
def test_backbone_trains(name: str, channels: int) -> None:
    session = check_training(BACKBONES[name](channels, (SIDE, SIDE)), batches(channels))
    assert session.sp.channels == channels
