"""SP for any LightningModule, unedited: ``Trainer(callbacks=[SPCallback(backbone="backbone")])``.

Works for ``pytorch_lightning`` and for ``lightning.pytorch``; neither is imported before it is
needed.
"""

from sp_lightning.callback import SPCallback

__all__ = ["SPCallback"]
