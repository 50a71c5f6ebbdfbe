"""Rank: features of known singular values, a collapsed backbone, and images without labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import hadamard
from sp_bench.data.channel_stats import IMAGENET
from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import FrozenBackbone
from sp_bench.tasks import knn, rank, run_task
from sp_bench.tasks.rank import effective_dimension
from torch import Tensor, nn

# 8 rows, orthogonal columns of mean 0 with singular values in the ratio 3 : 2 : 1 : 0.
TABLE = torch.from_numpy(hadamard(8)[:, 1:5] * np.array([3.0, 2.0, 1.0, 0.0])).float()


class Table(nn.Module):
    """Row of a table for an image whose pixels all have the number of the row."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.rows = rows

    def forward(self, images: Tensor) -> Tensor:
        red = images[:, 0].mean(dim=(1, 2)) * IMAGENET.std[0] + IMAGENET.mean[0]
        return self.rows[(red * 255).round().long() % 8]


@pytest.fixture
def numbered(arrays) -> Splits:
    """Eight images of one value each, their number."""
    pixels = np.broadcast_to(np.arange(8, dtype=np.uint8)[:, None, None, None], (8, 16, 16, 3))
    return Splits("numbered", *(arrays(pixels, np.arange(8) % 2) for _ in range(2)))


def test_known_singular_values(numbered, make_context):
    collapsed = torch.full((8, 4), 0.3)
    context = make_context(Table(TABLE), numbered, Table(collapsed), side=16, crop_size=16)
    found = run_task(rank.TASK, context)
    shares = [3 / 6, 2 / 6, 1 / 6]
    assert found["rank_rankme"] == pytest.approx(
        math.exp(-sum(share * math.log(share) for share in shares)), rel=1e-4
    )
    assert found["rank_effective_dimension"] == pytest.approx((9 + 4 + 1) ** 2 / (81 + 16 + 1))
    # Each row has norm sqrt(14), and the values of a column are half of each sign.
    assert found["rank_feature_std"] == pytest.approx((3 + 2 + 1) / 4 / 14**0.5 * (8 / 7) ** 0.5)
    assert found["rank_rankme_random"] == pytest.approx(1, abs=1e-4)
    assert found["rank_effective_dimension_random"] == 0
    assert found["rank_feature_std_random"] == pytest.approx(0, abs=1e-6)


def test_effective_dimension_ignores_mean():
    expected = effective_dimension(TABLE)
    assert effective_dimension(TABLE + 100) == pytest.approx(expected, rel=1e-4)
    assert effective_dimension(1e-9 * TABLE) == pytest.approx(expected, rel=1e-4)
    rounding = 1 + 1e-8 * TABLE.double()
    assert effective_dimension(rounding) == 0


def test_needs_no_labels_nor_new_features(net, numbered, make_context, tmp_path, monkeypatch):
    context = make_context(net, numbered)
    knn.TASK.run(context)
    extracted = []
    extract = FrozenBackbone.extract
    monkeypatch.setattr(
        FrozenBackbone, "extract", lambda self, x: extracted.append(self) or extract(self, x)
    )
    rank.TASK.run(context)
    assert extracted == [context.untrained]
    for index in range(10):
        numbered.train.image(0).save(tmp_path / f"{index}.png")
    assert len(rank.TASK.load(str(tmp_path), None).train) == 8
