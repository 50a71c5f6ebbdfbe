"""Relative weight: SP's gradient as a share of the method's own gradient at the backbone.

A plain factor of the loss weighs differently with every method: SimCLR's gradient at a small
ResNet was some 25 times SP's, BYOL's about as large (benchmarks/results/tune). So both gradients
are measured at the backbone's parameters in steps 0, 2, 4, 8, ... 64 and in every 64th after that.
In such a step SP's gradient is computed by itself and left out of the sum, so the host's backward
pass shows the method's own. No graph is kept or run twice (except the method's own with source
``host_views``), so a measurement costs nothing and compiled backbones work.

GradNorm (Chen et al., ICML 2018, arXiv 1711.02257) and VQGAN (Esser et al., CVPR 2021,
arXiv 2012.09841, eq. 7) also set weights by the norms of two losses' gradients.
"""

from __future__ import annotations

import functools
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sp_plugin.backbone_gradients import (
    gradients_of_loss,
    has_shards,
    on_next_gradient,
    squared_norm,
)
from sp_plugin.distributed import world_size

__all__ = ["GradientBalance", "is_measurement_step"]

INTERVAL = 64  # steps between measurements, after the first ones
EMA_WEIGHT = 0.5  # weight of the newest measurement
MAX_LOG_CHANGE = math.log(4)  # largest change that one measurement can ask for
# Gradients in half precision vanish below 6e-8, and the host's gradient scaler does not scale
# SP's gradient here. A power of two changes nothing else.
GRAD_UPSCALE = 2.0**10


def is_measurement_step(step: int) -> bool:
    """Whether gradients are measured in this step.

    >>> [step for step in range(200) if is_measurement_step(step)]
    [0, 2, 4, 8, 16, 32, 64, 128, 192]
    """
    return step % INTERVAL == 0 or step in (2, 4, 8, 16, 32)


