"""source="image": the data bring SP's crops, and the host sees nothing of it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from image_datasets import Images, TwoCrops
from sp_lightning import SPCallback
from torch.utils.data import DataLoader, Subset
from torchvision.datasets import VisionDataset

from sp_plugin import ConfigError
from sp_plugin.batch import split_batch
from sp_plugin.crops.transform import SPTransform


def fit_module(
    kit: Any, *callbacks: Any, data: Any = None, workers: int = 0, through: str = "fit"
) -> tuple[Any, list[Any]]:
    """The module's state after two epochs, and the batches it saw."""
    module = kit.new("two_views")
    seen: list[Any] = []
    module.on_train_batch_start = lambda batch, _: seen.append(batch)
    loader = DataLoader(
        data or Images(TwoCrops(flip=True)), batch_size=8, shuffle=True, num_workers=workers
    )
    trainer = kit.trainer(*callbacks)
    if through == "module":
        module.train_dataloader = lambda: loader
        trainer.fit(module)
    elif through == "datamodule":
        datamodule = kit.pl.LightningDataModule()
        datamodule.train_dataloader = lambda: loader
        trainer.fit(module, datamodule=datamodule)
    else:
        trainer.fit(module, loader)
    return kit.state(module), seen


@pytest.mark.parametrize("workers", (0, 2))
def test_weight_0_keeps_views_and_weights(kit: Any, workers: int) -> None:
    baseline, views = fit_module(kit, workers=workers)
    state, views_too = fit_module(kit, SPCallback(source="image", weight=0), workers=workers)
    assert kit.same(baseline, state)
    for (mine, _), (theirs, _) in zip(views, views_too, strict=True):
        assert torch.equal(torch.stack(mine), torch.stack(theirs))


@pytest.mark.parametrize(
    ("through", "more"),
    (("fit", {}), ("fit", {"num_crops": 4, "num_pairs": 3}), ("module", {}), ("datamodule", {})),
)
def test_sp_trains_and_restores_transform(kit: Any, through: str, more: dict[str, Any]) -> None:
    data = Images(host := TwoCrops(flip=True))
    callback = SPCallback(source="image", weight=1, warmup_fraction=0, **more)
    state, seen = fit_module(kit, callback, data=data, through=through)
    assert not kit.same(fit_module(kit, through=through)[0], state)
    assert all(type(batch[0]) is list for batch in seen)
    assert data.transform is host
    assert callback.sp.config.window == (0.5, 1.0)


def test_host_batch_hook_sees_own_batch(kit: Any) -> None:
    """As VICRegL's example does; it must find its own batch, not what SP has added."""
    module = kit.new("nested")
    loader = DataLoader(Images(TwoCrops(flip=True)), batch_size=8)
    kit.trainer(callback := SPCallback(source="image", weight=1)).fit(module, loader)
    assert callback.step == 4


def test_same_seed_gives_same_run(kit: Any) -> None:
    runs = [fit_module(kit, SPCallback(source="image", weight=1), workers=2)[0] for _ in range(2)]
    assert kit.same(*runs)


def test_subset_transform_is_wrapped(kit: Any) -> None:
    data = Images(TwoCrops(flip=True))
    fit_module(kit, SPCallback(source="image"), data=Subset(data, range(16)))


def test_vision_dataset_copy_is_wrapped(kit: Any) -> None:
    """VOC, COCO and their kin call ``transforms``, made from ``transform`` at the start."""

    class Voc(VisionDataset):
        def __len__(self) -> int:
            return 16

        def __getitem__(self, index: int) -> tuple[Any, int]:
            generator = torch.Generator().manual_seed(index)
            return self.transforms(torch.rand(3, 48, 64, generator=generator), index)

    data = Voc("", transform=(host := TwoCrops(flip=True)))
    callback = SPCallback(source="image")
    fit_module(kit, callback, data=data)
    assert callback.step == 4
    assert data.transform is host and data.transforms.transform is host


def test_existing_wrapper_gets_settings(kit: Any) -> None:
    wrapped = SPTransform(TwoCrops(flip=True))
    fit_module(kit, SPCallback(source="image", crop_size=20), data=Images(wrapped))
    assert wrapped.crops.config.crop_size == 20


def test_source_mismatch_is_refused(kit: Any) -> None:
    with pytest.raises(ConfigError, match="set source='image'"):
        fit_module(kit, SPCallback(), data=Images(SPTransform(TwoCrops(flip=True))))
    with pytest.raises(ConfigError, match="the batch brings no crops"):
        kit.fit(kit.new("two_views"), SPCallback(source="image"))


def test_split_batch_finds_nested_views() -> None:
    sp = {"crops": torch.zeros(4, 2, 3, 8, 8), "boxes": torch.zeros(4, 2, 4)}
    own, crops = split_batch({"image": [{"views": [1, 2], "sp": sp}], "label": 3})
    assert own == {"image": [[1, 2]], "label": 3}
    assert crops is not None and crops.pixels.shape == (8, 3, 8, 8)
    batch = [{"views": 1}, (2,)]
    assert split_batch(batch) == (batch, None) and split_batch(batch)[0] is batch
