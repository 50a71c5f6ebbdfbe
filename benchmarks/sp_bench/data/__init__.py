"""Images of the benchmark: the demo world, a folder, or a data set of torchvision.

`load_data` turns the value of ``--data`` into `Splits`, whatever the source.
"""

from sp_bench.data.dataset import DataError, ImageDataset, Splits
from sp_bench.data.demo import DemoDataset
from sp_bench.data.image_files import open_image
from sp_bench.data.image_listing import list_images
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
