"""Every method on images of any number of channels: its views and a step of its loss."""

from __future__ import annotations

import pytest
import torch
from PIL import Image
from sp_bench.config import METHOD_NAMES, Settings, default_backbone
from sp_bench.data.channel_stats import IMAGENET, ChannelStats
from sp_bench.methods import METHODS
from sp_bench.methods.channel_views import adapt_views
from sp_bench.pretrain import new_method
from torchvision.transforms import v2

SIDE = 32


def stats_of(channels: int) -> ChannelStats:
    return ChannelStats(tuple(0.1 * i for i in range(channels)), (0.5,) * channels)


@pytest.mark.parametrize("name", METHOD_NAMES)
@pytest.mark.parametrize("channels", [1, 13])
def test_views_have_the_channels(name, channels):
    transform = METHODS[name].transform(SIDE)
    views = adapt_views(transform, stats_of(channels), has_colors=False)
    rgb = transform(Image.new("RGB", (70, 40)))
    for image in (torch.rand(channels, 40, 70), torch.zeros(channels, 40, 70, dtype=torch.uint8)):
        made = views(image)
        assert [view.shape[1:] for view in made] == [view.shape[1:] for view in rgb]
        assert all(view.shape[0] == channels and view.dtype == torch.float32 for view in made)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_rgb_keeps_the_transform_itself(name):
    transform = METHODS[name].transform(SIDE)
    assert adapt_views(transform, IMAGENET, has_colors=True) is transform


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_grey_keeps_lightlys_colors(name):
    transform = METHODS[name].transform(SIDE)
    grey = adapt_views(transform, ChannelStats((0.0,), (1.0,)), has_colors=True)
    for view in grey(Image.new("L", (70, 40), 128)):
        assert view.shape[0] == 1 and 0 <= view.min() <= view.max() <= 1
    rgb = transform(Image.new("RGB", (70, 40)))  # the transform itself has not changed
    assert all(len(view) == 3 for view in rgb)


def test_each_channel_changes_on_its_own():
    views = adapt_views(METHODS["simclr"].transform(SIDE), stats_of(5), has_colors=False)
    image = torch.rand(1, 40, 40).expand(5, -1, -1).contiguous()
    made = [view for _ in range(8) for view in views(image)]
    undone = [v2.functional.normalize(v, [-0.2 * i for i in range(5)], [2.0] * 5) for v in made]
    assert any((view - view[:1]).abs().amax() > 0.05 for view in undone)


@pytest.mark.parametrize("name", METHOD_NAMES)
def test_every_channel_gets_a_gradient(name):
    stats = stats_of(5)
    backbone = default_backbone(name)
    settings = Settings(name, backbone, side=SIDE, mean=stats.mean, std=stats.std, batch_size=4)
    method = new_method(settings, seed=0)
    method.trainer = type("Trainer", (), {"estimated_stepping_batches": 4, "current_epoch": 0,
                                          "global_step": 0})()  # fmt: skip
    views = adapt_views(method.transform(SIDE), stats, has_colors=False)
    samples = [views(torch.rand(5, 40, 40)) for _ in range(4)]
    batch = [torch.stack(view) for view in zip(*samples, strict=True)]
    method.method_loss(batch).backward()
    first = next(p for p in method.backbone.parameters() if p.ndim == 4)
    assert first.shape[1] == 5 and first.grad.abs().amax(dim=(0, 2, 3)).min() > 0


@pytest.mark.parametrize(
    "name", ["tiny_resnet", "tiny_vit", "resnet18", "timm:convnext_atto", "vit_tiny_patch16_224"]
)
def test_backbone_takes_the_channels(name):
    from sp_bench.backbones import make_backbone

    with torch.no_grad():
        for channels, side in ((13, 32), (1, 64)):
            backbone = make_backbone(name, side, channels).eval()
            assert backbone(torch.zeros(1, channels, side, side)).ndim == 2
