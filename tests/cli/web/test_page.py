"""The page in a real headless browser, by the keyboard, over moto, with letters that real handlers have made."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from streamkit.checkpoints.sqlite import SqliteCheckpoints

from ..process import connect, running
from .conftest import Start
from .shop import HOSTILE, Console, Shop

SLOW = 40_000.0  # Milliseconds; a moto in this process answers everybody.

FUNCTION = """
import time
from streamkit import RecordProcessor, lambda_handler

class Orders(RecordProcessor):
    name = "orders"

    def process(self, record):
        time.sleep(4)

handler = lambda_handler(Orders)
"""


def opened(page: Page, console: Console) -> Page:
    page.set_default_timeout(SLOW)
    page.goto(console.url)
    expect(page.locator("#live-text")).to_contain_text("live, ", timeout=SLOW)
    return page


def looked(page: Page, console: Console) -> Page:
    """The list of dead letters, reached by keys."""
    opened(page, console)
    expect(page.locator("#source option").first).to_be_attached(timeout=SLOW)
    page.keyboard.press("2")
    page.keyboard.press("l")
    expect(rows(page).first).to_be_visible(timeout=SLOW)
    return page


def rows(page: Page) -> Any:
    return page.locator("#list tbody tr")


def focused(page: Page) -> str:
    """What has the focus: its id, or its words."""
    said = page.evaluate("() => document.activeElement.id || document.activeElement.textContent")
    assert isinstance(said, str)
    return said


class TestTheOverview:
    def test_what_arrives_is_seen_without_a_reload(self, page: Page, start: Start, shop: Shop) -> None:
        opened(page, start(*shop.arguments(), "--sample", "1"))
        table = page.get_by_label(f"Stream {shop.stream}")
        expect(table.locator("tbody tr")).to_have_count(2, timeout=SLOW)
        dead = page.locator("#queues tbody tr", has_text=shop.dead)
        expect(dead.locator("td").nth(2)).to_have_text("0", timeout=SLOW)

        shop.fail("a", "b")
        arriving = re.compile(r"^(≈ )?[1-9]")
        rate = table.locator("tbody tr").first.locator("td").nth(2)
        curve = table.locator("svg.spark").first.locator("polyline")
        give_up_at = time.monotonic() + SLOW / 1000
        # A curve has two values at least.
        while not (arriving.match(rate.inner_text()) and "," in (curve.get_attribute("points") or "")):
            assert time.monotonic() < give_up_at
            shop.put(10)
            time.sleep(0.25)

        expect(dead.locator("td").nth(2)).to_have_text("2", timeout=SLOW)
        # Told to those who hear the page.
        assert (table.locator("svg.spark").first.get_attribute("aria-label") or "").startswith(
            "records a second, lately: now "
        )

    def test_a_run_shows_its_batch_in_flight_and_how_far_it_is(
        self, page: Page, start: Start, shop: Shop, tmp_path: Path, moto_endpoint: str
    ) -> None:
        (tmp_path / "orders.py").write_text(FUNCTION)
        shop.put(6)
        arguments = ["orders:handler", "--stream", shop.stream, "--endpoint-url", moto_endpoint, "--batch-size", "1"]
        with running(tmp_path, *arguments, "--status", "run.json", "--plain") as run:
            table = opened(
                page, start(*shop.arguments(), "--name", "orders", "--run", "run.json", "--sample", "0")
            ).get_by_label(f"Stream {shop.stream}")

            expect(table).to_contain_text(re.compile(r"1 batch of 1 record, [\d.]+ s"), timeout=SLOW)
            expect(table).to_contain_text("orders: age", timeout=SLOW)
            expect(table.get_by_text("held").first).to_be_visible(timeout=SLOW)
            run.kill()

            # It was killed, so its file is there and grows old.
            expect(table).to_contain_text("no word for", timeout=SLOW)

    def test_a_lease_is_held_when_it_was_seen_to_be_renewed_and_no_trouble_before(
        self, page: Page, start: Start, shop: Shop, tmp_path: Path
    ) -> None:
        shop.put(20)
        shard = shop.kinesis.list_shards(StreamName=shop.stream)["Shards"][0]["ShardId"]
        oldest = shop.kinesis.get_shard_iterator(
            StreamName=shop.stream, ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )
        record = shop.kinesis.get_records(ShardIterator=oldest["ShardIterator"])["Records"][0]
        store = SqliteCheckpoints(tmp_path / "streamkit.sqlite")
        lease = store.take("orders", shop.stream, shard, "owner", None)
        assert lease is not None
        store.save(lease, int(record["SequenceNumber"]))
        opened(page, start(*shop.arguments(), "--name", "orders", "--sample", "0"))
        cells = page.get_by_label(f"Stream {shop.stream}").locator(f"tbody tr[title='{shard}'] td")

        # With its age its checkpoint is known, and so is its lease.
        expect(cells.nth(6)).to_have_text(re.compile(r" s$"), timeout=SLOW)
        expect(cells.nth(8)).to_have_text("–")
        store.renew(lease)

        expect(cells.nth(8)).to_have_text("held", timeout=SLOW)
        store.close()

    def test_what_a_queue_is_comes_out_with_the_redrive_policies(
        self, page: Page, start: Start, moto_endpoint: str
    ) -> None:
        # A region of its own: there are no other queues, and none has to be named.
        sqs = connect("sqs", moto_endpoint, "eu-south-2")
        urls = [sqs.create_queue(QueueName=name)["QueueUrl"] for name in ("orders-in", "orders-aside")]
        opened(page, start("--region", "eu-south-2", "--sample", "0"))
        queues = page.locator("#queues tbody tr")
        expect(queues.filter(has_text="orders-aside").locator("td").nth(2)).to_have_text("0", timeout=SLOW)
        assert page.get_by_role("button", name="Read the dead letters").count() == 0
        arn = sqs.get_queue_attributes(QueueUrl=urls[1], AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]

        policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
        sqs.set_queue_attributes(QueueUrl=urls[0], Attributes={"RedrivePolicy": policy})

        expect(queues.filter(has_text="orders-in")).to_contain_text("dead letters: orders-aside", timeout=SLOW)
        page.get_by_role("button", name="Read the dead letters of orders-aside").click(timeout=SLOW)
        expect(page.locator("#source option:checked")).to_have_text("orders-aside (0)")
        sqs.close()

    def test_parked_keys_are_there_with_their_ages(self, page: Page, start: Start, shop: Shop) -> None:
        shop.park("customer-7")
        opened(page, start(*shop.arguments(), "--name", "orders", "--ledger", shop.ledger, "--sample", "0"))

        expect(page.locator("#ledgers")).to_contain_text("orders: 1 key, 1 record", timeout=SLOW)
        expect(page.locator("#ledgers tbody td").nth(2)).to_have_text(re.compile(r"^[\d.]+ s$"))

    def test_a_console_that_ends_is_said_and_the_page_comes_back_with_it(
        self, page: Page, start: Start, shop: Shop
    ) -> None:
        console = start(*shop.arguments(), "--sample", "0")
        opened(page, console)

        console.process.kill()

        alert = page.get_by_role("alert")
        expect(alert).to_contain_text("is `streamkit console` still running?", timeout=SLOW)
        expect(page.locator("#live-text")).to_have_text("not live")
        other = start(*shop.arguments(), "--sample", "0", "--port", str(console.port))
        # Another start has another token.
        expect(alert).to_contain_text("open the URL that `streamkit console` has printed", timeout=SLOW)
        page.goto("about:blank")
        opened(page, other)
        expect(alert).to_be_hidden()

    def test_the_token_leaves_the_address_and_a_reload_keeps_the_page(self, page: Page, console: Console) -> None:
        opened(page, console)

        assert console.token not in page.url
        page.reload()
        expect(page.locator("#live-text")).to_contain_text("live, ", timeout=SLOW)

    def test_without_the_token_the_page_says_what_to_open(self, page: Page, console: Console) -> None:
        page.goto(console.url.partition("#")[0])

        expect(page.get_by_role("alert")).to_contain_text(
            "open the URL that `streamkit console` has printed", timeout=SLOW
        )

    def test_it_asks_nobody_but_its_own_server(self, page: Page, console: Console) -> None:
        asked: set[str] = set()
        page.on("request", lambda request: asked.add(request.url))

        looked(page, console)

        assert asked
        assert all(url.startswith(f"http://127.0.0.1:{console.port}/") for url in asked)
        assert not any(console.token in url for url in asked)


class TestTheKeyboard:
    def test_everything_can_be_reached_by_tab_and_is_seen_to_be(self, page: Page, console: Console) -> None:
        looked(page, console)
        # The first that Tab comes to on a new page.
        page.locator(".skip").focus()
        reached: list[str] = []
        for _ in range(40):
            page.keyboard.press("Tab")
            name = focused(page)
            if name in reached or page.evaluate("() => document.activeElement === document.body"):
                break
            reached.append(name)
            outline = page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle")
            assert outline != "none", name

        wanted = [
            "show-keys",
            "tab-letters",
            "source",
            "look",
            "filter-error",
            "filter-key",
            "filter-processor",
            "filter-since",
            "filter-until",
            "redrive",
        ]
        assert [name for name in reached if name in wanted] == wanted
        assert any("Reject" in name for name in reached)

    def test_the_tabs_follow_the_arrow_keys(self, page: Page, console: Console) -> None:
        opened(page, console)
        page.locator("#tab-overview").focus()

        page.keyboard.press("ArrowRight")

        assert focused(page) == "tab-letters"
        expect(page.locator("#letters")).to_be_visible()
        expect(page.locator("#overview")).to_be_hidden()
        page.keyboard.press("ArrowRight")
        assert focused(page) == "tab-overview"

    def test_arrows_move_in_the_list_enter_opens_and_escape_comes_back_to_the_same_row(
        self, page: Page, start: Start, shop: Shop
    ) -> None:
        shop.fail(*(json.dumps({"id": n}) for n in range(3)))
        looked(page, start(*shop.arguments(), "--sample", "0"))
        rows(page).first.focus()

        page.keyboard.press("ArrowDown")
        page.keyboard.press("End")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")

        dialog = page.get_by_role("dialog")
        expect(dialog).to_be_visible()
        expect(page.locator("#letter-payload")).to_contain_text('"id": ')
        page.get_by_role("radio", name="JSON").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#letter-payload")).to_have_text(re.compile(r'^\{"id": ?\d\}$'))
        page.keyboard.press("ArrowRight")
        expect(page.locator("#letter-payload")).to_contain_text("00000000  7b 22 69 64")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        assert (
            page.evaluate("() => [...document.querySelectorAll('#list tbody tr')].indexOf(document.activeElement)") == 1
        )
        # A payload is on the page only while its letter is open.
        assert page.locator("#letter-payload").text_content() == ""

    def test_up_and_down_come_to_the_list_from_wherever_the_focus_is(
        self, page: Page, start: Start, shop: Shop
    ) -> None:
        shop.fail("a", "b", "c")
        looked(page, start(*shop.arguments(), "--sample", "0"))
        assert focused(page) == "tab-letters"

        page.keyboard.press("ArrowDown")
        expect(rows(page).first).to_be_focused()
        page.keyboard.press("ArrowDown")
        expect(rows(page).nth(1)).to_be_focused()

        # To where one was in it; and no further.
        page.locator("#look").focus()
        page.keyboard.press("ArrowUp")
        expect(rows(page).nth(1)).to_be_focused()
        # In a field they are the field's.
        page.locator("#filter-error").focus()
        page.keyboard.press("ArrowDown")
        assert focused(page) == "filter-error"

    def test_a_question_mark_shows_the_keys_and_they_can_be_switched_off(self, page: Page, console: Console) -> None:
        opened(page, console)

        page.keyboard.press("?")

        expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
        page.locator("#keys-on").focus()
        page.keyboard.press("Space")
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        page.keyboard.press("2")
        expect(page.locator("#overview")).to_be_visible()

    def test_what_is_typed_into_a_field_is_no_key(self, page: Page, console: Console) -> None:
        looked(page, console)
        page.keyboard.press("/")
        assert focused(page) == "filter-error"

        page.keyboard.type("1?lra")

        expect(page.locator("#filter-error")).to_have_value("1?lra")
        expect(page.locator("#letters")).to_be_visible()
        expect(page.get_by_role("dialog")).to_have_count(0)

    def test_a_refresh_takes_neither_focus_nor_choice(self, page: Page, console: Console) -> None:
        looked(page, console)
        rows(page).first.focus()
        page.keyboard.press("Space")
        at = page.locator("#live-text").text_content() or ""

        expect(page.locator("#live-text")).not_to_have_text(at, timeout=SLOW)

        expect(rows(page).first).to_be_focused()
        expect(rows(page).first).to_have_attribute("aria-selected", "true")


class TestLetters:
    def test_hostile_letters_are_text_wherever_they_are_shown(self, page: Page, start: Start, shop: Shop) -> None:
        shop.fail(HOSTILE, key=HOSTILE[:200])
        shop.fail(json.dumps({"html": HOSTILE, "turned": "\u202egnp.exe"}))
        looked(page, start(*shop.arguments(), "--sample", "0"))

        for n in range(2):
            rows(page).nth(n).focus()
            page.keyboard.press("Enter")
            expect(page.locator("#letter-payload")).to_contain_text("<script>window.harmed=1</script>")
            for name in ("Text", "Hex"):
                page.get_by_role("radio", name=name).check()
            page.keyboard.press("Escape")
            # Until then the list behind it takes no key.
            expect(page.locator("#letter")).to_be_hidden()
        page.keyboard.press("r")
        page.locator("#going-form [type=submit]").click()
        expect(page.locator("#going-question")).to_be_visible(timeout=SLOW)
        page.keyboard.press("Escape")

        assert "<script>" in (page.locator("#list").text_content() or "")
        assert page.evaluate("() => window.harmed") is None
        assert page.locator("#list img, #list script, dialog img, dialog script").count() == 0
        # What would turn the reading direction round is spelled out.
        assert "\u202e" not in page.content()

    def test_the_policy_stops_a_script_that_came_in_all_the_same(self, browser: Browser, console: Console) -> None:
        context = browser.new_context()
        page = context.new_page()
        page.goto(console.url)

        # `page.evaluate` is not held by the policy; what it puts into the page is.
        outcome = page.evaluate(
            """() => {
                const script = document.createElement("script");
                try {
                    script.textContent = "window.harmed = 1";
                    document.body.append(script);
                } catch (error) {
                    return error.name;
                }
                return "taken";
            }"""
        )

        assert outcome == "TypeError"
        assert page.evaluate("() => window.harmed") is None
        context.close()

    def test_before_a_look_there_is_no_page_to_turn_to(self, page: Page, console: Console) -> None:
        opened(page, console)
        page.keyboard.press("2")

        # What fails in the page's script fails the test.
        page.keyboard.press("[")
        page.keyboard.press("]")

        expect(page.locator("#before")).to_be_disabled()
        expect(page.locator("#after")).to_be_disabled()
        expect(page.locator("#letters")).to_be_visible()

    def test_pages_and_filters(self, page: Page, start: Start, shop: Shop) -> None:
        shop.fail(*map(str, range(60)))
        shop.fail("other", key="customer-2")
        looked(page, start(*shop.arguments(), "--sample", "0"))
        expect(page.locator("#page")).to_have_text("page 1 of 2")
        expect(rows(page)).to_have_count(50)

        page.keyboard.press("]")
        expect(rows(page)).to_have_count(11, timeout=SLOW)
        page.locator("#filter-key").fill("customer-2")
        page.keyboard.press("Enter")

        expect(rows(page)).to_have_count(1, timeout=SLOW)
        expect(page.locator("#counts")).to_have_text("1 letter of 61")
        page.locator("#filter-since").fill("yesterday")
        page.keyboard.press("Enter")
        expect(page.get_by_role("status").first).to_contain_text("'yesterday' is no time", timeout=SLOW)


class TestTheWayBack:
    def test_by_keys_alone_chosen_letters_go_back_when_that_is_confirmed(
        self, page: Page, start: Start, shop: Shop
    ) -> None:
        shop.fail("a", "b", "c")
        looked(page, start(*shop.arguments(), "--sample", "0"))
        rows(page).first.focus()
        page.keyboard.press("Space")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Space")
        page.keyboard.press("r")
        expect(page.locator("#going-what")).to_have_text("The 2 letters that you have chosen.")
        assert focused(page) == "going-target"

        page.locator("#going-rate").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#going-question")).to_contain_text("2 letters of 1 key:", timeout=SLOW)
        # What is pressed by mistake puts nothing back.
        assert focused(page) == "going-no"
        assert shop.depth(shop.retries_url) == 0
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")

        expect(page.locator("#going-state")).to_contain_text(f"Put back 2 letters to {shop.retries}.", timeout=SLOW)
        expect(page.locator("#going-outcomes tbody tr", has_text="put back")).to_have_count(2)
        page.keyboard.press("Escape")
        expect(page.get_by_role("dialog")).to_have_count(0)
        assert (shop.depth(shop.dead_url), shop.depth(shop.retries_url)) == (1, 2)

    def test_escape_at_the_question_leaves_everything_where_it_is(self, page: Page, start: Start, shop: Shop) -> None:
        shop.fail("a", "b")
        looked(page, start(*shop.arguments(), "--sample", "0"))
        page.keyboard.press("r")
        page.locator("#going-form [type=submit]").press("Enter")
        expect(page.locator("#going-question")).to_be_visible(timeout=SLOW)

        page.keyboard.press("Escape")

        expect(page.locator("#said")).to_have_text("Nothing was put back.", timeout=SLOW)
        assert (shop.depth(shop.dead_url), shop.depth(shop.retries_url)) == (2, 0)

    def test_a_refusal_is_shown_with_its_reason(self, page: Page, start: Start, shop: Shop) -> None:
        shop.fail("x" * 30_000)
        small = f"{shop.retries}-small"
        shop.sqs.create_queue(QueueName=small, Attributes={"MaximumMessageSize": "20000"})
        looked(page, start(*shop.arguments(), "--retry-queue", small, "--sample", "0"))
        page.keyboard.press("r")
        page.locator("#going-target").select_option(label=f"queue {small}")
        page.locator("#going-form [type=submit]").press("Enter")
        expect(page.locator("#going-yes")).to_be_visible(timeout=SLOW)

        page.locator("#going-yes").press("Enter")

        expect(page.locator("#going-outcomes tbody td.bad")).to_contain_text("were refused: ", timeout=120_000)
        assert shop.depth(shop.dead_url) == 1

    def test_a_page_that_is_loaded_anew_finds_the_question_again(self, page: Page, start: Start, shop: Shop) -> None:
        shop.fail("a")
        looked(page, start(*shop.arguments(), "--sample", "0"))
        page.keyboard.press("r")
        page.locator("#going-form [type=submit]").press("Enter")
        expect(page.locator("#going-question")).to_be_visible(timeout=SLOW)

        page.reload()

        expect(page.locator("#going-question")).to_contain_text("1 letter of 1 key:", timeout=SLOW)
        page.locator("#going-yes").press("Enter")
        expect(page.locator("#going-state")).to_contain_text("Put back 1 letter", timeout=SLOW)


class TestHowItLooks:
    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_its_words_stand_out_from_the_paper_in_either_scheme(
        self, browser: Browser, console: Console, scheme: Any
    ) -> None:
        context = browser.new_context(color_scheme=scheme)
        page = opened(context.new_page(), console)

        contrasts = page.evaluate(CONTRASTS)

        context.close()
        assert contrasts
        # WCAG 2.2, 1.4.3: 4.5 to 1.
        assert {name: ratio for name, ratio in contrasts.items() if ratio < 4.5} == {}

    def test_nothing_moves_for_those_who_ask_for_that(self, browser: Browser, console: Console) -> None:
        found = {}
        for motion in ("reduce", "no-preference"):
            context = browser.new_context(reduced_motion=motion)
            page = opened(context.new_page(), console)
            page.evaluate("() => document.getElementById('live').classList.add('beat')")
            found[motion] = page.evaluate("() => getComputedStyle(document.querySelector('.dot')).animationName")
            context.close()

        assert found == {"reduce": "none", "no-preference": "beat"}

    def test_a_narrow_window_cuts_nothing_off(self, browser: Browser, console: Console) -> None:
        context = browser.new_context(viewport={"width": 420, "height": 800})
        page = looked(context.new_page(), console)

        overhang = page.evaluate(
            "() => document.querySelector('header').scrollWidth - document.documentElement.clientWidth"
        )

        context.close()
        assert overhang <= 0


#: The contrast of every text that is seen with what is behind it.
CONTRASTS = """() => {
    const parse = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
    const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
    const paper = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const colour = parse(getComputedStyle(one).backgroundColor);
            if (colour.length === 3 || colour[3] === 1) return colour;
        }
        throw new Error("nothing is behind it");
    };
    const isLeftOut = (element) => element.closest(".skip, noscript, :disabled") || !element.checkVisibility();
    const found = {};
    for (const element of document.querySelectorAll("body *")) {
        const words = [...element.childNodes].filter((one) => one.nodeType === 3).map((one) => one.textContent.trim()).join("");
        if (!words || isLeftOut(element)) continue;
        const [a, b] = [light(parse(getComputedStyle(element).color)), light(paper(element))];
        found[`${element.tagName} ${words.slice(0, 20)}`] = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    }
    return found;
}"""
