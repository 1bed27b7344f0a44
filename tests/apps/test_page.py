"""The web page in a real headless Chromium: upload, ask, pixels of the boxes, identify, turns, downloads, problems."""

import asyncio
import json
import os
import shutil
import threading

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("fastapi", reason="the extra 'serve' is not installed")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
uvicorn = pytest.importorskip("uvicorn", reason="the extra 'serve' is not installed")
from egohoi.apps.server import Limits, create_app

CHROMIUM = next((p for p in (os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))) if p), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: install one, or name it in the variable CHROMIUM")
LEFT, RIGHT, CUP = (20, 120, 100, 200), (220, 140, 300, 220), (150, 30, 250, 130)


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def address(color_model):
    """A running server with the colour model."""
    app = create_app({"colors": color_model}, Limits(upload=2**20))
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join(10)


@pytest.fixture
def page(browser, address):
    """The page, ready; at the end no word may stand in the console."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    opened, said = context.new_page(), []
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(address)
    opened.wait_for_selector("html[data-ready]")
    yield opened
    # Chromium itself reports a request that the network lost.
    assert [line for line in said if "net::ERR" not in line] == []
    context.close()


@pytest.fixture
def photo(tmp_path, make_blocks, make_png) -> str:
    path = tmp_path / "blocks.png"
    path.write_bytes(make_png(make_blocks(left_hand=LEFT, right_hand=RIGHT, cup=CUP)))
    return str(path)


def ask(page, question: str) -> None:
    page.fill("#question", question)
    page.press("#question", "Enter")
    sync_api.expect(page.locator("#send")).to_have_text("Ask")


def drawn_boxes(page, size) -> list[list[float]]:
    """The boxes of the overlay in pixels of the picture, from where they lie on the screen."""
    view = page.locator("#view").bounding_box()
    scale = view["width"] / size[0]
    found = []
    for node in page.locator("#overlay rect.box").all():
        x, y, w, h = (float(node.get_attribute(k)) for k in ("x", "y", "width", "height"))
        found.append([round(v / scale, 1) for v in (x, y, x + w, y + h)])
    return found


def test_upload_ask_two_turns_with_boxes_at_the_right_pixels(page, photo, tmp_path):
    page.set_input_files("#file", photo)
    ask(page, "Where is the left hand?")
    assert "The left hand is here." in page.inner_text("#turns > li:last-child")
    assert drawn_boxes(page, (320, 240)) == [pytest.approx(LEFT, abs=0.6)]
    ask(page, "And the cup?")
    assert page.locator("#turns > li").count() == 2
    assert drawn_boxes(page, (320, 240)) == [pytest.approx(CUP, abs=0.6)]
    # On the screen, the middle of the block is coloured by the mask and its edge by the box; elsewhere the picture is untouched.
    page.screenshot(path=tmp_path / "screen.png")
    screen = np.asarray(Image.open(tmp_path / "screen.png").convert("RGB")).astype(int)
    view = page.locator("#view").bounding_box()

    def at(x, y):
        scale = view["width"] / 320
        return screen[round(view["y"] + y * scale), round(view["x"] + x * scale)]

    assert np.abs(at(300, 20) - 128).max() <= 2 and np.abs(at(60, 160) - (0, 0, 255)).max() <= 2
    assert np.abs(at(200, 80) - (0, 255, 0)).max() > 40
    # The first answer comes back by a click.
    page.click("#turns > li:first-child button.link")
    assert drawn_boxes(page, (320, 240)) == [pytest.approx(LEFT, abs=0.6)]


def test_earlier_turns_about_the_picture_go_along(page, photo):
    page.evaluate("""() => {
        const send = window.fetch;
        window.fetch = (path, options) => { window.history_ = options?.body.get("history"); return send(path, options); };
    }""")

    def sent() -> list[dict]:
        return json.loads(page.evaluate("() => window.history_") or "[]")

    page.set_input_files("#file", photo)
    ask(page, "Where is the left hand?")
    assert sent() == []
    ask(page, "And the cup?")
    assert sent() == [{"question": "Where is the left hand?", "answer": "The left hand is here."}]
    page.click("#settings summary")
    page.select_option("#remember", "no")
    ask(page, "And the right hand?")
    assert sent() == []
    page.select_option("#remember", "yes")
    page.set_input_files("#file", photo)  # another picture, even if its file is the same
    ask(page, "Where is the cup?")
    assert sent() == []


def test_a_drawn_box_and_a_click_identify(page, photo):
    page.set_input_files("#file", photo)
    page.wait_for_selector("#view")
    view = page.locator("#view").bounding_box()
    scale = view["width"] / 320

    def screen(x, y):
        return view["x"] + x * scale, view["y"] + y * scale

    page.mouse.move(*screen(155, 35))
    page.mouse.down()
    page.mouse.move(*screen(200, 80))
    page.mouse.move(*screen(245, 125))
    page.mouse.up()
    sync_api.expect(page.locator("#turns > li:last-child .words")).to_have_text("cup")
    asked = json.loads(page.text_content("#raw pre"))
    assert asked["task"] == "identify" and asked["entities"][0]["box"] == list(CUP)
    page.mouse.click(*screen(60, 160))
    sync_api.expect(page.locator("#turns > li:last-child .words")).to_have_text("left hand")
    assert page.locator("#turns > li").count() == 2


def test_describe_lists_everything_and_saves_picture_and_json(page, photo, tmp_path):
    page.set_input_files("#file", photo)
    page.click("text=Describe everything")
    sync_api.expect(page.locator("#entities button")).to_have_count(3)
    with page.expect_download() as download:
        page.click("#save-json")
    download.value.save_as(tmp_path / "answer.json")
    answer = json.loads((tmp_path / "answer.json").read_text())
    assert answer["size"] == [320, 240] and {e["name"] for e in answer["entities"]} == {"left hand", "right hand", "cup"}
    with page.expect_download() as download:
        page.click("#save-picture")
    download.value.save_as(tmp_path / "answer.png")
    with Image.open(tmp_path / "answer.png") as saved:
        assert saved.size == (320, 240) and np.abs(np.asarray(saved.convert("RGB")).astype(int)[20, 300] - 128).max() <= 2


def test_examples_settings_and_a_narrow_dark_screen(page):
    page.set_viewport_size({"width": 390, "height": 800})
    page.click("#theme")
    page.click("#examples button >> nth=0")
    page.wait_for_selector("#view", state="visible")
    assert page.evaluate("() => document.documentElement.scrollWidth") <= 390
    page.click("#settings summary")
    page.fill("#max-new-tokens", "2")
    ask(page, "Where is the right hand?")
    assert page.inner_text("#turns > li:last-child .words").split() in (["The", "right"], ["There", "is"])


def test_on_a_phone_the_picture_and_the_newest_answer_are_seen_together(page, photo):
    page.set_viewport_size({"width": 390, "height": 844})
    page.set_input_files("#file", photo)
    for question in ("Where is the left hand?", "And the right hand?", "And the cup?"):
        ask(page, question)
    sync_api.expect(page.locator("#view")).to_be_in_viewport(ratio=0.99)
    sync_api.expect(page.locator("#turns > li:last-child .words")).to_be_in_viewport(ratio=0.99)
    picture, words, box = (page.locator(s).bounding_box() for s in ("#view", "#turns > li:last-child .words", "#form"))
    assert picture["y"] + picture["height"] < words["y"] and words["y"] + words["height"] < box["y"]
    assert drawn_boxes(page, (320, 240)) == [pytest.approx(CUP, abs=0.6)]


def test_names_lie_above_the_boxes_and_apart_from_each_other(page, photo):
    page.set_input_files("#file", photo)
    page.click("text=Describe everything")
    names = page.locator("#overlay g.entity:has(text)")
    sync_api.expect(names).to_have_count(3)
    # SVG paints in the order of the document.
    order = page.evaluate("() => [...document.querySelectorAll('#overlay .entity')].map((g) => g.querySelector('text') !== null)")
    assert order == sorted(order)
    places = [node.locator("rect").bounding_box() for node in names.all()]
    for k, a in enumerate(places):
        for b in places[:k]:
            assert a["x"] + a["width"] <= b["x"] or b["x"] + b["width"] <= a["x"] or a["y"] + a["height"] <= b["y"] or b["y"] + b["height"] <= a["y"]


def test_wrong_files_are_refused_with_one_clear_line(page, tmp_path):
    notice = page.locator("#notice")
    (tmp_path / "empty.png").write_bytes(b"")
    (tmp_path / "text.png").write_bytes(b"not a picture")
    (tmp_path / "large.png").write_bytes(b"0" * (2**20))
    for name, words in (("empty", "is empty"), ("text", "is not a picture"), ("large", "is larger than")):
        page.set_input_files("#file", str(tmp_path / f"{name}.png"))
        sync_api.expect(notice).to_contain_text(words)
    page.fill("#question", "Where is the left hand?")
    page.press("#question", "Enter")
    sync_api.expect(notice).to_contain_text("choose a picture first")
    notice.click()
    sync_api.expect(notice).to_be_hidden()


def test_a_server_that_is_gone_is_said_and_the_question_can_be_asked_again(page, photo):
    page.set_input_files("#file", photo)
    page.route("**/v1/ask", lambda route: route.abort())
    page.fill("#question", "Where is the left hand?")
    page.press("#question", "Enter")
    sync_api.expect(page.locator("#turns .problem")).to_contain_text("cannot be reached")
    page.unroute("**/v1/ask")
    page.click("text=Try again")
    sync_api.expect(page.locator("#turns > li:last-child .words")).to_have_text("The left hand is here.")
