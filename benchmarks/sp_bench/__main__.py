"""Entry point of ``sp-bench`` and ``python -m sp_bench``."""

from __future__ import annotations

import sys

from sp_plugin.validation import MissingPackageError, needs_packages


def main() -> None:
    """Run the command line; where a package is not installed, one line and exit code 2."""
    try:
        with needs_packages("sp-bench", "sp-plugin[bench]"):
            from sp_bench.cli import main as run

            run()
    except MissingPackageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
