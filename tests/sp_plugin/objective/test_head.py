"""SPHead: antisymmetry, independence of the batch, gradients, and pairs of several crops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sp_plugin.objective.head import HEADS, SPHead
from sp_plugin.objective.loss import LOSSES, SPLoss
from sp_plugin.objective.pairs import sample_pairs

_seeds = st.integers(0, 2**32 - 1)
each_head = pytest.mark.parametrize("head_type", HEADS)


def _features(seed: int, batch: int = 6, width: int = 12) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    scale = 10 ** (4 * torch.rand(2, 1, 1, generator=generator) - 2)
    a, b = scale * torch.randn(2, batch, width, generator=generator) + scale
    return a, b


@pytest.mark.parametrize("head_type", ["antisymmetric", "difference"])
@given(seed=_seeds)
def test_swapped_pair_flips_prediction_sign(head_type, seed):
    a, b = _features(seed)
    head = SPHead(12, 32, head_type)
    torch.testing.assert_close(head(a, b), -head(b, a), atol=1e-6, rtol=1e-5)
    assert head(a, b).abs().max() > 1e-3
    torch.testing.assert_close(head(a, a), torch.zeros(6, 3), atol=1e-6, rtol=0)


def test_plain_head_is_not_antisymmetric():
    head = SPHead(12, 32, "plain")
    a, b = _features(0)
    assert (head(a, b) + head(b, a)).abs().max() > 1e-2


@given(_seeds)
def test_difference_head_is_additive(seed):
    (a, b), (c, _) = _features(seed), _features(seed + 1)
    head = SPHead(12, 32, "difference")
    torch.testing.assert_close(head(a, c), head(a, b) + head(b, c), atol=1e-5, rtol=1e-4)


@each_head
def test_prediction_is_independent_of_batch(head_type):
    head, (a, b) = SPHead(12, 32, head_type), _features(3)
    batched = head(a, b)
    one_by_one = torch.cat([head(a[i : i + 1], b[i : i + 1]) for i in range(len(a))])
    torch.testing.assert_close(one_by_one, batched, atol=1e-5, rtol=1e-4)


@each_head
def test_train_and_eval_predict_alike(head_type):
    head, (a, b) = SPHead(12, 32, head_type), _features(4)
    assert torch.equal(head.train()(a, b), head.eval()(a, b))
    assert not list(head.buffers())


@each_head
def test_feature_scale_and_offset_cancel(head_type):
    head, (a, b) = SPHead(12, 32, head_type), _features(5)
    torch.testing.assert_close(head(3 * a + 1, 7 * b - 2), head(a, b), atol=1e-3, rtol=1e-3)


@each_head
@pytest.mark.parametrize("loss", LOSSES)
def test_head_and_loss_gradients_are_correct(head_type, loss):
    head = SPHead(4, 5, head_type).double()
    a, b = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.randn(3, 3, dtype=torch.float64)
    names, weights = zip(*head.named_parameters(), strict=True)

    def loss_of(a, b, *weights):
        prediction = torch.func.functional_call(
            head, dict(zip(names, weights, strict=True)), (a, b)
        )
        return SPLoss(loss)(prediction, target)

    assert torch.autograd.gradcheck(loss_of, (a, b, *weights))


@each_head
def test_every_weight_gets_a_gradient(head_type):
    head, (a, b) = SPHead(12, 32, head_type), _features(6)
    SPLoss("mse")(head(a, b), torch.randn(6, 3)).backward()
    # A bias of the last layer would cancel out in the difference and get no gradient.
    for name, parameter in head.named_parameters():
        assert parameter.grad.any(), name


@each_head
def test_output_layer_has_no_bias(head_type):
    *_, last = (part for part in SPHead(12, 32, head_type).modules() if isinstance(part, nn.Linear))
    assert last.out_features == 3 and last.bias is None


def test_unknown_head_type_is_refused():
    with pytest.raises(ValueError, match=r"^head: got 'deep', takes one of antisymmetric, plain"):
        SPHead(12, 32, "deep")


@each_head
@pytest.mark.parametrize("crops", [2, 3, 5])
def test_forward_pairs_equals_single_pairs(head_type, crops):
    head = SPHead(6, 8, head_type).double()
    pairs = sample_pairs(crops, "all" if crops == 2 else 3, 1)
    features = torch.randn(crops, 4, 6, dtype=torch.float64, requires_grad=True)
    one_by_one = torch.cat([head(features[a], features[b]) for a, b in pairs.T.tolist()])
    together = head.forward_pairs(features, pairs)
    torch.testing.assert_close(together, one_by_one)
    weights = torch.randn_like(one_by_one)
    inputs = [features, *head.parameters()]
    gradients = [
        torch.autograd.grad((prediction * weights).sum(), inputs)
        for prediction in (together, one_by_one)
    ]
    torch.testing.assert_close(*gradients)


def test_first_layer_gets_each_crop_once():
    head, shapes = SPHead(6, 8), []
    head.norm.register_forward_hook(lambda _, __, out: shapes.append(out.shape))
    head.forward_pairs(torch.randn(4, 5, 6), sample_pairs(4))
    assert shapes == [(4, 5, 6)]
