"""Crops: boxes, the sampler that draws them, and the resize that cuts them out of images."""
