"""The page stands alone, says what the files say, and lets no file write HTML."""

import base64
import io
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image

from kgt_lightning.report.__main__ import report

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = {"meta", "link", "img", "br", "path", "use", "rect"}


class Page(HTMLParser):
    """Elements of a page with their attributes, and the text of its cells."""

    def __init__(self, text):
        super().__init__()
        self.text, self.elements, self.open, self.rows = text, [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append([dict(attrs), ""])
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag, "elements are closed in the order they were opened"

    def handle_data(self, data):
        if any(tag in ("td", "th") for tag in self.open):
            self.rows[-1][-1][1] += data

    def of(self, tag):
        return [attributes for each, attributes in self.elements if each == tag]


@pytest.fixture
def make(tmp_path):
    """Makes the report of a folder and reads its page."""

    def make_and_read(folder, *compare, title=None):
        return Page(report(folder, output=tmp_path / "out", title=title, compare_images=compare).read_text())

    return make_and_read


@pytest.fixture(scope="session")
def page(same_sweep, tmp_path_factory):
    """The page of all runs."""
    output = tmp_path_factory.mktemp("out")
    return Page(report(same_sweep, output=output, title=None, compare_images=()).read_text())


def test_the_page_loads_nothing_and_is_whole(page):
    assert "http" not in page.text
    for _, attributes in page.elements:
        for name in ("src", "href", "xlink:href"):
            assert attributes.get(name, "#").startswith(("#", "data:"))
    assert not re.search(r"@import|url\((?!#)", page.text)
    assert page.open == []
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', page.text))
    assert used <= set(ids)


def test_plots_and_pictures_are_there(page):
    labels = [each["aria-label"] for each in page.of("svg")]
    assert labels == [
        "Quality over the number of neighbours k of each node",
        "PSNR on CBSD68 sigma=25 against cost",
        "PSNR on Kodak sigma=25 against cost",
        "Learning curves of all runs",
        "Each image of CBSD68 sigma=25: seed=0 k=256 against seed=0 k=16",
        "Each image of Kodak sigma=25: seed=0 k=256 against seed=0 k=16",
    ]
    [picture] = page.of("img")
    with Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2]))) as image:
        assert image.size == (128, 40)
    assert "#010203" not in page.text, "the colours of the page take the place of the stand-ins"


def test_cells_hold_the_numbers_of_the_results(page, same_sweep):
    for name in ("k16", "k64", "k256", "again"):
        content = json.loads((same_sweep / name / "results.json").read_text())["means"]
        [row] = [row for row in page.rows if len(row) > 5 and row[1][1].endswith(name)]
        cells = row[3:7]
        expected = [mean[metric] for mean in content.values() for metric in ("psnr", "ssim")]
        assert [float(attributes["data-value"]) for attributes, _ in cells] == expected
        assert [shown for _, shown in cells] == [
            f"{value:.{digits}f}" for value, digits in zip(expected, (2, 4, 2, 4), strict=True)
        ]


def test_reasons_and_the_input_are_shown(page):
    cells = [shown for row in page.rows for _, shown in row]
    assert "the loss is nan at step 3" in cells
    assert "model.k=1024 needs 9.1 GB of 8.0 GB" in cells
    for status in ("finished", "failed", "out of memory", "running"):
        assert status in cells
    [row] = [row for row in page.rows if "degraded input" in [shown for _, shown in row]]
    assert [shown for _, shown in row][3:7] == ["20.18", "0.5000", "20.18", "0.5000"]


def test_what_the_head_says_is_what_varies(page):
    text = page.text
    assert "<h1>denoise: seed, k</h1>" in text
    assert "<dt>model.k</dt><dd>16, 64, 128, 256, 512, 1024</dd>" in text
    for fact in ("2 cores of some processor", "abc1234", "2026-03-01", "swinir: all channels"):
        assert fact in text


