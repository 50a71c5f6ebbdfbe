"""Steps that were left out, since SP's loss or features were not finite: their crops again.

With ``SPSession(on_nonfinite="record")`` such a step leaves a small file, at most `MAX_FILES` in a
folder: ``step0000012-rank0.pt``, written by `torch.save` and read with ``weights_only=True``. It is
a dict of

- ``format``: 1;
- ``step``, ``rank``, ``progress``: of the call of SP;
- ``config``: SP's resolved settings (`SPConfig.asdict`), whose ``seed`` determines all draws;
- ``source``: where the crops came from;
- ``batch_size``: number of images that SP saw, B; with ``sample_fraction`` a part of the batch;
- ``indices``: (n,), the at most `MAX_IMAGES` of these images with the largest or undefined
  pixels;
- ``images``: (n, C, H, W), these images as SP got them; with source ``image`` None;
- ``boxes``: (k, n, 4), the locations of their crops;
- ``pixels``: with source ``image`` the crops themselves as SP saw them, (kn, C, S, S); else None,
  for they follow from images, settings, rank and step.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sp_plugin.config import ResolvedConfig
from sp_plugin.crops.sampler import sample_crops
from sp_plugin.features.backbone_call import FeatureFn
from sp_plugin.isolation import hash_seed, make_generator
from sp_plugin.spatial_prediction import SpatialPrediction
from sp_plugin.structures import Crops, EncodedViews, SPOutput
from sp_plugin.validation import ConfigError

__all__ = ["NonfiniteRecorder", "Replay", "replay"]

log = logging.getLogger("sp_plugin")

FORMAT = 1
MAX_FILES = 5
MAX_IMAGES = 4
DELAY = 4  # steps after which the result of a step is read, when the device has computed it


class Replay(NamedTuple):
    """A step that was left out.

    Attributes:
        record: what the file holds, see the module.
        crops: crops of its n images: boxes (k, n, 4) and pixels (kn, C, S, S); None with source
            ``host_views``, which cuts none.
        features: (k, n, D) of these crops, where a backbone was given.
    """

    record: dict[str, Any]
    crops: Crops | None
    features: Tensor | None


def replay(
    file: str | Path, backbone: nn.Module | None = None, feature_fn: FeatureFn | None = None
) -> Replay:
    """Cut the crops of a recorded step again, and encode them.

    Args:
        file: file that ``SPSession(on_nonfinite="record")`` has written.
        backbone: encodes the crops, if given; the weights of the step are not in the file.
        feature_fn: as for `SPSession`.

    Raises:
        ConfigError: no such file, or another kind of file.

    >>> import tempfile
    >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    >>> from sp_plugin.session import SPSession
    >>> folder = tempfile.mkdtemp()
    >>> sp = SPSession(net, on_nonfinite="record", record_folder=folder)
    >>> out = sp(torch.full((2, 3, 24, 24), torch.nan))
    >>> step = replay(next(Path(folder).iterdir()), net)
    >>> step.record["step"], step.crops.pixels.shape, step.features.shape
    (0, torch.Size([8, 3, 12, 12]), torch.Size([4, 2, 4]))
    """
    record = _load(Path(file))
    config = ResolvedConfig(**record["config"])
    crops = _crops_of(record, config)
    if backbone is None or crops is None:
        return Replay(record, crops, None)
    sp = SpatialPrediction(1, config, feature_fn)
    seed = hash_seed(config.seed, record["rank"], record["step"])
    device = next((p.device for p in backbone.parameters()), torch.device("cpu"))
    crops = Crops(crops.boxes.to(device), crops.pixels.to(device))
    encoded = sp.encode_crops(backbone, crops, seed, needs_gradient=False)
    return Replay(record, crops, encoded.features)


def _load(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise ConfigError(f"file: got {str(file)!r}, takes a file of a step that SP recorded")
    try:
        record = torch.load(file, map_location="cpu", weights_only=True)
        is_record = record["format"] == FORMAT
    except Exception:  # whatever else it may be
        is_record = False
    if not is_record:
        raise ConfigError(
            f"file: {str(file)!r} is not of a step that SP recorded (format {FORMAT})"
        )
    return dict(record)


def _crops_of(record: dict[str, Any], config: ResolvedConfig) -> Crops | None:
    if record["pixels"] is not None:
        return Crops(record["boxes"], record["pixels"])
    if record["images"] is None:
        return None
    # All images of the batch share the draws: the others are blank.
    images, indices = record["images"], record["indices"]
    batch = images.new_zeros(record["batch_size"], *images.shape[1:])
    batch[indices] = images
    generator = make_generator(config.seed, record["rank"], record["step"])
    is_equal = config.sharpness == "equal"
    args = (batch, config.build_sampler(), config.crop_size, generator, record["progress"])
    crops = sample_crops(*args, is_equal)
    return crops.of_images(indices)


@dataclass
class _Step:
    """What is kept of a step until it is known whether it was left out."""

    is_left_out: Tensor
    event: Any
    record: dict[str, Any]


class NonfiniteRecorder:
    """Writes a file for each step that was left out, and never waits for the device.

    Args:
        folder: is made with the first file.

    Attributes:
        files: those that were written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.files: list[Path] = []
        self._steps: deque[_Step] = deque()

    def note(
        self,
        out: SPOutput,
        given: Tensor | Crops | EncodedViews,
        config: ResolvedConfig,
        **call: Any,
    ) -> None:
        """Keep what a file needs; write those of steps whose result is known by now.

        Args:
            out: SP's output for the step.
            given: what SP got.
            config: resolved settings.
            **call: step, rank and progress of the call.
        """
        if len(self.files) >= MAX_FILES:
            return
        with torch.no_grad():
            values = _kept(given)
            is_left_out = out.metrics["skipped_fraction"] >= 1
            event = None
            if is_left_out.is_cuda:
                is_left_out = is_left_out.to("cpu", non_blocking=True)
                event = torch.cuda.Event()  # type: ignore[no-untyped-call]
                event.record()
        record = {"format": FORMAT, **call, "config": config.asdict(), "source": config.source}
        self._steps.append(_Step(is_left_out, event, {**record, **values}))
        while self._steps and self._is_known(self._steps[0]):
            self._write(self._steps.popleft())

    def flush(self) -> None:
        """Write the files of all steps so far; synchronises the device."""
        while self._steps:
            step = self._steps.popleft()
            if step.event is not None:
                step.event.synchronize()
            self._write(step)

    def _is_known(self, step: _Step) -> bool:
        if step.event is not None:
            return bool(step.event.query())
        return step.is_left_out.device.type == "cpu" or len(self._steps) > DELAY

    def _write(self, step: _Step) -> None:
        if not step.is_left_out or len(self.files) >= MAX_FILES:
            return
        record: dict[str, Any] = {
            key: value.cpu() if isinstance(value, Tensor) else value
            for key, value in step.record.items()
        }
        if record["boxes"] is None:  # drawn on the CPU from the seed: the same again
            crops = _crops_of(record, ResolvedConfig(**record["config"]))
            record["boxes"] = crops and crops.boxes
        file = self.folder / f"step{record['step']:07d}-rank{record['rank']}.pt"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            torch.save(record, file)
        except OSError as error:  # no reason to end a training run
            log.warning("SP: step %d was left out, and not recorded: %s", record["step"], error)
            self.files += [file] * MAX_FILES
            return
        self.files.append(file)
        log.warning(
            "SP: step %d was left out, its loss or features are not finite; "
            "sp_plugin.replay(%r) shows its crops",
            record["step"], str(file),
        )  # fmt: skip


