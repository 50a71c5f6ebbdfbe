"""Every code block of README and docs runs as it stands, or is listed with the reason.

Data, checkpoints and checkouts are small and lie where a block looks for them. Blocks marked
``text`` are output and listings.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import typer
from code_blocks import PAGES, ROOT, Block, block, blocks, lightning_run, plain_loop
from mm_tools import put_checkout
from ranks import forget_accelerate
from small_data import make_bands, make_imagenet, make_images
from solo_checkout import put_solo

Run = Callable[[Block, Path], None]


@dataclass(frozen=True)
class Example:
    """How the block of a page with a word in it is run, and how long that takes."""

    page: str
    word: str
    run: Run
    slow: bool = False


def plain(one: Block, folder: Path) -> None:
    """A loop of one's own: it trains the head, or saves and loads it."""
    del folder
    names = plain_loop()
    exec(one.text, names)
    sp = names["sp"]
    trained = [id(p) for group in names["optimizer"].param_groups for p in group["params"]]
    assert {id(p) for p in sp.parameters()} <= set(trained)
    assert "for step" not in one.text or sp.step == names["steps"]


def sourced_loop(one: Block, folder: Path) -> None:
    """A loop of one's own over batches of the block's transform."""
    del folder
    from torch.utils.data import default_collate
    from torchvision.transforms import v2

    from sp_plugin import SPSession, SPTransform, ViewBoxTransform

    class TwoViews:
        def __init__(self) -> None:
            self.crop = v2.RandomResizedCrop(32)

        def __call__(self, image: torch.Tensor) -> list[torch.Tensor]:
            return [self.crop(image), self.crop(image)]

    class Loader:
        def __iter__(self) -> Iterator[Any]:
            for _ in range(names["steps"]):
                images = torch.rand(4, 3, 48, 48)
                yield default_collate([names["transform"](image) for image in images])

    names = {**plain_loop(), "augment": TwoViews(), "loader": Loader()}
    names["method"] = lambda views: sum(names["backbone"](view).mean() for view in views)
    for each in (SPSession, SPTransform, ViewBoxTransform):
        names[each.__name__] = each
    exec(one.text, names)
    assert names["sp"].step == names["steps"] and names["loss"].requires_grad


def probe_loop(one: Block, folder: Path) -> None:
    """A loop of one's own with a probe, and nothing of SP."""
    del folder
    names = plain_loop()
    exec(one.text, names)
    assert names["probe"].step == names["steps"]


def probe_hook(one: Block, folder: Path) -> None:
    """Lines of a config of MMEngine; the tests of the hook train with it."""
    from mmengine.config import Config
    from mmengine.registry import HOOKS

    (folder / "config.py").write_text(one.text)
    (hook,) = Config.fromfile(folder / "config.py").custom_hooks
    assert HOOKS.build(hook).every == 4


