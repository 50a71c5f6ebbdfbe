"""Gradients at the backbone's parameters: of SP's loss alone, and of the method's when it comes.

Parameters may be sharded by FSDP2 (``fully_shard``). Its shards are no part of the graph, so
`torch.autograd.grad` does not reach them; a backward pass does, and leaves the mean over the ranks
in each rank's shards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sp_plugin.distributed import is_sharded
from sp_plugin.validation import ConfigError

__all__ = ["gradients_of_loss", "has_shards", "on_next_gradient", "squared_norm"]


def has_shards(module: nn.Module) -> bool:
    """Whether a parameter of the module is sharded over the ranks."""
    return any(is_sharded(parameter) for parameter in module.parameters())


def gradients_of_loss(
    loss: Tensor, backbone: nn.Module, head: nn.Module, retain_graph: bool
) -> list[tuple[nn.Parameter, Tensor]]:
    """Trained parameters of the backbone that a loss reaches, and its gradients there.

    The gradients that the parameters hold stay as they are.

    Args:
        loss: scalar.
        backbone: module with the parameters.
        head: module whose parameters the loss reaches too.
        retain_graph: whether the graph of ``loss`` is needed again.

    Raises:
        ConfigError: the gradient cannot be computed by itself.

    >>> backbone, head = nn.Linear(2, 1, bias=False), nn.Linear(1, 1)
    >>> loss = 3 * backbone(torch.ones(1, 2)).sum()
    >>> [grad.tolist() for _, grad in gradients_of_loss(loss, backbone, head, False)]
    [[[3.0, 3.0]]]
    """
    trained = [p for p in backbone.parameters() if p.requires_grad]
    if not trained:
        return []
    try:
        if has_shards(backbone):
            grads = _by_backward(loss, trained, list(head.parameters()), retain_graph)
        else:
            grads = torch.autograd.grad(loss, trained, retain_graph=retain_graph, allow_unused=True)
    except RuntimeError as error:
        # Not above: in PyTorch 2.5 this import loads SymPy, which takes long.
        from torch.utils.checkpoint import CheckpointError

        if isinstance(error, CheckpointError):
            # The layer is computed again after the guard of the running statistics has ended.
            raise ConfigError(
                "update_bn: got false, but a checkpointed layer of this backbone, such as a "
                "BatchNorm, differs when it is computed again; takes true, and then running "
                "statistics move with SP's crops"
            ) from error
        raise _no_gradient(str(error).strip().splitlines()[0].rstrip(".")) from error
    reached = [(p, grad) for p, grad in zip(trained, grads, strict=True) if grad is not None]
    if not reached and loss != 0:  # it is 0 where features that are not finite were left out
        raise _no_gradient(
            "is it checkpointed with use_reentrant=True, or is all before the features frozen or "
            "run without gradients?"
        )
    return reached


def _by_backward(
    loss: Tensor, parameters: list[nn.Parameter], others: list[nn.Parameter], retain_graph: bool
) -> tuple[Tensor | None, ...]:
    """Gradients that a backward pass leaves; those that were there before are put back."""
    before = [(p, p.grad) for p in (*parameters, *others)]
    for parameter, _ in before:
        parameter.grad = None
    try:
        loss.backward(retain_graph=retain_graph)  # type: ignore[no-untyped-call]
        return tuple(p.grad for p in parameters)
    finally:
        for parameter, grad in before:
            parameter.grad = grad


def on_next_gradient(parameter: nn.Parameter, function: Callable[[Tensor], None]) -> Any:
    """Call a function with what the next backward passes add to a parameter's gradient.

    Returns:
        A handle whose ``remove()`` ends it.
    """
    if not is_sharded(parameter):
        return parameter.register_hook(function)  # type: ignore[no-untyped-call]
    # FSDP2 writes the gradient of a shard past the graph, and calls these hooks alone.
    grad = parameter.grad
    before = None if grad is None else grad.detach().clone()

    def call(updated: Tensor) -> None:
        assert updated.grad is not None
        # Another object where it was set to None in between, as zero_grad() does.
        is_other = before is None or updated.grad is not grad
        function(updated.grad if is_other else updated.grad - before)  # type: ignore[operator]

    return parameter.register_post_accumulate_grad_hook(call)  # type: ignore[no-untyped-call]


def squared_norm(grad: Tensor, scale: float = 1.0) -> Tensor:
    """This rank's part of the squared norm of a gradient times ``scale``, a scalar.

    Where a backbone has shards, the sum over the ranks is the squared norm; there a parameter that
    is whole on every rank counts once for each.

    >>> squared_norm(torch.tensor([3.0, 4.0]), scale=2).item()
    100.0
    """
    if not is_sharded(grad):
        return (grad.detach().float() * scale).square().sum()
    local: Any = grad
    copies = math.prod(_copies(local))
    shard: Tensor = local.to_local()
    return (shard.detach().float() * scale).square().sum() / copies


def _copies(grad: Any) -> Iterator[int]:
    """For each dimension of the mesh: how many ranks hold the same values."""
    for dimension, placement in enumerate(grad.placements):
        yield 1 if placement.is_shard() else grad.device_mesh.size(dimension)


def _no_gradient(reason: str) -> ConfigError:
    return ConfigError(
        f"relative_weight: got true, but this backbone gives no gradient by itself ({reason}); "
        "takes false, and then the weight is a plain factor of SP's loss"
    )