def _kept(given: Tensor | Crops | EncodedViews) -> dict[str, Any]:
    """Those of a step's images that are most likely at fault; on the device."""
    if isinstance(given, EncodedViews):
        indices = _largest(given.features.transpose(0, 1))
        size, kept = given.boxes.shape[1], given.boxes[:, indices]
        return _values(indices, size, boxes=kept)
    if isinstance(given, Crops):
        k, size = given.boxes.shape[:2]
        by_crop = given.pixels.reshape(k, size, -1)
        indices = _largest(by_crop.transpose(0, 1))
        crops = given.of_images(indices)
        return _values(indices, size, boxes=crops.boxes, pixels=crops.pixels)
    indices = _largest(given)
    return _values(indices, len(given), images=given[indices])


def _largest(values: Tensor) -> Tensor:
    """Indices of the rows with the largest or undefined numbers; the device is not synchronised."""
    largest = values.detach().flatten(1).abs().amax(dim=1).float().nan_to_num(nan=torch.inf)
    return largest.topk(min(MAX_IMAGES, len(values))).indices.sort().values


def _values(indices: Tensor, batch_size: int, **tensors: Tensor) -> dict[str, Any]:
    parts = dict.fromkeys(("images", "boxes", "pixels"))
    return {"indices": indices, "batch_size": batch_size, **parts, **tensors}
