"""The doctests of an adapter need its framework, which need not be installed."""

import importlib.util

collect_ignore = [] if importlib.util.find_spec("transformers") else ["sp_transformers"]
