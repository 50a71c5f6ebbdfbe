"""ImageNet-R: renditions of 200 classes, such as art and toys (arXiv 2006.16241)."""

from sp_bench.tasks.imagenet_variants import make_task

TASK = make_task("imagenet_r", "ImageNet-R")
