"""Peak memory of a training step, as torch's own allocators count it."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


def peak_bytes(work: Callable[[], object], device: torch.device) -> int:
    """Largest number of bytes that ``work`` has allocated at once, without earlier allocations.

    On a GPU from ``torch.cuda.max_memory_allocated``, on a CPU from the profiler's record of
    torch's allocator, which is the same measure. The resident set of the process would include
    memory that Python and the C library retain, and would miss memory that is freed and reused.
    Neither measure includes scratch memory of oneDNN or cuDNN.

    >>> held = []
    >>> peak_bytes(lambda: held.append(torch.zeros(1000)), torch.device("cpu"))
    4000
    """
    if device.type == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        work()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with _silent(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        work()
    # The exported trace is the public interface to the profiler's allocations.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    # Summed here, since the trace's own total continues from one profile to the next.
    changes = (e["args"]["Bytes"] for e in events if e["name"] == "[memory]")
    return max(itertools.accumulate(changes), default=0)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Discard stderr, on which the profiler's C++ code reports its start and end."""
    stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(null, 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(null)
        os.close(stderr)
