"""Segmentation and depth: metrics against references, and images with a known result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision
from blind_encoder import Blind
from PIL import ExifTags, Image
from sp_bench.data import DataError, load_data
from sp_bench.data.dense_dataset import VOID, DenseDataset
from sp_bench.frozen_backbone import FrozenBackbone, UnmeasurableError
from sp_bench.tasks import TaskContext, all_tasks, dense_probe, depth, run_task, segmentation
from sp_bench.tasks.dense_features import dense_features, find_map_layer
from sp_bench.tasks.dense_probe import fit_dense, predict_dense
from torch import Tensor, nn
from torchmetrics.functional import mean_squared_error
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index


class Colours(nn.Module):
    """The image itself, at half its size."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(images, 2)


def make_context(splits, untrained: nn.Module | None = None) -> TaskContext:
    pair = [FrozenBackbone(net, side=32, crop_size=16) for net in (Colours(), untrained or Blind())]
    return TaskContext(*pair, splits, 0)


@pytest.fixture
def folder(tmp_path):
    """Coloured halves on a ground; the colour gives class and depth; half the images at test."""
    rng = np.random.default_rng(0)
    colours = np.array([[200, 30, 30], [30, 200, 30], [30, 30, 200]])
    for split in ("train", "test"):
        for end in ("", "annot", "depth"):
            (tmp_path / f"{split}{end}").mkdir()
        for index in range(16):
            mask = np.zeros((24, 32), np.uint8)
            mask[:, int(rng.integers(8, 24)) :] = 1
            mask[int(rng.integers(8, 20)) :] = 2
            name = f"{index:02}"
            Image.fromarray(colours[mask].astype(np.uint8)).save(tmp_path / split / f"{name}.png")
            metres = np.array([2.0, 4.0, 8.0])[mask]
            mask[:2] = 11  # void
            Image.fromarray(mask).save(tmp_path / f"{split}annot" / f"{name}.png")
            metres[:, :3] = 0  # not known
            millimetres = (1000 * metres).astype(np.uint16)
            Image.fromarray(millimetres).save(tmp_path / f"{split}depth" / f"{name}.png")
    (tmp_path / "classes.txt").write_text("red\ngreen\nblue\n")
    return tmp_path


@pytest.fixture
def truth_and_prediction() -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(0)
    truth, found = rng.integers(0, 5, (2, 6, 20, 20))
    found = np.where(rng.random(truth.shape) < 0.6, truth, found)
    truth = np.where(rng.random(truth.shape) < 0.1, VOID, truth)
    return torch.from_numpy(truth), torch.from_numpy(found)


def test_miou_matches_torchmetrics(truth_and_prediction):
    truth, found = truth_and_prediction
    table = sum(segmentation.confusion_matrix(f, t, 5) for t, f in zip(truth, found, strict=True))
    expected = multiclass_jaccard_index(found, truth, 5, ignore_index=VOID)
    assert segmentation.mean_iou(table) == pytest.approx(float(expected))
    accuracy = multiclass_accuracy(found, truth, 5, average="micro", ignore_index=VOID)
    assert float(table.diag().sum() / table.sum()) == pytest.approx(float(accuracy))
    # The mean of each image's own mIoU is another number.
    alone = [multiclass_jaccard_index(f, t, 5, ignore_index=VOID)
             for t, f in zip(truth, found, strict=True)]  # fmt: skip
    assert abs(float(torch.stack(alone).mean() - expected)) > 1e-4


def test_absent_class_does_not_count():
    table = segmentation.confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]), 7)
    assert segmentation.mean_iou(table) == pytest.approx((1 / 2 + 1 / 2) / 2)


def test_depth_errors_match_torchmetrics():
    truth = torch.tensor([[2.0, 4.0], [10.0, 0.0]])
    found = torch.tensor([[2.4, 2.0], [12.5, 5.0]])
    errors = depth.depth_errors(found, truth)
    known = truth > 0
    expected = mean_squared_error(found[known], truth[known], squared=False)
    assert errors.rmse == pytest.approx(float(expected))
    assert errors.abs_rel == pytest.approx((0.2 + 0.5 + 0.25) / 3)
    assert errors.delta == pytest.approx(1 / 3)  # 1.25 itself is not below 1.25


