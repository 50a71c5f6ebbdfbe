"""Checkpoints in the format of each framework, and files with more than weights."""

from __future__ import annotations

import json
import re

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from sp_bench.backbones import make_backbone
from sp_bench.checkpoints import find_checkpoint, load_checkpoint, read_weights, weights_digest
from sp_bench.checkpoints.read import TRUST_OPTION
from sp_bench.errors import UsageError
from sp_bench.published_models import build_torchvision
from torch import Tensor, nn

State = dict[str, Tensor]


def resnet(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_backbone("resnet18", 64)


def vit(seed: int, side: int = 32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_backbone("tiny_vit", side)


def small(seed: int) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make_backbone("tiny_resnet", 32)


def add_prefix(prefix: str, state: State) -> State:
    return {prefix + name: value for name, value in state.items()}


def filled_with_7(state: State) -> State:
    return {name: torch.full_like(value, 7) for name, value in state.items()}


def openmmlab_vit(state: State, norms: str) -> State:
    """timm's names as mmselfsup (ln) or an older mmcls (norm) has them."""
    turned = {}
    for name, value in state.items():
        name = name.replace("patch_embed.proj.", "patch_embed.projection.")
        name = re.sub(r"^norm\.", f"{norms}1.", name)
        name = re.sub(r"^blocks\.(\d+)\.norm", rf"layers.\1.{norms}", name)
        name = name.replace("mlp.fc1.", "ffn.layers.0.0.").replace("mlp.fc2.", "ffn.layers.1.")
        turned[name.replace("blocks.", "layers.")] = value
    return turned


def chunked(state: State) -> State:
    """Two chunks of three blocks, as dinov2 trains with FSDP."""
    return {
        re.sub(r"^blocks\.(\d+)", lambda m: f"blocks.{int(m[1]) // 3}.{m[1]}", name): value
        for name, value in state.items()
    }


def torchvision_vit(state: State) -> State:
    turned = {}
    for name, value in state.items():
        name = re.sub(r"^norm\.", "encoder.ln.", name)
        name = re.sub(r"^blocks\.(\d+)\.norm", r"encoder.layers.encoder_layer_\1.ln_", name)
        name = re.sub(r"^blocks\.(\d+)", r"encoder.layers.encoder_layer_\1", name)
        name = name.replace("attn.qkv.", "self_attention.in_proj_")
        name = name.replace("attn.proj", "self_attention.out_proj")
        name = name.replace("mlp.fc", "mlp.linear_").replace("patch_embed.proj", "conv_proj")
        name = name.replace("cls_token", "class_token")
        turned[name.replace("pos_embed", "encoder.pos_embedding")] = value
    return turned


def hugging_face_vit(state: State, dinov2: bool = False) -> State:
    turned = {}
    for name, value in state.items():
        name = re.sub(r"^(cls_token)", r"embeddings.\1", name)
        name = re.sub(r"^pos_embed", "embeddings.position_embeddings", name)
        name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection")
        name = re.sub(r"^norm\.", "layernorm.", name).replace("blocks.", "encoder.layer.")
        if not dinov2:
            name = name.replace(".norm1", ".layernorm_before")
            name = name.replace(".norm2", ".layernorm_after")
            name = name.replace("mlp.fc1", "intermediate.dense")
            name = name.replace("mlp.fc2", "output.dense")
        name = name.replace("attn.proj", "attention.output.dense")
        if "attn.qkv" in name:
            for part, third in zip(("query", "key", "value"), value.chunk(3), strict=True):
                turned[name.replace("attn.qkv", f"attention.attention.{part}")] = third
            continue
        turned[name] = value
    return turned


def as_sequential(net: nn.Module) -> State:
    return nn.Sequential(*list(net.children())[:-1]).state_dict()


PROJECTOR = {"projector.0.weight": torch.ones(3, 3)}
RESNET, VIT, SMALL = (make(1).state_dict() for make in (resnet, vit, small))
FORMS = {
    "plain": (RESNET, ""),
    "torchvision": ({**RESNET, "fc.weight": torch.ones(9, 512), "fc.bias": torch.ones(9)}, ""),
    "timm": ({"state_dict": VIT}, ""),
    "timm's script": (
        {
            "epoch": 3,
            "arch": "vit",
            "state_dict": add_prefix("module.", VIT),
            "state_dict_ema": add_prefix("module.", filled_with_7(VIT)),
            "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}},
        },
        "",
    ),
    "Lightning": (
        {"state_dict": add_prefix("backbone.", RESNET) | PROJECTOR, "epoch": 3},
        "backbone.",
    ),
    "lightly, dino": (
        {
            "state_dict": add_prefix("teacher_backbone.", filled_with_7(RESNET))
            | add_prefix("student_backbone.", RESNET)
        },
        "student_backbone.",
    ),
    "lightly, Sequential": (
        {"state_dict": add_prefix("backbone.", as_sequential(resnet(1)))},
        "backbone.",
    ),
    "lightly, masked": ({"state_dict": add_prefix("backbone.vit.", VIT)}, "backbone.vit."),
    "solo-learn": (
        {
            "state_dict": add_prefix("momentum_backbone.", filled_with_7(RESNET))
            | add_prefix("backbone.", RESNET)
            | PROJECTOR
        },
        "backbone.",
    ),
    "a copy whose name comes first": (
        {
            "state_dict": add_prefix("ema.backbone.", filled_with_7(RESNET))
            | add_prefix("online.backbone.", RESNET)
        },
        "online.backbone.",
    ),
    "MMSelfSup, whole": (
        {
            "meta": {"epoch": 1},
            "state_dict": add_prefix("backbone.", RESNET) | add_prefix("sp.head.", PROJECTOR),
        },
        "backbone.",
    ),
    "MMSelfSup, extracted": ({"state_dict": RESNET, "author": "OpenMMLab"}, ""),
    "MMSelfSup, ViT": (
        {"state_dict": add_prefix("backbone.", openmmlab_vit(VIT, "ln"))},
        "backbone.",
    ),
    "mmcls, ViT": (
        {"state_dict": add_prefix("backbone.", openmmlab_vit(VIT, "norm"))},
        "backbone.",
    ),
    "DINO's own": (
        {
            "teacher": add_prefix("backbone.", filled_with_7(VIT)),
            "student": add_prefix("module.backbone.", VIT),
        },
        "student.backbone.",
    ),
    "DINOv2, in chunks": (
        {"teacher": add_prefix("backbone.", chunked(VIT)), "epoch": 3},
        "teacher.backbone.",
    ),
    "torchvision, ViT": (torchvision_vit(VIT), ""),
    "Hugging Face, ViT": (
        add_prefix("vit.", hugging_face_vit(VIT)) | {"classifier.bias": torch.ones(3)},
        "vit.",
    ),
    "Hugging Face, Dinov2": (
        {**hugging_face_vit(VIT, dinov2=True), "embeddings.mask_token": torch.ones(1, 192)},
        "",
    ),
}
VITS = ("timm", "timm's script", "lightly, masked", "MMSelfSup, ViT", "mmcls, ViT", "DINO's own",
        "DINOv2, in chunks", "torchvision, ViT", "Hugging Face, ViT",
        "Hugging Face, Dinov2")  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_each_format_loads_the_backbone(form, tmp_path):
    saved, prefix = FORMS[form]
    torch.save(saved, tmp_path / "a.ckpt")
    make = vit if form in VITS else resnet
    backbone = make(2)
    report = load_checkpoint(backbone, tmp_path / "a.ckpt")
    assert report.prefix == prefix
    assert report.share == 1 and not report.missing and not report.mismatched
    x = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(backbone.eval()(x), make(1).eval()(x))


EXTRA = {
    "more layers": (
        torchvision.models.resnet34(weights=None).state_dict() | RESNET,
        80,
        "layer1.2.bn1.bias, layer1.2.bn1.running_mean, layer1.2.bn1.running_var, ...",
    ),
    "below a prefix": (
        add_prefix("backbone.", RESNET | {"layer1.0.se.fc1.bias": torch.ones(3)}) | PROJECTOR,
        1,
        "layer1.0.se.fc1.bias",
    ),
    "LayerScale": (
        VIT | {f"blocks.{i}.ls1.gamma": torch.ones(192) for i in range(6)},
        6,
        "blocks.0.ls1.gamma, blocks.1.ls1.gamma, blocks.2.ls1.gamma, ...",
    ),
    "registers, ViT": (VIT | {"reg_token": torch.ones(1, 4, 192)}, 1, "reg_token"),
    "LayerScale, Hugging Face": (
        hugging_face_vit(VIT) | {"encoder.layer.0.layer_scale1.lambda1": torch.ones(192)},
        1,
        "blocks.0.ls1.gamma",
    ),
}


@pytest.mark.parametrize("kind", EXTRA)
def test_layers_not_in_backbone_are_refused(kind, tmp_path):
    saved, count, names = EXTRA[kind]
    torch.save({"state_dict": saved}, tmp_path / "a.pt")
    make = vit if "LayerScale" in kind or "ViT" in kind else resnet
    backbone = make(2)
    with pytest.raises(UsageError) as error:
        load_checkpoint(backbone, tmp_path / "a.pt")
    assert str(error.value) == (
        f"checkpoint: {tmp_path / 'a.pt'}: --backbone lacks {count} of its weights ({names}); "
        "takes a --backbone that has them, or --allow-partial"
    )
    before = make(2).state_dict()
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert load_checkpoint(backbone, tmp_path / "a.pt", allow_partial=True).share == 1


def test_parts_without_features_are_allowed(tmp_path):
    extra = {
        "head.layers.0.weight": torch.ones(3),
        "decoder_blocks.0.norm1.weight": torch.ones(3),
        "projector.0.weight": torch.ones(3),
        "mask_token": torch.ones(3),
        "blocks.0.mask_token": torch.ones(3),
        "blocks.0.attn_mask": torch.ones(3),
        "blocks.0.attn.qkv.bias_mask": torch.ones(3),
        "blocks.0.attn.relative_coords_table": torch.ones(3),
        "blocks.0.attn.relative_position_index": torch.ones(3, dtype=torch.int64),
        "patch_embed.num_batches_tracked": torch.ones(()),
    }
    torch.save(VIT | extra, tmp_path / "a.pt")
    report = load_checkpoint(vit(2), tmp_path / "a.pt")
    assert report.share == 1 and {*report.unexpected, "patch_embed.num_batches_tracked"} == {*extra}


def test_prefix_selects_momentum_copy(tmp_path):
    state = add_prefix("backbone.", RESNET) | add_prefix(
        "momentum_backbone.", resnet(3).state_dict()
    )
    torch.save({"state_dict": state}, tmp_path / "a.ckpt")
    backbone = resnet(2)
    assert load_checkpoint(backbone, tmp_path / "a.ckpt", prefix="momentum_backbone").share == 1
    assert torch.equal(backbone.conv1.weight, resnet(3).conv1.weight)
    with pytest.raises(UsageError, match=r"nothing below 'momentum\.'; did you mean 'momentum_bac"):
        load_checkpoint(backbone, tmp_path / "a.ckpt", prefix="momentum.")


def test_unmatched_weights_are_reported(tmp_path):
    state = {name: value for name, value in RESNET.items() if not name.startswith("layer4.1")}
    state["conv1.weight"] = torch.ones(64, 3, 3, 3)
    torch.save(state | {"odd": torch.ones(1)}, tmp_path / "a.pt")
    backbone = resnet(2)
    with pytest.raises(UsageError, match=r"89 of 100 weights matched.*or --allow-partial$"):
        load_checkpoint(backbone, tmp_path / "a.pt")
    report = load_checkpoint(backbone, tmp_path / "a.pt", allow_partial=True)
    assert (
        len(report.missing) == 10
        and report.mismatched == ("conv1.weight",)
        and report.unexpected == ("odd",)
    )
    line = report.summary()
    assert line.startswith("89 of 100 weights matched without a prefix; 10 missing (layer4.1.bn1.")
    assert "1 of another shape (conv1.weight)" in line and "1 not the backbone's (odd)" in line
    assert torch.equal(backbone.conv1.weight, resnet(2).conv1.weight)


def test_position_embedding_is_resampled(tmp_path):
    torch.save(VIT, tmp_path / "a.pt")
    backbone = vit(2, side=64)
    report = load_checkpoint(backbone, tmp_path / "a.pt")
    assert report.share == 1 and report.resampled == ("pos_embed",)
    expected = timm.layers.resample_abs_pos_embed(VIT["pos_embed"], [8, 8], num_prefix_tokens=1)
    torch.testing.assert_close(backbone.pos_embed.data, expected)


def with_registers(side: int) -> nn.Module:
    """As DINOv2's: a class token and 4 registers; ``no_embed_class`` of its positions."""
    return timm.models.VisionTransformer(
        img_size=side, patch_size=8, embed_dim=24, depth=1, num_heads=2, num_classes=0,
        reg_tokens=4, no_embed_class=True,
    )  # fmt: skip


def test_positions_without_prefix_resampled(tmp_path):
    state = with_registers(32).state_dict()
    torch.save(state, tmp_path / "a.pt")
    backbone = with_registers(64)
    assert load_checkpoint(backbone, tmp_path / "a.pt").resampled == ("pos_embed",)
    expected = timm.layers.resample_abs_pos_embed(state["pos_embed"], [8, 8], num_prefix_tokens=0)
    torch.testing.assert_close(backbone.pos_embed.data, expected)
    state["pos_embed"] = torch.zeros(1, 17, 24)  # with a class token
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(UsageError, match=r"1 of another shape \(pos_embed\)"):
        load_checkpoint(backbone, tmp_path / "a.pt")


def test_wrong_architecture_is_refused(tmp_path):
    torch.save(torchvision.models.resnet18(weights=None).state_dict(), tmp_path / "a.pt")
    backbone = vit(2)
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(UsageError, match=r"0 of \d+ weights matched.*another architecture") as e:
        load_checkpoint(backbone, tmp_path / "a.pt")
    assert "\n" not in str(e.value)
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())


@pytest.mark.parametrize("name", ["mobilenet_v3_small", "alexnet"])
def test_missing_inner_layers_are_refused(name, tmp_path):
    """A part named classifier still has layers that features pass, when its last is removed."""
    backbone = build_torchvision(name, 3)
    weights = {k: v for k, v in backbone.state_dict().items() if k.startswith("features.")}
    torch.save(weights, tmp_path / "a.pt")
    with pytest.raises(UsageError, match=r"missing \(classifier.*or --allow-partial$"):
        load_checkpoint(backbone, tmp_path / "a.pt")


def test_head_of_timm_may_be_missing(tmp_path):
    backbone = timm.create_model("test_convnext", num_classes=0)
    weights = backbone.state_dict()
    torch.save({k: v for k, v in weights.items() if not k.startswith("head.")}, tmp_path / "a.pt")
    missing = load_checkpoint(backbone, tmp_path / "a.pt").missing
    assert missing and all(key.startswith("head.norm.") for key in missing)


def test_one_missing_weight_is_refused(tmp_path):
    renamed = {name.replace("layer2.0.conv1", "layer2.0.conv_1"): v for name, v in RESNET.items()}
    torch.save(renamed, tmp_path / "a.pt")
    before = resnet(2).state_dict()
    backbone = resnet(2)
    with pytest.raises(UsageError) as error:
        load_checkpoint(backbone, tmp_path / "a.pt")
    line = str(error.value)
    assert "99 of 100 weights matched" in line and "1 missing (layer2.0.conv1.weight)" in line
    assert "nearest to layer2.0.conv1.weight is layer2.0.conv_1.weight" in line
    assert line.endswith("it takes all of them, or --allow-partial") and "\n" not in line
    assert all(torch.equal(before[name], value) for name, value in backbone.state_dict().items())
    assert load_checkpoint(backbone, tmp_path / "a.pt", allow_partial=True).share == 0.99


@pytest.mark.parametrize(
    "wrapper",
    [
        "module",
        "_checkpoint_wrapped_module",
        "_fsdp_wrapped_module",
        "_orig_mod",
        "_forward_module",
    ],
)
@pytest.mark.parametrize("place", ["first", "inside", "some layers", "twice"])
def test_names_of_wrappers_are_dropped(wrapper, place, tmp_path):
    wrapped = {}
    for name, value in SMALL.items():
        inside = re.sub(r"^(layer\d\.)", rf"\1{wrapper}.", name)
        new = {
            "first": f"{wrapper}.{name}",
            "inside": inside,
            "some layers": inside if name.startswith("layer2") else name,
            "twice": f"{wrapper}.{inside}",
        }[place]
        wrapped[f"net.{new}"] = value
    torch.save({"state_dict": wrapped}, tmp_path / "a.pt")
    backbone = small(2)
    report = load_checkpoint(backbone, tmp_path / "a.pt")
    assert (report.share, report.prefix) == (1, "net.")
    assert torch.equal(backbone.conv1[0].weight, SMALL["conv1.0.weight"])


PAIRS = [
    ("encoder_q", "encoder_k"),
    ("online_encoder", "target_encoder"),
    ("online_network", "target_network"),
    ("student", "teacher"),
    ("student.backbone", "teacher.backbone"),
    ("base_encoder", "momentum_encoder"),
    ("backbone", "backbone_momentum"),
    ("model", "model_ema"),
    ("state_dict", "state_dict_ema"),
    ("net", "averaged_model"),
]


@pytest.mark.parametrize("wrapper", ["", "module."])
@pytest.mark.parametrize(("student", "copy"), PAIRS)
def test_student_is_preferred_to_its_copy(student, copy, wrapper, tmp_path):
    copied = filled_with_7(SMALL)
    flat = add_prefix(f"{wrapper}{copy}.", copied) | add_prefix(f"{wrapper}{student}.", SMALL)
    nested = {copy: add_prefix(wrapper, copied), student: add_prefix(wrapper, SMALL)}
    for saved in ({"state_dict": flat}, nested):
        torch.save(saved, tmp_path / "a.pth.tar")
        backbone = small(2)
        assert load_checkpoint(backbone, tmp_path / "a.pth.tar").share == 1
        assert torch.equal(backbone.conv1[0].weight, SMALL["conv1.0.weight"])
        for prefix in (copy, f"{wrapper}{copy}.", copy.split(".")[0]):
            load_checkpoint(backbone, tmp_path / "a.pth.tar", prefix=prefix)
            assert (backbone.conv1[0].weight == 7).all()


def test_two_equal_backbones_are_refused(tmp_path):
    other = filled_with_7(SMALL)
    torch.save(add_prefix("left.", SMALL) | add_prefix("right.", other), tmp_path / "a.pt")
    backbone = small(2)
    with pytest.raises(
        UsageError, match=r"'left\.' and 'right\.' match equally well.*--prefix"
    ) as e:
        load_checkpoint(backbone, tmp_path / "a.pt")
    assert "\n" not in str(e.value)
    load_checkpoint(backbone, tmp_path / "a.pt", prefix="right")
    assert (backbone.conv1[0].weight == 7).all()
    # The same weights under two names are one backbone.
    torch.save(add_prefix("left.", SMALL) | add_prefix("right.", SMALL), tmp_path / "a.pt")
    assert load_checkpoint(backbone, tmp_path / "a.pt").prefix == "left."


def test_prefix_is_found_at_any_place(tmp_path):
    saved = {"state_dict": add_prefix("model.student.backbone.", SMALL)}
    saved["state_dict"] |= add_prefix("model.teacher.backbone.", filled_with_7(SMALL))
    torch.save(saved, tmp_path / "a.pt")
    for prefix in ("teacher", "teacher.", "teacher.backbone", "model.teacher.backbone."):
        backbone = small(2)
        report = load_checkpoint(backbone, tmp_path / "a.pt", prefix=prefix)
        assert report.prefix == "model.teacher.backbone."
        assert (backbone.conv1[0].weight == 7).all()
    assert load_checkpoint(small(2), tmp_path / "a.pt", prefix="backbone").prefix == (
        "model.student.backbone."
    )


class ForeignObject:
    """As a HistoryBuffer of mmengine: an object of a class that is not torch's."""

    ran = False

    def __setstate__(self, state) -> None:
        ForeignObject.ran = True


def test_unsafe_pickle_needs_trust_option(tmp_path):
    sly = ForeignObject()
    sly.x = 1
    torch.save({"state_dict": RESNET, "message_hub": sly}, tmp_path / "a.pth")
    ForeignObject.ran = False
    with pytest.raises(UsageError, match=f"holds more than weights.*give {TRUST_OPTION}$") as error:
        read_weights(tmp_path / "a.pth")
    assert not ForeignObject.ran and "\n" not in str(error.value)
    assert read_weights(tmp_path / "a.pth", trust=True).keys() == RESNET.keys()
    assert ForeignObject.ran


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_sharded_checkpoint_is_read(kind, tmp_path):
    names = list(RESNET)
    shards = {f"model-0000{i}-of-00002.{kind}": names[i - 1 :: 2] for i in (1, 2)}
    for file, part in shards.items():
        tensors = {name: RESNET[name].contiguous() for name in part}
        save = save_file if kind == "safetensors" else torch.save
        save(tensors, tmp_path / file)
    (tmp_path / "optimizer.bin").write_bytes(b"x")
    index = tmp_path / f"model.{kind}.index.json"
    index.write_text(json.dumps({"weight_map": {n: f for f, part in shards.items() for n in part}}))
    assert find_checkpoint(tmp_path) == index
    assert read_weights(index).keys() == RESNET.keys()
    index.write_text("[]")
    with pytest.raises(UsageError, match="no index of a sharded checkpoint"):
        read_weights(index)
    index.write_text(json.dumps({"weight_map": {"a": "../gone"}}))
    with pytest.raises(UsageError, match="gone is not there"):
        read_weights(index)


@pytest.mark.parametrize("kind", ["file", "index", "folder"])
def test_digest_is_of_all_weights(kind, tmp_path):
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}))
    path = {"file": tmp_path / "2.safetensors", "index": index, "folder": tmp_path}[kind]
    digests = set()
    for content in (b"one", b"two", b"one"):
        for name in ("1.safetensors", "2.safetensors"):
            (tmp_path / name).write_bytes(content if name[0] == "2" else b"same")
        digests.add(weights_digest(path))
    assert len(digests) == 2 and "" not in digests


def test_safetensors_are_read(tmp_path):
    save_file(
        {name: value.contiguous() for name, value in RESNET.items()}, tmp_path / "a.safetensors"
    )
    assert read_weights(tmp_path / "a.safetensors").keys() == RESNET.keys()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda p: None, "is not there"),
        (lambda p: p.mkdir(), "is a folder; takes a file"),
        (lambda p: p.write_bytes(b"PK no zip"), "cannot be read"),
        (lambda p: p.write_bytes(b""), "cannot be read: it is empty"),
        (
            lambda p: p.write_text("version https://git-lfs"),
            "cannot be read: no file of torch or "
            "safetensors, it begins with b'version https://git-'",
        ),
        (lambda p: torch.save({"epoch": 3}, p), "holds no weights"),
        (lambda p: torch.save([1, 2], p), "holds no weights"),
    ],
)
def test_invalid_checkpoint_error_names_file(make, says, tmp_path):
    make(tmp_path / "a.ckpt")
    with pytest.raises(UsageError, match=f"^checkpoint: .*a.ckpt {says}") as error:
        read_weights(tmp_path / "a.ckpt")
    assert "\n" not in str(error.value)
