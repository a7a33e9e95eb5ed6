"""The page that compares runs, in a real browser."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import NASTY, assert_links_lead, assert_quiet, hover_text, show
from selenium import webdriver

from hat_ray.report.comparison.page import comparison_page
from hat_ray.report.comparison.runs import ComparedRun
from hat_ray.report.data import ReportData

Make = Callable[..., ReportData]
UNREACHABLE = (
    "return [...document.querySelectorAll('a, summary, .scroll')].filter(e => e.tabIndex < 0).map(e => e.outerHTML)"
)
"""What keys do not reach."""
UNNAMED = "return [...document.querySelectorAll('.scroll, .plot, nav')].filter(e => !e.ariaLabel).length"
"""Regions without a name for those who do not see them."""


def pair(small_report: Make, names: tuple[str, str] = ("monday", "tuesday")) -> list[ComparedRun]:
    first = small_report()
    candidates = tuple(replace(c, loss_bits=c.loss_bits + 0.02 * (i % 3 - 1)) for i, c in enumerate(first.candidates))
    other = replace(first.provenance, recipe_yaml="seed: 2\nsearch: {limits_ms: [40, 80]}\n", seed=2)
    second = replace(first, candidates=candidates, provenance=other)
    return [ComparedRun("AB"[i], names[i], f"/runs/{names[i]}", data) for i, data in enumerate((first, second))]


@pytest.fixture(scope="module")
def written(small_report: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compared") / "comparison.html"
    path.write_text(comparison_page(pair(small_report)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (400, "dark")])
def test_comparison_is_whole_quiet_and_fits(browser: webdriver.Chrome, written: Path, width: int, scheme: str) -> None:
    show(browser, written, width=width, scheme=scheme)
    assert_quiet(browser, written)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return document.querySelectorAll('.plot').length") == 4
    assert_links_lead(browser, 8)  # two figures for each of two devices, the runs, the winners by device, the settings
    assert browser.execute_script(UNREACHABLE) == []
    assert browser.execute_script(UNNAMED) == 0


def test_hover_tells_run_and_architecture(browser: webdriver.Chrome, written: Path, small_report: Make) -> None:
    run = pair(small_report)[0]
    first = run.data.frontier(run.data.devices[0].slug)[0]
    show(browser, written)
    text = hover_text(browser, "overlay-0")
    assert "A · monday" in text
    assert first.architecture.id in text


def test_hostile_names_stay_text(browser: webdriver.Chrome, small_report: Make, tmp_path: Path) -> None:
    first, second = pair(small_report, (NASTY, "plain"))
    devices = tuple(replace(d, title=NASTY) for d in second.data.devices)
    source = replace(second.data.provenance, recipe_yaml=f"name: {NASTY!r}\n", commit=NASTY, versions={NASTY: NASTY})
    corpus = replace(second.data.corpus, source_language=NASTY, fingerprint=NASTY, test_set=NASTY)
    second = replace(
        second,
        place=NASTY,
        data=replace(second.data, name=NASTY, devices=devices, provenance=source, corpus=corpus, bleu_signature=NASTY),
    )
    path = tmp_path / "comparison.html"
    path.write_text(comparison_page([second, first]), encoding="utf-8")
    show(browser, path)
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert browser.execute_script("return document.querySelectorAll('script').length") == 3
    assert NASTY in browser.execute_script("return document.querySelector('#runs').textContent")
    assert NASTY in browser.execute_script("return document.querySelector('#settings').textContent")
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
