"""ImageNet-Sketch: sketches of all classes (arXiv 1905.13549)."""

from sp_bench.tasks.imagenet_variants import make_task

TASK = make_task("imagenet_sketch", "ImageNet-Sketch")
