"""In-context segmentation: known encoders, the protocol by parts, another implementation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from blind_encoder import Blind
from PIL import Image
from sp_bench.data.dataset import Splits
from sp_bench.data.dense_dataset import VOID, DenseDataset
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.tasks import in_context, run_task
from sp_bench.tasks.dense_features import DenseFeatures
from sp_bench.tasks.in_context import PatchMemory, build_memory, choose_patches, count_classes
from torch import Tensor, nn

from sp_plugin.isolation import make_generator


class Halves(DenseDataset):
    """Images of 32 px with a class on the left and the next one on the right, in their colours."""

    names = ("red", "green", "blue")

    def __init__(self, count: int) -> None:
        self.source, self.classes = self, ("image",)
        self.labels = torch.zeros(count, dtype=torch.int64)
        left = np.arange(count)[:, None, None] % 3
        self.masks = np.broadcast_to(left, (count, 32, 32)).astype(np.uint8).copy()
        self.masks[:, :, 16:] = (left + 1) % 3
        self.pixels = (np.eye(3) * 255)[self.masks].astype(np.uint8)

    def image(self, index: int) -> Image.Image:
        return Image.fromarray(self.pixels[index])

    def values(self, index: int) -> np.ndarray:
        return self.masks[index]


class Colours(nn.Module):
    """The colours of the image, with 8 rows and columns."""

    def forward(self, images: Tensor) -> Tensor:
        return nn.functional.adaptive_avg_pool2d(images, 8)


@pytest.fixture
def halves() -> Splits:
    return Splits("halves", Halves(7), Halves(4))


def features_of(dataset: Halves, dim: int = 8) -> DenseFeatures:
    """Random features on a grid of 8 x 8, a little different by class."""
    maps = torch.randn(len(dataset), dim, 8, 8, generator=make_generator(len(dataset)))
    maps[:, :3] += torch.from_numpy(dataset.pixels[:, ::4, ::4]).movedim(3, 1) / 255
    return DenseFeatures(maps, torch.arange(len(dataset)), dataset)


def test_color_features_find_every_pixel(halves, make_context):
    found = run_task(in_context.TASK, make_context(Colours(), halves, Blind(), side=32))
    assert found["in_context_miou"] == found["in_context_accuracy"] == 1
    # Of the 8 halves of the test images 3 are red and 3 are green.
    assert found["in_context_miou_constant"] == pytest.approx(3 / 8 / 3)
    assert found["in_context_accuracy_constant"] == pytest.approx(3 / 8)
    # Equal features give every pixel one class, whichever.
    assert found["in_context_miou_random"] in (pytest.approx(3 / 8 / 3), pytest.approx(2 / 8 / 3))


def test_void_pixels_have_no_vote(halves, make_context):
    for part in (halves.train, halves.test):
        part.masks[:, 4:28] = VOID  # of each column of cells 6 of 8
    assert len(build_memory(features_of(halves.train), 3).features) == 7 * 16
    found = run_task(in_context.TASK, make_context(Colours(), halves, side=32))
    assert found["in_context_miou"] == 1
    halves.train.masks[:] = VOID
    with pytest.raises(UnmeasurableError, match="every pixel of the training masks is void"):
        in_context.TASK.run(make_context(Colours(), halves, side=32))


def test_cells_share_out_every_pixel():
    mask = np.random.default_rng(0).integers(0, 4, (24, 33)).astype(np.uint8)
    mask[mask == 3] = VOID
    counts = count_classes(mask, (5, 7), 3)
    assert counts.sum(dim=0).tolist() == [(mask == k).sum() for k in range(3)]
    # 24 pixels in 5 rows: 5 in each but the last; 33 in 7 columns: 5 in each but two.
    corner = mask[:5, :5]
    assert counts[0].tolist() == [(corner == k).sum() for k in range(3)]


def test_rare_classes_come_first():
    counts = torch.zeros(64, 3, dtype=torch.int64)
    counts[:50, 0] = 16
    counts[50:52, 1] = 16  # the last 12 are void
    drawn = [choose_patches(counts, 20, make_generator(seed)).tolist() for seed in range(20)]
    rare = [{50, 51} <= set(patches) for patches in drawn]
    assert np.mean(rare) > 0.9 and len({tuple(sorted(patches)) for patches in drawn}) == 20
    assert sorted(choose_patches(counts, 60, make_generator(0)).tolist()) == list(range(52))


def test_memory_size_is_shared_by_images(halves, monkeypatch):
    monkeypatch.setattr(in_context, "_MEMORY_SIZE", 100)
    memory = build_memory(features_of(halves.train), 3)
    assert memory.features.shape == (7 * 14, 8) and memory.shares.shape == (7 * 14, 3)
    torch.testing.assert_close(memory.features.norm(dim=1), torch.ones(98))
    torch.testing.assert_close(memory.shares.sum(dim=1), torch.ones(98))


def test_prediction_equals_its_definition(halves, monkeypatch):
    memory = build_memory(features_of(halves.train), 3)
    maps = features_of(halves.test).maps
    found = memory(maps)
    for image, row, column in ((0, 0, 0), (2, 1, 7), (3, 6, 2)):
        query = maps[image, :, row, column].double().numpy()
        bank = memory.features.double().numpy()
        cosines = bank @ query / np.linalg.norm(query)
        nearest = np.argsort(-cosines)[:30]
        weights = np.exp(cosines[nearest] / 0.02)
        expected = weights / weights.sum() @ memory.shares[nearest].numpy()
        assert found[image, :, row, column].tolist() == pytest.approx(expected.tolist(), abs=1e-4)
    monkeypatch.setattr(in_context, "_MAX_NUMBERS", 1000)
    torch.testing.assert_close(memory(maps), found)


def test_the_nearest_thirty_vote():
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([0.99, (1 - 0.99**2) ** 0.5])
    bank = torch.stack([near] * 30 + [far] * 30)
    shares = torch.eye(3).repeat_interleave(torch.tensor([20, 10, 30]), dim=0)
    maps = torch.tensor([5.0, 0.0]).view(1, 2, 1, 1)
    found = PatchMemory(bank, shares)(maps).flatten()
    torch.testing.assert_close(found, torch.tensor([2 / 3, 1 / 3, 0]))
    found = PatchMemory(bank[[0, 25]], shares[[0, 25]])(maps).flatten()  # fewer than 30
    torch.testing.assert_close(found, torch.tensor([0.5, 0.5, 0]))


def test_agrees_with_open_hummingbird(halves, monkeypatch):
    """Its memory, its patches and its predictions, apart from its search on a GPU."""
    hbird = pytest.importorskip("hbird.hbird_eval")
    train, test = features_of(halves.train), features_of(halves.test)

    class Evaluation(hbird.HbirdEvaluation):
        def _create_nn(self, n_neighbours: int, **_: object) -> None:
            def search(queries: Tensor) -> tuple[np.ndarray, None]:
                return (queries @ self.feature_memory.T).topk(n_neighbours).indices.numpy(), None

            self.NN_algorithm = SimpleNamespace(find_nearest_neighbors=search)

    class Extractor(nn.Module):
        """Features of images whose pixels are the features, each of 4 x 4 pixels."""

        eval_spatial_resolution, d_model = 8, 8

        def forward_features(self, images: Tensor) -> tuple[Tensor, None]:
            return images[:, :, ::4, ::4].flatten(2).mT, None

    def batches(features: DenseFeatures):
        pixels = features.maps.repeat_interleave(4, 2).repeat_interleave(4, 3)
        masks = torch.from_numpy(features.dataset.masks)[:, None] / 255
        return list(zip(pixels.split(1), masks.split(1), strict=True))

    torch.manual_seed(0)
    theirs = Evaluation(Extractor(), batches(train), 3, memory_size=100, dataset_size=7)
    generator = torch.Generator().manual_seed(0)
    monkeypatch.setattr(in_context, "make_generator", lambda *_: generator)
    monkeypatch.setattr(in_context, "_MEMORY_SIZE", 100)
    ours = build_memory(train, 3)
    torch.testing.assert_close(ours.features, theirs.feature_memory)
    torch.testing.assert_close(ours.shares, theirs.label_memory)
    _, details = theirs.evaluate(batches(test), 8, return_knn_details=True)
    expected = details["knns_ca_labels"].mT.unflatten(2, (8, 8))
    torch.testing.assert_close(ours(test.maps), expected)
