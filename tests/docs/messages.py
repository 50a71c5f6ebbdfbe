"""The lines that the plug-in can say, collected from the code.

``python tests/docs/messages.py`` prints what docs/troubleshooting.md lacks, as rows to fill in, and
the rows of it that no code says any more.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "troubleshooting.md"
FOLDERS = ("sp_plugin", "adapters")

# Calls that make a line, and which of their arguments is its text.
ERRORS = {"ConfigError": 0, "MissingPackageError": 0, "ImportError": 0}
LOGS = {"warning": 0, "warn": 0, "info": 0, "announce": 0, "print_log": 0, "_warn_once": 0}


def template(node: ast.expr, names: dict[str, ast.expr]) -> str:
    """Text of an expression, with ``...`` for what is filled in."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(template(part, names) for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return template(node.left, names) + template(node.right, names)
    if isinstance(node, ast.FormattedValue) and isinstance(node.value, (ast.Constant, ast.Name)):
        text = template(node.value, names)
        return repr(text) if node.conversion == ord("r") and text != "..." else text
    if isinstance(node, ast.Name) and node.id in names:
        return template(names[node.id], {})
    return "..."


def assigned_texts(scope: ast.AST) -> dict[str, ast.expr]:
    """Texts that a function, or a module, gives a name once."""
    found: dict[str, list[ast.expr]] = {}
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            found.setdefault(node.targets[0].id, []).append(node.value)
    is_text = (ast.Constant, ast.JoinedStr)
    return {k: v[0] for k, v in found.items() if len(v) == 1 and isinstance(v[0], is_text)}


def called(node: ast.AST) -> str:
    """Name of the function that an expression calls, without what it belongs to."""
    if not isinstance(node, ast.Call):
        return ""
    return getattr(node.func, "attr", "") or getattr(node.func, "id", "")


def lines_of(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    constants = assigned_texts(ast.Module([n for n in tree.body if isinstance(n, ast.Assign)], []))
    texts = {id(scope): constants | assigned_texts(scope) for scope in functions}
    texts[id(tree)] = constants
    # A function comes after those around it, so the innermost names win.
    scope_of = {id(node): texts[id(at)] for at in [tree, *functions] for node in ast.walk(at)}
    for node in ast.walk(tree):
        name, names = called(node), scope_of[id(node)]
        if not isinstance(node, ast.Call):
            continue
        if name == "invalid_value" and len(node.args) == 3:
            key, expected = (template(node.args[i], names) for i in (0, 2))
            yield f"{key}: got ..., takes {expected}"
        elif name in ERRORS | LOGS and node.args:
            text = template(node.args[0], names)
            yield re.sub(r"%[.\d]*[srdfg]", "...", text).replace("`", "'")


def collected() -> dict[str, set[str]]:
    """Each line, with ``...`` for what is filled in, and the files that say it."""
    found: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for text in lines_of(path):
                if re.sub(r"\W|\b(sp|SP)\b", "", text):  # else a line made elsewhere
                    found.setdefault(text, set()).add(str(path.relative_to(ROOT)))
    return found


def documented() -> list[str]:
    """Lines with a row on the page."""
    return re.findall(r"^\| `(.+?)` \|", PAGE.read_text(), flags=re.MULTILINE)


def main() -> None:
    found, rows = collected(), documented()
    for text in sorted(found.keys() - set(rows)):
        print(f"| `{text}` | MEANING | WHAT TO DO |  # {', '.join(sorted(found[text]))}")
    for text in sorted(set(rows) - found.keys()):
        print(f"no code says: {text}")


if __name__ == "__main__":
    main()