def test_damaged_runs_are_named_on_the_page(two, make):
    (two / "a" / "results.json").write_text('{"means": ')
    text = make(two).text
    assert "<strong>1 left out</strong>" in text
    assert "<code>a</code>: results.json is damaged" in text


def test_other_protocols_have_their_own_table(two, write_run, make):
    write_run(two / "grl", gains={"Set12 sigma=25": [12.0, 12]}, protocol="grl: all channels", steps=0)
    page = make(two)
    tables = [each for each in page.of("table") if "sortable" in each.get("class", "")]
    assert len(tables) == len(page.of("article")) == 2
    assert [each["href"] for each in page.of("a")] == ["#comparison-1", "#comparison-2"]


def test_what_files_say_is_text_and_no_html(write_run, config, make, tmp_path):
    evil = '<script>alert("x")</script>'
    one, two = config() | {"note": evil}, config(k=8) | {"note": "&amp;"}
    write_run(tmp_path / "r" / "<b>a", gains={evil: [9.0, 8.0]}, configuration=one, hardware=evil)
    write_run(tmp_path / "r" / "b", gains={evil: [8.0, 9.0]}, configuration=two, protocol="swinir: <i>")
    write_run(tmp_path / "r" / "c", gains=None, configuration=two, status="failed", error=evil)
    page = make(tmp_path / "r", title=evil)
    assert len(page.of("script")) == 1, "the page's own"
    assert not page.of("b") and not page.of("i")
    assert page.text.count("<script") == 1
    assert "&amp;amp;" in page.text


def test_two_runs_can_be_chosen(two, write_run, make):
    write_run(two / "c", gains=None, status="failed", error="no", steps=0)
    for chosen in (("b", "a"), ("2", "1")):
        labels = [each["aria-label"] for each in make(two, *chosen).of("svg")]
        assert labels == ["Each image of Set12 sigma=25: a against b"]
    for wrong in (("a", "nothing"), ("a", "c")):
        with pytest.raises(ValueError, match="name two runs of one table that have scores of images: a, b"):
            make(two, *wrong)


def test_gains_and_losses_are_the_largest(write_run, make, tmp_path):
    write_run(tmp_path / "r" / "a", gains={"Set12 sigma=25": [9.0] * 14}, steps=0)
    write_run(tmp_path / "r" / "b", gains={"Set12 sigma=25": [9.0 + gain for gain in range(-6, 8)]}, steps=0)
    page = make(tmp_path / "r")
    rows = [[shown for _, shown in row] for row in page.rows if row and row[0][1].startswith("set12_")]
    assert [row[3] for row in rows] == [
        "+7.00",
        "+6.00",
        "+5.00",
        "+4.00",
        "+3.00",
        "-6.00",
        "-5.00",
        "-4.00",
        "-3.00",
        "-2.00",
    ]
    assert rows[0] == ["set12_13", "29.18", "36.18", "+7.00"]
    assert (
        "b restores 7 of 14 images better, +0.50 dB on average: that can be chance over these images (Wil" in page.text
    )


def test_a_picture_that_cannot_be_read_is_named(two, make):
    (two / "b" / "panels" / "step_0000000" / "photo_0.png").write_bytes(b"no png")
    page = make(two)
    assert page.of("img") == []
    assert "photo_0 cannot be read" in page.text


def test_the_newest_panels_are_shown_and_large_ones_made_smaller(two, make):
    file = two / "b" / "panels" / "step_0000100" / "new.png"
    file.parent.mkdir()
    Image.new("L", (2160, 200), 9).save(file)
    [picture] = make(two).of("img")
    with Image.open(io.BytesIO(base64.b64decode(picture["src"].partition(",")[2]))) as image:
        assert image.size == (1080, 100)


def test_the_page_of_runs_without_scores_says_so(write_run, tmp_path, make):
    write_run(tmp_path / "r" / "a", gains=None, status="failed", error="no data", steps=0)
    page = make(tmp_path / "r")
    assert "no data" in page.text and page.of("svg") == []


