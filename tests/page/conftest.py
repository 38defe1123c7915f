"""The page in a headless Chromium, served by a real `maskgr serve` of a toy run whose titles are hostile."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from pipelines import artifacts
from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.conftest import PATIENCE, write_toy
from tests.recommend.conftest import model as model
from tests.recommend.test_model import SOFTMAX
from tests.serve.test_command import started
from tests.train.test_leakage import ITEMS, USERS

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
HOSTILE = {  # item number → title
    0: "<script>window.broken = 1</script>",
    1: '<img src="x" onerror="window.broken = 1">',
    2: "[red]alarm[/red] {{ 7 * 7 }} ${window.broken = 1} &lt;b&gt;",
    3: "invoice \u202egpj.exe\u202c",
    4: "שלום עולם",
    5: "x" * 300,
    6: "zero\u200bwidth and \x1b[31mred",
    7: "绿茶 緑茶 ชาเขียว हरी चाय 🍵",
    8: "شاي أخضر",
}
Opened = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(scope="package")
def store(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The toy data set: item i has a hostile title or "Thing i", and costs i."""
    workspace = write_toy(Workspace(tmp_path_factory.mktemp("page") / "workspace"), USERS, ITEMS)
    path = workspace.require_dataset().items
    table = artifacts.read(path, "items")
    columns = {
        "title": [HOSTILE.get(i, f"Thing {i}") for i in range(ITEMS)],
        "price": [float(i) for i in range(ITEMS)],
    }
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    artifacts.write(path, "items", table, config={})
    return workspace


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    library = pytest.importorskip("playwright.sync_api", reason="needs Playwright: make test-page")
    if CHROMIUM is None:
        pytest.skip("needs Chromium: make test-page")
    with library.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture(scope="package")
def address(
    browser: Any, store: Workspace, model: Callable[..., Model], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of the service; the browser is asked for first, because without it no run is needed."""
    run = model("maskgr", **SOFTMAX).run.name
    with started(store, tmp_path_factory.mktemp("served"), run) as (_, port):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def opened(browser: Any, address: str) -> Opened:
    """Return a context in which the page is open: `opened(fails=True, color_scheme="dark")`. At its end the
    page must have asked nobody but the service, and the console must hold no error; with `fails` it may hold
    requests that failed.
    """

    @contextmanager
    def open_page(at: str = address, fails: bool = False, **options: Any) -> Iterator[Any]:
        context = browser.new_context(**{"reduced_motion": "reduce", **options})
        context.set_default_timeout(1000 * PATIENCE)
        tab, said, asked = context.new_page(), list[str](), list[str]()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(at)
        tab.wait_for_selector("#found > li")
        yield tab
        context.close()
        assert [url for url in asked if not url.startswith(at)] == []
        assert [text for text in said if not (fails and text.startswith("Failed to load resource"))] == []

    return open_page


def add(tab: Any, text: str) -> dict[str, Any]:
    """Search a title, add the first item that is found, and return the answer with recommendations."""
    with tab.expect_response(lambda answer: "/items?q=" in answer.url):
        tab.fill("#search", text)
    tab.wait_for_function(
        "text => document.querySelector('#found bdi')?.textContent.includes(text)", arg=text.split(" ")[0]
    )
    with tab.expect_response("**/recommend") as answer:
        tab.click("#found > li:first-child > button")
    return shown(tab, answer.value.json())


def change(tab: Any, act: Callable[[], object]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Change a setting and return the body of the request that follows, and its answer once it is shown."""
    with tab.expect_response("**/recommend") as answer:
        act()
    return answer.value.request.post_data_json, shown(tab, answer.value.json())


def shown(tab: Any, answer: dict[str, Any]) -> dict[str, Any]:
    """Wait until the answer is shown, if it is a list."""
    if "recommendations" in answer:
        tab.wait_for_function(
            "n => document.querySelectorAll('#list > li').length === n"
            " && !document.querySelector('#list').hasAttribute('aria-busy')",
            arg=len(answer["recommendations"]),
        )
    return answer


def setting(tab: Any, name: str, value: str) -> Callable[[], object]:
    """Return an act that writes a field and presses Enter."""

    def act() -> None:
        tab.fill(f"#{name}", value)
        tab.press(f"#{name}", "Enter")

    return act


AXE = Path(__file__).parent / "node_modules" / "axe-core" / "axe.min.js"
