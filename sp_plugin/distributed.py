"""What the ranks of a run know of each other."""

from __future__ import annotations

from torch import Tensor, distributed

__all__ = ["is_sharded", "process_rank", "world_size"]


def world_size() -> int:
    """Number of processes that train together; 1 without torch.distributed.

    >>> world_size()
    1
    """
    return distributed.get_world_size() if _is_initialized() else 1


def process_rank() -> int:
    """Rank of this process; 0 without torch.distributed.

    >>> process_rank()
    0
    """
    return distributed.get_rank() if _is_initialized() else 0


def is_sharded(value: Tensor) -> bool:
    """Whether a tensor is a DTensor, as FSDP2 makes of parameters and their gradients."""
    return hasattr(value, "placements")


def _is_initialized() -> bool:
    return distributed.is_available() and distributed.is_initialized()
