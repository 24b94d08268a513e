"""The page of a look in a real browser: every view, by mouse and by keyboard, at any width."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from calque.decoding.config import DecodingConfig
from calque.inspection import look
from calque.inspection.embeddings import embeddings
from calque.inspection.pages import page as page_of
from calque.inspection.positions import positions
from calque.models.build import ModelConfig, build
from calque.text.tokenizers.interface import TokenizerConfig
from calque.text.tokenizers.pair import Tokenizers
from calque.translator import Translator

SENTENCE = "The old man opens the door."
VIEWS = ["Translation", "Tokens", "Alignment", "Attention", "Heads", "Beam"]
OTHERS = ["Positions", "Embeddings", "Training"]
DESKTOP, PHONE = {"width": 1200, "height": 900}, {"width": 390, "height": 844}
SERIES = {
    "loss": [[50, 5.0], [100, 4.0]],
    "valid_loss": [[100, 4.2]],
    "valid_bleu": [[100, 12.5]],
    "learning_rate": [[50, 0.001], [100, 0.002]],
    "tokens_per_second": [[50, 9000.0], [100, 9500.5]],
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("needs the system's chromium")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a file; whatever goes wrong in it, or leaves the machine, fails the test."""
    wrong: list[str] = []
    pages = []

    def open_file(file: Path, viewport: dict[str, int] = DESKTOP, scheme: str = "light") -> Any:
        page = browser.new_page(viewport=viewport, color_scheme=scheme)
        page.on("console", lambda m: m.type == "error" and wrong.append(m.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: r.url.startswith("file:") or wrong.append(r.url))
        page.goto(file.as_uri())
        pages.append(page)
        return page

    yield open_file
    for page in pages:
        page.close()
    assert wrong == []


@pytest.fixture(scope="module")
def report(make_translator: Callable[..., Translator]) -> dict[str, Any]:
    """Of everything."""
    translator = make_translator(positions="sinusoidal")
    report = look(translator, SENTENCE).to_json()
    report |= {"positions": positions(translator), "embeddings": embeddings(translator)}
    return report | {"run": "en-de", "training": [{"name": "en-de", "series": SERIES}]}


@pytest.fixture(scope="module")
def file(report: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("look") / "look.html"
    file.write_text(page_of(report), encoding="utf-8")
    return file


def painted(page: Any, selector: str) -> list[int]:
    """How many colours each canvas has."""
    return page.eval_on_selector_all(
        selector,
        """canvases => canvases.map((c) => new Set(new Uint32Array(
            c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer)).size)""",
    )


class TestPage:
    def test_every_view_is_there(self, visit, file):
        page = visit(file)
        assert page.locator("section h2").all_inner_texts() == VIEWS + OTHERS
        assert page.locator("nav a").all_inner_texts() == VIEWS + OTHERS
        assert min(painted(page, "canvas")) > 1

    def test_pointing_at_a_word_tints_what_it_goes_with(self, visit, file, report):
        page = visit(file)
        weights = report["alignment"]["weights"]
        for place in range(len(report["target"]["words"]) - 1):
            page.locator(".cq-target .cq-word").nth(place).hover()
            tints = page.eval_on_selector_all(
                ".cq-source .cq-word",
                "words => words.map((w) => +w.style.getPropertyValue('--cq-weight'))",
            )
            assert tints == pytest.approx(weights[place][:-1], abs=1e-3)

    def test_both_sentences_can_be_read(self, visit, file, report):
        page = visit(file)
        for side in ("source", "target"):
            shown = page.locator(f".cq-sentences .cq-{side}").inner_text()
            assert shown.split() == report[side]["text"].split()

    def test_every_token_has_its_probability_and_others(self, visit, file, report):
        page = visit(file)
        assert page.locator(".cq-tokens .cq-piece").all_inner_texts() == report["target"]["pieces"]
        assert page.locator(".cq-tokens ol li").count() == 5 * len(report["target"]["pieces"])

    def test_every_head_is_drawn_and_one_click_enlarges_it(self, visit, file, report):
        page = visit(file)
        for place, kind in enumerate(("encoder", "decoder", "cross")):
            page.locator("#attention .cq-choice button").nth(place).click()
            heads = sum(len(layer) + 1 for layer in report["attention"][kind])
            assert page.locator("#attention .cq-thumbnail canvas").count() == heads
        page.locator("#attention .cq-thumbnail").nth(1).click()
        dialog = page.locator("dialog")
        assert "Cross · layer 1 · head 1" in dialog.inner_text()
        assert "entropy" in dialog.inner_text()
        assert painted(page, "dialog canvas")[0] > 2
        dialog.get_by_role("button", name="Lines").click()
        assert dialog.locator("svg path").count() > 0
        dialog.get_by_role("button", name="Next head").click()
        assert "head 2" in dialog.inner_text()
        page.keyboard.press("Escape")
        assert page.locator("dialog").count() == 0

    def test_arrow_keys_read_the_cells(self, visit, file, report):
        page = visit(file)
        page.locator("#attention .cq-thumbnail").nth(1).click()
        page.locator("dialog canvas").focus()
        for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
            page.keyboard.press(key)
        row, column = report["target"]["pieces"][1], report["source"]["pieces"][1]
        assert page.locator("dialog .cq-readout").inner_text().startswith(f"{row} → {column}: ")

    def test_lines_of_a_token_alone(self, visit, file):
        page = visit(file)
        page.locator("#alignment text.cq-left").nth(2).hover()
        assert page.locator("#alignment path.cq-on").count() > 0
        assert "%" in page.locator("#alignment .cq-readout").inner_text()

    @pytest.mark.parametrize(("column", "key"), [(3, "entropy"), (4, "distance")])
    def test_the_table_sorts_both_ways(self, visit, file, report, column, key):
        page = visit(file)
        digits = 2 if key == "entropy" else 1
        values = [head[key] for head in report["heads"]]
        for up in (True, False):
            page.locator("#heads th button").nth(column).click()
            shown = page.locator(f"#heads td:nth-child({column + 1})").all_inner_texts()
            expected = sorted(values, reverse=not up)
            assert [float(text) for text in shown] == pytest.approx(expected, abs=10**-digits)
            direction = page.locator("#heads th").nth(column).get_attribute("aria-sort")
            assert direction == ("ascending" if up else "descending")

    def test_a_row_of_the_table_enlarges_its_head_by_keyboard(self, visit, file):
        page = visit(file)
        page.locator("#heads tbody button").first.focus()
        page.keyboard.press("Enter")
        assert "Encoder · layer 1 · head 1" in page.locator("dialog").inner_text()

    def test_the_beam_is_a_tree_with_its_losers_grey(self, visit, file, report):
        page = visit(file)
        nodes, ends = report["beam"]["nodes"], report["beam"]["ends"]
        won = sum(node["won"] for node in nodes)
        assert page.locator("#beam .cq-node").count() == len(nodes)
        assert page.locator("#beam .cq-node.cq-lost").count() == len(nodes) - won
        assert page.locator("#beam path").count() == len(nodes) - 1
        assert page.locator("#beam .cq-end").count() == len(ends)
        assert page.locator("#beam .cq-text").all_inner_texts() == [end["text"] for end in ends]
        page.locator("#beam .cq-outcome").first.focus()
        assert page.locator("#beam .cq-node.cq-on").count() == won
        text = page.locator("#beam .cq-readout").inner_text().replace("−", "-")
        assert f"score {report['target']['score']:.2f}" in text

    @pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
    def test_the_tree_takes_the_room_that_there_is(self, visit, file, viewport):
        page = visit(file, viewport)
        spaces = """() => {
            const bounds = (selector) => Array.from(
                document.querySelectorAll(selector), (one) => one.getBoundingClientRect());
            const [[tree], [room], boxes] = [".cq-tree", ".cq-beam", ".cq-box"].map(bounds);
            const rows = [...new Set(boxes.map((box) => box.top))].map((top) =>
                boxes.filter((box) => box.top === top));
            return {
                beside: room.right - tree.right,
                rows: rows.map((row) => [row[0].left - tree.left, tree.right - row.at(-1).right]),
            };
        }"""
        found = page.evaluate(spaces)
        assert found["beside"] == pytest.approx(0, abs=1)
        assert min(left for left, _ in found["rows"]) < 5
        for left, right in found["rows"]:
            assert left == pytest.approx(right, abs=1)  # each is in the middle
        shown = page.locator("#beam .cq-scroll")
        assert shown.evaluate("one => one.scrollWidth <= one.clientWidth")

    def test_labels_of_the_vocabulary_do_not_overlap(self, visit, file):
        page = visit(file)
        page.evaluate("""() => {
            const draw = CanvasRenderingContext2D.prototype.fillText;
            CanvasRenderingContext2D.prototype.fillText = function (text, x, y) {
                window.labels.push([x, y, x + this.measureText(text).width, text]);
                draw.call(this, text, x, y);
            };
        }""")
        cloud = page.locator("#embeddings canvas")
        for query in ("e", "a", ""):
            page.evaluate("window.labels = []")
            page.locator("#embeddings input").fill(query)
            cloud.focus()
            for _ in range(2):
                labels = page.evaluate("window.labels")
                assert len(labels) > 5
                assert all(query in text.lower() for *_, text in labels)
                for i, (left, y, right, _) in enumerate(labels):
                    for start, middle, end, _ in labels[:i]:
                        assert right < start or end < left or abs(y - middle) > 12
                page.evaluate("window.labels = []")
                page.keyboard.press("+")

    def test_pointing_at_a_point_names_it(self, visit, file, report):
        page = visit(file)
        page.evaluate("""() => {
            window.labels = [];
            CanvasRenderingContext2D.prototype.fillText = (text) => window.labels.push(text);
        }""")
        points = report["embeddings"]["both"]["points"]
        bounds = [(min(axis), max(axis)) for axis in zip(*points, strict=True)]
        cloud = page.locator("#embeddings canvas")
        cloud.scroll_into_view_if_needed()
        size = cloud.evaluate("one => [one.clientWidth, one.clientHeight]")
        for place in (20, 200):
            x, y = (
                16 + (value - low) / (high - low) * (extent - 32)
                for value, (low, high), extent in zip(points[place], bounds, size, strict=True)
            )
            page.evaluate("window.labels = []")
            cloud.hover(position={"x": x + 1, "y": y + 1})
            assert (
                page.evaluate("window.labels[0]") == report["embeddings"]["both"]["pieces"][place]
            )

    def test_a_piece_is_found_and_its_neighbours_shown(self, visit, file, report):
        page = visit(file)
        vocabulary = report["embeddings"]["both"]
        place = 10
        page.locator("#embeddings input").fill(vocabulary["pieces"][place].replace("▁", ""))
        page.locator("#embeddings li button", has_text=vocabulary["pieces"][place]).first.click()
        shown = page.locator("#embeddings li button").all_inner_texts()
        assert shown == [vocabulary["pieces"][i] for i in vocabulary["neighbours"][place]]

    def test_positions_and_training_are_read_by_pointing(self, visit, file):
        page = visit(file)
        page.locator("#positions input").fill("3")
        assert "position 3 with all" in page.locator("#positions .cq-readout").first.inner_text()
        page.locator("#training svg").first.hover()
        assert "step" in page.locator("#training .cq-readout").first.inner_text()

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    @pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
    def test_nothing_is_wider_than_the_screen(self, visit, file, viewport, scheme):
        page = visit(file, viewport, scheme)
        page.locator("#attention .cq-thumbnail").nth(1).click()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= viewport["width"]
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        brightness = sum(map(int, re.findall(r"\d+", paper)[:3]))
        assert (brightness > 380) == (scheme == "light")

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_keeps_the_rules_of_accessibility(self, visit, file, scheme):
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        found = axe.run(visit(file, scheme=scheme))
        assert found.violations_count == 0, found.generate_report()

    def test_turning_dark_paints_anew(self, visit, file):
        page = visit(file)
        canvas = "document.querySelector('#attention .cq-thumbnail canvas').toDataURL()"
        light = page.evaluate(canvas)
        page.emulate_media(color_scheme="dark")
        page.wait_for_function(f"light => {canvas} !== light", arg=light, timeout=5000)

    def test_text_is_never_markup(self, visit, make_translator, tmp_path):
        line = '</script><img src=x onerror="alert(1)"> & <b>'
        file = tmp_path / "look.html"
        file.write_text(look(make_translator(), line).to_html(), encoding="utf-8")
        page = visit(file)
        assert page.title() == line
        assert page.locator("img").count() == 0
        assert page.locator("section h2").all_inner_texts() == VIEWS
        assert page.locator(".cq-sentences .cq-source").inner_text() == line

    def test_it_shows_itself_within_another_page(self, visit, make_translator, tmp_path):
        file = tmp_path / "notebook.html"
        shown = look(make_translator(), SENTENCE)._repr_html_()
        file.write_text(f'<!doctype html><meta charset="utf-8">{shown}', encoding="utf-8")
        frame = visit(file).frame_locator("iframe")
        frame.locator("#beam svg").wait_for()
        assert frame.locator("section h2").all_inner_texts() == VIEWS


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a sentence of 60 tokens, translated into as many, by a model of size base."""
    words = [f"w{i}" for i in range(60)]
    config = TokenizerConfig(kind="words", vocab_size=64)
    tokenizers = Tokenizers.train(config, lambda: [(" ".join(words), "a")])
    torch.manual_seed(1)
    model = build(ModelConfig(), tokenizers.source.vocab_size, tokenizers.target.vocab_size).eval()
    with torch.no_grad():  # it never likes to end
        model.embedding.table.weight[model.config.eos_id] *= 0.01
    decoding = DecodingConfig(beam_size=5, max_length=60, precision="float32")
    report = Translator(model, tokenizers, decoding).look(" ".join(words[:59])).to_json()
    assert len(report["source"]["pieces"]) == 60
    assert len(report["target"]["pieces"]) >= 50
    file = tmp_path_factory.mktemp("large") / "look.html"
    file.write_text(page_of(report), encoding="utf-8")
    return file


def test_sixty_tokens_on_base_open_within_two_seconds(browser, visit, large):
    """Seconds of the browser's processes, all together: the machine may have other work."""
    session = browser.new_browser_cdp_session()

    def worked() -> float:
        processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
        return sum(process["cpuTime"] for process in processes)

    before = worked()
    page = visit(large)
    page.locator("#beam svg").wait_for()
    page.evaluate("new Promise((painted) => requestAnimationFrame(() => setTimeout(painted)))")
    assert 0.05 < worked() - before < 2
    assert page.locator("#attention .cq-thumbnail canvas").count() == 6 * 9
    assert min(painted(page, "#attention canvas")) > 1
    assert large.stat().st_size < 10_000_000
