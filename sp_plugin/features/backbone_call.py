"""How SP calls a backbone: the whole of it, the part with the features, or up to one layer."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from sp_plugin.validation import ConfigError, did_you_mean, invalid_value

__all__ = [
    "FeatureFn",
    "call_backbone",
    "call_feature_module",
    "feature_fn_for_source",
    "feature_module",
    "find_layer",
    "models_with_input",
    "unmasked",
]

FeatureFn = Callable[[nn.Module, Tensor], Any]
"""``feature_fn(backbone, images)``, for a backbone whose features are not what calling it gives."""


class _StopForward(Exception):
    """Ends a forward pass at the layer whose output is wanted."""


def feature_module(backbone: nn.Module) -> nn.Module:
    """The part of a backbone whose output holds the features: itself, but for one with a head.

    The wrapper of Lightning's Fabric contains it, and refuses a backward pass that Fabric does not
    run through its own output. One of Hugging Face's with a classifier or a decoder, such as
    ``ViTMAEForPreTraining``, contains the model without it.

    Args:
        backbone: any module.

    >>> class Encoder(nn.Linear):
    ...     main_input_name = "pixel_values"
    ...     def forward(self, pixel_values): ...
    >>> model = Encoder(8, 8)
    >>> model.vit, model.classifier = Encoder(8, 4), nn.Linear(4, 10)
    >>> feature_module(model)
    Encoder(in_features=8, out_features=4, bias=True)
    """
    if (original := backbone._modules.get("_original_module")) is not None:
        return feature_module(original)
    name = getattr(type(backbone), "main_input_name", None)
    parts = list(models_with_input(backbone, name)) if isinstance(name, str) else []
    return parts[0] if len(parts) == 1 else backbone


def models_with_input(module: nn.Module, name: str = "pixel_values") -> Iterator[nn.Module]:
    """The outermost of Hugging Face's models inside a module that take this input and are trained.

    Args:
        module: any module; not counted itself.
        name: argument of ``forward``. A model whose inner parts share its class, and take hidden
            states, differs from these in it.
    """
    for part in module.children():
        is_model = hasattr(type(part), "main_input_name")
        if not is_model or name not in inspect.signature(part.forward).parameters:
            yield from models_with_input(part, name)
        elif any(p.requires_grad for p in part.parameters()):
            yield part


def call_feature_module(backbone: nn.Module, images: Tensor) -> Any:
    """Output of the `feature_module`, as a method's own calls of its student give it.

    Args:
        backbone: any module.
        images: (B, C, H, W).
    """
    return feature_module(backbone)(images)


def feature_fn_for_source(source: str, feature_fn: FeatureFn | None) -> FeatureFn | None:
    """How SP calls a backbone by itself, given what the user set.

    Args:
        source: setting of SP. With ``host_views`` the features are those of the method's own calls,
            which are calls of the module, whatever else its backbone offers.
        feature_fn: the user's own; None: there is none.

    Raises:
        ConfigError: one that has no use with this source.

    >>> feature_fn_for_source("host_views", None) is call_feature_module
    True
    """
    if source != "host_views":
        return feature_fn
    if feature_fn is not None:
        expected = "none where source is 'host_views': the method calls the backbone itself"
        raise invalid_value("feature_fn", feature_fn, expected)
    return call_feature_module


def find_layer(backbone: nn.Module, layer: str) -> nn.Module:
    """Submodule of that dotted name.

    Raises:
        ConfigError: there is none; with the nearest name.
    """
    parts: dict[str, nn.Module] = dict(backbone.named_modules())
    if layer not in parts:
        names = filter(None, parts)  # the backbone itself has the name ""
        raise ConfigError(f"layer: the backbone has no {layer!r}; {did_you_mean(layer, names)}")
    return parts[layer]


@contextlib.contextmanager
def unmasked(backbone: nn.Module) -> Iterator[bool]:
    """Set every ``mask_ratio`` of a backbone to 0 in the block, and back after it.

    It is an attribute of a part, or of its config (Hugging Face's ViTMAE). The patches may still be
    shuffled.

    Yields:
        Whether there was one above 0.

    >>> mae = nn.Identity()
    >>> mae.mask_ratio = 0.75
    >>> with unmasked(mae):
    ...     mae.mask_ratio
    0.0
    >>> mae.mask_ratio
    0.75
    """
    owners: list[Any] = []
    for part in backbone.modules():
        owners += [part, getattr(part, "config", None)]
    ratios = [(owner, getattr(owner, "mask_ratio", None)) for owner in owners]
    ratios = [(owner, ratio) for owner, ratio in ratios if isinstance(ratio, float) and ratio > 0]
    try:
        for owner, _ in ratios:
            owner.mask_ratio = 0.0
        yield bool(ratios)
    finally:
        for owner, ratio in ratios:
            owner.mask_ratio = ratio


def call_backbone(
    backbone: nn.Module, images: Tensor, layer: str | None, feature_fn: FeatureFn | None
) -> Any:
    """Output of a backbone, or of one of its layers, for images (B, C, H, W).

    A timm model (recognised by ``forward_features``) gives its features before the classifier,
    whatever its ``global_pool`` and ``num_classes``; of any other module the `feature_module` is
    called.

    Args:
        backbone: any module.
        images: (B, C, H, W).
        layer: as for `extract_features`.
        feature_fn: as for `extract_features`.
    """
    if layer is not None:
        return _call_up_to(backbone, images, layer, feature_fn or nn.Module.__call__)
    if feature_fn is not None:
        return feature_fn(backbone, images)
    part = feature_module(backbone)
    if callable(forward_features := getattr(part, "forward_features", None)):
        return forward_features(images)
    return part(images)


def _call_up_to(backbone: nn.Module, images: Tensor, layer: str, feature_fn: FeatureFn) -> Any:
    """Output of one layer; the rest of the forward pass is left out."""
    outputs: list[Any] = []

    def record(_: nn.Module, __: Any, output: Any) -> None:
        outputs.append(output)
        raise _StopForward

    handle = find_layer(backbone, layer).register_forward_hook(record)
    try:
        feature_fn(backbone, images)
    except _StopForward:
        pass
    finally:
        handle.remove()
    if not outputs:
        raise ConfigError(f"layer: the backbone's forward pass never calls {layer!r}")
    return outputs[0]