def wrapped_loop(package: str) -> Run:
    """A loop of one's own with what wraps a model; on one rank."""

    def run(one: Block, folder: Path) -> None:
        pytest.importorskip(package, reason=f"needs {package} (pip install {package})")
        names = plain_loop()

        class Method(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.backbone = names["backbone"]

            def forward(self, images: torch.Tensor) -> torch.Tensor:
                return self.backbone(images).float().square().mean()

        names["model"] = Method()
        store = f"file://{folder / 'store'}"
        if package == "torch":
            torch.distributed.init_process_group("gloo", store, rank=0, world_size=1)
        if package == "accelerate":
            forget_accelerate()
        try:
            exec(one.text, names)
        finally:
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        assert names["sp"].step == names["steps"]

    return run


def images_page(one: Block, folder: Path) -> None:
    """SP takes the channels and the shape that the page speaks of."""
    del folder
    from sp_plugin import SPSession

    names = {**plain_loop(), "SPSession": SPSession, "make_views": lambda image: [image, image]}
    exec(one.text, names)
    if "for step" in one.text:
        assert names["sp"].step == names["steps"] and names["sp"].sp.channels == 13
    if "sample" in names:
        assert names["sample"]["sp"]["crops"].shape[1] == 13


def trainer(one: Block, folder: Path) -> None:
    """The block makes a Trainer or a callback; one step of a module with it is trained."""
    import lightning_module

    names = {**lightning_run(), **lightning_module.names(folder)}
    exec(one.text, names)
    if "Trainer(" in one.text:
        lightning_module.fit(names)
        assert any(key.startswith("train_sp") for key in names["trainer"].callback_metrics)


def hf_trainer(one: Block, folder: Path) -> None:
    """The block makes a Trainer of Hugging Face and trains a step with it."""
    pytest.importorskip("transformers", reason="needs transformers (sp-plugin[transformers])")
    import hf_trainer as prepared

    names = prepared.names(folder)
    exec(one.text, names)
    assert names["trainer"].sp.step == 1


def dino_loop(one: Block, folder: Path) -> None:
    """A loop round a student that takes lists of crops."""
    del folder
    import dino_mimic
    from torch.utils.data import default_collate

    from sp_plugin import ViewBoxTransform

    student, names = dino_mimic.build(dino_mimic.Backbone), plain_loop()
    transform = ViewBoxTransform(dino_mimic.DataAugmentationDINO())
    batch = default_collate([transform(torch.rand(3, 48, 48)) for _ in range(4)])
    names |= {
        "student": student,
        "optimizer": torch.optim.SGD(student.parameters(), lr=0.1),
        "loader": [batch, batch],
        "masks": torch.arange(16).expand(8, -1) % 2 == 0,
        "method": lambda outputs: outputs[0]["x_norm_clstoken"].mean(),
    }
    exec(one.text, names)
    assert names["sp"].step == 2


def dino_recipe(one: Block, folder: Path) -> None:
    """Two steps of an imitation of the training code, with its subclass of the block."""
    del folder
    import dino_mimic

    torch.manual_seed(0)
    names = dict(vars(dino_mimic))
    exec(one.text, names)
    arch = dino_mimic.build(names["SSLMetaArchWithSP"])
    before = [p.clone() for p in arch.sp.parameters()]
    groups = arch.get_params_groups()
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    for step in range(2):
        samples = [(names["transform"](torch.rand(3, 48, 48)), ()) for _ in range(4)]
        optimizer.zero_grad()
        metrics = arch.forward_backward(names["collate"](samples), iteration=step)
        optimizer.step()
        arch.update_ema()
    assert metrics["sp_loss"].isfinite() and metrics["sp_skipped_fraction"] == 0
    assert not any(torch.equal(*pair) for pair in zip(before, arch.sp.parameters(), strict=True))
    assert not any(
        "sp" in name for name in (*arch.student.state_dict(), *arch.teacher.state_dict())
    )


def bash(*prepare: Callable[[Path], None], outputs: tuple[str, ...] = ()) -> Run:
    def run(one: Block, folder: Path) -> None:
        for step in prepare:
            step(folder)
        run_bash(one.text, folder)
        for name in outputs:
            assert list(folder.glob(name)), name

    return run


def shorter(
    options: str, few: str, *prepare: Callable[[Path], None], outputs: tuple[str, ...]
) -> Run:
    """Run a block with other options: its own train for too long."""

    def run(one: Block, folder: Path) -> None:
        assert options in one.text
        short = dataclasses.replace(one, text=one.text.replace(options, few))
        bash(*prepare, outputs=outputs)(short, folder)

    return run


def run_bash(text: str, folder: Path) -> str:
    paths = [ROOT, ROOT / "adapters", ROOT / "benchmarks"]
    bin_folder = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "WANDB_MODE": "disabled",
        "OMP_NUM_THREADS": "1",
    }
    ran = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env=environment,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not ran.returncode, f"{text}\n{ran.stdout[-3000:]}\n{ran.stderr[-3000:]}"
    return ran.stdout + ran.stderr


def images(folder: Path) -> None:
    make_images(folder / "FOLDER")


def bands(folder: Path) -> None:
    """Bands of two classes, enough for a batch of the default size."""
    make_bands(folder / "BANDS")


def more_images(folder: Path) -> None:
    """Enough for a batch of the default size, after a fifth is held out."""
    make_images(folder / "FOLDER", count=90)


