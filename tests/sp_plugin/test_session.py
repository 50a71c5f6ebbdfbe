"""SPSession: the same results as direct calls of SpatialPrediction, for each source."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import default_collate
from torchvision import transforms

from sp_plugin import (
    ConfigError,
    Crops,
    EncodedViews,
    SpatialPrediction,
    SPConfig,
    SPSession,
    SPTransform,
    ViewBoxes,
    ViewBoxTransform,
)

SOURCES = ("view", "image", "host_views")
SETTINGS = {"hidden_dim": 16, "warmup_fraction": 0.2}
VIEW_SIZE, STEPS = 24, 6
each_source = pytest.mark.parametrize("source", SOURCES)
each_fraction = pytest.mark.parametrize("fraction", [1.0, 0.5])


def make_backbone() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.2)
    )


class TwoViews:
    """Two random crops of an image."""

    def __init__(self) -> None:
        crop = transforms.RandomResizedCrop(VIEW_SIZE, (0.2, 1.0))
        parts = [crop, transforms.RandomHorizontalFlip(), transforms.ToTensor()]
        self.parts = [transforms.Compose(parts) for _ in range(2)]

    def __call__(self, image: Any) -> list[Tensor]:
        return [part(image) for part in self.parts]


def make_transform(source: str) -> Any:
    wrapper = {"view": lambda transform: transform, "image": SPTransform}
    return wrapper.get(source, ViewBoxTransform)(TwoViews())


def load_batch(transform: Any, step: int, n: int = 6) -> Any:
    """Collated samples; the images and the augmentations depend on the step only."""
    torch.manual_seed(step)
    images = [transforms.functional.to_pil_image(image) for image in torch.rand(n, 3, 40, 40)]
    return default_collate([transform(image) for image in images])


def method_loss(backbone: nn.Module, views: list[Tensor]) -> Tensor:
    a, b = (backbone(view).mean((2, 3)) for view in views)
    return (a - b).square().mean() - 0.1 * a.std(dim=0).mean()


def make_session(backbone: nn.Module, source: str, transform: Any, **settings: Any) -> SPSession:
    sample_view_boxes = transform.sample_boxes if source == "host_views" else None
    return SPSession(
        backbone, source=source, sample_view_boxes=sample_view_boxes, **{**SETTINGS, **settings}
    )


class Run:
    """A training loop of a method, with SP or without."""

    def __init__(self, source: str, use_sp: bool = True, **settings: Any) -> None:
        # Without SP the loop has the method's own transform.
        self.transform = make_transform(source if use_sp else "view")
        self.backbone = make_backbone()
        self.session = None
        parameters = list(self.backbone.parameters())
        if use_sp:
            self.session = make_session(self.backbone, source, self.transform, **settings)
            parameters += list(self.session.parameters())
        self.optimizer = torch.optim.SGD(parameters, lr=0.1, momentum=0.9)
        self.losses: list[Tensor] = []

    def train(self, steps: range) -> None:
        for step in steps:
            batch = load_batch(self.transform, step)
            if self.session is None:
                loss = method_loss(self.backbone, batch)
            else:
                loss = self.loss_with_sp(batch, step / STEPS)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            self.losses.append(loss.detach())

    def loss_with_sp(self, batch: Any, progress: float) -> Tensor:
        views, sp_batch = self.session.split(batch)
        with self.session.capture():
            loss = method_loss(self.backbone, views)
            return loss + self.session(views, sp_batch, progress=progress).loss

    def state(self) -> dict[str, Any]:
        state = {"backbone": self.backbone.state_dict(), "optimizer": self.optimizer.state_dict()}
        return {**state, "sp": self.session.state_dict()} if self.session else state


def assert_equal(one: Any, other: Any) -> None:
    """Compare nested values; tensors bit for bit."""
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        one, other = list(one.values()), list(other.values())
    if isinstance(one, Tensor):
        torch.testing.assert_close(one, other, rtol=0, atol=0, equal_nan=True)
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_equal(*pair)
    else:
        assert one == other


def direct_inputs(
    source: str, batch: Any, backbone: nn.Module
) -> tuple[list[Tensor], Tensor | Crops | EncodedViews]:
    """Views of a batch, and the input that SpatialPrediction takes."""
    if source == "view":
        return batch, batch[0]
    views = batch["views"]
    if source == "image":
        return views, Crops.from_batch(batch["sp"])
    boxes, flips = ViewBoxes.from_batch(batch["sp"])
    features = torch.stack([backbone(view).mean((2, 3)) for view in views])
    return views, EncodedViews(features, boxes, flips)


@each_source
@pytest.mark.parametrize("relative_weight", [True, False], ids=["relative", "plain"])
def test_session_equals_a_direct_call(source: str, relative_weight: bool):
    settings = {**SETTINGS, "source": source, "relative_weight": relative_weight}
    transform, backbone = make_transform(source), make_backbone()
    session = make_session(backbone, source, transform, relative_weight=relative_weight)

    twin = copy.deepcopy(backbone)
    view = torch.empty(0, 3, VIEW_SIZE, VIEW_SIZE)
    direct = SpatialPrediction.from_backbone(twin, view, SPConfig(**settings))
    if source == "host_views":
        direct.calibrate_targets(transform.sample_boxes())
    for step in range(STEPS):
        batch, progress = load_batch(transform, step), step / STEPS

        torch.manual_seed(100 + step)  # for the dropout in the method's own views
        views, images = direct_inputs(source, batch, twin)
        expected = direct(twin, images, step=step, progress=progress)
        expected.loss.backward()

        torch.manual_seed(100 + step)
        with session.capture():
            if source == "host_views":
                method_loss(backbone, views)
            out = session(*session.split(batch), progress=progress)
        out.loss.backward()

        assert_equal(vars(out), vars(expected))
        gradients = [[p.grad for p in net.parameters()] for net in (backbone, twin)]
        assert_equal(*gradients)
    assert any(gradient.any() for gradient in gradients[0])
    assert_equal(session.sp.state_dict(), direct.state_dict())
    assert_equal(backbone.state_dict(), twin.state_dict())


@each_source
def test_unsplit_batch_is_split(source: str):
    transform = make_transform(source)
    batch = load_batch(transform, 0)
    outputs = []
    for is_split in (True, False):
        backbone = make_backbone()
        session = make_session(backbone, source, transform)
        views, sp_batch = session.split(batch)
        with session.capture():
            torch.manual_seed(0)
            method_loss(backbone, views)
            outputs.append(session(views, sp_batch) if is_split else session(batch))
    assert_equal(*map(vars, outputs))


@pytest.mark.parametrize(
    "nest",
    [
        lambda views: views,
        lambda views: tuple(views),
        lambda views: {"label": torch.arange(6), "images": {"full": views[:1], "local": views[1:]}},
        lambda views: views[0],
    ],
    ids=["list", "tuple", "dict", "tensor"],
)
def test_first_view_of_any_nesting_is_used(nest: Callable[[list[Tensor]], Any]):
    views = [torch.rand(6, 3, 40, 40), torch.rand(6, 3, 16, 16)]
    session, backbone = SPSession(make_backbone(), **SETTINGS), make_backbone()
    direct = SpatialPrediction.from_backbone(backbone, views[0], SPConfig(**SETTINGS))
    assert_equal(vars(session(nest(views))), vars(direct(backbone, views[0], step=0)))


@pytest.mark.parametrize(
    ("source", "line"),
    [
        (
            "view",
            "SP is on: weight 0.5 of the host's gradient, 4 crops of 12 px from the view"
            " in 12.5% of the images",
        ),
        (
            "image",
            "SP is on: weight 0.5 of the host's gradient, 4 crops of 12 px from the image"
            " in 12.5% of the images",
        ),
        (
            "host_views",
            "SP is on: weight 0.5 of the host's gradient, 2 views of 24 px from the host",
        ),
    ],
)
def test_first_step_announces_once(source: str, line: str):
    lines: list[str] = []
    run = Run(source, announce=lines.append)
    assert lines == []
    run.train(range(1))
    assert lines == [f"{line}; Sequential: mean of a map, width 8"]
    run.train(range(1, 3))
    assert lines == [f"{line}; Sequential: mean of a map, width 8"]


def test_announcement_is_logged_by_default(caplog):
    with caplog.at_level(logging.INFO, "sp_plugin"):
        session = SPSession(
            make_backbone(), weight=2, relative_weight=False, num_crops=3, sample_fraction=1
        )
        for _ in range(2):
            session(torch.rand(2, 3, 40, 60))
    assert [record.getMessage() for record in caplog.records] == [
        "SP is on: weight 2, 3 crops of 20 px from the view; Sequential: mean of a map, width 8"
    ]


def test_first_step_configures_once():
    session = SPSession(make_backbone(), hidden_dim=16)
    assert session.sp.config.crop_size == 96  # for views of 224 px
    session(torch.rand(2, 3, 40, 60))
    config = session.sp.config
    assert (config.crop_size, config.crop_scale) == (20, (0.15, 0.32))
    expected = SpatialPrediction.from_backbone(make_backbone(), torch.empty(0, 3, 40, 60))
    assert torch.equal(session.sp.targets.std, expected.targets.std)
    session(torch.rand(2, 3, 224, 224))
    assert session.sp.config is config


def test_given_settings_are_kept():
    session = SPSession(make_backbone(), crop_size=10, crop_scale=(0.2, 0.3), hidden_dim=16)
    session(torch.rand(2, 3, 40, 40))
    assert (session.sp.config.crop_size, session.sp.config.crop_scale) == (10, (0.2, 0.3))


@each_source
@each_fraction
def test_weight_0_equals_baseline(source: str, fraction: float):
    baseline = Run(source, use_sp=False)
    with_sp = Run(source, weight=0.0, sample_fraction=fraction)
    rng_states = []
    for run in (baseline, with_sp):
        run.train(range(STEPS))
        rng_states.append(torch.get_rng_state())
    assert_equal(with_sp.losses, baseline.losses)
    assert_equal(with_sp.backbone.state_dict(), baseline.backbone.state_dict())
    assert torch.equal(*rng_states)


@each_source
def test_weight_changes_the_backbone(source: str):
    baseline, with_sp = Run(source, use_sp=False), Run(source, weight=0.5)
    for run in (baseline, with_sp):
        run.train(range(STEPS))
    assert not torch.equal(with_sp.backbone[0].weight, baseline.backbone[0].weight)
    assert torch.equal(with_sp.losses[0], baseline.losses[0])


@each_source
@pytest.mark.parametrize("stop", [1, 3, 4])
@each_fraction
def test_resumed_run_equals_uninterrupted(source: str, stop: int, fraction: float):
    expected = Run(source, sample_fraction=fraction)
    expected.train(range(STEPS))

    first = Run(source, sample_fraction=fraction)
    first.train(range(stop))
    file = io.BytesIO()
    torch.save(first.state(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    resumed = Run(source, sample_fraction=fraction)
    resumed.backbone.load_state_dict(state["backbone"])
    resumed.optimizer.load_state_dict(state["optimizer"])
    resumed.session.load_state_dict(state["sp"])
    assert resumed.session.step == stop
    resumed.train(range(stop, STEPS))

    assert_equal(first.losses + resumed.losses, expected.losses)
    assert_equal(resumed.state(), expected.state())


def test_explicit_step_overrides_the_count():
    images = torch.rand(4, 3, 40, 40)
    settings = {**SETTINGS, "relative_weight": False}
    backbone = make_backbone()
    session = SPSession(backbone, settings)
    direct = SpatialPrediction.from_backbone(backbone, images, settings)
    for given, used in ((None, 0), (None, 1), (10, 10), (None, 11), (3, 3), (None, 4)):
        out = session(images, step=given)
        assert torch.equal(out.boxes, direct(backbone, images, step=used).boxes)
        assert session.step == used + 1


def test_rank_changes_the_boxes():
    images = torch.rand(4, 3, 40, 40)
    session = SPSession(make_backbone(), **SETTINGS)
    by_default, rank_0, rank_1 = (session(images, step=5, rank=rank).boxes for rank in (None, 0, 1))
    assert torch.equal(by_default, rank_0)
    assert not torch.isclose(rank_0, rank_1).all(dim=-1).any()


def test_distributed_rank_is_the_default(monkeypatch):
    images = torch.rand(4, 3, 40, 40)
    session = SPSession(make_backbone(), **{**SETTINGS, "relative_weight": False})
    expected = session(images, step=5, rank=3).boxes
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_rank", lambda: 3)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 1)
    assert torch.equal(session(images, step=5).boxes, expected)


CROPS = Crops(torch.rand(4, 6, 4), torch.rand(24, 3, 8, 8))
VIEW_BOXES = ViewBoxes(torch.rand(2, 6, 4), torch.ones(2, 6, 2))


@pytest.mark.parametrize(
    ("source", "sp_batch"),
    [
        ("view", CROPS),
        ("view", VIEW_BOXES),
        ("image", None),
        ("image", VIEW_BOXES),
        ("host_views", None),
        ("host_views", CROPS),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_wrong_source_is_refused_in_one_line(source: str, sp_batch: Any):
    session = SPSession(make_backbone(), source=source)
    with pytest.raises(ConfigError) as caught, session.capture():
        session([torch.rand(6, 3, 24, 24), torch.rand(6, 3, 24, 24)], sp_batch)
    line = str(caught.value)
    assert line.startswith(f"source: got {source!r}, but ") and "\n" not in line
    assert session.step == 0


def test_batch_without_images_is_refused():
    with pytest.raises(ConfigError, match=r"^batch: a list without images"):
        SPSession(make_backbone())([torch.zeros(3)])


def test_missing_capture_is_refused():
    run = Run("host_views")
    batch = load_batch(run.transform, 0)
    views, sp_batch = run.session.split(batch)
    message = r"^source: got 'host_views', but no calls .* within `with session.capture\(\):`$"
    with pytest.raises(ConfigError, match=message):
        run.session(views, sp_batch)
    with run.session.capture():
        method_loss(run.backbone, views)
    with pytest.raises(ConfigError, match=message):  # after the block has ended
        run.session(views, sp_batch)
    run.train(range(2))
    method_loss(run.backbone, views)
    with pytest.raises(ConfigError, match=message):  # in a later step
        run.session(views, sp_batch)


@pytest.mark.parametrize("source", ["view", "image"])
def test_other_sources_capture_nothing(source: str):
    session = SPSession(make_backbone(), source=source)
    with session.capture():
        pass
    assert not any(part._forward_hooks for part in session.backbone.modules())
    session.remove()
    assert not any(part._forward_pre_hooks for part in session.backbone.modules())


def test_capture_ends_with_its_block():
    run = Run("host_views")
    views, _ = run.session.split(load_batch(run.transform, 0))
    with contextlib.suppress(KeyError), run.session.capture():
        method_loss(run.backbone, views)
        raise KeyError
    assert not run.session._capture._calls
    method_loss(run.backbone, views)
    assert not run.session._capture._calls
    run.session.remove()
    run.session.remove()
    for part in run.backbone.modules():
        assert not part._forward_hooks and not part._forward_pre_hooks
    run.train(range(1))  # hooks are added again
    assert run.session.step == 1


def test_host_views_add_no_backbone_calls():
    run = Run("host_views")
    run.train(range(1))
    calls: list[int] = []
    run.backbone.register_forward_pre_hook(lambda _, args: calls.append(len(args[0])))
    run.train(range(1, 2))
    assert calls == [6, 6]


class MultiCrop(TwoViews):
    """Two views of 24 px and three of 16 px."""

    def __init__(self) -> None:
        super().__init__()
        local = transforms.RandomResizedCrop(16, (0.05, 0.2))
        self.parts += [transforms.Compose([local, transforms.ToTensor()]) for _ in range(3)]


def test_host_views_are_the_smallest_ones():
    transform, backbone = ViewBoxTransform(MultiCrop()), make_backbone()
    lines: list[str] = []
    settings = {"relative_weight": False, "announce": lines.append}
    session = make_session(backbone, "host_views", transform, **settings)
    views, sp_batch = session.split(load_batch(transform, 0))
    with session.capture():
        features = torch.stack([backbone(view).mean((2, 3)) for view in views[2:]])
        out = session(views, sp_batch, step=1)
    assert ", 3 views of 16 px from the host; " in lines[0]

    config = SPConfig(source="host_views", relative_weight=False, **SETTINGS)
    direct = SpatialPrediction(8, config)
    direct.calibrate_targets(transform.sample_boxes()[:, 2:])
    assert torch.equal(session.sp.targets.std, direct.targets.std)
    encoded = EncodedViews(features, sp_batch.boxes[2:], sp_batch.flips[2:])
    assert_equal(vars(out), vars(direct(backbone, encoded, step=1)))


def test_unknown_view_boxes_keep_std(caplog):
    transform, backbone = make_transform("host_views"), make_backbone()
    session = SPSession(backbone, source="host_views", **SETTINGS)
    before = session.sp.targets.std.clone()
    for step in range(2):
        views, sp_batch = session.split(load_batch(transform, step))
        with session.capture():
            method_loss(backbone, views)
            session(views, sp_batch)
    assert torch.equal(session.sp.targets.std, before)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert ["no transform of the views" in record.getMessage() for record in warnings] == [True]


def test_boxes_of_other_views_are_refused():
    transform, backbone = make_transform("host_views"), make_backbone()
    session = SPSession(
        backbone, source="host_views", sample_view_boxes=lambda: torch.rand(9, 3, 4)
    )
    views, sp_batch = session.split(load_batch(transform, 0))
    message = "^source: got 'host_views', but a function of the data set's transform makes views"
    with pytest.raises(ConfigError, match=message), session.capture():
        method_loss(backbone, views)
        session(views, sp_batch)


def test_unknown_setting_suggests_nearest():
    with pytest.raises(ConfigError) as caught:
        SPSession(make_backbone(), wieght=1)
    assert str(caught.value) == "wieght: no such setting of SP; did you mean 'weight'?"
    with pytest.raises(ConfigError, match=r"^sharpness: got 'equel', takes one of equal, native$"):
        SPSession(make_backbone(), sharpness="equel")


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("crops", "num_crops"),
        ("area", "crop_scale"),
        ("warmup", "warmup_fraction"),
        ("decay", "cooldown_fraction"),
        ("head_width", "hidden_dim"),
        ("encoding", "target_encoding"),
        ("relative", "relative_weight"),
        ("size", "crop_size"),
        ("ratio", "crop_ratio"),
        ("pairs", "num_pairs"),
    ],
)
def test_former_setting_suggests_new_name(former: str, current: str):
    for arguments, settings in (((), {former: 1}), (({former: 1},), {})):
        with pytest.raises(ConfigError) as caught:
            SPSession(make_backbone(), *arguments, **settings)
        assert str(caught.value) == f"{former}: no such setting of SP; did you mean {current!r}?"


@pytest.mark.parametrize("config", [SPConfig(weight=2, seed=3), {"weight": 2, "seed": 3}])
def test_settings_override_config(config: Any):
    session = SPSession(make_backbone(), config, seed=4)
    assert session.config == session.sp.user_config == SPConfig(weight=2, seed=4)


def test_parameters_are_those_of_the_head():
    session = SPSession(make_backbone(), hidden_dim=16)
    parameters = list(session.parameters())
    assert len(parameters) == len(list(session.sp.head.parameters()))
    assert all(a is b for a, b in zip(parameters, session.sp.head.parameters(), strict=True))


def test_session_leaves_global_rng():
    backbone = make_backbone()
    before = torch.get_rng_state()
    session = SPSession(backbone, hidden_dim=16)
    assert torch.equal(torch.get_rng_state(), before)
    session(torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_feature_fn_is_called():
    backbone, images, inputs = make_backbone(), torch.rand(4, 3, 40, 40), []

    def stem_features(net: nn.Module, crops: Tensor) -> Tensor:
        inputs.append((net, crops.shape))
        return net[0](crops)

    out = SPSession(backbone, feature_fn=stem_features, **SETTINGS)(images)
    assert inputs[-1] == (backbone, (8, 3, 20, 20))
    direct = SpatialPrediction.from_backbone(backbone[0], images, SPConfig(**SETTINGS))
    assert_equal(vars(out), vars(direct(backbone[0], images, step=0)))


def test_host_views_refuse_feature_fn():
    with pytest.raises(ConfigError, match=r"^feature_fn: got .* takes none where source is"):
        SPSession(make_backbone(), source="host_views", feature_fn=nn.Module.__call__)


def test_given_module_is_used():
    class Doubled(SpatialPrediction):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return super().forward(*args, **kwargs).scaled(2.0)

    backbone = make_backbone()
    module = Doubled.from_backbone(backbone, None, SETTINGS)
    session = SPSession(backbone, sp=module)
    assert session.sp is module
    assert session(torch.rand(4, 3, 40, 40), step=1).metrics["weight"] == 2


@pytest.mark.parametrize(
    "given",
    [{"weight": 0.1}, {"config": {}}, {"feature_fn": nn.Module.__call__}, {"wieght": 3}],
    ids=lambda given: next(iter(given)),
)
def test_settings_next_to_module_are_refused(given: dict[str, Any]):
    backbone = make_backbone()
    module = SpatialPrediction.from_backbone(backbone, None, SETTINGS)
    with pytest.raises(ConfigError, match=f"^{next(iter(given))}: got .*, takes none next to sp"):
        SPSession(backbone, sp=module, **given)
