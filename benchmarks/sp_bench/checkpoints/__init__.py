"""Checkpoints of any framework: found, read safely, and loaded into a backbone."""

from sp_bench.checkpoints.find import find_checkpoint
from sp_bench.checkpoints.load import load_checkpoint
from sp_bench.checkpoints.load_report import LoadReport
from sp_bench.checkpoints.read import read_weights, weights_digest

__all__ = ["LoadReport", "find_checkpoint", "load_checkpoint", "read_weights", "weights_digest"]