def scripts(folder: Path) -> None:
    """The scripts of configs/lightly, made small, and images."""
    images(folder)
    shutil.copytree(ROOT / "configs" / "lightly", folder / "configs" / "lightly")
    common = folder / "configs" / "lightly" / "common.py"
    text = common.read_text()
    for default, small in {"224": "64", "256": "8", "100": "1", "8": "0"}.items():
        assert f"default={default}," in text or f"default={default})" in text
        text = text.replace(f"default={default},", f"default={small},", 1)
    common.write_text(text)


def task_file(one: Block, folder: Path) -> None:
    """The file of tasks, as sp-bench reads it: its folders are relative to it."""
    from sp_bench.task_data import select_tasks

    for name in ("scenes-96", "camvid-240x180"):
        (folder / name).mkdir()
    path = folder / "tasks.toml"
    path.write_text(one.text)
    selection = select_tasks([], "", path)
    assert selection.data == str(folder / "scenes-96")
    assert {"segmentation", "depth"} <= selection.task_data.keys() and "knn" in selection.tasks


def checkpoints(backbone: str) -> Callable[[Path], None]:
    """``FILE``, and two runs of one seed each, as ``compare --from`` takes them."""

    def put(folder: Path) -> None:
        import timm
        import torchvision

        name = backbone.removeprefix("timm:")
        model = timm.create_model(name) if ":" in backbone else getattr(torchvision.models, name)()
        torch.save(model.state_dict(), folder / "FILE")
        other = torchvision.models.resnet18()
        for arm in "ab":
            (folder / "ckpts" / arm).mkdir(parents=True)
            torch.save(other.state_dict(), folder / "ckpts" / arm / "last.pth")

    return put


def mm_config(one: Block, folder: Path) -> None:
    """A file of MMEngine is parsed, and its model and data set are built.

    A block without its own base continues the page's first file.
    """
    from mmengine.config import Config
    from mmengine.registry import DATASETS, MODELS, DefaultScope
    from mmengine.utils import import_modules_from_strings

    head = [] if "_base_ =" in one.text else HEAD
    (folder / "config.py").write_text("\n".join([*head, one.text]))
    make_imagenet(folder / "data" / "imagenet")
    images(folder)
    config = Config.fromfile(folder / "config.py")
    import_modules_from_strings(["mmselfsup.datasets", "mmselfsup.models"])
    DefaultScope.get_instance(f"{one}", scope_name=config.default_scope)
    assert MODELS.build(config.model).backbone is not None
    assert DATASETS.build(config.train_dataloader.dataset)[0]


def cli_entry(one: Block, folder: Path) -> None:
    """A callback in LightningCLI's file; the tests of the callback pass one to the CLI itself."""
    del folder
    import sp_lightning
    from omegaconf import OmegaConf

    (entry,) = OmegaConf.create(one.text).trainer.callbacks
    name = entry.class_path.removeprefix("sp_lightning.")
    assert getattr(sp_lightning, name)(**entry.init_args).config.weight == 0.3


def same_as_page(one: Block, folder: Path) -> None:
    """The lines are those that MMSelfSup's page starts with."""
    del folder
    assert one.text == block(MM, "algorithm={{_base_.model}}, sp=dict())").text


def same_as_readme(one: Block, folder: Path) -> None:
    """The lines are README's, which run."""
    del folder
    assert one.text in [other.text for other in blocks(README)]


def target_encoding(one: Block, folder: Path) -> None:
    """The encoding measures in sides of the larger crop."""
    del folder
    from sp_plugin import TARGET_ENCODINGS

    names: dict[str, Any] = {}
    try:
        exec(one.text, names)
    finally:
        TARGET_ENCODINGS.pop("larger", None)
    assert (names["x"], names["y"]) == pytest.approx((1.0, 0.0))


def task_of_page(one: Block, folder: Path) -> None:
    """The task runs as those of sp-bench do, and finds two equal images."""
    del folder
    import types

    from sp_bench.tasks.task import run_task

    names: dict[str, Any] = {}
    exec(one.text, names)
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
    backbone = types.SimpleNamespace(features=lambda images: features, device=torch.device("cpu"))
    context: Any = types.SimpleNamespace(
        backbone=backbone, splits=types.SimpleNamespace(test=None), seed=0
    )
    assert run_task(names["TASK"], context) == {"closest": pytest.approx(1.0)}


