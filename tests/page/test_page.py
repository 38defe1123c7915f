"""What a reader of the page sees and does."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipelines.recommend.model import Model
from pipelines.workspace import Workspace
from tests.page.conftest import AXE, HOSTILE, Opened, add, change, setting
from tests.serve.test_command import started

PHONE = {"viewport": {"width": 360, "height": 780}}
TITLES = "rows => rows.map(row => row.querySelector('.title').textContent)"


def get(address: str, path: str) -> dict[str, Any]:
    with urllib.request.urlopen(address + path) as answer:
        return json.load(answer)


def visible(title: str) -> str:
    """Return a title as the page must show it."""
    for character in "\u202e\u202c\u200b\x1b":
        title = title.replace(character, f"U+{ord(character):04X}")
    return title


def test_titles_are_text_everywhere(opened: Opened) -> None:
    with opened() as tab:
        for title in HOSTILE.values():
            add(tab, title.split("\u202e")[0].split("\u200b")[0].strip())
        _, answer = change(tab, setting(tab, "where", f"price < {len(HOSTILE)}"))
        assert answer["recommendations"] == []  # all are in the history
        _, answer = change(tab, lambda: tab.uncheck("#exclude_seen"))
        expected = [visible(row["title"]) for row in answer["recommendations"]]
        assert sorted(expected) == sorted(map(visible, HOSTILE.values()))
        assert tab.eval_on_selector_all("#list > li", TITLES) == expected
        assert tab.eval_on_selector_all("#history > li", TITLES) == [*map(visible, HOSTILE.values())]
        directions = tab.eval_on_selector_all(
            "#history .title bdi.text", "all => all.map(each => getComputedStyle(each).direction)"
        )
        assert directions == ["rtl" if number in (4, 8) else "ltr" for number in HOSTILE]
        for place in range(len(HOSTILE)):
            tab.locator("#history .title").nth(place).click()
            tab.wait_for_selector("#similar > li")
            assert tab.text_content("#item-title") == visible(HOSTILE[place])
            tab.keyboard.press("Escape")
        assert tab.evaluate("window.broken") is None


def test_settings_are_sent_and_the_list_is_the_answer(opened: Opened, address: str) -> None:
    facts = get(address, "run")
    with opened() as tab:
        answer = add(tab, "Thing 20")
        body, second = change(tab, lambda: tab.select_option("#order", "random"))
        assert (body["order"], body["history"]) == ("random", [found(address, "Thing 20")])
        assert body["nfe"] == facts["decoding"]["nfe"]
        body, _ = change(tab, setting(tab, "nfe", "2"))
        assert body["nfe"] == 2
        body, answer = change(tab, setting(tab, "where", "price < 30 and price > 12"))
        assert body["where"] == "price < 30 and price > 12"
        titles = tab.eval_on_selector_all("#list > li", TITLES)
        assert titles == [row["title"] for row in answer["recommendations"]]
        assert all(12 < int(title.removeprefix("Thing ")) < 30 for title in titles)
        assert "Thing 20" not in titles
        before = {row["item_id"] for row in second["recommendations"]}
        new = [row["item_id"] not in before for row in answer["recommendations"]]
        marks = tab.eval_on_selector_all(
            "#list > li", "rows => rows.map(row => row.querySelector('.moved')?.textContent === 'new')"
        )
        assert marks == new
        assert f"Service {answer['milliseconds']:.0f}"[:9] == tab.text_content("#latency")[:9]
        assert tab.text_content("#list-status") == f"{len(titles)} recommendations to 1 item."


def found(address: str, title: str) -> str:
    """Return the id of the first item with a title."""
    return get(address, f"items?q={title.replace(' ', '%20')}")["items"][0]["item_id"]


def test_digits_are_revealed_evaluation_by_evaluation(opened: Opened) -> None:
    watch = """() => {
        window.seen = [];
        const step = document.querySelector('#step-shown');
        new MutationObserver(() => seen.push(step.textContent)).observe(step, {childList: true});
    }"""
    masked = "() => document.querySelectorAll('#list .digit.masked').length"
    with opened(reduced_motion="no-preference") as tab:
        tab.evaluate(watch)
        answer = add(tab, "Thing 20")
        digits = [digit for row in answer["recommendations"] for digit in row["explanation"]]
        last = max(digit["evaluation"] for digit in digits)
        steps = [f"{step} of {last}" for step in range(last + 1)]
        tab.wait_for_function("last => seen.includes(last)", arg=steps[-1])
        assert tab.evaluate("seen") == steps
        tab.focus("#step")
        for step in range(last, -1, -1):
            assert tab.evaluate(masked) == sum(digit["evaluation"] > step for digit in digits)
            tab.keyboard.press("ArrowLeft")
        order = sorted(answer["recommendations"][0]["explanation"], key=lambda digit: digit["digit"])
        codes = tab.locator("#list > li:first-child .code").all_text_contents()
        assert codes == [str(digit["code"]) for digit in order]
    with opened() as tab:  # less motion
        tab.evaluate(watch)
        add(tab, "Thing 20")
        assert tab.evaluate("seen") == [steps[-1]]
        assert tab.evaluate(masked) == 0


def test_a_fault_is_shown_at_its_field_and_the_list_stays(opened: Opened) -> None:
    with opened(fails=True) as tab:
        add(tab, "Thing 20")
        titles = tab.eval_on_selector_all("#list > li", TITLES)
        for name, value in (("where", "prize < 3"), ("k", "0"), ("nfe", "77")):
            good = tab.input_value(f"#{name}")
            _, answer = change(tab, setting(tab, name, value))
            (fault,) = answer["detail"]
            tab.wait_for_function(
                "([name, text]) => document.getElementById(name).textContent === text",
                arg=[f"{name}-error", fault["msg"]],
            )
            assert tab.get_attribute(f"#{name}", "aria-invalid") == "true"
            assert tab.eval_on_selector_all("#list > li", TITLES) == titles
            change(tab, setting(tab, name, good))
            tab.wait_for_selector(f"#{name}[aria-invalid=false]")
            assert tab.text_content(f"#{name}-error") == ""
        assert tab.text_content("#trouble") == ""


def test_failures_are_told_in_words_and_can_be_tried_again(opened: Opened) -> None:
    busy = {"detail": "Too many requests wait. Come again later."}
    with opened(fails=True) as tab:
        tab.route("**/recommend", lambda route: route.abort())
        tab.click("#found > li:first-child > button")
        tab.wait_for_selector("text=The service does not answer. Check that maskgr serve still runs.")
        tab.unroute("**/recommend")
        tab.route(
            "**/recommend", lambda route: route.fulfill(status=503, headers={"Retry-After": "3"}, json=busy)
        )
        tab.click("text=Try again")
        tab.wait_for_selector("text=Too many requests wait. Come again later. (in 3 s)")
        tab.unroute("**/recommend")
        _, answer = change(tab, lambda: tab.click("text=Try again"))
        assert len(answer["recommendations"]) == 10
        assert tab.text_content("#trouble") == ""


def test_an_old_answer_never_replaces_a_newer_one(opened: Opened) -> None:
    """The first answer comes last, and although its request was given up."""
    hold = """() => {
        const real = window.fetch;
        window.fetch = (path, options) => {
            const answer = real(path, {...options, signal: undefined});
            window.fetch = real;
            return new Promise(resolve => {
                window.release = () => answer.then(resolve).then(() => real('health')).then(a => a.json());
            });
        };
    }"""
    with opened() as tab:
        add(tab, "Thing 20")
        tab.evaluate(hold)
        with tab.expect_response("**/recommend"):
            setting(tab, "k", "1")()
        change(tab, setting(tab, "k", "7"))
        tab.evaluate("release()")
        assert tab.locator("#list > li").count() == 7


def test_an_item_shows_its_neighbors_its_digits_and_why(opened: Opened, address: str) -> None:
    with opened() as tab:
        add(tab, "Thing 20")
        answer = add(tab, "Thing 30")
        row = answer["recommendations"][0]
        facts = get(address, f"items/{row['item_id']}")
        tab.locator("#list .title").first.click()
        tab.wait_for_selector("#item-sid .code")
        tab.wait_for_selector("#similar > li")
        assert tab.text_content("#item-title") == visible(row["title"])
        assert tab.locator("#item-sid .code").all_text_contents() == [str(code) for code in facts["sid"]]
        words = {digit["digit"]: digit["words"] for digit in row["explanation"]}
        assert facts["words"] == [words[place] for place in sorted(words)]
        cells = [cells.split("\t") for cells in tab.locator("#item-why tbody tr").all_inner_texts()]
        assert [[int(value) for value in each[:3]] for each in cells] == [
            [each["evaluation"], each["digit"], each["code"]] for each in row["explanation"]
        ]
        for by in get(address, "run")["similarities"]:
            with tab.expect_response(lambda answer, by=by: f"by={by}" in answer.url):
                tab.select_option("#similar-by", "model" if by != "model" else "sids")
                tab.select_option("#similar-by", by)
            items = get(address, f"similar/{row['item_id']}?by={by}&k=8")["items"]
            expected = [visible(item["title"]) for item in items]
            tab.wait_for_function(
                "titles => JSON.stringify([...document.querySelectorAll('#similar .title')]"
                ".map(each => each.textContent)) === JSON.stringify(titles)",
                arg=expected,
            )
        body, _ = change(tab, lambda: tab.click("#item-add"))
        assert body["history"][-1] == row["item_id"]
        assert not tab.is_visible("#item")


def test_the_keyboard_is_enough(opened: Opened) -> None:
    focus = "() => document.activeElement.id || document.activeElement.textContent"
    with opened() as tab:

        def press(*keys: str) -> str:
            for key in keys:
                tab.keyboard.press(key)
            return tab.evaluate(focus)

        assert press("Tab") == "Skip to recommendations"
        assert press("Tab", "Tab") == "search"
        with tab.expect_response(lambda answer: "q=Thing%2020" in answer.url):
            tab.keyboard.type("Thing 20")
        tab.wait_for_selector("#found > li:only-child")
        assert press("Tab") == "Thing 20"
        assert press("Tab") == "Add Thing 20"
        change(tab, lambda: press("Enter"))
        assert tab.evaluate(focus) == "Add Thing 20"
        assert press("Tab") == "clear"
        press(*["Tab"] * 2)
        assert tab.evaluate(focus) == "Remove Thing 20"
        press(*["Tab"] * 5, "ArrowDown")  # order, nfe, k, exclude_seen, where
        assert tab.evaluate(focus) == "where"
        press(*["Tab"] * 4)  # apply, step, play, the first title
        title = tab.evaluate(focus)
        assert title == tab.text_content("#list .title")
        assert press("Enter") == "item-title"
        assert tab.is_visible("#item")
        assert press("Escape") == title
        assert not tab.is_visible("#item")
        change(tab, lambda: press("Tab", "Enter"))  # adds it: the list is another one, the focus stays
        assert tab.evaluate("document.querySelector('#list > li > button') === document.activeElement")
        tab.focus("#history > li:last-child > button")
        change(tab, lambda: press("Enter"))
        assert tab.evaluate(focus) == "Remove Thing 20"
        assert press("Enter") == "history-heading"
        assert tab.locator("#list > li").count() == 0


@pytest.mark.skipif(not AXE.exists(), reason="needs axe-core: make test-page")
@pytest.mark.parametrize("options", [{}, {"color_scheme": "dark"}, PHONE], ids=["light", "dark", "phone"])
def test_axe_finds_no_violation_and_nothing_is_wider_than_the_page(
    opened: Opened, options: dict[str, Any]
) -> None:
    def check(state: str) -> None:
        found = tab.evaluate("axe.run()")
        assert found["violations"] == [], state
        assert found["passes"]
        width, room = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert width <= room, state

    with opened(fails=True, **options) as tab:
        tab.evaluate(AXE.read_text("utf-8"))
        check("start")
        add(tab, HOSTILE[5])
        _, answer = change(tab, setting(tab, "where", f"price < {len(HOSTILE) + 3}"))
        assert answer["recommendations"]
        check("list")
        tab.locator("#list .title").first.click()
        tab.wait_for_selector("#item-facts dl")
        tab.wait_for_selector("#similar > li")
        check("item")
        tab.keyboard.press("Escape")
        tab.focus("#step")
        tab.keyboard.press("Home")
        assert tab.locator("#list .masked").count() > 0
        check("masked")
        change(tab, setting(tab, "where", "prize < 3"))
        tab.wait_for_selector("#where[aria-invalid=true]")
        tab.route("**/recommend", lambda route: route.abort())
        tab.click("#settings button")
        tab.wait_for_selector("text=Try again")
        check("faults")


def test_a_model_without_digits_has_no_steps(
    opened: Opened, store: Workspace, model: Callable[..., Model], tmp_path: Path
) -> None:
    with (
        started(store, tmp_path, model("sasrec").run.name) as (_, port),
        opened(f"http://127.0.0.1:{port}/") as tab,
    ):
        answer = add(tab, "Thing 20")
        assert tab.eval_on_selector_all("#list > li", TITLES) == [
            visible(row["title"]) for row in answer["recommendations"]
        ]
        assert tab.is_disabled("#order")
        assert tab.is_disabled("#nfe")
        assert not tab.is_visible("#steps")
        tab.locator("#list .title").first.click()
        tab.wait_for_selector("#similar > li")
        assert tab.text_content("#item-trouble") == ""
