"""SPSession: what every training loop and every adapter does with SP in a step, written once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sp_plugin.batch import SPBatch, split_batch, to_device, validate_source
from sp_plugin.config import SPConfig
from sp_plugin.distributed import process_rank, world_size
from sp_plugin.features.backbone_call import FeatureFn, feature_fn_for_source
from sp_plugin.features.input_size import input_channels
from sp_plugin.head_sync import HeadSync
from sp_plugin.input_check import InputCheck
from sp_plugin.nonfinite_steps import NonfiniteRecorder
from sp_plugin.progress_check import ProgressCheck
from sp_plugin.sizes import box_ratio, height_and_width, size_text, to_size
from sp_plugin.spatial_prediction import SpatialPrediction
from sp_plugin.spatial_probe import SpatialProbe
from sp_plugin.structures import (
    RGB_CHANNELS,
    Crops,
    EncodedViews,
    SPOutput,
    UncoloredCrops,
    ViewBoxes,
)
from sp_plugin.validation import ConfigError, boolean, choice, invalid_value
from sp_plugin.view_search import find_view, find_views, named_views
from sp_plugin.views.capture import FeatureCapture

__all__ = ["SPSession"]

log = logging.getLogger("sp_plugin")


class SPSession:
    """SP in one training run: call it in each step, and add the returned loss to the method's.

    In the first step it configures SP for the size of the method's views and logs one line. It
    selects SP's input by ``source``, and counts the steps.

    Args:
        backbone: student of the host; its parameters are not parameters of the session.
        config: settings, as an `SPConfig` or a mapping.
        feature_fn: ``feature_fn(backbone, crops)`` for a backbone whose features are not what
            calling it gives.
        sample_view_boxes: for ``source="host_views"``: function that returns boxes (n, V, 4) of
            runs of the method's transform, such as `ViewBoxTransform.sample_boxes`; targets get
            their standard deviations.
        sp: module that was built already, with its own settings and ``feature_fn``, which are not
            given again; None: built here.
        announce: function that gets the line "SP is on: ..."; None: logged at level INFO.
        sync_head: whether the head's gradients are averaged over the ranks of torch.distributed, in
            the backward pass; False where a wrapper does it that holds the head, such as DDP round
            a module that contains it.
        on_nonfinite: where SP's loss or features are not finite the step goes on without SP;
            ``skip``: it is counted in ``skipped_fraction``; ``record``: also kept in a file, see
            `sp_plugin.nonfinite_steps`.
        record_folder: folder of these files.
        probe: whether a `SpatialProbe` runs along, on crops and features by the same settings.
        **settings: settings by name, over those of ``config``.

    Attributes:
        sp: the module with SP's parameters, on the backbone's device.
        backbone: student of the host; may be replaced by a wrapped one.
        step: number of steps so far.
        probe: the `SpatialProbe`; None without.

    Raises:
        ConfigError: a bad setting, or a backbone that takes no crop size that was tried.

    >>> import torch
    >>> backbone = nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    >>> sp = SPSession(backbone, weight=0.5)
    >>> optimizer = torch.optim.SGD([*backbone.parameters(), *sp.parameters()], lr=0.1)
    >>> for step in range(3):
    ...     images = torch.rand(4, 3, 32, 32)
    ...     loss = backbone(images).square().mean() + sp(images, progress=step / 3).loss
    ...     loss.backward()
    ...     optimizer.step()
    >>> sp.step, sp.sp.config.crop_size
    (3, 16)
    """

    def __init__(
        self,
        backbone: nn.Module,
        config: SPConfig | Mapping[str, Any] | None = None,
        *,
        feature_fn: FeatureFn | None = None,
        sample_view_boxes: Callable[[], Tensor | None] | None = None,
        sp: SpatialPrediction | None = None,
        announce: Callable[[str], None] | None = None,
        sync_head: bool = True,
        on_nonfinite: str = "skip",
        record_folder: str | Path = "sp_nonfinite",
        probe: bool = False,
        **settings: Any,
    ) -> None:
        given = {"config": config, "feature_fn": feature_fn, **settings}
        for key, value in given.items() if sp is not None else ():
            if value is not None or key in settings:
                raise invalid_value(key, value, "none next to sp, a module with its own settings")
        self.config = sp.user_config if sp else SPConfig.from_dict(config, **settings)
        feature_fn = feature_fn_for_source(self.config.source, feature_fn)
        self.backbone = backbone
        self.step = 0
        self._sample_view_boxes = sample_view_boxes
        self._announce = announce
        self._sync_head = sync_head
        self._head_sync: HeadSync | None = None
        self._is_configured = False
        self._capture: FeatureCapture | None = None
        self._input_check: InputCheck | None = None
        if sp is None:
            sp = SpatialPrediction.from_backbone(backbone, None, self.config, feature_fn)
        if self._uses_host_views and sp.layout is not None and sp.layout.is_masked:
            name = type(backbone).__name__
            raise ConfigError(
                f"source: got 'host_views', takes 'view' or 'image' with {name}, which masks what "
                "it is called on"
            )
        self.sp = sp
        self._channels = sp.channels or input_channels(backbone)
        self._progress_check = ProgressCheck(sp)
        records = choice("skip", "record")("on_nonfinite", on_nonfinite) == "record"
        self._recorder = NonfiniteRecorder(record_folder) if records else None
        self.probe: SpatialProbe | None = None
        if boolean("probe", probe):
            self.probe = SpatialProbe(backbone, self.config, feature_fn=sp.feature_fn)
        self.install()

    split = staticmethod(split_batch)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Parameters of SP's head, for an optimizer."""
        return self.sp.parameters()

    def state_dict(self) -> dict[str, Any]:
        """State to resume from: the module's, and the number of steps."""
        probe = {"probe": self.probe.state_dict()} if self.probe else {}
        state = {"step": self.step, "config": self.config.asdict(), "sp": self.sp.state_dict()}
        return {**state, **probe}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from what `state_dict` returned."""
        self.sp.load_state_dict(state["sp"])
        self.step = state["step"]
        if self.probe and "probe" in state:
            self.probe.load_state_dict(state["probe"])

    def __getstate__(self) -> dict[str, Any]:
        # A copy belongs to no backbone: set it before the next call.
        attached = (
            "backbone", "_capture", "_head_sync", "_input_check", "_recorder",
            "_sample_view_boxes", "_announce",
        )  # fmt: skip
        return {**self.__dict__, **dict.fromkeys(attached)}

    def install(self) -> None:
        """Put hooks on the backbone: those of `capture`, or of the first steps' `InputCheck`."""
        if self._uses_host_views and self._capture is None:
            self._capture = FeatureCapture(
                self.backbone,
                self.config.pool,
                self.config.layer,
                self.sp.layout,
                self._channels or RGB_CHANNELS,
            )
        if not self._uses_host_views and self._input_check is None:
            self._input_check = InputCheck(self.backbone)

    def remove(self) -> None:
        """Remove these hooks; what is to be recorded of the last steps is written."""
        if self._recorder is not None:
            self._recorder.flush()
        if self._capture is not None:
            self._capture.remove()
            self._capture = None
        if self._input_check is not None:
            self._input_check.remove()
        if self._head_sync is not None:
            self._head_sync.remove()
            self._head_sync = None

    @contextlib.contextmanager
    def capture(self) -> Iterator[None]:
        """Block in which the method encodes its views and SP is called.

        Needed for ``source="host_views"``. For other sources it limits to the block what is
        compared with SP's view in the first steps.
        """
        self.install()
        if self._input_check is not None:
            self._input_check.forget()
        with self._capture.recording() if self._capture else contextlib.nullcontext():
            yield

    def __call__(
        self,
        batch: Any,
        sp_batch: SPBatch | None = None,
        *,
        progress: float | None = None,
        step: int | None = None,
        rank: int | None = None,
        probe_metrics: bool = False,
    ) -> SPOutput:
        """SP's output for one training step.

        Args:
            batch: the method's batch on its device: a view (B, C, H, W), or any nesting of views.
            sp_batch: SP's part of the batch, from `split`; needed unless ``source`` is ``view``.
            progress: progress of training in [0, 1], for warm-up and cool-down; None:
                constant weight.
            step: number of the step, which determines all draws; None: the steps are counted.
            rank: rank of this process; None: from torch.distributed, 0 without it.
            probe_metrics: whether ``metrics`` has those of the probe too, which reads values from
                the device: for the steps that are logged.

        Raises:
            ConfigError: a batch without views or without what ``source`` needs; a method whose
                views cannot be used; or a progress that is none.
        """
        progress = self._progress_check(progress, self.step if step is None else step)
        if sp_batch is None:
            batch, sp_batch = split_batch(batch)
        validate_source(self.config.source, sp_batch, batch)
        view = self.find_view(batch)
        if sp_batch is not None:
            sp_batch = to_device(sp_batch, view.device)
        if step is not None:
            self.step = step
        rank = process_rank() if rank is None else rank
        images: Tensor | Crops | UncoloredCrops | EncodedViews
        if isinstance(sp_batch, ViewBoxes):
            images = self._encoded_views(batch, sp_batch)
        else:
            self._configure(view, sp_batch)
            images = view if sp_batch is None else sp_batch
            self._check_input(batch, sp_batch, rank)
        if self._sync_head and self._head_sync is None and world_size() > 1:
            self._head_sync = HeadSync(self.sp)
        out: SPOutput = self.sp(self.backbone, images, step=self.step, rank=rank, progress=progress)
        if self._recorder is not None:
            call = {"step": self.step, "rank": rank, "progress": progress}
            seen = self.sp.prepare_images(images, self.step, rank)
            self._recorder.note(out, seen, self.sp.config, **call)
        self.step += 1
        if self.probe is not None:
            self.probe.backbone = self.backbone
            self.probe(view, progress=progress)
            out.metrics |= self.probe.metrics() if probe_metrics else {}
        if self._input_check is not None:
            self._input_check.forget()  # SP's own calls
        return out

    def find_view(self, batch: Any) -> Tensor:
        """The method's view (B, C, H, W) that SP takes from a batch.

        Raises:
            ConfigError: there is none, or none that the setting ``view`` names.
        """
        return find_view(batch, self.config.view, self._channels).images

    @property
    def _uses_host_views(self) -> bool:
        return self.config.source == "host_views"

    def _configure(self, view: Tensor, crops: Crops | UncoloredCrops | None) -> None:
        """In the first step: resolve the settings that depend on the size of the views."""
        if self._is_configured:
            return
        view_size = to_size(*view.shape[-2:])
        self.sp.configure_for(self.backbone, view_size, view.shape[1])
        self._is_configured = True
        size = size_text(self.sp.config.crop_size)
        fraction = self.sp.config.sample_fraction
        part = "" if fraction == 1 else f" in {100 * fraction:.3g}% of the images"
        crops_of = f"{self.config.num_crops} crops of {size} px from the {self.config.source}"
        self._say_on(crops_of + part)
        if crops is not None:
            self._check_crops(crops)

    def _check_crops(self, crops: Crops | UncoloredCrops) -> None:
        """Say where crops of a data set do not fit the settings, or what the backbone takes."""
        num_crops = len(crops.boxes)
        if num_crops != self.config.num_crops:
            log.warning(
                "SP: the data set brings %d crops of an image, where num_crops is %d; give SP's "
                "transform the settings of this run",
                num_crops,
                self.config.num_crops,
            )
        rows, columns = crops.pixels.shape[-2:]
        size = self.sp.config.crop_size
        if box_ratio((rows, columns), size) != 1:
            log.warning(
                "SP: crops of %s px are stretched to the %s px that the backbone takes; set "
                "crop_size=%s in SP's transform",
                size_text((rows, columns)),
                size_text(size),
                list(height_and_width(size)),
            )

    def _check_input(self, batch: Any, crops: Crops | UncoloredCrops | None, rank: int) -> None:
        """In the first steps: compare the view with what the method gives its student."""
        if self._input_check is None or self._input_check.is_done:
            return
        view = find_view(batch, self.config.view, self._channels)
        views = named_views(batch, self._channels)
        seen = None if crops is None else self.sp.prepare_images(crops, self.step, rank)
        self._input_check.compare(view, views, getattr(seen, "pixels", None))

    def _encoded_views(self, batch: Any, view_boxes: ViewBoxes) -> EncodedViews:
        if self._capture is None or not self._capture.is_recording:
            raise ConfigError(
                "source: got 'host_views', but no calls of the backbone were recorded; run the "
                "method's step and SP within `with session.capture():`"
            )
        views = find_views(batch, self._channels)
        encoded = self._capture.collect(views, view_boxes)
        if not self._is_configured:
            selected = self._capture.selected_views
            self._calibrate(len(view_boxes.boxes), selected)
            self._is_configured = True
            size = size_text(to_size(*views[selected[0]].shape[-2:]))
            self._say_on(f"{len(selected)} views of {size} px from the host")
        return encoded

    def _calibrate(self, num_views: int, selected: list[int]) -> None:
        """In the first step: set the targets' standard deviations to those of these views."""
        boxes = self._sample_view_boxes() if self._sample_view_boxes else None
        if boxes is None:
            log.warning(
                "SP: no transform of the views is known; targets keep the standard deviations of "
                "SP's own crops"
            )
        elif boxes.shape[1] != num_views:
            raise ConfigError(
                "source: got 'host_views', but a function of the data set's transform makes views "
                "that SP does not see; take 'view' or 'image'"
            )
        else:
            self.sp.calibrate_targets(boxes[:, selected])

    def _say_on(self, crops: str) -> None:
        name, layout = type(self.backbone).__name__, self.sp.layout
        features = name if layout is None else layout.describe(name, self.config.pool)
        announce = self._announce or log.info
        announce(f"SP is on: {self.config.describe_weight()}, {crops}; {features}")
