"""One of two ranks, on gloo: ``python mm_rank.py DATA WORK WEIGHT NAME SOURCE``.

WEIGHT ``none``: without SP. NAME: in `mm_configs.SMALL`.
The final state goes to ``WORK/<rank>.pt``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(data: str, work: str, weight: str, name: str, source: str) -> None:
    import mm_configs
    import mm_stand_ins
    import torch

    from sp_plugin import SPOutput

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")  # mmengine's own launcher needs a GPU
    config = mm_configs.small("mmselfsup", name, Path(data), Path(work))
    config.train_dataloader.batch_size = 1
    config.launcher = "pytorch"
    config.model_wrapper_cfg = mm_stand_ins.ON_CPU
    if source == "host_views":
        mm_stand_ins.shallow(config)
    if weight != "none":
        if source == "host_views":
            mm_configs.with_views(config)
        config = mm_configs.with_sp(
            config, weight=float(weight), warmup_fraction=0.0, source=source
        )
    boxes: list[torch.Tensor] = []

    def record(_: object, __: object, out: SPOutput) -> None:
        boxes.append(out.boxes)

    model = mm_configs.model_of(mm_configs.trained(config, sp_hook=record))
    # Without what differs between ranks: BatchNorm's statistics, and a measurement in progress.
    measurement = ("host_sq_norm", "sp_sq_norm", "loss_multiplier")
    per_rank = ("running", *(f"balance.{name}" for name in measurement))
    state = model.state_dict().items()
    final = {key: value for key, value in state if not any(name in key for name in per_rank)}
    if boxes and source == "view":  # otherwise pairs are of the host's own views
        final["boxes"] = boxes[0]
    torch.save(final, Path(work) / f"{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
