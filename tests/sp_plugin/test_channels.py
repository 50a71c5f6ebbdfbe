"""Images of any number of channels in a plain loop, for each kind of backbone."""

from __future__ import annotations

import pytest
from image_backbones import BACKBONES, CHANNELS, cases
from plain_loop import SIDE, batches, check_training

QUICK = [("ResNet", channels) for channels in CHANNELS] + [(name, 13) for name in BACKBONES]


@pytest.mark.parametrize(("name", "channels"), cases(*QUICK))
def test_backbone_trains(name: str, channels: int) -> None:
    session = check_training(BACKBONES[name](channels, (SIDE, SIDE)), batches(channels))
    assert session.sp.channels == channels