def test_segmentation_needs_color_features(folder):
    splits = segmentation.TASK.load(str(folder), None)
    assert splits.train.names == ("red", "green", "blue")
    found = run_task(segmentation.TASK, make_context(splits))
    assert found["segmentation_miou"] > 0.85
    assert found["segmentation_accuracy"] > 0.93
    assert found["segmentation_miou_random"] == pytest.approx(found["segmentation_miou_constant"])
    masks = np.stack([splits.test.values(index) for index in range(16)])
    shares = [(masks == k).sum() / (masks != VOID).sum() for k in range(3)]
    assert found["segmentation_miou_constant"] == pytest.approx(max(shares) / 3)
    assert found["segmentation_accuracy_constant"] == pytest.approx(max(shares))


def test_depth_needs_color_features(folder):
    splits = depth.TASK.load(str(folder), None)
    found = run_task(depth.TASK, make_context(splits))
    assert found["depth_delta"] > 0.8 and found["depth_abs_rel"] < 0.2
    assert found["depth_rmse"] < 0.6 * found["depth_rmse_constant"]
    assert found["depth_delta_random"] < 0.6
    metres = np.stack([splits.test.values(index) for index in range(16)])
    known = metres[metres > 0]
    train = np.stack([splits.train.values(index) for index in range(16)])
    middle = np.median(train[train > 0])
    assert found["depth_rmse_constant"] == pytest.approx(np.sqrt(((known - middle) ** 2).mean()))


@pytest.mark.parametrize("task", [segmentation.TASK, depth.TASK], ids=lambda task: task.name)
def test_metrics_ignore_global_rng(folder, task, monkeypatch):
    monkeypatch.setattr(dense_probe, "_STEPS", 20)
    splits = task.load(str(folder), None)
    torch.manual_seed(1)
    one = run_task(task, make_context(splits))
    torch.manual_seed(2)
    assert run_task(task, make_context(splits)) == one


def test_demo_features_are_extracted_once(monkeypatch):
    demo = load_data("demo", size=27)
    context = make_context(segmentation.TASK.load(None, demo))
    monkeypatch.setattr(dense_probe, "_STEPS", 1)
    monkeypatch.setattr(dense_probe, "_EPOCHS", 1)
    calls = []
    extract = FrozenBackbone.extract_maps
    monkeypatch.setattr(FrozenBackbone, "extract_maps", lambda *a: calls.append(1) or extract(*a))
    run_task(segmentation.TASK, context)
    times = len(calls)
    deep = depth.TASK.load(None, demo)
    run_task(depth.TASK, TaskContext(context.backbone, context.untrained, deep, 0))
    assert times == len(calls) == 4


@pytest.mark.parametrize("module", [segmentation, depth], ids=lambda module: module.TASK.name)
def test_random_backbone_is_fitted_once(folder, module, monkeypatch):
    monkeypatch.setattr(dense_probe, "_STEPS", 20)
    fits = []
    fit = module.fit_dense
    monkeypatch.setattr(module, "fit_dense", lambda *a: fits.append(1) or fit(*a))
    context = make_context(module.TASK.load(str(folder), None))
    one = run_task(module.TASK, context)
    of_next_arm = TaskContext(context.untrained, context.untrained, context.splits, 0)
    found = run_task(module.TASK, of_next_arm)
    assert len(fits) == 3
    name = module.TASK.metrics[0].key
    assert found[name] == found[f"{name}_random"] == one[f"{name}_random"] != one[name]


