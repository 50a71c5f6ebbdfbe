"""The outlines of DINOv2's and DINOv3's training code: how it calls its student, and what it skips.

The student takes lists of crops in one call, with masks, and gives dicts. The model is built on the
meta device and filled with NaN before ``init_weights``. Optimizer groups have their own settings,
the teacher follows the entries of ``student``, and the collate function drops unknown keys.
"""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.transforms import v2

WIDTH, PATCH, REGISTERS = 16, 8, 4
NUM_GLOBAL, NUM_LOCAL = 2, 3
GLOBAL, LOCAL = 32, 24  # 9 local patches: with registers and class token no square


class Backbone(nn.Module):
    """A ViT of one mixing layer, with the calls and outputs of DINOv2's."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.register_tokens = nn.Parameter(torch.zeros(1, REGISTERS, WIDTH))
        self.mask_token = nn.Parameter(torch.zeros(1, WIDTH))
        self.mix, self.norm = nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH)

    def init_weights(self) -> None:
        for part in (self.patch_embed, self.mix, self.norm):
            part.reset_parameters()
        for token in (self.cls_token, self.register_tokens, self.mask_token):
            nn.init.normal_(token)

    def features(self, images: Tensor, mask: Tensor | None) -> dict[str, Any]:
        patches = self.patch_embed(images).flatten(2).transpose(1, 2)
        if mask is not None:
            patches = torch.where(mask[..., None], self.mask_token, patches)
        prefix = [self.cls_token, self.register_tokens]
        tokens = torch.cat([*(one.expand(len(images), -1, -1) for one in prefix), patches], dim=1)
        tokens = tokens + self.mix(tokens + tokens.mean(dim=1, keepdim=True)).relu()
        normed = self.norm(tokens)
        return {
            "x_norm_clstoken": normed[:, 0],
            "x_norm_regtokens": normed[:, 1 : 1 + REGISTERS],
            "x_norm_patchtokens": normed[:, 1 + REGISTERS :],
            "x_prenorm": tokens,
            "masks": mask,
        }

    def forward(self, images: Any, masks: Any = None, is_training: bool = False) -> Any:
        if isinstance(images, list):
            outputs = [self.features(*pair) for pair in zip(images, masks, strict=True)]
            return outputs if is_training else [one["x_norm_clstoken"] for one in outputs]
        output = self.features(images, masks)
        return output if is_training else output["x_norm_clstoken"]


class SSLMetaArch(nn.Module):
    """Student, teacher and loss; the methods that a subclass may extend."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_dim = WIDTH
        self.student = nn.ModuleDict({"backbone": Backbone(), "head": nn.Linear(WIDTH, 8)})
        self.teacher = copy.deepcopy(self.student).requires_grad_(False)

    def init_weights(self) -> None:
        self.student.backbone.init_weights()
        self.student.head.reset_parameters()
        self.teacher.load_state_dict(self.student.state_dict())

    def get_student_output(
        self, global_crops: Tensor, local_crops: Tensor, masks: Tensor
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        inputs = [global_crops, local_crops]
        outputs = self.student.backbone(inputs, masks=[masks, None], is_training=True)
        made = []
        for output, count in zip(outputs, (NUM_GLOBAL, NUM_LOCAL), strict=True):
            tokens, patches = output["x_norm_clstoken"], output["x_norm_patchtokens"]
            made.append({
                "cls_pre_head": tokens.unflatten(0, (count, -1)),
                "patch_pre_head": patches.unflatten(0, (count, -1)),
                "cls_after_head": self.student.head(tokens).unflatten(0, (count, -1)),
            })  # fmt: skip
        return made[0], made[1]

    def compute_losses(self, **parts: Any) -> tuple[Tensor, dict[str, Tensor]]:
        target = parts["teacher_global"].softmax(dim=-1).mean(dim=0)
        student = [parts["student_global"], parts["student_local"]]
        outputs = torch.cat([part["cls_after_head"] for part in student])
        loss = -(target * outputs.log_softmax(dim=-1)).sum(dim=-1).mean()
        return loss, {"dino": loss.detach()}

    def forward_backward(self, data: dict[str, Any], *, iteration: int) -> dict[str, Tensor]:
        global_crops, masks = data["collated_global_crops"], data["collated_masks"]
        with torch.no_grad():
            tokens = self.teacher.backbone(global_crops, is_training=True)["x_norm_clstoken"]
            teacher_global = self.teacher.head(tokens).unflatten(0, (NUM_GLOBAL, -1))
        student_global, student_local = self.get_student_output(
            global_crops, data["collated_local_crops"], masks
        )
        loss, metrics = self.compute_losses(
            teacher_global=teacher_global, student_global=student_global,
            student_local=student_local, iteration=iteration,
        )  # fmt: skip
        loss.backward()
        return metrics

    @torch.no_grad()
    def update_ema(self) -> None:
        for name in self.student:
            pairs = zip(
                self.teacher[name].parameters(), self.student[name].parameters(), strict=True
            )
            for old, new in pairs:
                old.lerp_(new, 0.1)

    def get_params_groups(self) -> list[dict[str, Any]]:
        return [
            {"params": list(part.parameters()), "is_last_layer": name == "head",
             "lr_multiplier": 1.0, "wd_multiplier": 1.0}
            for name, part in self.student.items()
        ]  # fmt: skip


class DataAugmentationDINO:
    """Crops of one image, as a dict of lists."""

    def __init__(self) -> None:
        self.crop_global = v2.RandomResizedCrop(GLOBAL, scale=(0.3, 1.0))
        self.crop_local = v2.Compose([
            v2.RandomResizedCrop(LOCAL, scale=(0.05, 0.3)), v2.RandomHorizontalFlip()
        ])  # fmt: skip

    def __call__(self, image: Any) -> dict[str, Any]:
        global_crops = [self.crop_global(image) for _ in range(NUM_GLOBAL)]
        return {
            "global_crops": global_crops,
            "global_crops_teacher": global_crops,
            "local_crops": [self.crop_local(image) for _ in range(NUM_LOCAL)],
            "offsets": (),
        }


def collate_data_and_cast(samples: list[Any]) -> dict[str, Tensor]:
    """All first crops, then all second ones; anything else in the samples is dropped."""
    crops = {
        name: torch.cat([
            torch.stack([sample[0][name][n] for sample in samples])
            for n in range(len(samples[0][0][name]))
        ])
        for name in ("global_crops", "local_crops")
    }  # fmt: skip
    masks = torch.zeros(len(crops["global_crops"]), (GLOBAL // PATCH) ** 2, dtype=torch.bool)
    masks[::2, ::3] = True
    made = {f"collated_{name}": value for name, value in crops.items()}
    return {**made, "collated_masks": masks}


def build(cls: type[nn.Module], *args: Any) -> Any:
    """A model as the training code builds it: on the meta device, filled with NaN, initialised."""
    with torch.device("meta"):
        model: Any = cls(*args)
    model._apply(
        lambda t: torch.full_like(t, math.nan if t.is_floating_point() else 0, device="cpu")
    )
    model.init_weights()
    return model
