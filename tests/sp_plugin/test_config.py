"""SPConfig: every setting's default, valid and invalid values, and the error messages."""

from __future__ import annotations

import dataclasses
import inspect
import json
import math
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from omegaconf import OmegaConf

from sp_plugin import TARGET_ENCODINGS, ConfigError, SpatialPrediction, SPConfig
from sp_plugin.config import SOURCES, ResolvedConfig
from sp_plugin.objective.loss import LOSSES

_SCALE = "least and largest area in (0, 1], such as [0.05, 0.32], or two of these, first to last"
_IOU = "a number in [0, 1], or two, first to last, such as [1.0, 0.1]"
_RATIO = "least and largest width / height in [0.1, 10], such as [0.75, 1.33]"
_WINDOW = "least and largest side in (0, 1], such as [0.5, 1.0], or null"
_PIXELS = "a number of pixels from 4 up, two of these (height, width), or null"
_PAIRS = "'all' or a whole number from 1 up"
_VIEW = "the place of a view in the batch, its name or path, such as 'images.0', or null"
_PART = "a fraction of the batch's images in (0, 1], or null"
_FRACTION = "a fraction of training in [0, 1]"

# Each setting: its default, other valid values, invalid values, and the end of the error message.
SETTINGS = {
    "weight": (0.5, [0, 1, 1000], [-0.1, 1001, math.nan, "1", True], "a number in [0, 1000]"),
    "relative_weight": (True, [False], ["true", 1, None], "true or false"),
    "warmup_fraction": (0.07, [0, 1, 0.5], [-0.1, 1.1, math.inf, None], _FRACTION),
    "cooldown_fraction": (0.0, [0, 0.93, 0.5], [-0.1, 1.1, "half", [0.1]], _FRACTION),
    "source": (
        "view",
        ["image", "host_views"],
        ["View", None, 1, ["view"], "host"],
        "one of view, image, host_views",
    ),
    "view": (None, [None, 0, 3, "image", "a.0"], [-1, 1.0, True, "", ["a"]], _VIEW),
    "sample_fraction": (None, [None, 0.125, 1], [0, -0.1, 1.1, math.nan, "1"], _PART),
    "num_crops": (4, [2, 8], [1, 9, 4.0, "4", True, None], "a whole number from 2 to 8"),
    "num_pairs": ("all", [1], ["some", 0, 1.0, True, None, ["all"]], _PAIRS),
    "crop_size": (
        None,
        [4, 96, None, [32, 128], (128, 32)],
        [3, 32.0, "32", True, [32], [32, 3], [32.0, 64], [True, 8], [8, 8, 8], [[8, 8], 8]],
        _PIXELS,
    ),
    "crop_scale": (
        None,
        [None, [0.1, 0.1], (0.05, 1), [[0.2, 0.5], [0.05, 0.3]]],
        [0.3, [0.3], [0.3, 0.1], [0, 0.3], [0.1, 1.1], [[0.1, 0.3], 0.2], [[0.1, 0.3]] * 3],
        _SCALE,
    ),
    "crop_ratio": ((3 / 4, 4 / 3), [[1, 1], [0.1, 10]], [1, [0.05, 1], [2, 1], [1, 2, 3]], _RATIO),
    "window": (None, [None, [1, 1], [0.5, 0.9]], [0.5, [0, 1], [0.9, 0.5], [0.5, 2]], _WINDOW),
    "max_iou": (0.1, [0, 1, [1.0, 0.1], [0, 1]], [-0.1, 1.1, [1, 0.5, 0], [1, 2], None], _IOU),
    "sharpness": ("equal", ["native"], ["equel", False], "one of equal, native"),
    "target_encoding": (
        "symmetric",
        ["anchor", "image"],
        ["polar"],
        "one of symmetric, anchor, image",
    ),
    "head": (
        None,
        [None, "antisymmetric", "plain", "difference"],
        ["mlp"],
        "one of antisymmetric, plain, difference",
    ),
    "hidden_dim": (512, [1, 2048], [0, 64.0, True, None], "a whole number from 1 up"),
    "loss": ("smooth_l1", ["l1", "mse"], ["huber"], "one of smooth_l1, l1, mse"),
    "pool": ("mean", ["cls"], ["max"], "one of mean, cls"),
    "layer": (None, [None, "layer3"], ["", 3], "the dotted name of a submodule, such as 'layer3'"),
    "update_bn": (False, [True], [0, "true", None], "true or false"),
    "seed": (0, [1, 2**40], [-1, 1.0, True, None], "a whole number from 0 up"),
}
KEYS = [field.name for field in dataclasses.fields(SPConfig)]
each_key = pytest.mark.parametrize("key", SETTINGS)


class AttributeDict(dict):
    """A dict with attribute access, like MMEngine's ConfigDict."""

    __getattr__ = dict.__getitem__


def _tuples(value):
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


def test_every_setting_is_documented():
    assert list(SETTINGS) == KEYS
    attributes = SPConfig.__doc__.split("Attributes:")[1].split("Raises:")[0]
    documented = re.findall(r"^        (\w+): \S", attributes, flags=re.MULTILINE)
    assert documented == KEYS


