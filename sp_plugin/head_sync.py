"""HeadSync: one head on all ranks, in a loop where DDP holds the backbone alone.

DDP averages the gradients of the module that it wraps. A head next to it would get those of its own
rank's images, and the heads of the ranks would drift apart. Here the head's few gradients are
averaged as soon as each is accumulated in the backward pass, so that every optimizer, gradient
accumulation, clipping and gradient scaling see the same numbers on all ranks.
"""

from __future__ import annotations

import torch
from torch import Tensor, distributed, nn

from sp_plugin.distributed import is_sharded

__all__ = ["HeadSync"]


class HeadSync:
    """Averages the gradients of a module over the ranks; all start with the first rank's weights.

    Every rank must create it, and run as many backward passes, as for DDP. A sharded parameter
    (FSDP's) is left to its wrapper.

    Args:
        module: SP's module.
    """

    def __init__(self, module: nn.Module) -> None:
        with torch.no_grad():
            for value in (*module.parameters(), *module.buffers()):
                if not is_sharded(value):
                    distributed.broadcast(value.data, src=0)
        self._handles = [
            parameter.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                _average_gradient
            )
            for parameter in module.parameters()
            if parameter.requires_grad
        ]

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()


def _average_gradient(parameter: Tensor) -> None:
    grad = parameter.grad
    if grad is None or is_sharded(grad):
        return
    distributed.all_reduce(grad)
    grad /= distributed.get_world_size()
