"""Isolation: guards that keep the host's randomness and statistics untouched by SP.

With weight 0 a run ends in the baseline's weights, bit for bit; with any weight only the gradient
differs. These break that, and each has its guard here:

- creating the head draws from the global generators: `private_rng`;
- sampling draws from them: `make_generator` (a private generator);
- drop-path, dropout and masking inside the backbone draw from them: `private_rng`;
- running statistics move when SP's crops pass: `frozen_running_stats`;
- under autocast a pass without gradients leaves cast weights behind: `uncached_autocast`;
- ``torch.compile`` makes other kernels once it has met SP's crops: `uncompiled`.

SP's crops never enter the host's own loss, queue or predictor: adapters see to that by calling
the backbone alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import random
import sys
import zlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "eval_mode",
    "frozen_running_stats",
    "hash_seed",
    "make_generator",
    "private_rng",
    "restored_modes",
    "rng_fingerprint",
    "uncached_autocast",
    "uncompiled",
]


def hash_seed(*parts: int) -> int:
    """One 63-bit seed from several integers, such as (seed, rank, step).

    Seeds of neighbouring integers are unrelated.

    >>> hash_seed(0, 0, 1) == hash_seed(0, 1, 0)
    False
    """
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


def make_generator(*parts: int) -> torch.Generator:
    """Private CPU generator, the same for the same integers, so that a resumed run draws alike.

    >>> torch.equal(torch.rand(2, generator=make_generator(0, 1)),
    ...             torch.rand(2, generator=make_generator(0, 1)))
    True
    """
    return torch.Generator(device="cpu").manual_seed(hash_seed(*parts))


@contextlib.contextmanager
def private_rng(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Run a block on global generators seeded with ``seed``, and put them back as they were.

    Covers torch on the CPU and on ``device``, Python's ``random``, and NumPy's where it is
    loaded. The state of a GPU's generator is in CPU memory: nothing is synchronised.

    Args:
        seed: integer from 0 to 2**63 - 1.
        device: device on which the block computes.

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> before = torch.get_rng_state()
    >>> with private_rng(1):
    ...     noise = torch.rand(3)
    >>> torch.equal(before, torch.get_rng_state())
    True
    """
    device = torch.device(device)
    on_cpu = device.type in ("cpu", "meta")  # meta draws nothing
    index = device.index
    if not on_cpu and index is None:
        index = torch.get_device_module(device).current_device()
    numpy_random = getattr(sys.modules.get("numpy"), "random", None)
    python_state = random.getstate()
    numpy_state = numpy_random.get_state() if numpy_random else None
    with torch.random.fork_rng(
        devices=[] if on_cpu else [index], device_type="cuda" if on_cpu else device.type
    ):
        try:
            torch.default_generator.manual_seed(seed)
            if not on_cpu:
                _seed_device(torch.get_device_module(device), index, seed)
            random.seed(seed)
            if numpy_random:
                numpy_random.seed(seed % 2**32)
            yield
        finally:
            random.setstate(python_state)
            if numpy_random:
                numpy_random.set_state(numpy_state)


def _seed_device(module: Any, index: int | None, seed: int) -> None:
    """Seed the generator of one device; a module's ``manual_seed`` seeds the current one."""
    has_several = hasattr(module, "device")  # unlike torch.mps
    with module.device(index) if has_several else contextlib.nullcontext():
        module.manual_seed(seed)


def rng_fingerprint() -> tuple[int, ...]:
    """State of the global CPU generators as numbers; it is read and not changed.

    Transforms draw from torch's, Python's or NumPy's generator (where NumPy is loaded): one of them
    may move from image to image while the others do not.

    >>> rng_fingerprint() == rng_fingerprint()
    True
    """
    copy = torch.Generator(device="cpu").set_state(torch.get_rng_state())
    number = torch.randint(1 << 62, (1,), generator=copy, device="cpu")
    numbers = [int(number), hash(random.getstate()[1])]
    numpy_random = getattr(sys.modules.get("numpy"), "random", None)
    if numpy_random:
        numbers += _numpy_fingerprint(numpy_random)
    return tuple(numbers)


