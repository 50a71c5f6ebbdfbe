"""The student: which part of a module SP trains."""

from __future__ import annotations

import re
from collections.abc import Collection

from torch import nn

from sp_plugin import ConfigError
from sp_plugin.features.input_size import first_convolution
from sp_plugin.validation import did_you_mean

AUTO = "auto"
# Names of the student in lightly's examples and benchmarks, in solo-learn, lightly-train and most
# scripts. A module with a student of one of these names has its EMA teacher under ``backbone``.
_STUDENT_NAMES = (
    "student_backbone", "anchor_backbone", "online_backbone", "student_embedding_model", "student",
)  # fmt: skip
_BACKBONE_NAMES = ("backbone",)
_ENCODER_NAMES = ("encoder", "embedding_model")
_PAIR = {"student", "teacher"}  # children of a wrapper that holds a part and its EMA copy
_PROJECTOR = re.compile(r"_?(projector|projection_head|proj_head|embed_head)")


def find_student_name(module: nn.Module, may_be_frozen: bool = False) -> str:
    """Name of the student in a module, by common names; never that of an EMA teacher.

    Wrappers are opened: the student of a pair of student and teacher (`TeacherStudentWrapper` of
    stable-pretraining), a part called ``backbone`` (`MultiCropWrapper` of DINO), and the one next
    to a projector (`BackboneWrapper` of torchgeo).

    Args:
        module: LightningModule.
        may_be_frozen: whether a callback for finetuning freezes and unfreezes parts.

    Raises:
        ConfigError: there is none, or more than one; the line names them.

    >>> parts = {"backbone": nn.Linear(2, 2), "student_backbone": nn.Linear(2, 2)}
    >>> find_student_name(nn.ModuleDict(parts))
    'student_backbone'
    """
    kind = type(module).__name__
    parts = {path: part for path, part in module.named_modules() if path}
    trained = [path for path, part in parts.items() if is_trained(part)]
    found = _find_outermost(module, trained)
    frozen = []
    if not found:
        frozen = _find_outermost(module, [path for path in parts if path not in trained])
    if may_be_frozen:
        found = found or frozen
    if len(found) == 1:
        return found[0] + _inner_path(parts[found[0]])
    if found:
        several = ", ".join(found)
        reason = f"{kind} has several that it may be: {several}; name one"
    elif frozen:
        reason = f"{frozen[0]!r} of {kind} is frozen; name it, if it is unfrozen during training"
    else:
        children = [name for name, _ in module.named_children() if name in trained]
        names = ", ".join((*_BACKBONE_NAMES, *_ENCODER_NAMES, *_STUDENT_NAMES))
        reason = (
            f"no part of {kind} has one of the names {names}; it trains "
            f"{', '.join(children) or 'nothing'}: name one of these"
        )
    raise ConfigError(f"backbone: got 'auto', but {reason}")


def _find_outermost(module: nn.Module, paths: list[str]) -> list[str]:
    """Those with the first common names that occur; not parts of each other."""
    in_pairs = [path for path in paths if _is_in_pair(module, path)]
    alone = [path for path in paths if path not in in_pairs]
    encoders = [path for path in alone if _takes_images(module, path)]
    for names, candidates in (
        (_STUDENT_NAMES, alone),
        (_BACKBONE_NAMES, paths),
        (_ENCODER_NAMES, encoders),
        (_STUDENT_NAMES, in_pairs),
    ):
        matches = [path for path in candidates if path.rpartition(".")[2] in names]
        outer = [path for path in matches if not any(path.startswith(f"{o}.") for o in matches)]
        if outer:
            return outer
    return []


def _is_in_pair(module: nn.Module, path: str) -> bool:
    """Whether a part is the student or the teacher that a wrapper below the module holds."""
    parent, _, name = path.rpartition(".")
    return bool(parent) and name in _PAIR and _children(module, parent).keys() >= _PAIR


def _takes_images(module: nn.Module, path: str) -> bool:
    """Whether an encoder is a whole backbone, and not the blocks behind a backbone's stem."""
    parent = path.rpartition(".")[0]
    stem = first_convolution(module.get_submodule(path))
    return not parent or (
        stem is not None and stem is first_convolution(module.get_submodule(parent))
    )


def _inner_path(part: nn.Module) -> str:
    """Path from a part to the backbone in it, with a leading dot; empty: it is the backbone."""
    children = _children(part)
    if children.keys() >= _PAIR:
        return ".student" + _inner_path(children["student"])
    if "backbone" in children and is_trained(children["backbone"]):
        return ".backbone" + _inner_path(children["backbone"])
    projectors = [
        name
        for name, child in children.items()
        if _PROJECTOR.fullmatch(name) and not isinstance(child, nn.Identity)
    ]
    others = [
        name for name, child in children.items() if name not in projectors and is_trained(child)
    ]
    if projectors and len(others) == 1:
        return f".{others[0]}" + _inner_path(children[others[0]])
    return ""


def _children(module: nn.Module, path: str = "") -> dict[str, nn.Module]:
    return dict(module.get_submodule(path).named_children())


def find_backbone(module: nn.Module, name: str) -> nn.Module:
    """Submodule of that (dotted) name.

    Raises:
        ConfigError: there is none, with the nearest name; or it is the EMA teacher of a part that
            is trained. One that is frozen at first is allowed.
    """
    parts = {path: part for path, part in module.named_modules() if path}
    if name not in parts:
        near = [path for path in parts if path.count(".") <= name.count(".")]
        hint = did_you_mean(name, near or parts)
        raise ConfigError(f"backbone: {type(module).__name__} has no {name!r}; {hint}")
    backbone, trained = parts[name], {id(p) for p in module.parameters() if p.requires_grad}
    if not is_trained(backbone) and (
        not list(backbone.parameters()) or trained_twin(module, name, trained)
    ):
        raise untrained_error(module, name, trained)
    return backbone


def is_trained(part: nn.Module) -> bool:
    """Whether any of its parameters requires a gradient."""
    return any(p.requires_grad for p in part.parameters())


def trained_twin(module: nn.Module, name: str, trained: Collection[int]) -> str | None:
    """Name of another part with the same parameters, of which some are trained; None: no such.

    The part ``name`` is then a copy that follows it: an EMA teacher.

    Args:
        module: module with both.
        name: name of a part that is not trained.
        trained: ids of the parameters that are trained.
    """
    shapes = [p.shape for p in module.get_submodule(name).parameters()]
    for path, part in module.named_modules():
        parameters = list(part.parameters())
        if any(id(p) in trained for p in parameters) and [p.shape for p in parameters] == shapes:
            return path
    return None


def untrained_error(module: nn.Module, name: str, trained: Collection[int]) -> ConfigError:
    """The error for a student that is not trained; it names what is trained instead."""
    twin = trained_twin(module, name, trained)
    children = [
        path
        for path, child in module.named_children()
        if path not in ("sp", name) and any(id(p) in trained for p in child.parameters())
    ]
    reason = f" (an EMA teacher of {twin!r}?)" if twin else ""
    return ConfigError(
        f"backbone: {name!r} is not trained by any optimizer{reason}; "
        f"trained are {', '.join(children) or 'no parts of the module'}"
    )
