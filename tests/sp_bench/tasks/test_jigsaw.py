"""Jigsaw on patches with known positions, and on features without information."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.tasks import jigsaw, jigsaw_recognition, run_task
from sp_bench.tasks.jigsaw import TASK
from sp_bench.tasks.jigsaw_patches import assemble, patch_boxes
from sp_bench.tasks.jigsaw_probe import JigsawSolution, decode
from torch import Tensor, nn

from sp_plugin.crops.boxes import cxcywh_to_xyxy


class MeanColor(nn.Module):
    """The mean colour of a patch: on `ramps`, its position."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(2, 3))


class PatchNoise(nn.Module):
    """Numbers that depend on the patch but have no information about it."""

    def forward(self, images: Tensor) -> Tensor:
        noise = images.sum(dim=(1, 2, 3)).double() * 1e4
        return torch.stack([(noise * k).sin() for k in (1.0, 1.7, 2.9)], dim=1).float()


@pytest.fixture
def ramps(arrays) -> Splits:
    """Red rises to the right and green downwards, with noise; class 1 is the mirrored one."""
    rng = np.random.default_rng(0)
    rise = np.linspace(30, 225, 48)

    def part(count: int):
        labels = np.arange(count) % 2
        pixels = np.zeros((count, 48, 48, 3))
        pixels[..., 0] = rise
        pixels[..., 1] = rise[:, None]
        pixels[..., 2] = 200 * labels[:, None, None]
        pixels += rng.uniform(0, 10, pixels.shape)
        return arrays(pixels.astype(np.uint8), labels)

    return Splits("ramps", part(120), part(300))


@pytest.mark.parametrize("n", [2, 3])
def test_patches_lie_in_their_cells(n):
    edges = cxcywh_to_xyxy(patch_boxes(50, n, part=0)) * n
    cell = torch.stack([torch.arange(n).repeat(n), torch.arange(n).repeat_interleave(n)], dim=1)
    assert (edges[..., :2] >= cell - 1e-5).all() and (edges[..., 2:] <= cell + 1 + 1e-5).all()
    torch.testing.assert_close(edges[..., 2:] - edges[..., :2], torch.full((50, n * n, 2), 64 / 75))
    assert torch.equal(patch_boxes(50, n, 0), patch_boxes(50, n, 0))
    assert not torch.equal(patch_boxes(50, n, 0), patch_boxes(50, n, 1))


def test_decode_finds_best_permutation():
    scores = np.random.default_rng(0).normal(size=(20, 4, 4))
    places = decode(scores)
    for each, found in zip(scores, places.tolist(), strict=True):
        assert sorted(found) == [0, 1, 2, 3]
        best = max(sum(each[i, p[i]] for i in range(4)) for p in itertools.permutations(range(4)))
        assert sum(each[i, found[i]] for i in range(4)) == pytest.approx(best)
        assert found == linear_sum_assignment(-each)[1].tolist()


def test_piece_and_perfect_by_hand():
    places = torch.tensor([[0, 1, 2, 3], [1, 0, 2, 3], [3, 2, 1, 0]])
    solved = JigsawSolution(torch.arange(3), places)
    assert solved.piece == pytest.approx(6 / 12)
    assert solved.perfect == pytest.approx(1 / 3)


def test_laid_inverts_the_permutation():
    # Patch 0 is put in place 1, patch 1 in place 2, patch 2 in place 0.
    assert JigsawSolution(torch.arange(1), torch.tensor([[1, 2, 0, 3]])).laid.tolist() == [
        [2, 0, 1, 3]
    ]


def test_position_features_solve_the_jigsaw(ramps, make_context):
    context = make_context(MeanColor(), ramps, PatchNoise(), side=48, crop_size=16)
    found = run_task(TASK, context)
    for n in (2, 3):
        assert context.examples[f"{n}x{n}_laid"].tolist() == [list(range(n * n))] * 6
        red = context.examples[f"{n}x{n}"][:, 0].float().mean(dim=(0, 1))
        assert red.shape == (48,) and (red[12:] > red[:-12]).all()
        assert found[f"jigsaw_{n}x{n}_piece"] > 0.98
        assert found[f"jigsaw_{n}x{n}_perfect"] > 0.95
        # 300 images: four standard errors of the share of patches, that are dependent.
        assert found[f"jigsaw_{n}x{n}_piece_random"] == pytest.approx(1 / n**2, abs=0.06)
    assert found["jigsaw_2x2_perfect_random"] == pytest.approx(1 / 24, abs=0.05)
    assert found["jigsaw_3x3_perfect_random"] == 0


