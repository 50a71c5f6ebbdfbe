"""Where the benchmark's pictures come from: the demo world, a folder, or torchvision.

Everything that the rest of the benchmark needs is here: :func:`load_data` turns what was
given as ``--data`` into :class:`Splits`, whatever the source.
"""

from sp_bench.data.demo import DemoPictures
from sp_bench.data.loading import load_data
from sp_bench.data.pictures import DataError, Pictures, Splits
from sp_bench.data.reading import list_pictures, open_picture

__all__ = [
    "DataError",
    "DemoPictures",
    "Pictures",
    "Splits",
    "list_pictures",
    "load_data",
    "open_picture",
]
