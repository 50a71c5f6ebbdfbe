"""SP for MMSelfSup and MMPretrain: ``custom_imports = dict(imports=['sp_mmselfsup'])``.

The import registers `SPAlgorithm`, `SPCrops`, `SPViewBoxes` and `SpatialProbeHook` with MMEngine,
where the registries of both frameworks find them; neither framework is imported. MMEngine is
required: ``pip install sp-plugin[mmselfsup]``.
"""

import sys

from sp_mmselfsup.config_paths import baseline, recipe
from sp_plugin.validation import MissingPackageError, needs_packages

try:
    with needs_packages("sp_mmselfsup", "sp-plugin[mmselfsup]"):
        from sp_mmselfsup.algorithm import SPAlgorithm
        from sp_mmselfsup.crops_transform import SPCrops
        from sp_mmselfsup.probe_hook import SpatialProbeHook
        from sp_mmselfsup.view_boxes_transform import SPViewBoxes
except MissingPackageError as error:
    if sys.argv[:1] == ["-m"]:  # `python -m sp_mmselfsup`, while Python looks for `__main__`
        sys.exit(str(error))
    raise

__all__ = ["SPAlgorithm", "SPCrops", "SPViewBoxes", "SpatialProbeHook", "baseline", "recipe"]
