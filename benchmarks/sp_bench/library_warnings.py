"""Warnings of libraries that say nothing about a run of sp-bench."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

# Message and module of each, as regular expressions; what matches neither is shown.
_KNOWN = (
    ("pkg_resources is deprecated", ""),  # torchmetrics, at its import
    # Lightning advises more workers, a logger and validation; none of them applies here.
    ("", "pytorch_lightning|lightning_utilities|lightning_fabric"),
)


@contextlib.contextmanager
def hide_library_warnings() -> Iterator[None]:
    """Hide the known warnings during a block; the filters before it return after it.

    >>> with hide_library_warnings():
    ...     warnings.warn("pkg_resources is deprecated as an API", stacklevel=1)
    """
    with warnings.catch_warnings():
        for message, module in _KNOWN:
            warnings.filterwarnings("ignore", message=message, module=module)
        yield
