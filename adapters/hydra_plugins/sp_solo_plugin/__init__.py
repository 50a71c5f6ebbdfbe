"""Lets hydra find sp_solo: hydra imports every package in ``hydra_plugins`` by itself.

A search path plug-in runs before the task function and after the script's own imports, which is
when solo-learn's METHODS can be changed. For any other hydra app it is one look-up.
"""

import logging
import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class SPSearchPath(SearchPathPlugin):
    """Registers SP in a loaded solo-learn, and its configs on hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if "solo.methods" not in sys.modules:
            return
        import sp_solo

        try:
            sp_solo.register()
        except sp_solo.ConfigError as error:  # the run may not use SP at all
            logging.getLogger("sp_plugin").warning("SP: %s", error)
            return
        search_path.append("sp-plugin", f"file://{sp_solo.configs()}")  # hydra decodes no URI
