"""A model, arguments and data, for the blocks that make a Trainer of Hugging Face with SP."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as hf


class Dataset:
    """What the blocks use of a data set of the library ``datasets``."""

    def __init__(self) -> None:
        self.preprocess: Callable[[dict[str, Any]], dict[str, Any]] | None = None

    def set_transform(self, preprocess: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        self.preprocess = preprocess

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        assert self.preprocess is not None
        made = self.preprocess({"image": [torch.rand(3, 48, 48)]})
        return {name: values[0] for name, values in made.items()}


def names(folder: Path) -> dict[str, Any]:
    """What the blocks take from their reader's program."""
    config = hf.ViTMAEConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=32, patch_size=8, decoder_hidden_size=8, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=8,
    )  # fmt: skip
    arguments = hf.TrainingArguments(
        output_dir=str(folder), max_steps=1, per_device_train_batch_size=2, use_cpu=True,
        report_to="none", save_strategy="no", disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    return {
        "model": hf.ViTMAEForPreTraining(config),
        "arguments": arguments,
        "images": [{"pixel_values": torch.rand(3, 32, 32)} for _ in range(8)],
        "dataset": Dataset(),
        "augment": lambda image: image[:, :32, :32],
    }
