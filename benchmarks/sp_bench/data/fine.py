"""The demo's images with their fine classes."""

from __future__ import annotations

from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.demo import DemoDataset
from sp_bench.data.load import load_data


class FineGrainedDataset(ImageDataset):
    """Images of the demo, each of one of 27 fine classes.

    >>> FineGrainedDataset(DemoDataset(4)).labels.tolist()
    [0, 3, 6, 9]
    """

    def __init__(self, source: DemoDataset) -> None:
        self._source = source
        self.labels, self.classes = source.fine_labels, source.fine_classes

    def image(self, index: int) -> Image.Image:
        return self._source.image(index)


def load_fine(source: str | None, shared: Splits | None) -> Splits:
    """Images in fine classes: the task's own, or the demo's.

    Args:
        source: the task's own source, as for `load_data`; None: the demo, if it is the shared
            source.
        shared: images of all tasks.

    Raises:
        DataError: there is no source, or it cannot be used.
    """
    splits = load_data(source) if source else shared
    if splits is None or (source is None and not isinstance(splits.train, DemoDataset)):
        raise DataError("it takes images in fine classes: demo, a folder, or a name of torchvision")
    train, test = splits.train, splits.test
    if isinstance(train, DemoDataset) and isinstance(test, DemoDataset):
        return Splits(splits.name, FineGrainedDataset(train), FineGrainedDataset(test))
    return splits
