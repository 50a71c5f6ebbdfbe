"""SP for MMSelfSup and MMPretrain: ``custom_imports = dict(imports=['sp_mmselfsup'])``.

The import registers `SPAlgorithm`, `SPCrops` and `SPViewBoxes` with MMEngine, where the registries
of both frameworks find them; neither framework is imported. MMEngine is required:
``pip install sp-plugin[mmselfsup]``.
"""

from sp_mmselfsup.algorithm import SPAlgorithm
from sp_mmselfsup.config_paths import baseline, recipe
from sp_mmselfsup.crops_transform import SPCrops
from sp_mmselfsup.view_boxes_transform import SPViewBoxes

__all__ = ["SPAlgorithm", "SPCrops", "SPViewBoxes", "baseline", "recipe"]
