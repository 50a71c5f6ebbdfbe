"""The demo's toys with their finer classes."""

from __future__ import annotations

from PIL import Image

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.demo import DemoDataset
from sp_bench.data.load import load_data


class FineGrainedDataset(ImageDataset):
    """The demo's images, each of one of 27 finer classes.

    >>> FineGrainedDataset(DemoDataset(4)).labels.tolist()
    [0, 3, 6, 9]
    """

    def __init__(self, source: DemoDataset) -> None:
        self._source = source
        self.labels, self.classes = source.fine_labels, source.fine_classes

    def image(self, index: int) -> Image.Image:
        return self._source.image(index)


def load_fine(given: str | None, main: Splits | None) -> Splits:
    """Images in fine classes: those that were given, or the demo's.

    Args:
        given: as `load_data` takes it, or None.
        main: the images of all tasks, or None; None of them but the demo's have finer classes.

    Raises:
        DataError: there are none, or they cannot be used.
    """
    splits = load_data(given) if given else main
    if splits is None or (given is None and not isinstance(splits.train, DemoDataset)):
        raise DataError("it takes images in fine classes: demo, a folder, or a name of torchvision")
    train, test = splits.train, splits.test
    if isinstance(train, DemoDataset) and isinstance(test, DemoDataset):
        return Splits(splits.name, FineGrainedDataset(train), FineGrainedDataset(test))
    return splits