@each_key
def test_default_value(key):
    assert getattr(SPConfig(), key) == SETTINGS[key][0]


@each_key
def test_valid_values_are_accepted(key):
    for value in SETTINGS[key][1]:
        assert getattr(SPConfig.from_dict({key: value}), key) == _tuples(value)


@each_key
def test_invalid_values_are_refused(key):
    _, _, invalid, expected = SETTINGS[key]
    for value in invalid:
        with pytest.raises(ConfigError) as caught:
            SPConfig.from_dict({key: value})
        line = str(caught.value)
        assert line.startswith(f"{key}: got ") and line.endswith(f", takes {expected}"), line
        assert "\n" not in line


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"weight": -1}, "weight: got -1, takes a number in [0, 1000]"),
        ({"crop_size": "32"}, f"crop_size: got '32', takes {_PIXELS}"),
        ({"crop_scale": [0.3, 0.1]}, f"crop_scale: got (0.3, 0.1), takes {_SCALE}"),
        ({"pool": "max"}, "pool: got 'max', takes one of mean, cls"),
        ({"update_bn": 1}, "update_bn: got 1, takes true or false"),
        (
            {"target_encoding": "anchor", "head": "antisymmetric"},
            "head: got 'antisymmetric', takes plain or difference with target_encoding 'anchor'",
        ),
        ({"num_crops": 9}, "num_crops: got 9, takes a whole number from 2 to 8"),
        ({"num_pairs": "some"}, "num_pairs: got 'some', takes 'all' or a whole number from 1 up"),
        (
            {"num_crops": 4, "num_pairs": 7},
            "num_pairs: got 7, takes 'all' or a whole number from 1 to 6 with num_crops 4",
        ),
    ],
)
def test_error_message_exact_text(settings, line):
    with pytest.raises(ConfigError) as caught:
        SPConfig.from_dict(settings)
    assert str(caught.value) == line


@pytest.mark.parametrize("build", [SPConfig, lambda **settings: SPConfig.from_dict(settings)])
def test_misspelled_argument_gets_nearest(build):
    with pytest.raises(ConfigError, match=r"^wieght: no such setting of SP; did you mean 'weight'"):
        build(wieght=1)
    with pytest.raises(ConfigError, match=r"^decay: .*did you mean 'cooldown_fraction'\?$"):
        build(decay=0.1)


def test_constructor_shows_its_settings():
    assert list(inspect.signature(SPConfig).parameters) == KEYS
    assert "cooldown_fraction" in inspect.getdoc(SPConfig)


@pytest.mark.parametrize(
    ("setting", "registry"), [("loss", LOSSES), ("target_encoding", TARGET_ENCODINGS)]
)
def test_added_entry_of_a_registry_is_taken(setting, registry, monkeypatch):
    with pytest.raises(ConfigError, match="got 'mine', takes one of"):
        SPConfig.from_dict({setting: "mine"})
    monkeypatch.setitem(registry, "mine", next(iter(registry.values())))
    assert SpatialPrediction(8, {setting: "mine"}).config.asdict()[setting] == "mine"


def test_schedule_fractions_sum_to_at_most_1():
    assert SPConfig(warmup_fraction=0.7, cooldown_fraction=0.3).cooldown_fraction == 0.3
    line = r"^cooldown_fraction: got 0.7, takes at most 0.3 with warmup_fraction 0.7$"
    with pytest.raises(ConfigError, match=line):
        SPConfig(warmup_fraction=0.7, cooldown_fraction=0.7)


def test_num_pairs_is_limited_by_num_crops():
    for crops, most in ((2, 1), (3, 3), (4, 6), (8, 28)):
        assert SPConfig(num_crops=crops, num_pairs=most).num_pairs == most
        with pytest.raises(ConfigError, match=f"from 1 to {most} with num_crops {crops}$"):
            SPConfig(num_crops=crops, num_pairs=most + 1)


@pytest.mark.parametrize("value", [torch.tensor(0.3), np.array(0.3), np.array([0.1, 0.2]), {}, ...])
def test_non_plain_values_are_refused(value):
    for key in ("weight", "crop_scale", "max_iou"):
        with pytest.raises(ConfigError, match=f"^{key}: got "):
            SPConfig.from_dict({key: value})


@given(st.sampled_from(KEYS), st.data())
def test_misspelled_key_suggests_nearest(key, data):
    at = data.draw(st.integers(1, len(key) - 1))
    misspelled = key[:at] + data.draw(st.sampled_from("aeioxz")) + key[at:]
    message = f"^{misspelled}: no such setting of SP; did you mean"
    with pytest.raises(ConfigError, match=message):
        SPConfig.from_dict({misspelled: 1})


def test_unknown_key_lists_all_settings():
    with pytest.raises(ConfigError) as caught:
        SPConfig.from_dict({"qqqqqq": 1})
    known = ", ".join(sorted(KEYS))
    assert str(caught.value) == f"qqqqqq: no such setting of SP; known are {known}"


