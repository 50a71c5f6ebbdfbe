from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from html import escape
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from sp_bench.report.comparison_table import comparison_table, control_rows, headline_rows
from sp_bench.report.html_report import render, write_report
from sp_bench.report.metadata import image_bootstrap_table
from sp_bench.report.prediction_figure import PairExamples
from sp_bench.report.summary import summary_sentence
from sp_bench.report.task_cards import draw_jigsaws, task_cards
from sp_bench.results import MetricSpec, Results, Row
from sp_bench.stats import pack_correct

SHOWN = torch.zeros(2, 3, 8, 8, dtype=torch.uint8)
TASK_EXAMPLES = {
    "baseline": {"jigsaw": {"2x2": SHOWN, "2x2_laid": torch.tensor([[0, 2, 3, 1], [0, 3, 1, 2]])}},
    "sp": {
        "jigsaw": {"2x2": SHOWN, "2x2_laid": torch.arange(4).expand(2, -1)},
        "robustness": {"motion_blur": SHOWN[:1], "clean": SHOWN[:1]},
    },
}
VOID = {"meta", "img", "br", "link", "hr", "input"}


class HtmlReader(HTMLParser):
    """Checks that tags balance; stores tags with their attributes, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        self.text += " "
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture
def pair_examples() -> PairExamples:
    box = torch.tensor([[0.3, 0.3, 0.2, 0.4]])
    return PairExamples(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), box, box + 0.2, box + 0.7)


def test_page_has_row_per_headline_metric(results: Results) -> None:
    page = render(results)
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", page)
    for line in comparison_table(headline_rows(results.rows)).cells:
        task, baseline, sp, difference, interval, survives, seeds = (cell.text for cell in line)
        verdict = line[3].remark
        row = next(row for row in rows if escape(task) in row)
        cells = re.findall(r"<td[^>]*>(.*?)</td>", row)
        assert cells == [baseline, sp, difference, verdict, interval, survives, seeds]
        assert ('class="bold"' in row) == bool(verdict)


def test_page_describes_the_run(results: Results) -> None:
    text = " ".join(HtmlReader(render(results)).text.split())
    for said in (
        "Spatial Prediction with simclr", "Backbone tiny_resnet. Data holiday. 3 seeds.",
        "weight 0.25", "torch 9.8.7", "processor abacus", "classes sea, wood", "skipped 1",
        "left out: bad.jpg", "baseline 100 s, 6,000 images seen", "ratio, SP to baseline 1.50",
        "AbsRel", "both views", "gain over one view",
    ):  # fmt: skip
        assert said in text, said


def test_page_is_valid_and_self_contained(results: Results, pair_examples: PairExamples) -> None:
    page = render(results, pair_examples, TASK_EXAMPLES)
    reader = HtmlReader(page)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"link", "iframe", "object"})
    assert [attributes for tag, attributes in reader.tags if tag == "script"] == [{}]
    addresses = [
        value or ""
        for _, attributes in reader.tags
        for name, value in attributes.items()
        if name in {"src", "href", "xlink:href", "data", "srcset", "action"}
    ]
    assert any(value.startswith("data:image/png;base64,") for value in addresses)
    assert all(value.startswith(("data:", "#")) for value in addresses)
    names = re.compile(r'xmlns(:\w+)?="[^"]*"')
    assert "http" not in names.sub("", page) and "@import" not in page


def test_headline_comes_first_rest_is_folded(results: Results, pair_examples: PairExamples) -> None:
    page = render(results, pair_examples, TASK_EXAMPLES)
    visible = HtmlReader(re.sub("<details>.*?</details>", "", page, flags=re.DOTALL))
    assert "kNN (top-1)" in visible.text and "survives BH" in visible.text
    assert f"{summary_sentence(results)}." in visible.text
    assert "Cost: 1.50 times the baseline's seconds." in visible.text
    images = [attributes for tag, attributes in visible.tags if tag == "img"]
    assert [image["alt"] for image in images] == [
        *("percentage points", "R²", "depth RMSE [m]"),
        "Images with crop a, crop b and the predicted location of crop b",
        "baseline, 2x2: 2 of 8 patches are in their positions",
        "SP, 2x2: 8 of 8 patches are in their positions",
        *("clean", "motion blur"),
    ]
    for folded in ("How to read it", "AbsRel", "Every seed", "torch 9.8.7"):
        assert folded in " ".join(HtmlReader(page).text.split()), folded
        assert folded not in " ".join(visible.text.split()), folded


def test_card_has_rows_of_its_task(results: Results) -> None:
    """Its rows are those of the table of all headlines, whose correction is over all of them."""
    fog, mean = (
        MetricSpec(f"robustness{name}_v2", f"robustness{name}", percent=True, headline=not name)
        for name in ("_motion_blur", "")
    )
    results.rows += [
        Row(fog, 0.412, 0.437, 0.025, 0.01, 0.04, 3),
        Row(mean, 0.5, 0.5, 0.0, -0.1, 0.1, 3, p_value=0.04),
    ]
    jigsaw, corrupted = task_cards(results, None, TASK_EXAMPLES)
    assert jigsaw.question == "Where in its image does a patch belong?" and not jigsaw.table.rows
    assert [image.caption for image in corrupted.images] == [
        ["clean"],
        ["motion blur", "41.2 \N{RIGHTWARDS ARROW} 43.7"],
    ]
    ((name, *_, survives, _),) = corrupted.table.rows
    assert (name, survives) == ("robustness", "no")  # alone, 0.04 would survive


def test_frame_marks_each_misplaced_patch() -> None:
    left, right = draw_jigsaws(SHOWN, torch.tensor([[0, 2, 1, 3], [0, 1, 2, 3]])).axes[:2]
    corners = {patch.get_xy() for patch in left.patches}
    assert {(round(x, 1), round(y, 1)) for x, y in corners} == {(0.5, 0.0), (0.0, 0.5)}
    assert not right.patches


def test_hostile_text_is_escaped(results: Results) -> None:
    hostile = "<script>alert('x')</script>"
    results.settings |= {"method": hostile, "note": hostile, "sp": {"layer": hostile}}
    results.data |= {"name": hostile, "skipped": [f"{hostile}.jpg"]}
    results.versions["torch"] = hostile
    results.machine["processor"] = hostile
    results.rows[0].metric = type(results.rows[0].metric)("knn", hostile, percent=True)
    reader = HtmlReader(render(results))
    assert [tag for tag, _ in reader.tags].count("script") == 1  # the page's own
    assert reader.text.count("alert('x')") >= 9


def test_same_input_gives_same_page(
    results: Results, pair_examples: PairExamples, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        write_report(results, pair_examples, tmp_path / f"{name}.html", TASK_EXAMPLES)
    one, two = ((tmp_path / f"{name}.html").read_bytes() for name in ("one", "two"))
    assert one == two
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.html", "two.html"]


def test_missing_sections_are_left_out(results: Results) -> None:
    results.runs = []
    results.rows = results.rows[:1]
    results.data.pop("skipped")
    text = HtmlReader(render(results)).text
    assert "kNN (top-1)" in text
    for absent in (
        "Learning curves", "Pairs of crops", "Jigsaw", "Corrupted images", "Every seed",
        "Controls and further metrics", "Pre-training, mean of a run", "Unreadable files", "Cost:",
    ):  # fmt: skip
        assert absent not in text, absent


@pytest.mark.skipif(not shutil.which("chromium"), reason="needs Chromium")
def test_further_metrics_sort_and_filter(results: Results, tmp_path: Path) -> None:
    """A click sorts by a column, from the largest; a second one turns it; a word hides rows."""
    act = """<script>
