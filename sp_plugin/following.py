"""Followed: what a host's own transform does to a picture, seen from beside it.

Each part of the transform is watched on its instance: the ``forward`` of a module is shadowed by an
instance attribute, any other callable gets a stand-in where it is kept (a list, an attribute). No
class changes, and `Followed.remove` takes everything off again. A part runs exactly as it did,
on the same generators; only what goes in and what comes out is looked at.

Pictures are told by identity: what a part returns is where its input was, moved as that kind of
part moves (`sp_plugin.moves`). A picture that came out of something unseen (a closure, a function
called in between) has no known place, and what is made of it neither. So no place is ever guessed.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import Any

from torch import nn

from sp_plugin.moves import DRAWING, Drawn, blank_crop, colours, drawn_crop, drawn_of, lost, move_of
from sp_plugin.pictures import is_picture
from sp_plugin.places import Place


class Trail:
    """Where each picture of one run of a transform lies in the original.

    Args:
        image: the original.
        dry: the original is a blank tensor, and only where crops and flips lead is wanted: parts
            that do neither are left out, and crops are drawn but not cut.
    """

    def __init__(self, image: Any, dry: bool = False) -> None:
        self.dry = dry
        self.drawn: Drawn = None
        # With the pictures themselves: an identity is good only as long as its object lives.
        self._places: dict[int, tuple[Any, Place | None]] = {id(image): (image, Place())}

    def place(self, picture: Any) -> Place | None:
        """Where it lies; None: it came out of something unseen."""
        return self._places.get(id(picture), (None, None))[1]

    def step(self, part: _Part, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a part of the transform, and note where what it returns lies."""
        if self.dry and part.leaf and part.move in (colours, lost) and not kwargs:
            return args[0] if len(args) == 1 else args
        before = _first_picture((args, kwargs))
        self.drawn = None
        output = blank_crop(part.part, before) if self.dry else None
        if output is None:
            output = part.call(*args, **kwargs)
        after = _first_picture(output)
        if after is not None and id(after) not in self._places:  # else: seen inside, or unchanged
            self._places[id(after)] = after, self._moved(part, before, after)
        return output

    def _moved(self, part: _Part, before: Any, after: Any) -> Place | None:
        start = self.place(before)
        # Parts within it were watched, and what it returns came out of none of them.
        unseen = part.move is colours and not part.leaf
        if start is None or unseen:
            return None
        return part.move(part.part, start, before, after, self.drawn)


# Of the process and the thread that transforms; None where nobody asks.
_trail: ContextVar[Trail | None] = ContextVar("sp_trail", default=None)


@contextlib.contextmanager
def trail_of(image: Any, dry: bool = False) -> Iterator[Trail]:
    """Follow a picture through a `Followed` transform for the length of a block."""
    trail = Trail(image, dry)
    token = _trail.set(trail)
    try:
        yield trail
    finally:
        _trail.reset(token)


class _Part:
    """Stands for one part of a transform; picklable wherever that is."""

    def __init__(self, part: Any) -> None:
        self.part = part
        self.move = move_of(part)
        self.leaf = True

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return self.part(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        trail = _trail.get()
        return self.call(*args, **kwargs) if trail is None else trail.step(self, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or "part" not in self.__dict__:  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.part, name)

    def __repr__(self) -> str:
        return repr(self.part)


class _Forward(_Part):
    """Stands for the ``forward`` of a module, as an attribute of the instance."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__(part)
        self.own = vars(part).get("forward")

    def call(self, *args: Any, **kwargs: Any) -> Any:
        return _method(self.part, "forward", self.own)(*args, **kwargs)


class _Drawing:
    """Stands for a method by which a random crop draws, and notes what it drew."""

    def __init__(self, part: nn.Module, name: str) -> None:
        self.part, self.name = part, name
        self.own = vars(part).get(name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        told = _method(self.part, self.name, self.own)(*args, **kwargs)
        trail = _trail.get()
        if trail is not None:
            trail.drawn = drawn_of(told)
        return told


def _method(part: Any, name: str, own: Any) -> Callable[..., Any]:
    """The method beneath what stands on the instance: someone's own there, or the class's."""
    if own is not None:
        return own  # type: ignore[no-any-return]
    found = inspect.getattr_static(type(part), name)
    return found.__get__(part, type(part))  # type: ignore[no-any-return]


class Followed:
    """Puts the watch on every part of a transform that can be reached, and takes it off.

    Reached are attributes of callables, lists, tuples and dicts, however deep; not what a closure
    holds.

    Attributes:
        transform: to be called in place of the one given; the same object where that is a module.

    >>> import torch
    >>> followed = Followed([lambda image: image * 2])
    >>> picture = torch.ones(3, 8, 8)
    >>> with trail_of(picture) as trail:
    ...     view = followed.transform[0](picture)
    >>> trail.place(view) == Place()
    True
    >>> followed.remove()
    """

    def __init__(self, transform: Any) -> None:
        self._undo: list[Callable[[], Any]] = []
        self._met: dict[int, tuple[Any, Any]] = {}
        self._parts = 0
        self.transform = self._on(transform)

    def remove(self) -> None:
        """Put everything back."""
        for undo in reversed(self._undo):
            undo()
        self._undo = []

    def _on(self, item: Any) -> Any:
        """What takes an item's place: itself, or a stand-in; all in it is watched then."""
        if id(item) in self._met:
            return self._met[id(item)][1]
        stand_in: Any = item
        if isinstance(item, nn.Module):
            part: _Part | None = _Forward(item)
        elif callable(item) and not isinstance(item, type):
            part = stand_in = _Part(item)
        else:
            part = None
        self._met[id(item)] = item, stand_in
        outside = self._parts
        if type(item) is tuple:
            stand_in = tuple(self._on(inner) for inner in item)
            self._met[id(item)] = item, stand_in
        elif isinstance(item, list):
            for index, inner in enumerate(item):
                self._put(item, index, inner)
        elif type(item) is dict:
            for key, inner in list(item.items()):
                self._put(item, key, inner)
        elif part is not None and not inspect.isroutine(item):
            self._inside(item)
        if part is not None:
            part.leaf = self._parts == outside
            self._parts += 1
        if isinstance(part, _Forward):
            self._shadow(item, "forward", part)
            for name in DRAWING if part.move is drawn_crop else ():
                if hasattr(item, name):
                    self._shadow(item, name, _Drawing(item, name))
        return stand_in

    def _inside(self, item: Any) -> None:
        attributes = getattr(item, "__dict__", {})
        for name in list(attributes):
            if name == "_modules" or name not in _OF_MODULES:
                self._put(attributes, name, attributes[name])

    def _put(self, container: Any, key: Any, inner: Any) -> None:
        stand_in = self._on(inner)
        if stand_in is not inner:
            self._undo.append(functools.partial(operator.setitem, container, key, inner))
            container[key] = stand_in

    def _shadow(self, module: nn.Module, name: str, by: Any) -> None:
        attributes = vars(module)
        if name in attributes:
            undo = functools.partial(operator.setitem, attributes, name, attributes[name])
        else:
            undo = functools.partial(attributes.pop, name, None)
        self._undo.append(undo)
        attributes[name] = by


_OF_MODULES = frozenset(vars(nn.Module()))  # torch's own bookkeeping: no parts of a transform


def _first_picture(item: Any) -> Any:
    if is_picture(item):
        return item
    if isinstance(item, Mapping):
        item = list(item.values())
    if not isinstance(item, (list, tuple)):
        return None
    return next((found for part in item if (found := _first_picture(part)) is not None), None)
