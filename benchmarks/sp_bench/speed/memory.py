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
    """The most that was allocated at once during ``work``, beyond what was there before.

    On a GPU by ``torch.cuda.max_memory_allocated``; on a CPU by the profiler's record of torch's
    allocator, which is the same measure there. The resident set of a process would count what
    Python and the C library keep, and misses what is freed and taken again. Scratch memory that
    oneDNN or cuDNN takes by itself is in neither.

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
    # The trace is the open way to the profiler's running total.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        record.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    # Summed here: the trace's own total goes on from one profile to the next.
    changes = (e["args"]["Bytes"] for e in events if e["name"] == "[memory]")
    return max(itertools.accumulate(changes), default=0)


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Nothing on stderr, where the profiler's C++ side tells that it begins and ends."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)
