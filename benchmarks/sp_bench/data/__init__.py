"""Where the benchmark's pictures come from: the demo world, a folder, or torchvision.

Everything that the rest of the benchmark needs is here: :func:`load_data` turns what was
given as ``--data`` into :class:`Splits`, whatever the source.
"""

from sp_bench.data.dataset import DataError, Pictures, Splits
from sp_bench.data.demo import DemoPictures
from sp_bench.data.image_files import list_pictures, open_picture
from sp_bench.data.load import load_data

__all__ = [
    "DataError",
    "DemoPictures",
    "Pictures",
    "Splits",
    "list_pictures",
    "load_data",
    "open_picture",
]