def framework(one: Block, folder: Path) -> None:
    """The class trains, logs, and gives the state of SP."""
    del folder
    loop = plain_loop()
    exec(one.text, loop)
    engine = loop["Engine"](loop["backbone"], loop["method"], loop["optimizer"], loop["steps"])
    logs = [engine.training_step(batch, step) for step, batch in enumerate(loop["loader"])]
    assert engine.checkpoint()["sp"]["step"] == len(logs) == loop["steps"]
    assert logs[-1]["sp_loss"].isfinite()


HEAD = [
    '_base_ = "mmselfsup::selfsup/byol/byol_resnet50_8xb32-accum16-coslr-200e_in1k.py"',
    'custom_imports = dict(imports=["sp_mmselfsup"])',
]


def mm_checkout(folder: Path) -> None:
    """A checkout of MMSelfSup with the files that the page has its reader write."""
    put_checkout(folder)
    make_imagenet(folder / "data" / "imagenet")
    (folder / "byol_sp.py").write_text(block(MM, "algorithm={{_base_.model}}, sp=dict())").text)
    (folder / "byol.py").write_text(block(MM, '["sp_mmselfsup.patches"]').text)
    (folder / "imagenet").symlink_to(folder / "data" / "imagenet")


def mm_pretrained(folder: Path) -> None:
    """The same, after pre-training."""
    mm_checkout(folder)
    run_bash(block(MM, "train.py byol_sp.py").text, folder)
    (folder / "work_dirs/byol_sp/epoch_1.pth").rename(folder / "work_dirs/byol_sp/epoch_200.pth")


def solo_pretrained(folder: Path) -> None:
    """A checkout of solo-learn with a checkpoint under the name that the page gives it."""
    put_solo(folder)
    run_bash(block(README, "main_pretrain.py").text, folder)
    (made,) = folder.glob("trained_models/simclr/*/*.ckpt")
    name = folder / "trained_models/simclr/VERSION/NAME-VERSION-ep=399.ckpt"
    name.parent.mkdir()
    made.rename(name)
    (made.parent / "args.json").rename(name.parent / "args.json")


README, MM, SOLO = "README.md", "docs/mmselfsup.md", "docs/solo-learn.md"
LOOP, IMAGES = "docs/plain-loop.md", "docs/images.md"
TRANSFORMERS, DINO = "docs/transformers.md", "docs/dinov2.md"
QUICKSTART, EXTENDING = "docs/quickstart.md", "docs/extending.md"
LIGHTLY_TRAIN, PROBE = "docs/lightly-train.md", "docs/spatial-probe.md"
IN_ENVIRONMENT = "tests/frameworks runs it where the framework is installed"
LIGHTNING, EVALUATION, SUITES = "docs/lightning.md", "docs/evaluation.md", "docs/suites.md"
SOLO_RUN = "trained_models/*/*/*.ckpt"
SHOW = bash(more_images, outputs=("pairs.png", "runs/first/*.html"))
EVAL = bash(images, checkpoints("resnet18"), outputs=("runs/report/*.html",))
EVAL_VIT = bash(images, checkpoints("timm:vit_small_patch16_224"), outputs=("runs/report/*.html",))