class GradientBalance(nn.Module):
    """Ratio of the norm of the method's gradient to that of SP's, both at the backbone.

    One measurement takes three stages: `begin_measurement` in the forward pass, the host's
    backward pass, `finish_measurement` before `loss_scale` is next read. What it has found so far
    is in buffers, so that a resumed run continues exactly.

    Attributes:
        log_ratio: scalar, logarithm of the ratio; -inf before the first measurement.
        host_sq_norm: scalar, squared norm of the method's gradient in an open measurement.
        sp_sq_norm: scalar, squared norm of SP's gradient in an open measurement.
        loss_multiplier: scalar, factor of the host's loss (its gradient scaler) in an open
            measurement.

    >>> backbone, head = nn.Linear(4, 1, bias=False), nn.Linear(1, 1)
    >>> balance, output = GradientBalance(), backbone(torch.ones(1, 4)).sum()
    >>> balance.loss_scale.item()
    0.0
    >>> zero_loss = balance.begin_measurement(2 * output, backbone, head, retain_graph=True)
    >>> (6 * output + zero_loss).backward()
    >>> balance.finish_measurement()
    >>> round(balance.loss_scale.item(), 4)
    3.0
    """

    log_ratio: Tensor
    host_sq_norm: Tensor
    sp_sq_norm: Tensor
    loss_multiplier: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_ratio", torch.tensor(float("-inf")))
        self.register_buffer("host_sq_norm", torch.zeros(()))
        self.register_buffer("sp_sq_norm", torch.zeros(()))
        self.register_buffer("loss_multiplier", torch.zeros(()))
        # Of a measurement; ``measured``, which nothing has to be, where a state dict may bring one.
        # The same on all ranks, as their steps and backward passes are.
        self._stage: Literal["none", "begun", "measured"] = "measured"
        self._hooks: list[Any] = []
        self._has_shards = False  # of the backbone: each rank measures its own

    @property
    def loss_scale(self) -> Tensor:
        """Factor that makes SP's gradient as large as the method's, a scalar on the device.

        0 before the first measurement.
        """
        return self.log_ratio.float().exp()

    def begin_measurement(
        self, sp_loss: Tensor, backbone: nn.Module, head: nn.Module, retain_graph: bool
    ) -> Tensor:
        """Measure SP's gradient now, and the method's in the backward pass that follows.

        Args:
            sp_loss: scalar, SP's unweighted loss; its graph is freed here.
            backbone: module at whose parameters both gradients are measured.
            head: SP's head, whose parameters get zero gradients in this step (DDP waits for all).
            retain_graph: whether the method needs the graph of ``sp_loss`` too.

        Returns:
            Scalar 0 to add to the method's loss in place of SP's.

        Raises:
            ConfigError: SP's gradient cannot be computed by itself.
        """
        self._remove_hooks()  # of a step without a backward pass
        self._clear()
        self._stage = "begun"
        self._has_shards = has_shards(backbone)
        scaled_loss = sp_loss * GRAD_UPSCALE
        for parameter, grad in gradients_of_loss(scaled_loss, backbone, head, retain_graph):
            self.sp_sq_norm += squared_norm(grad, 1 / GRAD_UPSCALE)
            add_norm = functools.partial(self._add_host_norm, len(self._hooks))
            self._hooks.append(on_next_gradient(parameter, add_norm))
        zero_loss = torch.stack([p.sum() for p in head.parameters() if p.requires_grad]).sum() * 0.0
        zero_loss.register_hook(self._record_multiplier)  # type: ignore[no-untyped-call]
        return zero_loss

    @torch.no_grad()
    def finish_measurement(self) -> None:
        """Update the ratio by the measurement that the last backward pass completed.

        The ratio is a geometric mean over the last measurements, of which one can at most double
        or halve it. A measurement that is not finite does not count; without a gradient of the
        method the ratio stays as it is, or becomes 1 if it is the first. All ranks use the first
        rank's, which is also what a checkpoint holds; of a backbone that is sharded the sum of all
        (a run that is resumed within a measurement: the first rank's shards). Nothing changes
        before a backward pass has run since `begin_measurement`.
        """
        if self._stage != "measured":
            return
        self._stage = "none"
        measured = torch.stack([self.host_sq_norm, self.sp_sq_norm, self.loss_multiplier])
        if world_size() > 1:
            if self._has_shards:
                torch.distributed.all_reduce(measured[:2])
            torch.distributed.broadcast(measured, src=0)
        (host, sp, multiplier), before = measured.float(), self.log_ratio.float()
        newest = (host.sqrt() / multiplier).log() - sp.sqrt().log()
        # Where the method has no gradient the ratio stays, at first as a plain weight: a share of
        # nothing trains nothing.
        newest = torch.where(host == 0, before.nan_to_num(neginf=0.0), newest)
        limited = before + (newest - before).clamp(-MAX_LOG_CHANGE, MAX_LOG_CHANGE)
        after = torch.where(before.isfinite(), before.lerp(limited, EMA_WEIGHT), newest)
        # Of ``after`` too: a negative factor of the loss has no logarithm.
        valid = measured.isfinite().all() & (sp > 0) & (multiplier != 0) & after.isfinite()
        self.log_ratio.copy_(torch.where(valid, after, before))
        self._clear()

    def mute_while_measuring(self, sp_loss: Tensor) -> None:
        """Give a loss of SP no gradient in a backward pass that measures the method's own.

        Such a pass holds the losses of several calls where one optimizes their sum.
        """
        if sp_loss.requires_grad:
            sp_loss.register_hook(self._muted)  # type: ignore[no-untyped-call]

    def mark_loaded(self) -> None:
        """Finish in the next step what a state dict has brought, which was just loaded."""
        self._stage = "measured"

    def _add_host_norm(self, index: int, grad: Tensor) -> None:
        self._hooks[index].remove()  # counts the first of several backward passes
        self.host_sq_norm += squared_norm(grad)

    def _record_multiplier(self, grad: Tensor) -> None:
        self.loss_multiplier.copy_(grad.detach())
        self._stage = "measured"

    def _muted(self, grad: Tensor) -> Tensor | None:
        if self._stage == "none":
            return None
        self._stage = "measured"  # where it was begun in a step without a backward pass: not valid
        return torch.zeros_like(grad)

    def _clear(self) -> None:
        for buffer in (self.host_sq_norm, self.sp_sq_norm, self.loss_multiplier):
            buffer.zero_()

    def _remove_hooks(self) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