_YAML = """
host: 0.5
sp: {weight: "${host}", max_iou: [1.0, 0.1], crop_scale: [[0.2, 0.5], [0.05, 0.3]],
     crop_ratio: [0.5, 2], layer: layer3, crop_size: null, update_bn: true, seed: 3}
"""


def _as_omegaconf():
    return OmegaConf.create(_YAML).sp


def _as_dict():
    return OmegaConf.to_container(OmegaConf.create(_YAML), resolve=True)["sp"]


def _as_attribute_dict():
    return AttributeDict(_as_dict())


@pytest.mark.parametrize("load", [_as_omegaconf, _as_dict, _as_attribute_dict])
def test_config_libraries_build_the_same(load):
    built = SPConfig.from_dict(load())
    assert built == SPConfig(
        weight=0.5,
        max_iou=(1.0, 0.1),
        crop_scale=((0.2, 0.5), (0.05, 0.3)),
        crop_ratio=(0.5, 2.0),
        layer="layer3",
        update_bn=True,
        seed=3,
    )
    assert type(built.crop_scale[0]) is tuple and type(built.max_iou) is tuple


@pytest.mark.parametrize("load", [_as_omegaconf, _as_dict, _as_attribute_dict])
def test_keywords_override_mapping(load):
    settings = load()
    assert SPConfig.from_dict(settings, weight=2, seed=9).weight == 2
    assert settings == load()


def test_no_input_builds_the_defaults():
    assert SPConfig.from_dict() == SPConfig.from_dict(None) == SPConfig.from_dict({}) == SPConfig()


@pytest.mark.parametrize("key", KEYS)
def test_config_round_trips_through_json(key):
    for value in SETTINGS[key][1]:
        config = SPConfig.from_dict({key: value})
        plain = json.loads(json.dumps(config.asdict()))
        assert list(plain) == KEYS
        assert SPConfig.from_dict(plain) == config
        assert SPConfig.from_dict(OmegaConf.create(plain)) == config


def test_config_is_immutable():
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPConfig().weight = 1
    assert dataclasses.replace(SPConfig(), weight=1) == SPConfig(weight=1)
    with pytest.raises(ConfigError):
        dataclasses.replace(SPConfig(), weight=-1)


@pytest.mark.parametrize(
    ("view_size", "crop_size", "crop_scale"),
    [
        (6, 4, (0.15, 0.32)),
        (32, 16, (0.15, 0.32)),
        (64, 32, (0.15, 0.32)),
        (65, 32, (0.05, 0.32)),
        (96, 48, (0.05, 0.32)),
        (224, 96, (0.05, 0.32)),
        (256, 96, (0.05, 0.32)),
    ],
)
def test_defaults_follow_from_view_size(view_size, crop_size, crop_scale):
    resolved = SPConfig().resolve(view_size)
    assert isinstance(resolved, ResolvedConfig)
    assert (resolved.crop_size, resolved.crop_scale) == (crop_size, crop_scale)
    assert resolved.resolve(view_size) == resolved


def test_window_and_head_follow_settings():
    assert SPConfig().resolve(64).window == (1.0, 1.0)
    assert SPConfig(source="image").resolve(64).window == (0.5, 1.0)
    encodings = SETTINGS["target_encoding"][1]
    heads = {name: SPConfig(target_encoding=name).resolve(64).head for name in encodings}
    assert heads == {"anchor": "plain", "image": "antisymmetric"}
    assert SPConfig().resolve(64).head == "antisymmetric"


@given(st.integers(8, 600))
def test_given_values_are_kept_when_resolved(view_size):
    given_values = {
        "sample_fraction": 0.5,
        "crop_size": 40,
        "crop_scale": (0.3, 0.4),
        "window": (0.7, 0.8),
        "head": "difference",
    }
    settings = {"weight": 2.0, "seed": 7, **given_values}
    resolved = SPConfig(**settings).resolve(view_size)
    assert {key: getattr(resolved, key) for key in settings} == settings
    for key, value in given_values.items():
        config = SPConfig(**{key: value}).resolve(view_size)
        assert getattr(config, key) == value
        assert None not in {getattr(config, name) for name in given_values}


def test_host_views_take_the_whole_batch():
    """Their features are there anyway; crops of an eighth of the images are encoded by default."""
    fractions = {source: SPConfig(source=source).resolve(64).sample_fraction for source in SOURCES}
    assert fractions == {"view": 0.125, "image": 0.125, "host_views": 1.0}


@pytest.mark.parametrize(
    ("former", "current"),
    [
        ("area", "crop_scale"),
        ("crops", "num_crops"),
        ("decay", "cooldown_fraction"),
        ("encoding", "target_encoding"),
        ("head_width", "hidden_dim"),
        ("pairs", "num_pairs"),
        ("ratio", "crop_ratio"),
        ("relative", "relative_weight"),
        ("size", "crop_size"),
        ("warmup", "warmup_fraction"),
    ],
)
def test_former_names_suggest_the_new_ones(former, current):
    with pytest.raises(ConfigError) as caught:
        SPConfig.from_dict({former: getattr(SPConfig(), current)})
    assert str(caught.value) == f"{former}: no such setting of SP; did you mean {current!r}?"
