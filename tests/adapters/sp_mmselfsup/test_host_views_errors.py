"""source="host_views" with an algorithm or data that do not allow it."""

from __future__ import annotations

from typing import Any

import mm_configs
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement
from sp_mmselfsup.algorithm import attach

from sp_plugin import ConfigError, EncodedViews, SPConfig

ON = {"weight": 1.0, "warmup_fraction": 0.0, "source": "host_views"}


class PlainAlgorithm(torch.nn.Module):
    """An algorithm whose backbone encodes each view, without a data preprocessor."""

    data_preprocessor = None

    def __init__(self) -> None:
        super().__init__()
        self.backbone = torch.nn.Conv2d(3, 8, 3)

    def loss(self, inputs: Any, data_samples: Any) -> dict[str, torch.Tensor]:
        return {"loss": sum(self.backbone(view).mean() for view in inputs)}


@pytest.mark.parametrize("name", ("mae", "simmim"))
def test_masked_method_is_refused(train: Any, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        train(name, ON, mm_configs.with_views)
    algorithm = {"mae": "MAE", "simmim": "SimMIM"}[name]
    assert str(error.value) == (
        f"source: got 'host_views', but {algorithm} masks what its backbone sees; "
        "take 'view' or 'image'"
    )


def test_single_view_student_is_refused(train: Any, monkeypatch: Any) -> None:
    path = "mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py"
    monkeypatch.setitem(mm_configs.SMALL, "mocov2", (path, {}))
    with pytest.raises(ConfigError) as error:
        train("mocov2", ON, mm_configs.with_views)
    assert str(error.value) == (
        "source: got 'host_views', but the backbone is called, with gradients, on 1 of the batch's "
        "2 views as they are, and not on two of one size; take 'view' or 'image' with this method"
    )


def test_batch_without_view_boxes_is_refused(train: Any) -> None:
    with pytest.raises(ConfigError) as error:
        train("byol", ON)
    assert str(error.value) == (
        "source: got 'host_views', but no locations of the views came with the data; put the "
        "pipeline into dict(type='SPViewBoxes', pipeline=...)"
    )


def test_without_pipeline_targets_keep_std() -> None:
    """A data loader that was built before its Runner: SP trains all the same."""
    MessageHub.get_instance("a run that begins here")
    algorithm = attach(PlainAlgorithm(), SPConfig(source="host_views"))
    before = algorithm.sp.targets.std.clone()
    inputs: list[EncodedViews] = []
    algorithm.sp.register_forward_pre_hook(lambda _, args: inputs.append(args[1]))
    view_boxes = {"sp_boxes": torch.rand(2, 4), "sp_flips": torch.ones(2, 2)}
    samples = [BaseDataElement(**view_boxes) for _ in range(3)]
    algorithm.loss([torch.rand(3, 3, 8, 8) for _ in range(2)], samples)
    assert inputs[0].features.shape == (2, 3, 8)
    assert torch.equal(algorithm.sp.targets.std, before)
