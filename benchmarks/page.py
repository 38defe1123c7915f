"""The page of the service in a headless Chromium: time until the first list is shown, and its picture.

    python -m benchmarks.page RUN --workspace FOLDER
    python -m benchmarks.page --picture docs/page.png

The first measures, in the page itself, from the click on "Add" until the frame after the first list. The
second trains a run on a shop whose items are made up (benchmarks/page_shop.py) and shows it; it takes a
minute. Both need Playwright and Chromium (`make test-page` installs them). Nothing but 127.0.0.1 is reached.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, sync_playwright

from benchmarks.page_shop import build
from benchmarks.serve import served
from maskgr_cli import console
from pipelines import artifacts

ROUNDS = 30
CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
HISTORY = ["Classic teapot", "Small tea strainer", "Loose leaf tea by"]
FIRST_LIST = """() => new Promise(resolve => {
    const list = document.querySelector('#list');
    let began;
    new MutationObserver(() => {
        if (list.childElementCount === 0) return;
        requestAnimationFrame(() => setTimeout(() => resolve(performance.now() - began)));
    }).observe(list, {childList: true});
    const button = document.querySelector('#found > li > button');
    button.addEventListener('click', () => began = performance.now(), {capture: true});
    button.click();
})"""


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium.

    Raises:
        SystemExit: there is none.
    """
    path = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        raise SystemExit("Chromium is missing: make test-page.")
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])


def first_lists(browser: Browser, address: str, rounds: int) -> list[float]:
    """Open the page so many times and return the milliseconds until each first list."""
    return [_first_list(browser, address) for _ in range(rounds)]


def _first_list(browser: Browser, address: str) -> float:
    context = browser.new_context()
    tab = context.new_page()
    tab.goto(address)
    tab.wait_for_selector("#found > li")
    took = tab.evaluate(FIRST_LIST)
    context.close()
    return float(took)


def picture(browser: Browser, address: str, path: Path) -> None:
    """Write a picture of the page: a history, a filter, and digits of which some are revealed."""
    context = browser.new_context(viewport={"width": 1180, "height": 820}, reduced_motion="reduce")
    tab = context.new_page()
    tab.goto(address)
    for title in HISTORY:
        tab.fill("#search", title)
        tab.click(f"#found > li:only-child:has-text('{title}') > button")
    _ask(tab, lambda: tab.fill("#search", "tea"))
    _ask(tab, lambda: (tab.fill("#where", "price < 45"), tab.press("#where", "Enter")))
    tab.wait_for_selector("#list .digit")
    tab.locator("#step").press("ArrowLeft")
    tab.evaluate("document.activeElement.blur()")
    tab.mouse.move(0, 0)
    tab.screenshot(path=path)
    context.close()


def _ask(tab: Any, act: Any) -> None:
    """Do something and wait until the service has answered and the answer is shown."""
    with tab.expect_response("**/*"):
        act()
    tab.wait_for_load_state("networkidle")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", help="name of a run")
    parser.add_argument("--workspace", type=Path, default=None)
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="number of times that the page is opened")
    parser.add_argument("--picture", type=Path, default=None, metavar="FILE", help="write a picture instead")
    options = parser.parse_args()
    if (options.run is None) == (options.picture is None):
        parser.error("give a run or --picture")
    with contextlib.ExitStack() as stack:
        run, workspace = options.run, options.workspace
        if options.picture:
            workspace = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            run = build(workspace)
        server = stack.enter_context(served(run, workspace))
        browser = stack.enter_context(chromium())
        address = f"http://127.0.0.1:{server.port}/"
        if options.picture:
            picture(browser, address, options.picture)
            return
        took = first_lists(browser, address, options.rounds)
    p50, p99 = np.percentile(took, (50, 99))
    rows = [(run, f"{p50:.0f}", f"{p99:.0f}", f"{max(took):.0f}")]
    headers = ["run", "p50", "p99", "largest"]
    console.table("Milliseconds from a click until the first list", headers, rows, artifacts.machine())


if __name__ == "__main__":
    main()