EXAMPLES = [
    Example(README, "main_pretrain.py", bash(put_solo, outputs=(SOLO_RUN,)), slow=True),
    Example(SOLO, "name=simclr-cifar10-sp", bash(put_solo, outputs=(SOLO_RUN,)), slow=True),
    Example(SOLO, "main_linear.py", bash(solo_pretrained), slow=True),
    Example(SOLO, "imagenet-100/byol_sp.yaml", bash(put_solo, outputs=(SOLO_RUN,)), slow=True),
    Example(README, "SPCallback", trainer),
    Example(README, "_base_", same_as_page),
    Example(README, "SPTrainer", hf_trainer),
    Example(README, "SPSession", plain),
    Example(
        README,
        "sp-bench show",
        shorter(
            "--epochs 20 --seeds 0 1 2",
            "--epochs 1 --seeds 0",
            more_images,
            outputs=("pairs.png", "predictions.png", "runs/first/*.html"),
        ),
        True,
    ),
    Example(README, "sp-bench eval", EVAL, slow=True),
    Example(EVALUATION, "sp-bench report", EVAL_VIT, slow=True),
    Example(EVALUATION, "--rgb", bash(bands, outputs=("pairs.png", "runs/*/*.json")), slow=True),
    Example(QUICKSTART, "main_pretrain.py", same_as_readme),
    Example(QUICKSTART, "SPCallback", trainer),
    Example(QUICKSTART, "_base_", same_as_page),
    Example(QUICKSTART, "SPTrainer", same_as_readme),
    Example(QUICKSTART, "SPSession", plain),
    Example(QUICKSTART, "sp-bench show", same_as_readme),
    Example(EXTENDING, "TARGET_ENCODINGS", target_encoding),
    Example(EXTENDING, "TASK = ", task_of_page),
    Example(EXTENDING, "class Engine", framework),
    Example(LOOP, "out = sp(", plain),
    Example(LOOP, "SPTransform(augment)", sourced_loop),
    Example(LOOP, "ViewBoxTransform(augment)", sourced_loop),
    Example(LOOP, "GradScaler", plain),
    Example(LOOP, "last.pth", plain),
    Example(LOOP, "DistributedDataParallel(", wrapped_loop("torch")),
    Example(LOOP, "Accelerator(", wrapped_loop("accelerate")),
    Example(LOOP, "Fabric(", wrapped_loop("lightning_fabric")),
    Example(PROBE, "SpatialProbeCallback", trainer),
    Example(PROBE, "SpatialProbeHook", probe_hook),
    Example(PROBE, "SpatialProbe(backbone)", probe_loop),
    Example(TRANSFORMERS, "import SPTrainer\n\ntrainer", hf_trainer),
    Example(TRANSFORMERS, "SPTrainerMixin", hf_trainer),
    Example(TRANSFORMERS, "SPTransform", hf_trainer),
    Example(DINO, "import SPSession", dino_loop),
    Example(DINO, "SSLMetaArchWithSP", dino_recipe),
    Example(IMAGES, "nn.Conv2d(13", images_page),
    Example(IMAGES, "def haze", images_page),
    Example(IMAGES, "img_size=(32, 128)", images_page),
    Example(EVALUATION, "[task_data]", task_file),
    Example(SUITES, "suite quick", bash(outputs=("runs/quick/*/*/results.json",)), slow=True),
    Example(LIGHTNING, "configs/lightly", bash(scripts), slow=True),
    Example(LIGHTNING, "max_epochs=100", trainer),
    Example(LIGHTNING, '^trainer = Trainer(callbacks=[SPCallback(source="image")])', trainer),
    Example(LIGHTNING, "MyData(", trainer),
    Example(LIGHTNING, 'SPCallback(source="host_views")', trainer),
    Example(LIGHTNING, "feature_fn", trainer),
    Example(LIGHTNING, "class_path", cli_entry),
    Example(MM, "algorithm={{_base_.model}}, sp=dict())", mm_config),
    Example(MM, 'imports=["sp_mmselfsup.patches"]', mm_config),
    Example(MM, "mmcls.CustomDataset", mm_config, slow=True),
    Example(MM, "baseline(", mm_config, slow=True),
    Example(MM, "SPCrops", mm_config, slow=True),
    Example(MM, "SPViewBoxes", mm_config, slow=True),
    Example(MM, "train.py byol_sp.py", bash(mm_checkout, outputs=("work_dirs/byol_sp/*",)), True),
    Example(MM, "train.py byol.py", bash(mm_checkout, outputs=("work_dirs/byol/*",)), True),
    Example(MM, "python -m sp_mmselfsup", bash(mm_checkout, outputs=("work_dirs/*/*",)), True),
    Example(MM, "extract_backbone_weights", bash(mm_pretrained, outputs=("backbone.pth",)), True),
]
# Blocks that do not run here: a word in each, and why.
NOT_RUN = {
    (EVALUATION, "IMAGENET_C"): "takes ImageNet and ImageNet-C; tests/sp_bench has their layouts",
    (EVALUATION, "--pretrained"): "downloads; tests/sp_bench has published models in local caches",
    (README, "make demo"): "makes the environment that the tests run in, and trains for minutes",
    (README, "pip install"): "downloads; `make release-check` does it for each extra",
    (README, "sp-bench speed"): "measures for an hour; tests/sp_bench/speed runs it small",
    (README, "suite scenes"): "thirty trainings; docs/suites.md has the suite that is quick",
    (SUITES, "suite scenes"): "thirty trainings, and what is made of their results",
    (TRANSFORMERS, "pip install"): "downloads; `make release-check` installs extras",
    (LIGHTNING, "make lightning-features"): "these are tests of their own",
    (MM, "git clone"): "downloads; `make release-check` installs the extra",
    (MM, "make mm-matrix"): "these are tests of their own, an hour",
    (SOLO, "git clone"): "downloads; `make release-check` installs the extra",
    (SOLO, "make test"): "these are tests of their own",
    (MM, "onedl-mmpretrain onedl-mmengine"): "downloads; `make onedl-mmpretrain` does it",
    ("docs/stable-pretraining.md", "pip install"): "downloads; `make stable-pretraining` does it",
    ("docs/stable-pretraining.md", "trainer.fit"): IN_ENVIRONMENT,
    ("docs/torchgeo.md", "pip install"): "downloads; `make torchgeo` does it",
    ("docs/torchgeo.md", "trainer.fit"): IN_ENVIRONMENT,
    (README, "SP_PLUGIN=1"): IN_ENVIRONMENT,
    (LIGHTLY_TRAIN, "pip install"): IN_ENVIRONMENT,
    (LIGHTLY_TRAIN, "os.environ"): IN_ENVIRONMENT,
    (LIGHTLY_TRAIN, "weight: 0.3"): IN_ENVIRONMENT,
    (LIGHTLY_TRAIN, "^source: host_views"): IN_ENVIRONMENT,
    (LIGHTLY_TRAIN, "record_geometry"): IN_ENVIRONMENT,
    ("docs/frameworks.md", "make framework-matrix"): "installs each framework",
}


