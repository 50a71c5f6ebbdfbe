"""ImageNet-C: the linear probe on the authors' corrupted images (Hendrycks and Dietterich 2019).

Of 1,000 images; mCE is relative to the errors of AlexNet, a classifier of ImageNet's 1,000 classes.
"""

from __future__ import annotations

from sp_bench.corruptions import NAMES
from sp_bench.corruptions.imagenet_c import CorruptedFolders, mean_corruption_error
from sp_bench.data.dataset import Splits
from sp_bench.frozen_backbone import UnmeasurableError
from sp_bench.results import MetricSpec
from sp_bench.tasks.imagenet_variants import check_sources
from sp_bench.tasks.robustness import SplitsWithCorruptions, measure
from sp_bench.tasks.task import SEMANTIC, Task, TaskContext, percent_control


def load(source: str | None, shared: Splits | None) -> Splits:
    """The shared images, and corrupted ones in a folder.

    Args:
        source: folder, as for `CorruptedFolders`.
        shared: images of all tasks, which the probe is fitted on.

    Raises:
        DataError: one of both is missing or cannot be used.
    """
    folder, shared = check_sources(source, shared)
    files = CorruptedFolders(folder, shared.train.classes)
    return SplitsWithCorruptions(shared.name, shared.train, shared.test, shared.skipped, files)


def run(context: TaskContext) -> dict[str, float]:
    """mCE, and accuracy on corrupted and on clean images."""
    if not isinstance(context.splits, SplitsWithCorruptions):
        raise UnmeasurableError("data: imagenet_c takes a folder of its own")
    found = measure(context)
    return {
        "imagenet_c_mce": mean_corruption_error(found.by_name),
        "imagenet_c": found.mean,
        "imagenet_c_clean": found.clean,
        "imagenet_c_chance": found.chance,
        **{f"imagenet_c_{name}": value for name, value in found.by_name.items()},
    }


TASK = Task(
    "imagenet_c",
    (
        MetricSpec("imagenet_c_mce", "ImageNet-C: mCE", percent=True, higher_is_better=False),
        MetricSpec("imagenet_c", "ImageNet-C: mean of 15 corruptions (top-1)", percent=True),
        percent_control("imagenet_c_clean", "ImageNet-C: clean (top-1)"),
        percent_control("imagenet_c_chance", "ImageNet-C: most frequent class"),
        *(percent_control(f"imagenet_c_{name}", f"ImageNet-C: {name} (top-1)") for name in NAMES),
    ),
    run,
    load,
    quality=SEMANTIC,
    needs_own_data=True,
)
