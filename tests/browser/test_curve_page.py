"""The curve explorer's saved page: it says what Python says, follows sliders and mouse, and knows a dark page."""

import re

import numpy as np
import pytest

from ipr_lib.views import CurveExplorer

STATE = {"cells": 24, "position": 15.3, "sharpness": 6.0, "second": 0.6, "noise": 0.4}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    path = tmp_path_factory.mktemp("curve") / "curve.html"
    return CurveExplorer(**STATE).to_html(path, "A heat map on a line").as_uri()


def settle(page):
    """Wait for two screen refreshes, so that what was changed is drawn."""
    page.evaluate(
        "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )


def said(page):
    """What the page says: {name: cells}."""
    settle(page)
    return {
        name: float(value)
        for name, value in re.findall(r"([a-z ±¼]+?) ([\d.]+)", page.inner_text(".read"))
    }


def expected(**changes):
    explorer = CurveExplorer(**STATE | changes)
    names = {"argmax": "argmax", "quarter_shift": "argmax ± ¼", "expectation": "expectation"}
    read = {names[name]: value for name, value in explorer.read().items()}
    return pytest.approx({"true place": explorer.position} | read, abs=0.0051)


def move(page, trait, value):
    page.locator(f"input[data-trait={trait}]").fill(str(value))


def test_says_what_python_says_and_follows_the_sliders(open_page, address, shoot):
    page = open_page(address)
    assert said(page) == expected()
    changes = {}
    for trait, value in (("sharpness", 2.5), ("second", 1.2), ("position", 4.05), ("noise", 0)):
        move(page, trait, value)
        changes[trait] = value
        assert said(page) == expected(**changes), trait
    assert page.get_by_text("other noise").is_disabled()
    page.get_by_text("reset").click()
    assert said(page) == expected()
    shoot(page, "curve_light")


def test_the_peak_follows_the_mouse(open_page, address):
    page = open_page(address)
    before = said(page)
    box = page.locator(".ipr-curve canvas").bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 60, steps=4)
    page.mouse.up()
    after = said(page)
    assert after["true place"] == pytest.approx(11.5, abs=1.0) != before["true place"]
    page.mouse.move(box["x"] + 0.9 * box["width"], box["y"] + 60)  # let go: it stays
    assert said(page) == after


@pytest.mark.parametrize(("scheme", "width"), [("light", 1100), ("dark", 1100), ("dark", 420)])
def test_colours_suit_the_page_and_nothing_is_cut_off(open_page, address, shoot, scheme, width):
    page = open_page(address, color_scheme=scheme, viewport={"width": width, "height": 760})
    settle(page)
    text = page.evaluate("getComputedStyle(document.querySelector('.ipr-curve')).color")
    brightness = np.mean([int(number) for number in re.findall(r"\d+", text)])
    assert brightness > 180 if scheme == "dark" else brightness < 80
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    boxes = page.evaluate(
        "[...document.querySelectorAll('.read span, label')].map((e) => [e.scrollWidth, e.clientWidth])"
    )
    assert all(content <= room for content, room in boxes if room)
    shoot(page, f"curve_{scheme}_{width}")
