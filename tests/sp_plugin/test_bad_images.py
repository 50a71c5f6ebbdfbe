"""Images and features that SP cannot use: one line, or the dtype that the backbone takes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sp_plugin import ConfigError, SpatialPrediction, SPSession


def make_backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize("dtype", (torch.float16, torch.bfloat16, torch.float64))
def test_images_get_dtype_of_backbone(dtype: torch.dtype) -> None:
    images = torch.rand(4, 3, 32, 32).to(dtype)
    session = SPSession(make_backbone(), relative_weight=False, warmup_fraction=0.0)
    again = SPSession(make_backbone(), relative_weight=False, warmup_fraction=0.0)
    loss, expected = session(images).loss, again(images.float()).loss
    assert loss.dtype == torch.float32 and torch.allclose(loss, expected, atol=2e-2)
    loss.backward()
    assert session.backbone[0].weight.grad.abs().sum() > 0


def test_no_images_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^batch: got no images, of shape \(0, 3, 32, 32\)$"):
        SPSession(make_backbone())(torch.zeros(0, 3, 32, 32))


class FewImages(nn.Module):
    """Fails on more images than the blank ones at the start."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, images: Tensor) -> Tensor:
        if len(images) > 2:
            raise RuntimeError("too many images\nand more lines")
        return self.conv(images)


def test_error_of_backbone_is_one_line() -> None:
    with pytest.raises(ConfigError) as error:
        SPSession(FewImages())(torch.rand(4, 3, 32, 32))
    assert str(error.value) == (
        "backbone: FewImages fails on SP's crops of shape (8, 3, 16, 16): too many images"
    )
    assert isinstance(error.value.__cause__, RuntimeError)


def test_width_that_changes_is_refused() -> None:
    class ByBatch(nn.Conv2d):
        def forward(self, images: Tensor) -> Tensor:
            output = super().forward(images)
            return output if len(images) == 2 else output[:, :5]

    with pytest.raises(ConfigError, match=r"^backbone: got \(8, 5, 14, 14\) in its output"):
        SPSession(ByBatch(3, 8, 3))(torch.rand(4, 3, 32, 32))
    with pytest.raises(ConfigError, match=r"^backbone: gives features of width 5, where 8 were"):
        SpatialPrediction(8).pair_loss(torch.rand(2, 3, 5), torch.rand(2, 3, 4), step=0)
