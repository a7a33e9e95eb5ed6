"""A real headless browser for pages: started once, and shown a file until its figures are drawn."""

import json
import os
import shutil
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from tests.waiting import PATIENCE_S, wait_for

NASTY = "<img src=x onerror=window.hacked=1></script><script>window.hacked=1</script>\"'&amp;\u2028"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def start_browser(profile: Path) -> webdriver.Chrome:
    """Start Chromium with a fresh profile; without it the test is skipped, or fails where HAT_RAY_BROWSER is set."""
    chromium, driver = shutil.which("chromium") or shutil.which("chromium-browser"), shutil.which("chromedriver")
    if not chromium or not driver:
        end = pytest.fail if "HAT_RAY_BROWSER" in os.environ else pytest.skip
        end("needs Chromium and its driver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    started.set_page_load_timeout(PATIENCE_S)
    return started


def show(browser: webdriver.Chrome, path: Path, *, width: int = 1400, scheme: str = "light") -> None:
    """Open a page and wait until all its figures are drawn."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    for log in ("browser", "performance"):
        browser.get_log(log)  # forget what came before
    browser.get(path.as_uri())
    figures = "return [...document.querySelectorAll('.plot')].every(plot => plot.querySelector('.xaxislayer-above'))"
    wait_for(lambda: browser.execute_script(figures), lambda: f"figures were not drawn: {browser.get_log('browser')}")


def until(browser: webdriver.Chrome, script: str, seconds: float = PATIENCE_S) -> object:
    """Wait until a script returns something that counts as true, and return that."""
    return WebDriverWait(browser, seconds, poll_frequency=0.02).until(lambda _: browser.execute_script(script))


def hover_text(browser: webdriver.Chrome, plot: str) -> str:
    """Point at the first point of a figure and return what it shows."""
    browser.execute_script(
        f"const plot = document.getElementById('{plot}');"
        "plot.scrollIntoView(); Plotly.Fx.hover(plot, [{curveNumber: 0, pointNumber: 0}]);"
    )
    return str(until(browser, f"return document.querySelector('#{plot} .hoverlayer').textContent"))


def assert_quiet(browser: webdriver.Chrome, path: Path) -> None:
    """No console message, and nothing asked of any network."""
    assert browser.get_log("browser") == []
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"}
    assert {url for url in asked if not url.startswith(("data:", "blob:"))} == {path.as_uri()}


def assert_links_lead(browser: webdriver.Chrome, data_links: int) -> None:
    """Links inside the page have targets, and data links hold rows."""
    dead = "return [...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.querySelector(a.hash)).length"
    assert browser.execute_script(dead) == 0
    links = browser.execute_script(
        "return [...document.querySelectorAll('a[download]')].map(a => atob(a.href.split(',')[1]))"
    )
    assert len(links) == data_links
    assert all(len(link.splitlines()) > 1 for link in links)
