"""The images of each task, and the messages if there are none."""

from __future__ import annotations

import pytest
from PIL import Image
from sp_bench.data import DataError, load_data
from sp_bench.errors import UsageError
from sp_bench.task_data import Sources, parse_sources
from sp_bench.tasks import all_tasks

TASKS = all_tasks()


@pytest.fixture
def flat(tmp_path):
    for index in range(20):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / f"{index:02}.png")
    return tmp_path


def test_a_task_without_its_own_gets_the_pictures_of_all():
    main = load_data("demo", size=60)
    assert Sources(main, {}).of(TASKS["knn"]) is main


def test_a_source_is_read_once_for_the_tasks_that_name_it(flat):
    sources = Sources(None, {"pair": str(flat), "jigsaw": str(flat)})
    assert sources.of(TASKS["pair"]) is sources.of(TASKS["jigsaw"])


def test_a_fifth_of_a_flat_folder_is_held_out(flat):
    splits = Sources(None, {"pair": str(flat)}).of(TASKS["pair"])
    assert (len(splits.train), len(splits.test)) == (16, 4)
    shades = [part.image(i).getpixel((0, 0))[0] for part in (splits.train, splits.test)
              for i in range(len(part))]  # fmt: skip
    assert sorted(shades) == list(range(20))


def test_what_a_task_lacks_is_said_with_its_name(flat):
    with pytest.raises(DataError, match=r"^task knn: it takes images in classes$"):
        Sources(None, {}).of(TASKS["knn"])
    with pytest.raises(DataError, match=r"^task knn: data='.*': images but no classes"):
        Sources(None, {"knn": str(flat)}).of(TASKS["knn"])
    for path in sorted(flat.iterdir())[5:]:
        path.unlink()
    with pytest.raises(DataError, match=r"^task pair: data='.*': 5 images; it takes at least 10"):
        Sources(None, {"pair": str(flat)}).of(TASKS["pair"])


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (["a", "b"], "data: got 'a' and 'b', takes one, and TASK=DATA"),
        (["kn=a"], "data: no task 'kn'; did you mean 'knn'?"),
        (["knn=a", "knn=b"], "data: got 'knn=b', takes TASK=DATA, once for each task"),
        (["knn="], "data: got 'knn=', takes TASK=DATA, once for each task"),
    ],
)
def test_data_that_is_given_wrongly_is_refused_in_one_line(given, line):
    with pytest.raises(UsageError) as error:
        parse_sources(given)
    assert str(error.value) == line


def test_an_equals_sign_in_a_folder_is_part_of_its_name():
    assert parse_sources(["/data/a=b", "knn=c=d"]) == ("/data/a=b", {"knn": "c=d"})