def test_probe_ignores_feature_units():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(64, 3, 4, 4, generator=generator)
    truth = (features[:, 0] > 0).long()
    units = torch.tensor([100.0, 1, 0.01]).view(3, 1, 1)
    loss = lambda logits, values: nn.functional.cross_entropy(logits, values)  # noqa: E731
    probe = fit_dense(features * units + 7, truth, 2, loss)
    found = torch.stack([predict_dense(probe, f, (4, 4)).argmax(0) for f in features * units + 7])
    assert (found == truth).double().mean() > 0.97


def test_logits_are_resized_to_the_mask():
    probe = nn.Identity()
    logits = predict_dense(probe, torch.tensor([[[0.0, 1.0]]]), (2, 4))
    torch.testing.assert_close(logits[0, 0], torch.tensor([0.0, 0.25, 0.75, 1.0]))


def test_last_map_before_pooling_is_found():
    net = torchvision.models.resnet18(weights=None)
    net.fc = nn.Identity()
    frozen = FrozenBackbone(net, side=64, crop_size=32)
    assert find_map_layer(frozen, 64).startswith("layer4")
    assert frozen.extract_maps(torch.zeros(2, 3, 64, 64), "layer4").shape == (2, 512, 2, 2)
    assert find_map_layer(FrozenBackbone(Colours(), side=64, crop_size=32), 64) is None
    with pytest.raises(UnmeasurableError, match="no layer of the backbone gives a map"):
        find_map_layer(FrozenBackbone(nn.Flatten(), side=64, crop_size=32), 64)


class NormedAfterPooling(nn.Module):
    """As torchvision's ConvNeXt: a layer after global pooling gives a map of one position."""

    def __init__(self, channels_last: bool) -> None:
        super().__init__()
        self.patches, self.classifier = nn.Conv2d(3, 8, 8, 8), nn.Identity()
        self.channels_last = channels_last

    def forward(self, images: Tensor) -> Tensor:
        pooled = self.patches(images).mean(dim=(2, 3), keepdim=True)
        if self.channels_last:
            pooled = pooled.permute(0, 2, 3, 1)
        return self.classifier(pooled).flatten(1)


@pytest.mark.parametrize("channels_last", [False, True])
def test_map_of_one_position_comes_last(channels_last):
    net = NormedAfterPooling(channels_last)
    for side, layer in ((32, "patches"), (8, "classifier")):
        frozen = FrozenBackbone(net, side=side, crop_size=side)
        assert find_map_layer(frozen, side) == layer


def test_whole_images_are_used_uncropped(folder):
    splits = segmentation.TASK.load(str(folder), None)
    backbone = FrozenBackbone(Colours(), side=32, crop_size=16)
    _, features = dense_features(backbone, splits.train, splits.test)
    assert features.maps.shape == (16, 3, 16, 16)
    left = features.maps[:, 0, 0, 0] - features.maps[:, 2, 0, 0]
    assert (left > 1).all()  # red is in the upper left corner of each


class Squares(DenseDataset):
    """Images of several sizes."""

    classes = ("image",)

    def __init__(self, *sides: int) -> None:
        self.source, self.sides = self, sides
        self.labels = torch.zeros(len(sides), dtype=torch.int64)

    def image(self, index: int) -> Image.Image:
        return Image.new("RGB", (self.sides[index], self.sides[index]))

    def values(self, index: int) -> np.ndarray:
        return np.zeros((self.sides[index],) * 2, np.uint8)