def test_examples_show_the_patches_as_laid(ramps, make_context):
    context = make_context(MeanColor(), ramps, side=48, crop_size=16)
    # Each patch is put one position further, the last one first.
    solution = JigsawSolution(torch.arange(300), torch.tensor([[1, 2, 3, 0]]).expand(300, -1))
    stored = jigsaw._examples(context, solution, 2)
    assert stored["2x2_laid"].tolist() == [[3, 0, 1, 2]] * 6
    cells = stored["2x2"][:, :2].float().unflatten(3, (2, 24)).unflatten(2, (2, 24))
    right, low = (cells.mean(dim=(3, 5)) > 128).flatten(2).transpose(0, 1)
    assert right.tolist() == [[True, False, True, False]] * 6
    assert low.tolist() == [[True, False, False, True]] * 6


def test_each_metric_has_its_chance():
    chance = {metric.key: metric.chance for metric in TASK.metrics}
    assert chance["jigsaw_3x3_piece"] == pytest.approx(1 / 9)
    assert chance["jigsaw_3x3_perfect"] == pytest.approx(1 / math.factorial(9))
    assert chance["jigsaw_2x2_perfect_random"] == pytest.approx(1 / 24)


def test_assemble_puts_patches_in_position():
    frames = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    frames[0, 0, :16, :16], frames[0, 1, :16, 16:] = 200, 100
    boxes = patch_boxes(1, 2, part=0)
    put = assemble(frames, boxes, torch.tensor([[0, 1, 2, 3]]))
    assert torch.equal(put, frames)
    swapped = assemble(frames, boxes, torch.tensor([[3, 1, 2, 0]]))
    assert swapped[0, 0, 16:, 16:].min() == 200 and swapped[0, 0, :16, :16].max() == 0
    assert swapped[0, 1, :16, 16:].min() == 100
    assert assemble(frames, patch_boxes(1, 3, 0), torch.arange(9)[None]).shape == frames.shape


class Corner(nn.Module):
    """Blue in the upper left corner only, and where a patch lies by its mean colour."""

    def forward(self, images: Tensor) -> Tensor:
        half = images.shape[-1] // 3
        return torch.cat([images[:, 2:, :half, :half].mean(dim=(2, 3)), images.mean((2, 3))], 1)


def test_reassembled_recognized_shuffled_not(arrays, make_context):
    rng = np.random.default_rng(0)
    rise = np.linspace(30, 225, 48)

    def part(count: int):
        labels = np.arange(count) % 2
        pixels = np.zeros((count, 48, 48, 3))
        light = rng.uniform(0.9, 1, (count, 1, 1))
        pixels[..., 0], pixels[..., 1] = light * rise, light * rise[:, None]
        # The same blue in both, in another corner: only its position depends on the class.
        pixels[labels == 0, :16, :16, 2] = 220
        pixels[labels == 1, 32:, 32:, 2] = 220
        pixels += rng.uniform(0, 10, pixels.shape)
        return arrays(pixels.astype(np.uint8), labels)

    splits = Splits("corners", part(200), part(200))
    found = run_task(jigsaw_recognition.TASK, make_context(Corner(), splits, side=48, crop_size=16))
    assert found["jigsaw_3x3_intact"] == 1
    assert found["jigsaw_3x3_reassembled"] > 0.9
    # The corner that decides gets any of nine patches: for class 0 it is blue one time in nine.
    assert found["jigsaw_3x3_shuffled"] == pytest.approx(0.55, abs=0.08)
    assert found["jigsaw_recognition_chance"] == 0.5


def test_one_image_is_refused(net, tints, arrays, make_context):
    alone = arrays(tints.test.pixels[:1], np.zeros(1))
    with pytest.raises(UnmeasurableError, match="two images"):
        TASK.run(make_context(net, Splits("alone", tints.train, alone)))
