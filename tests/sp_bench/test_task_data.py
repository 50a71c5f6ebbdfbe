"""The images of each task, and the messages if there are none."""

from __future__ import annotations

import pytest
from PIL import Image
from sp_bench.data import DataError, load_data
from sp_bench.errors import UsageError
from sp_bench.task_data import Sources, load_main, parse_sources
from sp_bench.tasks import all_tasks

TASKS = all_tasks()


@pytest.fixture
def flat_folder(tmp_path):
    for index in range(20):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    return tmp_path


def test_tasks_without_data_share_images():
    main = load_data("demo", size=60)
    assert Sources(main, {}).of(TASKS["knn"]) is main


def test_shared_source_is_read_once(flat_folder):
    sources = Sources(None, {"pair": str(flat_folder), "jigsaw": str(flat_folder)})
    assert sources.of(TASKS["pair"]) is sources.of(TASKS["jigsaw"])


@pytest.mark.parametrize("order", [("knn", "pair"), ("pair", "knn")])
def test_labels_do_not_split_a_source(flat_folder, order):
    for name in ("a", "b"):
        (flat_folder / name).mkdir()
        for file in sorted(flat_folder.glob("*.png"))[:10]:
            file.rename(flat_folder / name / file.name)
    sources = Sources(None, dict.fromkeys(order, str(flat_folder)))
    first, second = (sources.of(TASKS[name]) for name in order)
    assert first is second and first.train.classes == ("a", "b")


def test_labels_are_still_required(flat_folder):
    sources = Sources(None, dict.fromkeys(("pair", "knn"), str(flat_folder)))
    assert len(sources.of(TASKS["pair"]).train) == 16
    with pytest.raises(DataError, match="images but no classes"):
        sources.of(TASKS["knn"])


def test_fifth_of_flat_folder_is_held_out(flat_folder):
    splits = Sources(None, {"pair": str(flat_folder)}).of(TASKS["pair"])
    assert (len(splits.train), len(splits.test)) == (16, 4)
    shades = [part.image(i).getpixel((0, 0))[0] for part in (splits.train, splits.test)
              for i in range(len(part))]  # fmt: skip
    assert sorted(shades) == list(range(20))


@pytest.mark.parametrize("limit", [None, 10])
def test_flat_folder_serves_unlabelled_tasks(flat_folder, limit):
    tasks = [TASKS[name] for name in ("pair", "jigsaw", "position", "correspondence")]
    splits = load_main(str(flat_folder), tasks, {}, limit=limit)
    assert (len(splits.train), len(splits.test)) == (limit or 16, 4)
    own = {"knn": "demo", "depth": "demo"}
    others = [TASKS[name] for name in own]
    assert len(load_main(str(flat_folder), [*tasks, *others], own).train) == 16
    for more, of_task in (
        (others, {"depth": "demo"}),
        ([TASKS["robustness"]], {"robustness": "x"}),
    ):
        with pytest.raises(DataError, match="images but no classes"):
            load_main(str(flat_folder), [*tasks, *more], of_task)


def test_missing_data_error_names_the_task(flat_folder):
    with pytest.raises(DataError, match=r"^task knn: it takes images in classes$"):
        Sources(None, {}).of(TASKS["knn"])
    with pytest.raises(DataError, match=r"^task knn: data='.*': images but no classes"):
        Sources(None, {"knn": str(flat_folder)}).of(TASKS["knn"])
    for path in sorted(flat_folder.iterdir())[5:]:
        path.unlink()
    with pytest.raises(DataError, match=r"^task pair: data='.*': 5 images; it takes at least 10"):
        Sources(None, {"pair": str(flat_folder)}).of(TASKS["pair"])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["a", "b"], "data: got 'a' and 'b', takes one, and TASK=DATA"),
        (["kn=a"], "data: no task 'kn'; did you mean 'knn'?"),
        (["knn=a", "knn=b"], "data: got 'knn=b', takes TASK=DATA, once for each task"),
        (["knn="], "data: got 'knn=', takes TASK=DATA, once for each task"),
    ],
)
def test_bad_data_option_is_refused(given, line):
    with pytest.raises(UsageError) as error:
        parse_sources(given)
    assert str(error.value) == line


def test_equals_sign_in_path_is_kept():
    assert parse_sources(["/data/a=b", "knn=c=d"]) == ("/data/a=b", {"knn": "c=d"})
