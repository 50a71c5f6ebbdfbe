"""Table of all algorithms of both frameworks: baseline, SP on, weight 0. ``make mm-matrix``.

Each row runs in its own process, so that an error in one does not affect the others.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path
from typing import Any

import torch

CONFIGS = {
    "mmselfsup": (
        "barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e_in1k.py",
        "beit/beit_vit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "beitv2/beitv2_vit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k.py",
        "cae/cae_vit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "deepcluster/deepcluster_resnet50_8xb64-steplr-200e_in1k.py",
        "deepcluster/deepcluster-sobel_resnet50_8xb64-steplr-200e_in1k.py",
        "densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py",
        "eva/eva-mae-style_vit-base-p16_16xb256-coslr-400e_in1k.py",
        "mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py",
        "maskfeat/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "milan/milan_vit-base-p16_16xb256-amp-coslr-400e_in1k.py",
        "mixmim/mixmim-base-p16_16xb128-coslr-300e_in1k.py",
        "mocov1/mocov1_resnet50_8xb32-steplr-200e_in1k.py",
        "mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py",
        "mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py",
        "mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py",
        "npid/npid_resnet50_8xb32-steplr-200e_in1k.py",
        "odc/odc_resnet50_8xb64-steplr-440e_in1k.py",
        "pixmim/pixmim_vit-base-p16_8xb512-amp-coslr-300e_in1k.py",
        "relative_loc/relative-loc_resnet50_8xb64-steplr-70e_in1k.py",
        "rotation_pred/rotation-pred_resnet50_8xb16-steplr-70e_in1k.py",
        "simclr/simclr_resnet50_8xb32-coslr-200e_in1k.py",
        "simmim/simmim_swin-base_16xb128-amp-coslr-100e_in1k-192.py",
        "simsiam/simsiam_resnet50_8xb32-coslr-100e_in1k.py",
        "swav/swav_resnet50_8xb32-mcrop-2-6-coslr-200e_in1k-224-96.py",
    ),
    "mmpretrain": (
        "barlowtwins/barlowtwins_resnet50_8xb256-coslr-300e_in1k.py",
        "beit/beit_beit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "beitv2/beitv2_beit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "byol/byol_resnet50_16xb256-coslr-200e_in1k.py",
        "cae/cae_beit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py",
        "eva/eva-mae-style_vit-base-p16_16xb256-coslr-400e_in1k.py",
        "itpn/itpn-clip-b_hivit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "itpn/itpn-pixel_hivit-base-p16_8xb512-amp-coslr-400e_in1k.py",
        "mae/mae_hivit-base-p16_8xb512-amp-coslr-400e_in1k.py",
        "mae/mae_vit-base-p16_8xb512-amp-coslr-300e_in1k.py",
        "maskfeat/maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k.py",
        "mff/mff_vit-base-p16_8xb512-amp-coslr-300e_in1k.py",
        "milan/milan_vit-base-p16_16xb256-amp-coslr-400e_in1k.py",
        "mixmim/mixmim_mixmim-base_16xb128-coslr-300e_in1k.py",
        "mocov2/mocov2_resnet50_8xb32-coslr-200e_in1k.py",
        "mocov3/mocov3_resnet50_8xb512-amp-coslr-100e_in1k.py",
        "mocov3/mocov3_vit-small-p16_16xb256-amp-coslr-300e_in1k.py",
        "simclr/simclr_resnet50_8xb32-coslr-200e_in1k.py",
        "simmim/simmim_swin-base-w6_16xb128-amp-coslr-100e_in1k-192px.py",
        "simsiam/simsiam_resnet50_8xb32-coslr-100e_in1k.py",
        "spark/spark_sparse-resnet50_8xb512-amp-coslr-800e_in1k.py",
        "swav/swav_resnet50_8xb32-mcrop-coslr-200e_in1k-224px-96px.py",
    ),
}
COLUMNS = ("baseline", "SP on", "weight 0 identical")


def row(framework: str, name: str) -> dict[str, str]:
    """Results of the three runs of one algorithm; an error with its file and line."""
    import mm_configs

    torch.set_num_threads(1)
    cells: dict[str, str] = {}
    with tempfile.TemporaryDirectory() as folder:
        data = mm_configs.make_images(Path(folder) / "data", 2 * mm_configs.STEPS)

        def run(column: str, **sp: Any) -> dict[str, torch.Tensor]:
            work = Path(folder) / column.replace(" ", "-")
            config = mm_configs.shrink(mm_configs.shipped(framework, name), data, work)
            try:
                runner = mm_configs.trained(mm_configs.with_sp(config, **sp) if sp else config)
            except Exception as error:
                cells[column] = _describe(error)
                return {}
            return dict(mm_configs.model_of(runner).state_dict())

        baseline = run(COLUMNS[0])
        if baseline:
            cells[COLUMNS[0]] = "yes"
        on = run(COLUMNS[1], weight=1.0, warmup_fraction=0.0)
        if on:
            cells[COLUMNS[1]] = _check_trained(baseline, on)
        off = run(COLUMNS[2], weight=0.0)
        if off and baseline:
            cells[COLUMNS[2]] = _check_identical(baseline, mm_configs.without_sp(off))
    return cells


def _check_trained(baseline: dict[str, torch.Tensor], on: dict[str, torch.Tensor]) -> str:
    if not all(value.isfinite().all() for value in on.values()):
        return "no: weights are not finite"
    if [key for key in on if not key.startswith("sp.")] != list(baseline):
        return "no: keys differ"
    moved = [key for key in baseline if not torch.equal(baseline[key], on[key])]
    return "yes" if any(key.startswith("backbone.") for key in moved) else "no: nothing moved"


def _check_identical(baseline: dict[str, torch.Tensor], off: dict[str, torch.Tensor]) -> str:
    if list(off) != list(baseline):
        return "no: keys differ"
    moved = [key for key in baseline if not torch.equal(baseline[key], off[key])]
    return f"no: {len(moved)} of {len(off)} differ, first {moved[0]}" if moved else "yes"


def _describe(error: BaseException) -> str:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    file = frame.filename.rpartition("site-packages/")[-1]
    message = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {message[:120]} ({file}:{frame.lineno})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="file for the table, in Markdown")
    parser.add_argument(
        "--only", default="", help="run the rows whose framework/config contains this"
    )
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print("\n" + json.dumps(row(*options.row)))
        return 0
    lines = ["| framework | algorithm | " + " | ".join(COLUMNS) + " |", "|---|---|---|---|---|"]
    all_yes = True
    for framework, names in CONFIGS.items():
        for name in names:
            if options.only not in f"{framework}/{name}":
                continue
            start = time.monotonic()
            results = row_in_subprocess(framework, name)
            cells = [results.get(column, "not run") for column in COLUMNS]
            all_yes &= cells == ["yes"] * len(COLUMNS)
            lines.append(f"| {framework} | {Path(name).stem} | {' | '.join(cells)} |")
            print(lines[-1], f"{time.monotonic() - start:.0f} s", flush=True)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text("\n".join(lines) + "\n")
    return 0 if all_yes else 1


def row_in_subprocess(framework: str, name: str) -> dict[str, str]:
    """`row` in its own process."""
    command = [sys.executable, __file__, "--row", framework, name]
    process = subprocess.run(command, capture_output=True, text=True, check=False)
    if process.returncode:
        return {COLUMNS[0]: f"exit status {process.returncode}: {process.stderr[-200:]}"}
    cells: dict[str, str] = json.loads(process.stdout.splitlines()[-1])
    return cells


if __name__ == "__main__":
    sys.exit(main())
