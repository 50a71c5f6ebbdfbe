"""SP in Hugging Face's Trainer: `SPTrainer`, or `SPTrainerMixin` before a Trainer of one's own."""

from sp_plugin.validation import needs_packages

with needs_packages("sp_transformers", "sp-plugin[transformers]"):
    from sp_transformers.trainer import SPTrainer, SPTrainerMixin

__all__ = ["SPTrainer", "SPTrainerMixin"]
