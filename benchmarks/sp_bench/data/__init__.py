"""Where the benchmark's images come from: the demo world, a folder, or torchvision.

Everything that the rest of the benchmark needs is here: :func:`load_data` turns what was
given as ``--data`` into :class:`Splits`, whatever the source.
"""

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.demo import DemoDataset
from sp_bench.data.image_files import list_images, open_image
from sp_bench.data.load import load_data

__all__ = [
    "DataError",
    "DemoDataset",
    "ImageDataset",
    "Splits",
    "list_images",
    "load_data",
    "open_image",
]