def test_splits_have_maps_of_one_size():
    """Those of the first training image, also where the test images are used with others."""
    backbone = FrozenBackbone(Colours(), side=32, crop_size=16)
    first, second, test = Squares(20, 60), Squares(60, 20), Squares(60, 20)
    for train, side in ((first, 10), (second, 30)):
        sizes = [part.maps.shape[-2:] for part in dense_features(backbone, train, test)]
        assert sizes == [(side, side)] * 2


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: Image.new("L", (9, 9)).save(f / "testannot/03.png"),
         r"03.png': has shape \(9, 9\) for an image of 32 x 24; it takes \(24, 32\)"),
        (lambda f: (f / "testannot/03.png").unlink(), r"no testannot/03.png for test/03.png"),
        (lambda f: [p.unlink() for p in (f / "train").iterdir()], "no images in train/"),
        (lambda f: (f / "train").rename(f / "learn"), "takes train/ and trainannot/"),
        (lambda f: (f / "testannot").rename(f / "x"), "no folder testannot/ next to test/"),
        (lambda f: (f / "classes.txt").write_text("one\n"), "classes.txt names 1, it takes two"),
        (lambda f: Image.new("RGB", (32, 24)).save(f / "trainannot/00.png")
         or (f / "classes.txt").unlink(), "mode RGB; it takes one channel"),
    ],
)  # fmt: skip
def test_bad_masks_are_refused_by_name(folder, spoil, says):
    spoil(folder)
    with pytest.raises(DataError, match=says) as error:
        segmentation.TASK.load(str(folder), None)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda f: (f / "testdepth/03.png").unlink(), "no testdepth/03.png or .npy for test/03"),
        (lambda f: Image.new("L", (32, 24)).save(f / "testdepth/03.png"),
         r"03.png': an image of mode L; it takes 16 bits in millimetres, or the unit .* unit.txt"),
        (lambda f: (f / "unit.txt").write_text("mm"), "unit.txt has 'mm', it takes metres"),
        (lambda f: np.save(f / "testdepth/03.npy", np.zeros((2, 2)))
         or (f / "testdepth/03.png").unlink(), r"has shape \(2, 2\) for an image of 32 x 24"),
    ],
)  # fmt: skip
def test_bad_depths_are_refused_by_name(folder, spoil, says):
    spoil(folder)
    with pytest.raises(DataError, match=says):
        depth.TASK.load(str(folder), None).test.values(3)


def with_orientation(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif


@pytest.mark.parametrize("task", [segmentation.TASK, depth.TASK], ids=lambda task: task.name)
@pytest.mark.parametrize(
    ("ending", "orientation"), [("jpg", 2), ("jpg", 6), ("png", 3), ("tif", 8)]
)
def test_rotated_image_of_a_mask_is_refused(ending, orientation, task, folder):
    upright, image = folder / "test/03.png", folder / "test" / f"03.{ending}"
    pixels = Image.open(upright).copy()
    upright.unlink()
    pixels.save(image, exif=with_orientation(1))
    task.load(str(folder), None)
    pixels.save(image, exif=with_orientation(orientation))
    with pytest.raises(DataError) as error:
        task.load(str(folder), None)
    assert str(error.value) == (
        f"{str(image)!r}: has EXIF orientation {orientation}; next to masks or depths it takes an "
        "image that is saved upright, without this tag"
    )


def test_depths_are_read_in_metres(folder):
    (folder / "unit.txt").write_text("0.01")
    Image.new("L", (32, 24), 200).save(folder / "testdepth/02.png")
    metres = np.full((24, 32), 3.5, np.float32)
    metres[0, 0] = np.inf
    np.save(folder / "test" / "ignored.npy", metres)
    (folder / "testdepth/00.png").unlink()
    np.save(folder / "testdepth/00.npy", metres)
    test = depth.TASK.load(str(folder), None).test
    assert test.values(0)[5, 5] == 3.5 and test.values(0)[0, 0] == 0
    assert set(np.unique(test.values(1))) <= {0, 20, 40, 80}
    assert (test.values(2) == 2).all()


def test_missing_masks_error_names_formats(tints):
    with pytest.raises(DataError, match="takes images with masks: demo, voc, or a folder"):
        segmentation.TASK.load(None, tints)
    with pytest.raises(DataError, match="takes images with depth: demo, or a folder"):
        depth.TASK.load(None, tints)


@pytest.mark.parametrize("task", ["segmentation", "depth", "fine_grained", "shape_bias"])
def test_demo_with_validation_is_named(task):
    with pytest.raises(DataError, match=r"^it takes the demo without --validation"):
        all_tasks()[task].load(None, load_data("demo", size=30, validation=True))
