"""A weight that means the same beside every method: SP's gradient as a share of the host's own.

How much a plain factor of the loss weighs depends on the host's: SimCLR's gradient at a small
ResNet was some 25 times SP's, BYOL's about as large as it (benchmarks/results/tune), so that a
factor which hardly moves the one overwhelms the other. Both arrive at the backbone's parameters,
and there they are measured now and then: at steps 0, 2, 4, 8, ... 64, and every 64th after that. In
such a step SP's gradient is taken by itself and left out, so the host's backward pass, which is the
only one, shows the host's. No graph is kept or run twice (but the host's own, where SP is asked
about its views), so it costs nothing, and compiled backbones take part.

The norms of two losses' gradients at shared parameters also set the weight in GradNorm (Chen et
al., ICML 2018, arXiv 1711.02257) and in VQGAN (Esser et al., CVPR 2021, arXiv 2012.09841, eq. 7).
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointError

from sp_plugin.validation import ConfigError

_EVERY = 64  # steps
_NEW = 0.5  # what the newest measurement counts beside those before it
_LEAP = math.log(4)  # what it is off at the most
# Gradients in half precision vanish below 6e-8, and no scaler of the host's is at work on SP's
# alone. A power of two changes nothing else.
_UP = 2.0**10


def is_measurement_step(step: int) -> bool:
    """Whether this is a step to measure in.

    >>> [step for step in range(200) if due(step)]
    [0, 2, 4, 8, 16, 32, 64, 128, 192]
    """
    return step % _EVERY == 0 or step in (2, 4, 8, 16, 32)


class GradientBalance(nn.Module):
    """How many times SP's gradient the host's own is; in buffers, so that a resumed run goes on.

    Attributes:
        log_ratio: scalar on the device; -inf until it has been measured.
        seen: (3,), of a measurement that is under way: the squared norms of the host's gradient
            and of SP's, and what the host multiplied its loss by (a gradient scaler).

    >>> backbone, head = nn.Linear(4, 1, bias=False), nn.Linear(1, 1)
    >>> balance, told = GradientBalance(), backbone(torch.ones(1, 4)).sum()
    >>> balance.loss_scale(0).item()
    0.0
    >>> none = balance.measure(2 * told, backbone, head, keep=True)
    >>> (6 * told + none).backward()
    >>> round(balance.loss_scale(1).item(), 4)
    3.0
    """

    log_ratio: Tensor
    seen: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("log_ratio", torch.tensor(float("-inf")))
        self.register_buffer("seen", torch.zeros(3))
        self._hooks: list[Any] = []

    def loss_scale(self, step: int) -> Tensor:
        """What SP's loss is multiplied by to weigh as much as the host's, a scalar on the device.

        0 until it has been measured. A geometric mean over the last few measurements, of which
        one wild batch at most doubles it. What was not finite does not count, and 1 stands for a
        host that has no gradient there at all. All ranks take the first one's, which is also what
        a checkpoint holds.
        """
        if is_measurement_step(step - 1):
            self._settle()
        return self.log_ratio.float().exp()

    def measure(self, own: Tensor, backbone: nn.Module, head: nn.Module, keep: bool) -> Tensor:
        """Measure SP's gradient at once, and the host's in the backward pass that comes.

        Args:
            own: SP's loss, not weighted, a scalar; its graph is used up here.
            backbone: at whose parameters.
            head: SP's, whose parameters get zeros in this step: ranks wait for all of them.
            keep: whether the graph of ``own`` is the host's too, who needs it.

        Returns:
            A loss of 0 to add to the host's in place of SP's.

        Raises:
            ConfigError: no gradient of SP's can be had by itself.
        """
        for hook in self._hooks:
            hook.remove()  # of a step that had no backward pass
        self._hooks = []
        self.seen.zero_()
        for parameter, grad in _gradients(own, backbone, keep):
            self.seen[1] += (grad.float() / _UP).square().sum()
            count = functools.partial(self._count, len(self._hooks))
            self._hooks.append(parameter.register_hook(count))  # type: ignore[no-untyped-call]
        none = torch.stack([p.sum() for p in head.parameters() if p.requires_grad]).sum() * 0.0
        none.register_hook(self._scaled)  # type: ignore[no-untyped-call]
        return none

    def _count(self, which: int, grad: Tensor) -> None:
        self._hooks[which].remove()  # one backward pass, where a step has several
        self.seen[0] += grad.detach().float().square().sum()

    def _scaled(self, grad: Tensor) -> None:
        self.seen[2] = grad.detach()

    @torch.no_grad()
    def _settle(self) -> None:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.broadcast(self.seen, src=0)
        (host, own, scale), before = self.seen.float(), self.log_ratio.float()
        told = (host.sqrt() / scale).log() - own.sqrt().log()
        near = before + (told - before).clamp(-_LEAP, _LEAP)
        # A host that has no gradient there takes a plain weight: a share of nothing trains nothing.
        first = torch.where(host == 0, torch.zeros_like(told), told)
        after = torch.where(before.isfinite(), before.lerp(near, _NEW), first)
        seen = (own > 0) & (scale != 0) & after.isfinite()
        self.log_ratio.copy_(torch.where(seen, after, before))
        self.seen.zero_()


def _gradients(own: Tensor, backbone: nn.Module, keep: bool) -> list[tuple[nn.Parameter, Tensor]]:
    """The parameters that a loss reaches, and its gradients there, ``_UP`` times as large."""
    trained = [p for p in backbone.parameters() if p.requires_grad]
    if not trained:
        return []
    try:
        grads = torch.autograd.grad(own * _UP, trained, retain_graph=keep, allow_unused=True)
    except CheckpointError as error:
        # The guard of the running statistics is over by the time the layer is computed again.
        raise ConfigError(
            "update_bn: got false, but a checkpointed layer of this backbone, such as a BatchNorm, "
            "differs when it is computed again; takes true, and then running statistics move with "
            "SP's crops"
        ) from error
    except RuntimeError as error:
        raise _refused(str(error).strip().splitlines()[0].rstrip(".")) from error
    found = [(p, grad) for p, grad in zip(trained, grads, strict=True) if grad is not None]
    if not found and own != 0:  # it is 0 where features that are not finite were left out
        raise _refused("is it checkpointed with use_reentrant=True?")
    return found


def _refused(why: str) -> ConfigError:
    return ConfigError(
        f"relative: got true, but this backbone gives no gradient by itself ({why}); takes false, "
        "and then the weight is a plain factor of SP's loss"
    )
