"""SP for any LightningModule, unedited: ``Trainer(callbacks=[SPCallback(backbone="backbone")])``.

Works with ``pytorch_lightning`` and ``lightning.pytorch``; neither is imported before it is needed.
``SPCallback`` is a subclass of the ``Callback`` of each package that is loaded;
``PytorchLightningSPCallback`` and ``LightningSPCallback`` are those of one package alone.
``SpatialProbeCallback`` measures a run with or without SP; likewise.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sp_lightning.callback import SPCallbackMixin as SPCallback
    from sp_lightning.probe_callback import SpatialProbeCallbackMixin as SpatialProbeCallback

__all__ = ["SPCallback", "SpatialProbeCallback"]


def __getattr__(name: str) -> Any:
    if not name.endswith("Callback"):  # such as a module that is being imported
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from sp_lightning.callback import SPCallbackMixin
    from sp_lightning.callback_base import callback_class, class_names, loaded_packages
    from sp_lightning.probe_callback import SpatialProbeCallbackMixin

    for mixin in (SPCallbackMixin, SpatialProbeCallbackMixin):
        if (packages := class_names(mixin).get(name)) is not None:
            return callback_class(mixin, loaded_packages() if name in __all__ else packages)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
