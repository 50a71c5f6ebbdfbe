"""The student in the model that a Trainer trains."""

from __future__ import annotations

from torch import nn

from sp_plugin import ConfigError
from sp_plugin.features.backbone_call import models_with_input
from sp_plugin.validation import did_you_mean

__all__ = ["find_backbone"]


def find_backbone(model: nn.Module, name: str | None = None) -> nn.Module:
    """The part of a model that SP trains.

    Args:
        model: as the Trainer gets it, not wrapped.
        name: dotted name of the part; None: the model itself where it is one of Hugging Face's, or
            the one trained model of Hugging Face's inside it.

    Raises:
        ConfigError: no part of that name, or without a name none or several.
    """
    parts: dict[str, nn.Module] = dict(model.named_modules())
    kind = type(model).__name__
    if name is not None:
        if name in parts:
            return parts[name]
        known = filter(None, parts)
        raise ConfigError(f"sp_backbone: {kind} has no {name!r}; {did_you_mean(name, known)}")
    if hasattr(type(model), "main_input_name"):
        return model
    found = list(models_with_input(model))
    if len(found) == 1:
        return found[0]
    names = [name for name, part in parts.items() if any(part is one for one in found)]
    raise ConfigError(
        f"sp_backbone: got None, takes the name of the part of {kind} that SP trains: it has "
        f"{', '.join(names) or 'no model of Hugging Face'}"
    )
