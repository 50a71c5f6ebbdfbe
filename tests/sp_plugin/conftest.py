"""One thread and a fixed seed for each test; property tests use the same examples in each run."""

from __future__ import annotations

import hypothesis
import pytest
import torch

hypothesis.settings.register_profile(
    "sp_plugin", deadline=None, max_examples=40, derandomize=True, database=None
)
hypothesis.settings.load_profile("sp_plugin")


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)
