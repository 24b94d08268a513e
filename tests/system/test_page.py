"""The page of `calque serve` in a real browser, before a real server."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

KEY = "open-sesame"
LIMIT = 300  # characters
TEXT = "The old man opens the door ."
TABS = ["Attention", "Beam", "Positions", "Embeddings", "Training"]
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
WORDS = "#translation .word"
FRESH = "#translation:not(.stale) .word"


class Server:
    """`calque serve` as a process; started again, it listens where it did."""

    def __init__(self, *arguments: str | Path) -> None:
        self.arguments, self.port = arguments, "0"

    def start(self) -> None:
        command = [sys.executable, "-m", "calque", "serve", *map(str, self.arguments)]
        self.process = subprocess.Popen(
            [*command, "--port", self.port], stderr=subprocess.PIPE, text=True
        )
        assert self.process.stderr is not None
        line = self.process.stderr.readline()
        assert line.startswith("serving at http://"), line + self.process.stderr.read()
        self.address = line.split()[-1]
        self.port = self.address.rpartition(":")[2]

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()

    def ask(self, path: str, **message: Any) -> Any:
        """What the server answers to a question about English and German."""
        message = {"source": "en", "target": "de", "api_key": KEY, **message}
        response = httpx2.post(f"{self.address}/v1/{path}", json=message, timeout=60)
        assert response.status_code == 200, response.text
        return response.json()


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


@pytest.fixture(scope="module")
def server(browser: Any, trained: Path, vouch, tmp_path_factory) -> Iterator[Server]:
    """Serves English to German and back, to those who have the key."""
    folder = tmp_path_factory.mktemp("page")
    back = shutil.copytree(trained / "run", folder / "back")
    recipe = (back / "recipe.toml").read_text()
    other = {'source_language = "en"': 'source_language = "de"'}
    other['target_language = "de"'] = 'target_language = "en"'
    for old, new in other.items():
        assert old in recipe
        recipe = recipe.replace(old, new)
    (back / "recipe.toml").write_text(recipe)
    vouch(back, "recipe.toml")
    (folder / "keys.txt").write_text(KEY)
    limits = "--api-keys", folder / "keys.txt", "--max-characters", str(LIMIT)
    server = Server(trained / "run", back, *limits)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def visit(browser: Any, server: Server) -> Iterator[Callable[..., Any]]:
    """Open the page; whatever goes wrong in it, or leaves the server, fails the test."""
    wrong: list[str] = []
    contexts = []

    def open_page(viewport: dict[str, int] = DESKTOP, key: str | None = KEY, **options: Any) -> Any:
        context = browser.new_context(viewport=viewport, **options)
        contexts.append(context)
        if key:
            context.add_init_script(f"sessionStorage.setItem('calque.key', '{key}')")
        page = context.new_page()
        page.set_default_timeout(20_000)
        # That a server is gone, or wants a key, Chromium tells by itself.
        unasked = "Failed to load resource"
        page.on(
            "console",
            lambda m: m.type == "error" and not m.text.startswith(unasked) and wrong.append(m.text),
        )
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: r.url.startswith(server.address) or wrong.append(r.url))
        page.goto(server.address)
        page.wait_for_selector("#from option", state="attached")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def write(page: Any, text: str = TEXT) -> Any:
    """Put a text into the page, and wait for its translation."""
    page.locator("#text").fill(text)
    page.wait_for_selector(FRESH)
    return page


def shown(page: Any) -> str:
    return page.locator("#translation").inner_text()


def settled(page: Any) -> Any:
    """The panel of the selected tab, when it is drawn."""
    panel = page.locator(".panel:not([hidden]):not([aria-busy]) section").first
    panel.wait_for()
    return page.locator(".panel:not([hidden])")


def tints(page: Any, side: str) -> list[bool]:
    selector = {"source": "#mirror .word", "target": WORDS}[side]
    script = "words => words.map((w) => +w.style.getPropertyValue('--cq-weight') > 0)"
    return page.eval_on_selector_all(selector, script)


class TestTranslating:
    def test_what_is_typed_is_translated_as_the_command_does(self, visit, calque, trained):
        page = visit()
        page.keyboard.type(TEXT)  # the cursor is there already
        page.wait_for_selector(FRESH)
        assert shown(page) + "\n" == calque("translate", trained / "run", stdin=TEXT.encode()).out

    def test_an_old_answer_never_replaces_a_new_one(self, visit, server):
        page = visit()
        held = []

        def hold_the_first(route: Any) -> None:
            if held:
                route.continue_()
            else:
                held.append(route)

        page.route("**/v1/translate", hold_the_first)
        with page.expect_request("**/v1/translate"):
            page.locator("#text").fill("A dog")
        write(page)
        expected = shown(page)
        answer = server.ask("translate", q="A dog")
        held[0].fulfill(json=answer)
        page.wait_for_timeout(300)
        assert shown(page) == expected
        assert expected == "".join(server.ask("translate", q=TEXT)["sentences"][0]["target"])

    def test_white_space_between_sentences_is_kept(self, visit):
        page = write(visit(), "The dog sleeps .\n\n  A cat sees the tree .")
        assert re.fullmatch(r"\S.*\n\n  \S.*", shown(page))
        assert page.locator("#mirror").inner_text().startswith("The dog sleeps .\n\n  A cat")

    def test_the_languages_change_places_and_so_do_the_texts(self, visit):
        page = write(visit())
        before = shown(page)
        page.get_by_role("button", name="Swap the languages").click()
        assert page.locator("#text").input_value() == before
        assert (page.locator("#from").input_value(), page.locator("#to").input_value()) == (
            "de",
            "en",
        )
        page.wait_for_selector(FRESH)
        assert page.locator("#translation").get_attribute("lang") == "en"

    def test_the_language_is_detected_where_that_is_wanted(self, visit, server):
        page = visit()
        page.locator("#from").select_option("auto")
        assert page.locator("#from option:checked").inner_text() == "Detect language"
        assert page.locator("#to option").all_inner_texts() == ["German", "English"]
        swap = page.get_by_role("button", name="Swap the languages")
        assert not swap.is_visible()
        page.get_by_role("tab", name="Embeddings").click()
        page.locator("#embeddings").get_by_text("Write a sentence above").wait_for()
        write(page)
        assert page.locator("#from option:checked").inner_text() == "English (detected)"
        assert page.locator("#text").get_attribute("lang") == "en"
        assert shown(page) == "".join(server.ask("translate", q=TEXT)["sentences"][0]["target"])
        settled(page).locator("canvas.cq-cloud").wait_for()
        page.locator(WORDS).nth(1).click()
        page.locator(".menu-item").first.wait_for()
        page.keyboard.press("Escape")
        page.locator("#text").fill("Der alte Mann macht die Tür auf.")
        page.get_by_text("The text is in the target language already").wait_for()
        assert page.locator("#from option:checked").inner_text() == "Detect language"
        write(page)
        swap.click()
        assert (page.locator("#from").input_value(), page.locator("#to").input_value()) == (
            "de",
            "en",
        )

    def test_an_over_long_text_is_refused_with_a_message(self, visit):
        page = write(visit())
        asked: list[str] = []
        page.on("request", lambda r: r.url.endswith("/v1/translate") and asked.append(r.url))
        page.locator("#text").fill("x" * (LIMIT - 3) + "\U0001f600" * 5)
        assert page.get_by_role("alert").inner_text() == "Too long by 2 characters."
        assert page.locator("#count").inner_text() == f"{LIMIT + 2} / {LIMIT}"
        assert page.locator("#text").get_attribute("aria-invalid") == "true"
        page.wait_for_timeout(500)
        assert asked == []
        write(page)
        assert page.get_by_role("alert").inner_text() == ""

    def test_the_translation_is_copied(self, visit):
        page = write(visit(permissions=["clipboard-read", "clipboard-write"]))
        page.get_by_role("button", name="Copy").click()
        page.get_by_text("Copied").wait_for()
        assert page.evaluate("navigator.clipboard.readText()") == shown(page)

    def test_text_is_never_markup(self, visit):
        page = write(visit(), '<img src=x onerror="alert(1)"> & <b>')
        assert page.locator("img, .sheet b").count() == 0


class TestWords:
    def test_pointing_at_a_word_tints_what_it_goes_with(self, visit, server):
        page = write(visit())
        (sentence,) = server.ask("translate", q=TEXT)["sentences"]
        assert sentence["links"]
        for place in range(len(sentence["target"])):
            page.locator(WORDS).nth(place).hover()
            linked = {s for t, s in sentence["links"] if t == place}
            assert tints(page, "source") == [i in linked for i, _ in enumerate(sentence["source"])]
            assert tints(page, "target").index(True) == place

    def test_and_so_it_does_in_the_text_that_is_typed(self, visit, server):
        page = write(visit())
        (sentence,) = server.ask("translate", q=TEXT)["sentences"]
        for place in range(len(sentence["source"])):
            box = page.locator("#mirror .word").nth(place).bounding_box()
            page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
            linked = {t for t, s in sentence["links"] if s == place}
            assert tints(page, "target") == [i in linked for i, _ in enumerate(sentence["target"])]
        page.mouse.move(5, 5)
        assert not any(tints(page, "target") + tints(page, "source"))

    def test_words_lie_where_they_are_typed(self, visit):
        page = write(visit(PHONE), f"{TEXT} " * 6)
        heights = page.eval_on_selector_all(
            "#mirror, #text", "both => both.map((one) => [one.clientWidth, one.scrollHeight])"
        )
        assert heights[0] == heights[1]

    def test_another_way_to_go_on_is_taken_and_taken_back(self, visit, server):
        page = write(visit())
        before = shown(page)
        (sentence,) = server.ask("translate", q=TEXT)["sentences"]
        prefix = "".join(sentence["target"][:2])
        page.locator(WORDS).nth(2).click()
        items = page.locator(".menu-item")
        items.first.wait_for()
        offered = server.ask("alternatives", q=TEXT, prefix=prefix)["alternatives"]
        expected = ["".join(one["sentence"]["target"]) for one in offered]
        assert items.count() == len(offered) > 1
        place = next(i for i, text in enumerate(expected) if text != before)
        items.nth(place).click()
        assert shown(page) == expected[place]
        assert expected[place].startswith(prefix)
        page.get_by_role("button", name="Back to the first").click()
        assert shown(page) == before

    def test_the_views_show_the_wording_that_was_chosen(self, visit, server):
        page = write(visit())
        page.get_by_role("tab", name="Beam").click()
        settled(page)
        before = page.locator(".cq-tokens .cq-piece").all_inner_texts()
        page.locator(WORDS).nth(2).click()
        page.locator(".menu-item[aria-checked=false]").first.click()
        chosen = shown(page)
        page.locator("#beam .cq-outcome.cq-won .cq-text", has_text=chosen).wait_for()
        assert page.locator(".cq-tokens .cq-piece").all_inner_texts() != before
        page.get_by_role("tab", name="Attention").click()
        words = settled(page).locator(".cq-lines text.cq-right:not(.cq-column)").all_text_contents()
        assert "".join(words) == chosen.replace(" ", "")
        page.get_by_role("button", name="Back to the first").click()
        page.get_by_role("tab", name="Beam").click()
        page.locator("#beam .cq-outcome.cq-won .cq-text", has_text=shown(page)).wait_for()
        assert page.locator(".cq-tokens .cq-piece").all_inner_texts() == before

    def test_a_menu_is_left_by_escape(self, visit):
        page = write(visit())
        page.locator(WORDS).nth(1).click()
        page.locator(".menu-item").first.wait_for()
        page.keyboard.press("Escape")
        page.locator(".menu").wait_for(state="detached")
        assert page.evaluate("document.activeElement.className") == "word"


class TestViews:
    def test_each_tab_is_drawn(self, visit, server):
        page = write(visit())
        look = server.ask("look", q=TEXT)
        drawn = {
            "Attention": (
                ".cq-thumbnail canvas",
                sum(len(x) + 1 for x in look["attention"]["cross"]),
            ),
            "Beam": (".cq-node, .cq-end", len(look["beam"]["nodes"]) + len(look["beam"]["ends"])),
            "Positions": ("figure canvas", 4),
            "Embeddings": ("canvas.cq-cloud", 1),
            "Training": ("polyline", 5),
        }
        assert list(drawn) == page.get_by_role("tab").all_inner_texts() == TABS
        for name, (selector, count) in drawn.items():
            page.get_by_role("tab", name=name).click()
            panel = settled(page)
            assert panel.get_attribute("aria-labelledby") == f"tab-{name.lower()}"
            assert panel.locator(selector).count() == count
            colours = panel.locator("canvas").evaluate_all(
                """canvases => canvases.map((c) => new Set(new Uint32Array(
                    c.getContext("2d").getImageData(0, 0, c.width, c.height).data.buffer)).size)"""
            )
            assert min(colours, default=2) > 1

    def test_they_follow_what_is_typed(self, visit, server):
        page = write(visit())
        page.get_by_role("tab", name="Beam").click()
        settled(page)
        text = "A cat sees the tree ."
        before, after = (server.ask("look", q=q)["target"]["pieces"] for q in (TEXT, text))
        assert page.locator(".cq-tokens .cq-piece").all_inner_texts() == before != after
        write(page, text)
        page.wait_for_function(
            """pieces => {
                const shown = document.querySelectorAll(".cq-tokens .cq-piece");
                return pieces.join() === Array.from(shown, (piece) => piece.textContent).join();
            }""",
            arg=after,
        )

    def test_one_of_several_sentences_is_looked_at(self, visit, server):
        texts = "The dog sleeps .", "A cat sees the tree ."
        page = write(visit(), "\n".join(texts))
        page.get_by_role("tab", name="Beam").click()
        for text, step in zip(texts, ("Next sentence", "Previous sentence"), strict=True):
            page.locator(
                "#beam .stepper-text", has_text=text
            ).wait_for()  # the other tab has its own
            pieces = page.locator("#beam .cq-tokens .cq-piece").all_inner_texts()
            assert pieces == server.ask("look", q=text)["target"]["pieces"]
            page.locator("#beam").get_by_role("button", name=step).click()
        assert page.evaluate("document.activeElement.ariaLabel") == "Previous sentence"

    def test_there_are_no_views_of_nothing(self, visit):
        page = visit()
        page.locator("#attention").get_by_text("Write a sentence above").wait_for()


class TestServer:
    def test_gone_and_back(self, visit, server):
        page = write(visit())
        server.stop()
        page.locator("#text").fill("A cat sees the tree .")
        notice = page.get_by_role("status").first
        notice.filter(has_text="does not answer").wait_for()
        server.start()
        page.wait_for_selector(FRESH)
        expected = server.ask("translate", q="A cat sees the tree .")["sentences"][0]["target"]
        assert shown(page) == "".join(expected)
        assert notice.inner_text() == ""

    def test_a_busy_server_is_asked_again(self, visit):
        page = visit()
        answers = iter([True])

        def busy_once(route: Any) -> None:
            if next(answers, False):
                body = json.dumps({"error": "Too many requests are waiting"})
                route.fulfill(status=503, body=body, headers={"Retry-After": "1"})
            else:
                route.continue_()

        page.route("**/v1/translate", busy_once)
        page.locator("#text").fill(TEXT)
        page.get_by_text("The server is busy").wait_for()
        page.wait_for_selector(FRESH)
        assert page.get_by_text("The server is busy").count() == 0

    def test_a_key_is_asked_for_until_it_is_right(self, visit):
        page = visit(key=None)
        dialog = page.get_by_role("dialog", name="API key")
        for key in ("wrong", KEY):
            page.locator("#text").fill(TEXT) if key == "wrong" else None
            dialog.get_by_label("Key", exact=True).fill(key)
            page.keyboard.press("Enter")
            if key == "wrong":
                dialog.get_by_text("Invalid API key").wait_for()
        page.wait_for_selector(FRESH)
        assert not dialog.is_visible()

    def test_nothing_from_elsewhere_is_let_in(self, server):
        for path in ("/", "/page.js", "/look/look.css"):
            policy = httpx2.get(server.address + path).headers["content-security-policy"]
            assert "default-src 'self'" in policy
            assert "script-src" not in policy
            assert "unsafe-inline" not in policy
        assert "<script>" not in httpx2.get(server.address).text


class TestUse:
    def test_keyboard_alone(self, visit):
        page = visit()
        press = page.keyboard.press
        page.keyboard.type(TEXT)
        page.wait_for_selector(FRESH)

        def focused(script: str) -> Any:
            return page.evaluate(f"document.activeElement.{script}")

        def tab_to(selector: str) -> None:
            for _ in range(12):
                press("Tab")
                if focused(f"matches({selector!r})"):
                    return
            raise AssertionError(selector)

        tab_to(WORDS)
        press("ArrowRight")
        press("ArrowRight")
        assert focused("dataset.place") == "2"
        assert any(tints(page, "source"))
        before = shown(page)
        press("Enter")
        page.locator(".menu-item").first.wait_for()
        press("ArrowDown")
        chosen = focused("querySelector('b').textContent")
        press("Enter")
        page.locator(".menu").wait_for(state="detached")
        assert shown(page) != before
        assert chosen.strip() in shown(page)
        assert focused("dataset.place") == "2"
        tab_to("[role=tab]")
        for name in [*TABS[1:], TABS[0]]:
            press("ArrowRight")
            assert focused("textContent") == name
            assert focused("ariaSelected") == "true"
            assert page.locator("[role=tab][tabindex='0']").all_inner_texts() == [name]
        press("End")
        assert focused("textContent") == TABS[-1]

    @pytest.mark.parametrize(
        ("viewport", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")], ids=["desktop", "phone"]
    )
    def test_it_fits_the_screen_and_the_rules_of_accessibility(self, visit, viewport, scheme):
        axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
        page = write(visit(viewport, color_scheme=scheme, reduced_motion="reduce"))
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) > 380) == (scheme == "light")
        for name in TABS:
            page.get_by_role("tab", name=name).click()
            settled(page)
            assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
            found = axe.run(page)
            assert found.violations_count == 0, found.generate_report()
        page.locator(WORDS).nth(1).click()
        page.locator(".menu-item").first.wait_for()
        found = axe.run(page)
        assert found.violations_count == 0, found.generate_report()
