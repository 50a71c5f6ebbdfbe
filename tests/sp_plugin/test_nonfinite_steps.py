"""Steps that are left out are kept in files, from which their crops follow again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sp_plugin
from sp_plugin import ConfigError, Crops, EncodedViews, SPSession
from sp_plugin.isolation import make_generator
from sp_plugin.nonfinite_steps import MAX_FILES, NonfiniteRecorder
from sp_plugin.structures import UncoloredCrops


def make_session(folder: Path, **settings: Any) -> SPSession:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    settings = {
        "hidden_dim": 8,
        "sample_fraction": 1,
        "on_nonfinite": "record",
        "record_folder": folder,
        **settings,
    }
    return SPSession(net, **settings)


def images(bad: int | None = None, n: int = 6) -> Tensor:
    values = torch.rand(n, 3, 24, 24)
    if bad is not None:
        values[bad] = torch.inf
    return values


def test_bad_step_is_recorded_and_cut_again(tmp_path, caplog):
    session = make_session(tmp_path / "bad", num_crops=3)
    batches = [images(), images(bad=5), images()]
    for step, batch in enumerate(batches):
        session(batch, progress=step / 100)
    files = list((tmp_path / "bad").iterdir())
    assert [file.name for file in files] == ["step0000001-rank0.pt"]
    assert "step 1 was left out" in caplog.text and str(files[0]) in caplog.text
    step = sp_plugin.replay(files[0], session.backbone)
    record = step.record
    assert (record["step"], record["progress"], record["batch_size"]) == (1, 0.01, 6)
    assert record["config"] == session.sp.config.asdict()
    assert 5 in record["indices"] and len(record["indices"]) == 4
    # The same crops as in the step itself.
    made = session.sp.sample_crops(batches[1], make_generator(0, 0, 1), 0.01)
    torch.testing.assert_close(step.crops.boxes, made.boxes[:, record["indices"]], rtol=0, atol=0)
    torch.testing.assert_close(record["boxes"], step.crops.boxes, rtol=0, atol=0)
    pixels = made.pixels.unflatten(0, (3, 6))[:, record["indices"]].flatten(0, 1)
    torch.testing.assert_close(step.crops.pixels, pixels, rtol=0, atol=0, equal_nan=True)
    is_bad = ~step.features.isfinite().all(dim=2)
    assert is_bad.any() and not is_bad[:, record["indices"] != 5].any()


def test_crops_of_the_data_set_are_kept(tmp_path):
    session = make_session(tmp_path, source="image")
    pixels = torch.rand(8, 3, 12, 12)
    pixels[5] = torch.nan  # the second crop of the second image
    session(images(n=4), Crops(torch.rand(2, 4, 4), pixels))
    step = sp_plugin.replay(next(tmp_path.iterdir()))
    assert step.record["images"] is None and step.features is None
    torch.testing.assert_close(step.crops.pixels, pixels, equal_nan=True)


def test_colors_of_the_step_are_kept(tmp_path):
    session = make_session(tmp_path, source="image", sample_fraction=0.75)
    encoded: list[Tensor] = []
    session.backbone.register_forward_pre_hook(lambda _, given: encoded.append(given[0]))
    pixels = torch.rand(2 * 8, 3, 12, 12)
    pixels[::3] = torch.nan
    normalization = torch.tensor([1.0, 0.4, 0.2])[:, None].expand(8, 3, 3)
    for step in (4, 7):
        session(images(n=8), UncoloredCrops(torch.rand(2, 8, 4), pixels, normalization), step=step)
    files = sorted(tmp_path.iterdir())
    encoded = [given for given in encoded if len(given) == 2 * 6]
    for file, seen in zip(files, encoded, strict=True):
        step = sp_plugin.replay(file)
        crops = seen.unflatten(0, (2, 6))[:, step.record["indices"]].flatten(0, 1)
        torch.testing.assert_close(step.crops.pixels, crops, rtol=0, atol=0, equal_nan=True)
    assert len(files) == 2 and not torch.equal(*(seen.nan_to_num() for seen in encoded))


def test_encoded_views_keep_their_boxes(tmp_path):
    session = make_session(tmp_path)
    recorder = NonfiniteRecorder(tmp_path)
    encoded = EncodedViews(torch.full((2, 3, 4), torch.nan), torch.rand(2, 3, 4))
    out = session.sp(session.backbone, encoded, step=7)
    recorder.note(out, encoded, session.sp.config, step=7, rank=0, progress=1.0)
    step = sp_plugin.replay(recorder.files[0])
    assert step.crops is None and torch.equal(step.record["boxes"], encoded.boxes)


def test_files_are_few(tmp_path):
    session = make_session(tmp_path)
    for _ in range(MAX_FILES + 3):
        session(images(bad=0))
    assert len(list(tmp_path.iterdir())) == MAX_FILES


def test_skip_writes_nothing(tmp_path):
    session = make_session(tmp_path / "none", on_nonfinite="skip")
    assert session(images(bad=0)).metrics["skipped_fraction"] == 1
    assert not (tmp_path / "none").exists()
    with pytest.raises(ConfigError, match=r"^on_nonfinite: got 'stop', takes one of skip, record"):
        make_session(tmp_path, on_nonfinite="stop")


def test_unwritable_folder_ends_no_run(tmp_path, caplog):
    (tmp_path / "file").touch()
    session = make_session(tmp_path / "file")
    for _ in range(2):
        session(images(bad=0))
    assert caplog.text.count("not recorded") == 1


@pytest.mark.parametrize("content", [None, b"text", {"format": 0}, {"weight": 1}, [1]], ids=repr)
def test_other_files_are_refused(tmp_path, content: Any):
    file = tmp_path / "step.pt"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content is not None:
        torch.save(content, file)
    with pytest.raises(ConfigError, match=r"^file: .*a? ?step that SP recorded"):
        sp_plugin.replay(file)


def test_late_result_is_written_at_the_end(tmp_path, monkeypatch):
    session = make_session(tmp_path)
    monkeypatch.setattr(session._recorder, "_is_known", lambda step: False)  # a busy device
    session(images(bad=3))
    assert not session._recorder.files
    session.remove()
    assert len(session._recorder.files) == 1
