"""SPCallback without a line of code: every Lightning Trainer takes callbacks from here.

For programs with a closed list of callbacks, such as lightly-train. Both Lightning packages load
what the entry points ``pytorch_lightning.callbacks_factory`` and
``lightning.pytorch.callbacks_factory`` name. It is off, and imports nothing, unless the environment
variable ``SP_PLUGIN`` is set.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

VARIABLE = "SP_PLUGIN"


def callbacks() -> list[Any]:
    """An `SPCallback` if ``SP_PLUGIN`` is ``1`` or a YAML file of its settings; else none.

    Raises:
        ConfigError: another value, or a file that is no mapping of settings.

    >>> callbacks()
    []
    """
    value = os.environ.get(VARIABLE, "")
    if value in ("", "0"):
        return []
    from sp_lightning import SPCallback

    return [SPCallback(**({} if value == "1" else _read_settings(value)))]


def _read_settings(value: str) -> dict[str, Any]:
    import yaml

    from sp_plugin.validation import ConfigError, first_line, invalid_value

    path = Path(value)
    if not path.is_file():
        raise invalid_value(VARIABLE, value, "1, 0 or a YAML file of settings")
    try:
        settings = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: {first_line(error)}") from error
    settings = {} if settings is None else settings
    if not isinstance(settings, dict):
        raise ConfigError(
            f"{path}: got {type(settings).__name__}, takes settings such as 'weight: 0.3'"
        )
    return {str(name): setting for name, setting in settings.items()}
