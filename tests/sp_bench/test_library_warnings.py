"""What is hidden of libraries' warnings, and for how long."""

from __future__ import annotations

import warnings

from sp_bench.library_warnings import hide_library_warnings


def warn(message: str, module: str) -> None:
    warnings.warn_explicit(message, UserWarning, f"{module}.py", 1, module=module)


def test_only_known_warnings_are_hidden(recwarn):
    before = list(warnings.filters)
    with hide_library_warnings():
        warn("pkg_resources is deprecated as an API.", "torchmetrics.utilities.imports")
        warn("The loader has few workers", "pytorch_lightning.trainer.connectors")
        warn("half of the images are empty", "sp_bench.data")
        warn("grad is a view", "torch.autograd")
    assert [str(each.message) for each in recwarn] == [
        "half of the images are empty",
        "grad is a view",
    ]
    assert warnings.filters == before
