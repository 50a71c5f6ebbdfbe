"""One of two ranks, on gloo: ``python mm_rank.py DATA WORK WEIGHT NAME SOURCE``.

WEIGHT ``none``: without SP. NAME: in `mm_hosts.SMALL`.

Leaves what it ended with in ``WORK/<rank>.pt``.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path


def main(data: str, work: str, weight: str, name: str, source: str) -> None:
    import mm_hosts
    import mm_stand_ins
    import torch

    from sp_plugin import SPOutput

    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")  # mmengine's own launcher asks for a GPU
    config = mm_hosts.small("mmselfsup", name, Path(data), Path(work))
    config.train_dataloader.batch_size = 1
    config.launcher = "pytorch"
    config.model_wrapper_cfg = mm_stand_ins.ON_CPU
    if source == "host":
        mm_stand_ins.shallow(config)
    if weight != "none":
        if source == "host":
            mm_hosts.with_views(config)
        config = mm_hosts.with_sp(config, weight=float(weight), warmup=0.0, source=source)
    drawn: list[torch.Tensor] = []

    def keep(_: object, __: object, out: SPOutput) -> None:
        drawn.append(out.boxes)

    model = mm_hosts.model_of(mm_hosts.trained(config, watch=keep))
    # But for what is each rank's own: BatchNorm's statistics, and a measurement under way.
    own = ("running", "balance.seen")
    state = model.state_dict().items()
    ended = {key: value for key, value in state if not any(name in key for name in own)}
    if drawn and source == "view":  # else the pairs are of the views that the host draws
        ended["drawn"] = drawn[0]
    torch.save(ended, Path(work) / f"{os.environ['RANK']}.pt")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