def test_what_no_run_logged_has_no_panel(write_run, tmp_path, make):
    for name in ("a", "b"):
        write_run(tmp_path / "r" / name, gains={"Set5": [1.0]}, steps=9)  # too few for a validation
    text = make(tmp_path / "r").text
    assert "training loss, smoothed" in text
    assert "validation" not in text[text.index("Learning curves") :]


def test_a_tested_k_joins_the_tests_of_one_checkpoint(two, make):
    content = json.loads((two / "b" / "results.json").read_text())
    for k in (8, 32):
        (two / "evaluate" / str(k)).mkdir(parents=True)
        (two / "evaluate" / str(k) / "results.json").write_text(json.dumps(content | {"k": k}))
    text = make(two).text
    assert "b tested with k" in text
    assert "evaluate/8 k=8" in text


def test_points_that_no_line_joins_say_nothing_about_k(write_run, config, make, tmp_path):
    for k, seed in ((16, 0), (64, 1)):
        write_run(tmp_path / "r" / f"k{k}", gains={"Set5": [9.0]}, configuration=config(k=k, seed=seed))
    assert "Quality over the number of neighbours" not in make(tmp_path / "r").text
    gains = {"Set5": [9.1], "Set14": [9.2]}
    write_run(tmp_path / "r" / "third", gains=gains, configuration=config(k=64, seed=0))
    [plot] = [
        svg for svg in make(tmp_path / "r").text.split("<svg") if "Quality over the number" in svg.partition(">")[0]
    ]
    assert "Set5" in plot and "Set14" not in plot


def test_the_same_runs_give_the_same_plots(page, same_sweep, make):
    plots = [re.findall(r"<svg.*?</svg>", each.text, flags=re.DOTALL) for each in (page, make(same_sweep))]
    assert len(plots[0]) == 6
    assert plots[0] == plots[1]


PROBE = """<script>
const psnr = [...document.querySelectorAll("table.sortable thead button")].find((each) => each.textContent === "PSNR");
const body = document.querySelector("table.sortable").tBodies[0];
const order = () => [...body.rows].map((row) => row.cells[0].textContent);
psnr.click(); const up = order(); psnr.click();
const facts = {
  up, down: order(),
  images: [...document.images].map((each) => each.complete && each.naturalWidth),
  plots: [...document.querySelectorAll("details[open] svg, section > figure svg")].map((each) => {
    const box = each.getBoundingClientRect(); return box.width > 300 && box.height > 100; }),
  loaded: performance.getEntriesByType("resource").map((each) => each.name).filter((each) => !each.startsWith("data:")),
  wide: document.documentElement.scrollWidth - window.innerWidth,
};
// Chromium opens no window as narrow as a telephone.
document.documentElement.style.width = "390px";
facts.narrow = document.body.scrollWidth - document.body.clientWidth;
document.body.innerHTML = "<pre>FACTS" + JSON.stringify(facts) + "FACTS</pre>";
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install it to see the page in a browser")
def test_a_browser_shows_plots_and_pictures_and_sorts(sweep, tmp_path):
    page = report(sweep, output=tmp_path / "out", title=None, compare_images=())
    page.write_text(page.read_text().replace("</body>", f"{PROBE}</body>"))
    quiet = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        f"--user-data-dir={tmp_path / 'p'}",
    ]

    def shown(width):
        command = [CHROMIUM, *quiet, f"--window-size={width},900", "--dump-dom", page.as_uri()]
        dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
        return json.loads(dom.split("FACTS")[1])

    assert shown(500)["narrow"] <= 0, "nor on a telephone"
    facts = shown(1280)
    assert facts["images"] == [128]
    assert facts["plots"] == [True] * 4
    assert facts["loaded"] == []
    assert facts["wide"] <= 0, "nothing but the table is ever wider than the window"
    # By PSNR: the second run with k=64 is the last row; runs without a score stand last either way.
    assert facts["up"] == ["1", "7", "2", "4", "3", "5", "6"]
    assert facts["down"] == ["4", "2", "7", "1", "3", "5", "6"]
