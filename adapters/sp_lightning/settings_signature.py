"""Every setting of SP as an explicit parameter: for LightningCLI, jsonargparse and ``help``.

They are read from `SPConfig`, so that they are complete and have its types, defaults and texts.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import typing
from collections.abc import Callable
from typing import Any, TypeVar

from sp_plugin import SPConfig

_Init = TypeVar("_Init", bound=Callable[..., Any])


def explicit_settings(init: _Init) -> _Init:
    """Give an ``__init__`` with ``**settings`` the signature that names each of them.

    >>> @explicit_settings
    ... def init(self, backbone: str = "auto", **settings: float) -> None: ...
    >>> str(inspect.signature(init))[:70]
    "(self, backbone: str = 'auto', *, weight: float = 0.5, relative_weight"
    """
    types = {**typing.get_type_hints(init), **typing.get_type_hints(SPConfig)}
    own = [
        parameter.replace(annotation=types.get(name, parameter.annotation))
        for name, parameter in inspect.signature(init).parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    ]
    settings = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY,
            default=field.default, annotation=types[field.name],
        )
        for field in dataclasses.fields(SPConfig)
    ]  # fmt: skip
    attributes: Any = init
    attributes.__signature__ = inspect.Signature([*own, *settings])
    attributes.__annotations__ = {p.name: p.annotation for p in (*own[1:], *settings)}
    return init


def with_signature_of(init: Any) -> Callable[[_Init], _Init]:
    """Give a ``__new__``, which `inspect.signature` reads first, the signature of ``__init__``."""

    def decorate(new: _Init) -> _Init:
        attributes: Any = new
        attributes.__signature__ = inspect.signature(init)
        attributes.__annotations__ = init.__annotations__
        return new

    return decorate


def describe_settings(docstring: str) -> str:
    r"""A class's docstring with the text of each setting in place of that of ``**settings``.

    Args:
        docstring: Google style, with ``**settings`` among its ``Args``.

    >>> describe_settings("Text.\n\n    Args:\n        **settings: by name.")[7:47]
    'Args:\n    weight: weight of SP; 0 leaves'
    """
    attributes = inspect.cleandoc(SPConfig.__doc__ or "").partition("Attributes:\n")[2]
    lines = attributes.partition("\n\n")[0]
    docstring = inspect.cleandoc(docstring)
    return re.sub(r" +\*\*settings:.*(\n {8}.*)*", lambda _: lines, docstring)
