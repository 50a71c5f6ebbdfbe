"""The tools of MMSelfSup in a working folder, made small: what a checkout of it has there."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

# After the config is read: one epoch of two steps of two images, in this process, on the CPU.
_SMALL = """
    cfg.launcher = args.launcher
    cfg.merge_from_dict({
        'train_cfg.max_epochs': 1, 'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': False,
        'default_hooks.checkpoint.interval': 1, 'default_hooks.logger.interval': 1,
        'train_dataloader.dataset.indices': 4})
    for name in ('val', 'test'):
        if cfg.get(f'{name}_dataloader'):
            cfg[f'{name}_dataloader'].update(num_workers=0, persistent_workers=False)
"""


def package_folder() -> Path:
    """Folder of the installed package with its tools and configs."""
    spec = importlib.util.find_spec("mmselfsup")
    assert spec is not None and spec.origin is not None
    return Path(spec.origin).parent / ".mim"


def put_checkout(folder: Path) -> None:
    """Copy ``tools`` and link ``configs`` into a folder; training is made small."""
    shutil.copytree(package_folder() / "tools", folder / "tools")
    (folder / "configs").symlink_to(package_folder() / "configs")
    script = folder / "tools" / "train.py"
    text = script.read_text()
    line = "\n    cfg.launcher = args.launcher\n"
    assert text.count(line) == 1
    script.write_text(text.replace(line, _SMALL))
