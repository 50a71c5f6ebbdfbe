"""Images in fine classes."""

from __future__ import annotations

from sp_bench.data.dataset import Splits
from sp_bench.data.demo import DemoDataset, missing_source
from sp_bench.data.load import load_data


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
        expected = "images in fine classes: demo, a folder, or a name of torchvision"
        raise missing_source(expected, shared)
    train, test = splits.train, splits.test
    if isinstance(train, DemoDataset) and isinstance(test, DemoDataset):
        return Splits(splits.name, train.fine_grained(), test.fine_grained())
    return splits
