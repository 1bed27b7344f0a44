"""The picture of the web page in the documentation: two questions to the embedded model about a rendered scene, in a real Chromium.

    python benchmarks/page_picture.py docs/demo.png

Prints the answers, and ends with exit status 1 if the browser's console says anything. `--width 390 --height 844` is a phone.
"""

import argparse
import asyncio
import os
import shutil
import sys
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import expect, sync_playwright

import egohoi
from egohoi.apps.server import Limits, create_app

IMAGE = Path(__file__).parents[1] / "examples/kitchen.jpg"
ASKED = ("What is in my right hand?", "What is happening?")


def serve(app) -> str:
    """The address of a server of `app`, which ends with this process."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve()), daemon=True)
    thread.start()
    while not server.started:
        if not thread.is_alive():
            sys.exit("the server did not start")
        time.sleep(0.05)
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", help="PNG file to write")
    parser.add_argument("--model", default="nano")
    parser.add_argument("--image", type=Path, default=IMAGE)
    parser.add_argument("--ask", nargs="+", default=ASKED)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=860)
    given = parser.parse_args()
    chromium = next((p for p in (os.environ.get("CHROMIUM"), *map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))) if p), None)
    address, said = serve(create_app({given.model: egohoi.load(given.model)}, Limits())), []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": given.width, "height": given.height})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.wait_for_selector("html[data-ready]")
        page.set_input_files("#file", str(given.image))
        page.wait_for_selector("#view", state="visible")
        for number, question in enumerate(given.ask, 1):
            page.fill("#question", question)
            page.press("#question", "Enter")
            expect(page.locator("#turns > li")).to_have_count(number)
            expect(page.locator("#send")).to_have_text("Ask", timeout=600_000)
            print(f"{question} {page.inner_text('#turns > li:last-child .words')}")
        page.evaluate("() => document.activeElement.blur()")
        page.mouse.move(2, 2)
        page.wait_for_timeout(500)  # smooth scrolling and colours come to rest
        page.screenshot(path=given.out)
        browser.close()
    print(*said, sep="\n", file=sys.stderr, end="\n" if said else "")
    return 1 if said else 0


if __name__ == "__main__":
    sys.exit(main())
