"""ImageNet-V2: new test images of all classes, in folders 0 to 999 (arXiv 1902.10811)."""

from sp_bench.tasks.imagenet_variants import make_task

TASK = make_task("imagenet_v2", "ImageNet-V2")
