"""Spatial Prediction for lightly: its transforms with SP's crops of the original image.

>>> from lightly.transforms import SimCLRTransform
>>> transform = SPTransform(SimCLRTransform(input_size=32), crop_size=16)
>>> from PIL import Image
>>> sample = transform(Image.new("RGB", (64, 48)))
>>> len(sample["views"]), sample["sp"]["crops"].shape
(2, torch.Size([4, 3, 16, 16]))
"""

from sp_plugin.validation import needs_packages

with needs_packages("sp_lightly", "sp-plugin[lightly]"):
    from sp_plugin import ImageCrops, SPTransform, ViewBoxTransform

__all__ = ["ImageCrops", "SPTransform", "ViewBoxTransform"]
