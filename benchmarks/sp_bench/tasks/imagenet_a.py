"""ImageNet-A: images of 200 classes that a ResNet-50 gets wrong (arXiv 1907.07174)."""

from sp_bench.tasks.imagenet_variants import make_task

TASK = make_task("imagenet_a", "ImageNet-A")
