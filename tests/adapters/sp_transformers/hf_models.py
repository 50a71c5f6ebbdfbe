"""Small models of Hugging Face's and what trains them, as the adapter's tests use them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers as hf
from sp_transformers import SPTrainer
from torch import Tensor, nn
from torch.utils.data import IterableDataset

SIZE, BATCH, STEPS = 32, 4, 4
SMALL: dict[str, Any] = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    "intermediate_size": 16, "image_size": SIZE, "patch_size": 8,
}  # fmt: skip
DECODER = {
    "decoder_hidden_size": 8, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
    "decoder_intermediate_size": 8,
}  # fmt: skip
SP = {"relative_weight": False, "warmup_fraction": 0.0, "hidden_dim": 8}


def mae() -> nn.Module:
    torch.manual_seed(0)
    return hf.ViTMAEForPreTraining(hf.ViTMAEConfig(**SMALL, **DECODER))


class TwoViews(nn.Module):
    """DINOv2 with a loss of one's own: two noisy views of an image are to have one class token."""

    main_input_names = ("pixel_values",)

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        sizes = {name: value for name, value in SMALL.items() if name != "intermediate_size"}
        self.backbone = hf.Dinov2Model(hf.Dinov2Config(**sizes))
        self.projector = nn.Linear(16, 8)

    def forward(self, pixel_values: Any) -> dict[str, Tensor]:
        views = pixel_values
        if isinstance(views, Tensor):
            views = [views + 0.1 * torch.randn_like(views) for _ in range(2)]
        a, b = (self.projector(self.backbone(view).last_hidden_state[:, 0]) for view in views)
        return {"loss": -nn.functional.cosine_similarity(a, b.detach()).mean()}


MODELS = {"mae": mae, "dinov2": TwoViews}


class Images(IterableDataset):
    """Images in one order, which no sampler changes, with a column that the model does not take."""

    def __init__(self, count: int = 64, transform: Any = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.rand(count, 3, SIZE, SIZE, generator=generator)
        self.transform = transform or (lambda image: image)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for image in self.images:
            yield {"pixel_values": self.transform(image), "name": "image"}


def collate(samples: list[dict[str, Any]]) -> dict[str, Any]:
    assert all(set(sample) == {"pixel_values"} for sample in samples)
    return torch.utils.data.default_collate(samples)


def make(
    folder: Path,
    model: nn.Module,
    sp: dict[str, Any] | None = None,
    *,
    cls: Any = None,
    data: Any = None,
    trainer_settings: dict[str, Any] | None = None,
    **arguments: Any,
) -> Any:
    """A Trainer of ``STEPS`` steps; without ``sp`` the library's own."""
    defaults = {
        "max_steps": STEPS, "per_device_train_batch_size": BATCH, "learning_rate": 1e-2,
        "logging_steps": 1, "save_strategy": "no", "report_to": "none", "use_cpu": True,
        "disable_tqdm": True, "weight_decay": 0.05, "seed": 0, "lr_scheduler_type": "constant",
        "dataloader_pin_memory": False,
    }  # fmt: skip
    options = hf.TrainingArguments(output_dir=str(folder), **{**defaults, **arguments})
    cls = cls or (hf.Trainer if sp is None else SPTrainer)
    if sp is not None:
        cls = functools.partial(cls, sp={**SP, **sp})
    trainer = cls(
        model=model, args=options, train_dataset=data or Images(), data_collator=collate,
        **(trainer_settings or {}),
    )  # fmt: skip
    trainer.remove_callback(hf.PrinterCallback)
    return trainer


def state_of(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}
