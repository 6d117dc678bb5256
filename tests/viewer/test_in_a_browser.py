"""The page in a real browser, before a real hub: what a person sees of EEG, Recorder and hub.

Skipped, in words, where no Chromium or no Playwright is installed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest
from viewer_rig import Look, Rig, chromium, until

from rdahub import rda

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytest.importorskip("uvicorn", reason="the viewer's extra is not installed (pip install 'rdahub[view]')")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture
def rig() -> Iterator[Rig]:
    rig = Rig()
    try:
        yield rig
        rig.close()
    finally:
        rig.stack.close()


@pytest.fixture
def look(rig: Rig, browser: Browser) -> Iterator[Look]:
    """The page of the rig, with a segment begun and a second drawn."""
    context = browser.new_context(viewport={"width": 1000, "height": 800})
    try:
        look = Look(context.new_page())
        rig.start()
        rig.send(25)
        look.open(rig.url)
        look.drawn_to(500)
        yield look
        assert [error for error in look.errors if "WebSocket" not in error] == []
    finally:
        context.close()


def test_traces_move_and_a_spike_of_one_sample_is_drawn_where_it_is(rig: Rig, look: Look) -> None:
    look.is_state("streaming")
    assert look.names() == ["Fp1", "Cz", "Oz", "EOG"]
    for trace in range(4):
        assert sum(look.ink(trace)) > 50, f"trace {trace} is not drawn"
    before = look.ink(0)
    rig.send(50, spike=900)
    look.drawn_to(1500)
    assert look.ink(0) != before
    tallest = int(np.argmax(look.ink(1)))
    assert abs(tallest - look.pixel(900)) <= 1
    rig.send(50)
    look.drawn_to(2500)
    moved = int(np.argmax(look.ink(1)))
    assert moved < tallest
    assert abs(moved - look.pixel(900)) <= 1  # it moved by exactly what came


def test_a_marker_appears_on_its_sample(rig: Rig, look: Look) -> None:
    elsewhere = look.colour(733)
    rig.send(20, rda.BlockMarker(233, 1, -1, "Stimulus", "<b>S  7</b>"))  # it may lie after its block
    look.drawn_to(900)
    events = until(look.events, lambda found: any(kind == "marker" for kind, *_ in found))
    assert [(kind, index) for kind, index, _ in events] == [("marker", 733), ("start", 0)]
    assert "<b>S  7</b>" in events[0][2]  # as text: what a Recorder sends is no part of the page
    drawn = until(lambda: look.colour(733, 0.47), lambda found: found[:3] == [163, 73, 11])
    assert drawn != elsewhere


def test_a_gap_is_drawn_as_a_gap(rig: Rig, look: Look) -> None:
    rig.skip(20)
    rig.send(25)
    look.drawn_to(1400)
    events = until(look.events, lambda found: any(kind == "gap" for kind, *_ in found))
    assert events[0][:2] == ("gap", 500)
    assert "400 samples" in events[0][2]
    ink = np.array(look.ink(0))
    first, last = look.pixel(500), look.pixel(900)
    assert last - first > 20
    assert not ink[first + 2 : last - 2].any(), "a line is drawn through the gap"
    assert (ink[first - 20 : first - 2] > 0).all()
    assert (ink[last + 2 : last + 20] > 0).all()
    assert look.colour(700, 0.3) != look.colour(-300, 0.3), "the gap is not shaded"


def test_a_segments_end_is_told_and_the_next_one_goes_on_beside_it(rig: Rig, look: Look) -> None:
    rig.recorder.stop()
    look.is_state("idle")
    rig.start()
    rig.send(25)
    look.drawn_to(1000)
    look.is_state("streaming")
    events = until(look.events, lambda found: len(found) == 3)
    assert [(kind, index) for kind, index, _ in events] == [("start", 500), ("end", 500), ("start", 0)]
    assert "ends: stop" in events[1][2]
    assert look.page.get_by_text("segment ends: stop").is_visible()


def test_the_hub_dies_and_returns_and_the_page_goes_on_by_itself(rig: Rig, look: Look) -> None:
    first = look.page.get_attribute("body", "data-instance")
    look.page.select_option("[name=gain]", "100")
    rig.kill_hub()
    look.is_state("unreachable")
    rig.revive_hub()
    rig.start()
    rig.send(30)
    look.drawn_to(600)
    look.is_state("streaming")
    assert look.page.get_attribute("body", "data-instance") != first
    assert [event[:2] for event in look.events()] == [("start", 0)]
    assert sum(look.ink(2)) > 50
    assert look.page.input_value("[name=gain]") == "100"


def test_another_workspace_is_shown_and_the_choice_is_kept_by_name(rig: Rig, look: Look) -> None:
    page = look.page
    page.click("#choice summary")
    page.uncheck("[value=Fp1]")
    page.uncheck("[value=EOG]")
    until(look.names, lambda found: found == ["Cz", "Oz"])
    rig.start(("F3", "Oz", "F4"), rate=1000.0)
    rig.send(25)
    until(look.names, lambda found: found == ["Oz"])
    look.drawn_to(1000)
    rig.start(("A", "B"))
    rig.send(25)
    until(look.names, lambda found: found == ["A", "B"])  # none of the chosen is there: all
    rig.start()
    rig.send(25)
    until(look.names, lambda found: found == ["Cz", "Oz"])
    page.reload()
    until(look.names, lambda found: found == ["Cz", "Oz"])


def test_controls_change_what_is_drawn(rig: Rig, look: Look) -> None:
    page = look.page
    page.select_option("[name=montage]", "bipolar")
    until(look.names, lambda found: found == ["Cz-Oz"])
    page.select_option("[name=montage]", "recorded")
    until(look.names, lambda found: len(found) == 4)
    look.drawn_to(500)
    tall = sum(look.ink(0))
    page.select_option("[name=gain]", "1000")
    until(lambda: sum(look.ink(0)), lambda ink: ink < tall / 1.2)
    page.select_option("[name=gain]", "50")
    until(lambda: sum(look.ink(0)), lambda ink: ink == tall)
    page.select_option("[name=high_pass]", "5")
    until(lambda: sum(look.ink(0)), lambda ink: ink < tall)  # 3 Hz is mostly taken away
    page.select_option("[name=seconds]", "2")
    until(lambda: page.evaluate("rdahub.traces.right() - rdahub.traces.left()"), lambda n: n <= 1000)


def test_the_keyboard_is_enough(rig: Rig, look: Look) -> None:
    page = look.page
    page.focus("#traces")
    page.keyboard.press("+")
    assert page.input_value("[name=gain]") == "20"
    page.keyboard.press("Space")
    assert page.get_attribute("#pause", "aria-pressed") == "true"
    page.keyboard.press("Space")
    page.focus("[name=gain]")
    order = []
    for _ in range(6):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.name || document.activeElement.id"))
    assert order == ["seconds", "high_pass", "low_pass", "notch", "montage", "pause"]


def test_it_fits_a_phone_in_dark_and_light(rig: Rig, look: Look) -> None:
    page = look.page
    page.set_viewport_size({"width": 390, "height": 800})
    backs = []
    for scheme in ("dark", "light"):
        page.emulate_media(color_scheme=scheme)
        backs.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        until(lambda: page.evaluate("rdahub.traces.sheet.width"), lambda width: 200 < width < 390)
        rig.send(5)
        look.drawn_to(rig.recorder.index)
        assert sum(look.ink(0)) > 50
    assert backs[0] != backs[1]


def test_quality_spectrum_and_impedances_are_shown(rig: Rig, look: Look) -> None:
    page = look.page
    until(lambda: page.locator("#quality button").count(), lambda n: n == 4)
    until(
        lambda: page.get_attribute("#quality button[data-name=Cz]", "data-word") or "",
        lambda word: word == "good",
    )
    rig.recorder.send(
        rda.Impedances(
            tuple(rda.Electrode(name, 0, 0, kohm) for name, kohm in (("Cz", 5), ("Oz", -1), ("GND", 40)))
        )
    )
    until(lambda: page.locator("#head [data-electrode]").count(), lambda n: n == 3)
    assert page.locator("#head [data-electrode=Oz]").text_content() == "Oz: not connectedOz\u00d7"
    assert "bad" in (page.locator("#head [data-electrode=GND] title").text_content() or "")
    rig.send(50)  # a window of the spectrum is 2 s
    page.click("#quality button[data-name=Oz]")
    assert page.input_value("#spectrum-channel") == "Oz"
    until(lambda: page.locator("#spectrum canvas").count(), lambda n: n == 1)


def test_the_health_strip_names_losses_and_their_cause(rig: Rig, look: Look) -> None:
    page = look.page
    assert page.locator("#losses [data-counter=gaps]").count() == 0
    rig.skip(3)
    rig.send(5)
    until(lambda: page.locator("#losses [data-counter=missing_samples]").count(), lambda n: n == 1)
    assert page.locator("#losses [data-counter=gaps]").text_content() == "1 gaps: the Recorder dropped blocks"
    assert rig.recorder.address in (page.locator("#health").text_content() or "")
    assert page.locator("[data-of=clients]").text_content() == "1"
    delay = page.locator('[data-of="hub\'s delay"]')
    until(lambda: delay.text_content() or "", lambda text: re.fullmatch(r"[\d.]+ ms", text) is not None)
    behind = page.locator('[data-of="furthest behind"]')
    until(
        lambda: behind.text_content() or "",
        lambda text: re.fullmatch(r"\d+ samples \(.+\)", text) is not None,
    )
    assert page.locator("#readers li[data-behind]").count() == 1  # the viewer itself
    rig.start()
    until(lambda: page.locator("#losses [data-end=restart]").count(), lambda n: n == 1)


def test_the_viewer_itself_may_be_started_anew(rig: Rig, look: Look) -> None:
    assert rig.viewer.stop() == 0
    look.is_state("viewer")
    rig.send(25)
    rig.viewer = rig.view("--listen", rig.url.removeprefix("http://").strip("/"))
    look.is_state("streaming")
    rig.send(5)
    look.drawn_to(1100)


def test_a_page_opened_before_the_recorder_starts_says_so_and_then_begins(rig: Rig, browser: Browser) -> None:
    page = browser.new_page()
    try:
        look = Look(page)
        look.open(rig.url)
        look.is_state("idle")
        rig.start()
        rig.send(10)
        look.drawn_to(200)
        assert look.errors == []
    finally:
        page.close()
