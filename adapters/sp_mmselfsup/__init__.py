"""SP for MMSelfSup and MMPretrain: ``custom_imports = dict(imports=['sp_mmselfsup'])``.

Importing this registers `SPAlgorithm`, `SPCrops` and `SPViewBoxes` with MMEngine, where the
registries of both hosts find them; neither host is imported. It needs MMEngine:
``pip install sp-plugin[mmselfsup]``.
"""

from sp_mmselfsup.algorithm import SPAlgorithm
from sp_mmselfsup.config_paths import baseline, recipe
from sp_mmselfsup.crops_transform import SPCrops
from sp_mmselfsup.view_boxes_transform import SPViewBoxes

__all__ = ["SPAlgorithm", "SPCrops", "SPViewBoxes", "baseline", "recipe"]