def _numpy_fingerprint(numpy_random: Any) -> tuple[int, int]:
    """Hash of the words of NumPy's global generator, and its position in them."""
    bits = numpy_random.get_bit_generator()
    if type(bits) is not numpy_random.MT19937:
        return zlib.crc32(repr(bits.state).encode()), 0
    # NumPy's ``get_state`` copies the 624 words one by one in Python, at the price of a crop.
    words = ctypes.string_at(bits.ctypes.state_address, 625 * 4)
    return zlib.crc32(words[:-4]), int.from_bytes(words[-4:], sys.byteorder)


# Forward passes that respect ``track_running_stats``: their buffers need no copies.
_RESPECT_TRACKING = (_BatchNorm.forward, nn.SyncBatchNorm.forward)


@contextlib.contextmanager
def frozen_running_stats(module: nn.Module) -> Iterator[None]:
    """Keep a module's buffers unchanged by forward passes in the block.

    A BatchNorm in training mode still normalises with the batch's own statistics, but does not
    track them; copying its buffers back afterwards would break the backward pass. Every other
    buffer (InstanceNorm's statistics, spectral norm's vectors, counters ...) is replaced by a copy
    in the block, and so are those of a BatchNorm with a forward of its own, which may ignore
    ``track_running_stats``. A BatchNorm in evaluation mode stays as it is.

    >>> norm = nn.BatchNorm1d(3)
    >>> with frozen_running_stats(norm):
    ...     out = norm(torch.randn(8, 3) + 5)
    >>> norm.running_mean.tolist(), int(norm.num_batches_tracked)
    ([0.0, 0.0, 0.0], 0)
    """
    tracking: list[_BatchNorm] = []
    copied: list[tuple[nn.Module, str, torch.Tensor]] = []
    try:
        for part in module.modules():
            if isinstance(part, _BatchNorm):
                if part.training and part.track_running_stats:
                    part.track_running_stats = False
                    tracking.append(part)
                if not part.training or type(part).forward in _RESPECT_TRACKING:
                    continue
            for name, buffer in part.named_buffers(recurse=False):
                copied.append((part, name, buffer))
                setattr(part, name, buffer.clone())
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True
        for part, name, buffer in copied:
            setattr(part, name, buffer)


@contextlib.contextmanager
def uncached_autocast() -> Iterator[None]:
    """Block in which autocast, where it is on, neither keeps cast weights nor takes kept ones.

    Autocast keeps a weight that it has cast until its outermost block ends. PyTorch up to 2.8 at
    least keeps one that was cast without gradients too, so that the method's own forward pass,
    later in the same block, would get no gradient for it.

    >>> with torch.autocast("cpu", torch.bfloat16), uncached_autocast():
    ...     torch.is_autocast_cache_enabled()
    False
    """
    was_enabled = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(was_enabled)


def uncompiled() -> contextlib.AbstractContextManager[Any]:
    """Block in which compiled modules run as if they were not; from PyTorch 2.6 on, which can.

    After images of two sizes ``torch.compile`` takes the size for a variable, and a kernel for any
    size rounds otherwise than one for the method's own. Each size also counts towards the number of
    graphs after which it compiles no more.

    >>> net = torch.compile(nn.Linear(2, 2), backend="eager")
    >>> with uncompiled():
    ...     net(torch.zeros(1, 2)).shape
    torch.Size([1, 2])
    """
    if torch.compiler.is_compiling():  # a part of what is being compiled
        return contextlib.nullcontext()
    set_stance = getattr(torch.compiler, "set_stance", None)
    return set_stance("force_eager") if set_stance else contextlib.nullcontext()


@contextlib.contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients in the block; afterwards each submodule's mode is restored.

    >>> net = nn.Sequential(nn.Dropout(), nn.Dropout().eval())
    >>> with eval_mode(net):
    ...     any(part.training for part in net.modules())
    False
    >>> [part.training for part in net]
    [True, False]
    """
    with restored_modes(module), torch.no_grad():
        module.eval()
        yield


@contextlib.contextmanager
def restored_modes(module: nn.Module) -> Iterator[None]:
    """Block after which each submodule is in training or evaluation mode as it was before."""
    modes = [(part, part.training) for part in module.modules()]
    try:
        yield
    finally:
        # By `train`, which may do more than set a flag: timm's LeViT and similar models cache the
        # position biases of evaluation until then, and would evaluate with stale ones.
        for part, mode in modes:
            if part.training != mode:
                part.train(mode)
        for part, mode in modes:
            part.training = mode