def matches(one: Block) -> list[tuple[str, str]]:
    words = [(example.page, example.word) for example in EXAMPLES] + list(NOT_RUN)
    return [(page, word) for page, word in words if page == one.page and one.has(word)]


@pytest.mark.parametrize("page", PAGES)
def test_each_block_is_run_or_listed(page: str) -> None:
    for one in blocks(page):
        if one.language != "text":
            assert len(matches(one)) == 1, f"{one}: {matches(one)}"


@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    "example",
    [
        pytest.param(one, id=f"{one.page}-{one.word}", marks=[pytest.mark.slow] * one.slow)
        for one in EXAMPLES
    ],
)
def test_block_runs(example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    example.run(block(example.page, example.word), tmp_path)


def sp_bench_lines(page: str) -> list[str]:
    """Lines of sp-bench in the blocks of a page, and those with options in its text."""
    text = (ROOT / page).read_text()
    code = [one.text for one in blocks(page)] + re.findall(r"`(sp-bench [^`]+ --[^`]+)`", text)
    lines = "\n".join(code).replace("\\\n", " ").splitlines()
    return [line for line in lines if line.startswith("sp-bench ")]


@pytest.mark.parametrize("page", [page for page in PAGES if sp_bench_lines(page)])
def test_sp_bench_lines_are_accepted(page: str) -> None:
    """Commands and options exist; the slow tests run the lines."""
    from sp_bench.cli import app
    from sp_bench.cli_options import expand_list_options

    group: Any = typer.main.get_command(app)
    with group.make_context("sp-bench", ["--help"], resilient_parsing=True) as context:
        for line in sp_bench_lines(page):
            arguments = expand_list_options(shlex.split(line, comments=True)[1:])
            name, command, rest = group.resolve_command(context, arguments)
            command.make_context(name, rest)
