"""``python -m sp_mmselfsup mmselfsup/byol`` prints the path of a recipe.

So ``python tools/train.py $(python -m sp_mmselfsup mmselfsup/byol)`` trains it.
"""

import sys

from sp_mmselfsup.config_paths import FRAMEWORKS, recipe
from sp_plugin import ConfigError, bundled_configs


def main(names: list[str]) -> int:
    """Print the paths of the named recipes; without names, the names of all recipes."""
    if not names:
        paths = [path for name in FRAMEWORKS for path in bundled_configs.folder(name).glob("*.py")]
        print(*sorted(f"{path.parent.name}/{path.stem}" for path in paths), sep="\n")
        return 0
    try:
        print(*(recipe(name) for name in names), sep="\n")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
