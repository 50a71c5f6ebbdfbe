"""SP for any LightningModule, unedited: ``Trainer(callbacks=[SPCallback(backbone="backbone")])``.

Works with ``pytorch_lightning`` and ``lightning.pytorch``; neither is imported before it is needed.
``SPCallback`` is a subclass of the ``Callback`` of each package that is loaded;
``PytorchLightningSPCallback`` and ``LightningSPCallback`` are those of one package alone.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sp_lightning.callback import SPCallbackMixin as SPCallback

__all__ = ["SPCallback"]


def __getattr__(name: str) -> Any:
    from sp_lightning.callback_base import CLASS_NAMES, callback_class, loaded_packages

    packages_of = {class_name: packages for packages, class_name in CLASS_NAMES.items()}
    if name not in packages_of:  # such as a module that is being imported
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sp_lightning.callback import SPCallbackMixin

    packages = loaded_packages() if name == "SPCallback" else packages_of[name]
    return callback_class(SPCallbackMixin, packages)
