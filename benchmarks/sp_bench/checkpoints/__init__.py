"""Checkpoints of every host, into a backbone: read safely, matched by name, and told about."""

from sp_bench.checkpoints.finding import find_checkpoint
from sp_bench.checkpoints.matching import Loaded, load_checkpoint
from sp_bench.checkpoints.reading import read_weights

__all__ = ["Loaded", "find_checkpoint", "load_checkpoint", "read_weights"]
