"""Checkpoints of every host, into a backbone: read safely, matched by name, and told about."""

from sp_bench.checkpoints.find import find_checkpoint
from sp_bench.checkpoints.load import Loaded, load_checkpoint
from sp_bench.checkpoints.read import read_weights

__all__ = ["Loaded", "find_checkpoint", "load_checkpoint", "read_weights"]
