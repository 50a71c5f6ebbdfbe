"""Names of students: in wrappers, next to teachers and projectors, and never an EMA teacher."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from sp_lightning.student import find_student_name
from torch import nn

from sp_plugin import ConfigError


def backbone() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def blocks() -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 8, 1), nn.Linear(8, 8))


def tree(**parts: Any) -> nn.Module:
    """A module with these parts, by their names; dicts are modules with parts of their own."""
    made = nn.Module()
    for name, part in parts.items():
        made.add_module(name, tree(**part) if isinstance(part, dict) else part)
    return made


def pair(part: nn.Module | None = None) -> dict[str, nn.Module]:
    """A student and its EMA teacher in one wrapper, as in stable-pretraining."""
    student = part or backbone()
    return {"student": student, "teacher": copy.deepcopy(student).requires_grad_(False)}


HEAD = nn.Linear(8, 8)
MODULES: dict[str, dict[str, Any]] = {
    "backbone": {"backbone": backbone(), "projector": HEAD},
    "backbone.student": {"projector": pair(HEAD), "backbone": pair(), "predictor": HEAD},
    "encoder.student": {"encoder": pair(), "predictor": HEAD},
    "encoder": {"encoder": backbone(), "decoder": HEAD},
    "model.encoder": {"model": {"encoder": backbone(), "decoder": HEAD}},
    "model.student": {"model": pair()},
    "student": {"teacher": backbone().requires_grad_(False), "student": backbone()},
    "net.backbone.model": {
        "net": {
            "backbone": {"model": backbone(), "_projector": HEAD},
            "target": {"model": backbone().requires_grad_(False), "_projector": HEAD},
        }
    },
    "student_embedding_model": {
        "teacher_embedding_model": {"wrapped_model": backbone(), "embed_head": nn.Identity()},
        "student_embedding_model": {"wrapped_model": backbone(), "embed_head": nn.Identity()},
    },
    "embedding_model.wrapped_model": {
        "embedding_model": {"wrapped_model": backbone(), "embed_head": HEAD}
    },
    "student.backbone": pair(tree(backbone=backbone(), head=HEAD)),  # of DINO
    # A projector with a teacher does not make its student the backbone.
    "backbone.body": {
        "projector": pair(HEAD),
        "backbone": {"body": backbone(), "projector": HEAD},
    },
}


@pytest.mark.parametrize("name", MODULES)
def test_student_in_wrappers_is_found(name: str) -> None:
    assert find_student_name(tree(**MODULES[name])) == name


@pytest.mark.parametrize(
    "parts",
    (
        {"vit": {"stem": nn.Conv2d(3, 8, 3), "encoder": blocks()}},  # torchvision's ViT
        {"vit": {"embeddings": nn.Conv2d(3, 8, 3), "encoder": nn.Linear(8, 8)}},
    ),
)
def test_encoder_behind_a_stem_is_none(parts: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="it trains vit: name one of these"):
        find_student_name(tree(**parts))
