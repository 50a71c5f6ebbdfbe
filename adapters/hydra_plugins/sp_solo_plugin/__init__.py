"""The few lines by which hydra finds sp_solo; hydra imports every ``hydra_plugins`` by itself.

A search path plug-in runs before the task function and after the script's own imports: that is
when solo-learn's METHODS can be changed in place. Any other hydra app pays for one look.
"""

import logging
import sys

from hydra.core.config_search_path import ConfigSearchPath
from hydra.plugins.search_path_plugin import SearchPathPlugin


class SPSearchPath(SearchPathPlugin):
    """Puts SP into a solo-learn that is loaded, and its recipes on hydra's search path."""

    def manipulate_search_path(self, search_path: ConfigSearchPath) -> None:
        if "solo.methods" not in sys.modules:
            return
        import sp_solo

        try:
            sp_solo.register()
        except sp_solo.ConfigError as error:  # the run may not want SP at all
            logging.getLogger("sp_plugin").warning("SP: %s", error)
            return
        search_path.append("sp-plugin", sp_solo.recipes().as_uri())
