"""SP for MMSelfSup and MMPretrain: ``custom_imports = dict(imports=['sp_mmselfsup'])``.

Importing this registers `SPAlgorithm` and `SPCrops` with MMEngine, where the registries of both
hosts find them; neither host is imported. It needs MMEngine: ``pip install sp-plugin[mmselfsup]``.
"""

from sp_mmselfsup.algorithm import SPAlgorithm

__all__ = ["SPAlgorithm"]
