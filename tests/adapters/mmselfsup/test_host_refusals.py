"""source="host_views" where an algorithm, or its data, cannot serve it."""

from __future__ import annotations

from typing import Any

import mm_hosts
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import BaseDataElement
from sp_mmselfsup.host_views import HostViews

from sp_plugin import ConfigError, SpatialPrediction, SPConfig

ON = {"weight": 1.0, "warmup_fraction": 0.0, "source": "host_views"}


@pytest.mark.parametrize("name", ("mae", "simmim"))
def test_a_host_that_masks_is_refused(train: Any, name: str) -> None:
    with pytest.raises(ConfigError) as error:
        train(name, ON, mm_hosts.with_views)
    host = {"mae": "MAE", "simmim": "SimMIM"}[name]
    assert str(error.value) == (
        f"source: got 'host_views', but {host} masks what its backbone sees; take 'view' or 'image'"
    )


def test_a_host_whose_student_encodes_one_view_is_refused(train: Any, monkeypatch: Any) -> None:
    path = "mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py"
    monkeypatch.setitem(mm_hosts.SMALL, "mocov2", (path, {}))
    with pytest.raises(ConfigError) as error:
        train("mocov2", ON, mm_hosts.with_views)
    assert str(error.value) == (
        "source: got 'host_views', but the backbone is called, with gradients, on 1 of the batch's 2 "
        "views as they are, and not on two of one size; take 'view' or 'image' with this host"
    )


def test_a_batch_without_places_is_refused(train: Any) -> None:
    with pytest.raises(ConfigError) as error:
        train("byol", ON)
    assert str(error.value) == (
        "source: got 'host_views', but no places of the views came with the data; put the pipeline into "
        "dict(type='SPViews', pipeline=...)"
    )


def test_without_a_pipeline_of_current_run_targets_keep_their_measure() -> None:
    """A data loader that was built before its Runner: SP trains all the same."""
    MessageHub.get_instance("a run that begins here")
    backbone = torch.nn.Conv2d(3, 8, 3)
    sp = SpatialPrediction(8, SPConfig(source="host_views"))
    before = sp.targets.std.clone()
    host, views = HostViews(backbone, sp.config), [torch.rand(3, 3, 8, 8) for _ in range(2)]
    places = {"sp_boxes": torch.rand(2, 4), "sp_flips": torch.ones(2, 2)}
    with host.step():
        for view in views:
            backbone(view)
        encoded = host.asked_about(views, [BaseDataElement(**places) for _ in range(3)], sp)
    assert encoded.features.shape == (2, 3, 8)
    assert torch.equal(sp.targets.std, before)
