"""Several views in one call of the student: lists in and out, masks, dicts; DINOv2's outlines."""

from __future__ import annotations

from typing import Any

import dino_mimic
import pytest
import torch
from dino_mimic import NUM_GLOBAL, NUM_LOCAL, PATCH, Backbone, DataAugmentationDINO, build
from torch import Tensor, nn
from torch.utils.data import default_collate

from sp_plugin import ConfigError, SPSession, ViewBoxTransform
from sp_plugin.structures import ViewBoxes
from sp_plugin.views.capture import FeatureCapture

BATCH = 4


class Dense(nn.Module):
    """A map for each tensor of a list."""

    def __init__(self, gives: str) -> None:
        super().__init__()
        self.conv, self.norm, self.gives = nn.Conv2d(3, 8, 4, 4), nn.Identity(), gives

    def one(self, images: Tensor) -> Tensor:
        return self.norm(self.conv(images))

    def forward(self, images: Any) -> Any:
        if isinstance(images, Tensor):
            return self.one(images)
        maps = [self.one(one) for one in images]
        if self.gives == "rows":
            return torch.cat([one.mean(dim=(2, 3)) for one in maps])
        return {"tuple": tuple(maps), "dicts": [{"features": one} for one in maps]}.get(
            self.gives, maps
        )


def two_sizes() -> tuple[list[Tensor], ViewBoxes]:
    views = [torch.rand(BATCH, 3, side, side) for side in (16, 16, 8, 8, 8)]
    return views, ViewBoxes(torch.rand(5, BATCH, 4), torch.ones(5, BATCH, 2))


@pytest.mark.parametrize("gives", ["list", "tuple", "dicts", "rows"])
@pytest.mark.parametrize("layer", [None, "norm"])
def test_lists_of_crops_are_taken_apart(gives: str, layer: str | None):
    student = Dense(gives)
    views, boxes = two_sizes()
    capture = FeatureCapture(student, layer=layer)
    with capture.recording():
        student([torch.cat(views[:2]), torch.cat(views[2:])])
        encoded = capture.collect(views, boxes)
    expected = torch.stack([student.one(view).mean(dim=(2, 3)) for view in views[2:]])
    assert capture.selected_views == [2, 3, 4]
    torch.testing.assert_close(encoded.features, expected)
    assert torch.equal(encoded.boxes, boxes.boxes[2:])


def test_one_view_in_a_list():
    student = Dense("list")
    views, boxes = two_sizes()
    capture = FeatureCapture(student)
    with capture.recording():
        for view in views:
            student([view])
        encoded = capture.collect(views, boxes)
    assert encoded.features.shape == (3, BATCH, 8) and not encoded.boxes.isnan().any()


def batch_of_views() -> Any:
    torch.manual_seed(0)
    transform = ViewBoxTransform(DataAugmentationDINO())
    return default_collate([transform(torch.rand(3, 48, 48)) for _ in range(BATCH)])


def masks_of(crops: Tensor) -> Tensor:
    count = (crops.shape[-1] // PATCH) ** 2
    return torch.arange(count).expand(len(crops), -1) % 2 == 0


@pytest.mark.parametrize("mask_local", [False, True])
def test_local_crops_of_a_dino_student(mask_local: bool):
    student = build(Backbone).train()
    sp = SPSession(student, source="host_views", relative_weight=False)
    views, boxes = sp.split(batch_of_views())
    crops = [torch.cat(views["global_crops"]), torch.cat(views["local_crops"])]
    masks = [None, masks_of(crops[1])] if mask_local else [masks_of(crops[0]), None]
    with sp.capture():
        outputs = student(crops, masks=masks, is_training=True)
        encoded = sp._encoded_views(views, boxes)
        assert sp(views, boxes).loss.isfinite()
    # Patch tokens, without registers and class token; of the crops that are not masked.
    seen, count = (0, NUM_GLOBAL) if mask_local else (1, NUM_LOCAL)
    expected = outputs[seen]["x_norm_patchtokens"].mean(dim=1).unflatten(0, (count, -1))
    torch.testing.assert_close(encoded.features, expected)


def test_masked_views_alone_are_refused():
    student = build(Backbone).train()
    sp = SPSession(student, source="host_views", relative_weight=False)
    views, boxes = sp.split(batch_of_views())
    crops = torch.cat(views["global_crops"])
    with sp.capture(), pytest.raises(ConfigError, match="on 0 of the batch's 7 views as they are"):
        student(crops, masks=masks_of(crops), is_training=True)
        sp(views, boxes)


def test_lists_at_weight_0_are_the_baseline():
    states = []
    for weight in (None, 0.0):
        torch.manual_seed(0)
        student = build(Backbone).train()
        parameters = list(student.parameters())
        sp = None
        if weight is not None:
            sp = SPSession(student, source="host_views", weight=weight)
            parameters += sp.parameters()
        optimizer = torch.optim.AdamW(parameters, 1e-2)
        for _ in range(3):
            views, boxes = SPSession.split(batch_of_views())
            crops = [torch.cat(views["global_crops"]), torch.cat(views["local_crops"])]
            context = sp.capture() if sp else torch.enable_grad()
            with context:
                outputs = student(crops, masks=[masks_of(crops[0]), None], is_training=True)
                loss = sum(one["x_norm_clstoken"].square().mean() for one in outputs)
                if sp:
                    loss = loss + sp(views, boxes).loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        states.append(student.state_dict())
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())


def test_mimic_has_what_the_recipe_needs():
    model = build(dino_mimic.SSLMetaArch)
    assert all(value.isfinite().all() for value in model.state_dict().values())
    assert {"params", "is_last_layer", "lr_multiplier"} <= model.get_params_groups()[0].keys()
