"""``python -m sp_mmselfsup mmselfsup/byol`` tells where the recipe stands.

So ``python tools/train.py $(python -m sp_mmselfsup mmselfsup/byol)`` trains it.
"""

import sys
from pathlib import Path

from sp_mmselfsup.config_paths import recipe
from sp_plugin import ConfigError, bundled_configs


def main(names: list[str]) -> int:
    """Print the path of each recipe that is named; the names of all, if none is."""
    if not names:
        found = [path for host in ("mmselfsup", "mmpretrain") for path in _of(host)]
        print(*sorted(f"{path.parent.name}/{path.stem}" for path in found), sep="\n")
        return 0
    try:
        print(*(recipe(name) for name in names), sep="\n")
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _of(host: str) -> list[Path]:
    return list(bundled_configs.folder(host).glob("*.py"))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