const table = document.querySelector("table.sortable"), search = document.querySelector("input");
const names = () => [...table.tBodies[0].rows].filter((row) => !row.hidden)
  .map((row) => row.cells[0].textContent.split(" ")[0]).join(" ");
const steps = [names()];
for (const _ of [0, 1]) { table.querySelectorAll("button")[1].click(); steps.push(names()); }
search.value = "ABSREL"; search.dispatchEvent(new Event("input")); steps.push(names());
document.title = steps.join(", ");
</script></body>"""
    page = tmp_path / "report.html"
    page.write_text(render(results).replace("</body>", act))
    # Baselines: both 0.3, AbsRel 0.2.
    assert "<title>both AbsRel, both AbsRel, AbsRel both, AbsRel</title>" in dump_dom(page)


def dump_dom(page: Path) -> str:
    """The page after its scripts, in a window of 1,200 px."""
    chromium = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"]
    command = [*chromium, "--window-size=1200,1000", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_metrics_of_json_alone_have_no_row(results: Results) -> None:
    """Of older files too, whose specs do not say so."""
    assert [row.metric.key for row in control_rows(results.rows)] == ["pair_dx_r2", "abs_rel"]


def test_one_seed_is_marked_preliminary(results: Results) -> None:
    assert "a lead, not a result" not in HtmlReader(render(results)).text
    for row in results.rows:
        row.seeds, row.low, row.high = 1, float("nan"), float("nan")
    text = HtmlReader(render(results)).text
    assert "a lead, not a result" in text and text.count("one seed") >= 3
    assert "nan" not in text.lower()


def test_few_seeds_get_bootstrap_over_images(results: Results) -> None:
    assert "Bootstrap over test images" not in render(results)
    for run in results.runs:
        right = 50 + 10 * (run.arm == "sp")
        run.correct = {"knn": pack_correct([True] * right + [False] * (100 - right))}
    table = image_bootstrap_table(results)
    assert table is not None and "Bootstrap over test images" in render(results)
    ((name, *seeds),) = table.cells
    assert name.text == "kNN (top-1)" and len(seeds) == 3
    assert {(cell.text, cell.bold) for cell in seeds} == {("+10.0", True)}
    assert {cell.remark for cell in seeds} == {"[+5.0, +16.0]"}
    many = [dataclasses.replace(run, seed=seed) for run in results.runs[:2] for seed in range(5)]
    assert image_bootstrap_table(dataclasses.replace(results, runs=many)) is None
    del results.runs[0].correct["knn"]
    assert image_bootstrap_table(results) is None


@pytest.mark.parametrize(
    ("sp", "note"),
    [
        ({"num_crops": 4, "source": "view"}, "SP encodes 4 more crops of each image."),
        (
            {"num_crops": 4, "sample_fraction": 0.125},
            "SP encodes 4 more crops of 12.5% of the images of a batch.",
        ),
        ({"num_crops": 4, "source": "host_views"}, "encodes no further crops."),
    ],
)
def test_cost_note_states_crops_and_compute(
    results: Results, sp: dict[str, object], note: str
) -> None:
    results.settings["sp"] = sp
    text = HtmlReader(render(results)).text
    assert note in text and "does not train longer" in text
    assert "SP and the longer baseline" not in text
    results.longer = results.rows
    text = HtmlReader(render(results)).text
    assert note in text and "does not train longer" not in text
    assert "SP and the longer baseline" in text


def test_failed_probe_has_a_note(results: Results) -> None:
    note = "The probe failed, with R² below -1"
    assert note not in render(results)
    spec = MetricSpec("pair_interaction_dx_r2", "joint: dx", headline=False)
    rows = [*results.rows, Row(spec, -58.0, -1.5, 57.0, -675.0, 789.0, 2)]
    page = render(dataclasses.replace(results, rows=rows))
    assert f"{note}, so that these differences mean nothing" in page
    assert "more images: joint: dx." in page
