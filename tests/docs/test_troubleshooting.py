"""docs/troubleshooting.md has a row for each line that the plug-in can say, and no others."""

from __future__ import annotations

from pathlib import Path

import messages

HINT = "python tests/docs/messages.py prints the rows to fill in"


def test_each_line_has_a_row() -> None:
    missing = messages.collected().keys() - set(messages.documented())
    assert not missing, "\n".join([HINT, *sorted(missing)])


def test_each_row_is_a_line_of_the_code() -> None:
    rows = messages.documented()
    assert len(rows) == len(set(rows))
    unknown = set(rows) - messages.collected().keys()
    assert not unknown, "\n".join([HINT, *sorted(unknown)])


def test_templates_are_filled_by_dots(tmp_path: Path) -> None:
    path = tmp_path / "code.py"
    path.write_text(
        "HINT = 'take another'\n"
        "def f(key, value):\n"
        "    expected = f'at most {value}'\n"
        "    raise ConfigError(f'{key}: got {value!r}; {HINT}' ' or none')\n"
        "    raise invalid_value('num', value, expected)\n"
        "    log.warning('SP: %s, %.3g px', key, value)\n"
    )
    assert list(messages.lines_of(path)) == [
        "...: got ...; take another or none",
        "num: got ..., takes at most ...",
        "SP: ..., ... px",
    ]
