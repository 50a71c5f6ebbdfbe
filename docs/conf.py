"""The documentation as a site: ``make docs``. Sphinx, as its pages outlive one theme.

The pages are Markdown that reads well in the repository too; the API reference is made of the
docstrings, whose examples and references are in its own syntax.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / name) for name in ("", "adapters", "benchmarks")]

from sp_plugin import __version__  # noqa: E402

project, author = "sp-plugin", "The sp-plugin developers"
copyright = "The sp-plugin developers, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
nb_execution_mode = "off"  # the notebooks have their outputs; `make notebooks` runs them
nb_merge_streams = True
exclude_patterns = ["notebooks/runs"]  # what they write
default_role = "py:obj"
nitpicky = False

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"sp-plugin {version}"
html_show_sphinx = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
napoleon_use_ivar = True  # an attribute and its type in one line
