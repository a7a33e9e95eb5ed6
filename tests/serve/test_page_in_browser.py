"""The page to type into, in a real browser: it translates what one types, shows text as text, and loads nothing."""

import json
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

pytest.importorskip("uvicorn", reason="needs ray[serve]")

from hat_ray.export.export import open_export
from tests.exported import Exported
from tests.report.browsing import NASTY, start_browser, until
from tests.serve.local import Local, served


@pytest.fixture(scope="module")
def local(exported: Exported) -> Iterator[Local]:
    with served(exported.folder, max_beam=4) as one:
        yield one


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    started = start_browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.quit()


def opened(browser: webdriver.Chrome, url: str) -> None:
    """Open a page, and forget what the browser logged before."""
    for log in ("browser", "performance"):
        browser.get_log(log)
    browser.get(url)


def typed(browser: webdriver.Chrome, text: str) -> None:
    field = browser.find_element(By.ID, "text")
    field.clear()
    field.send_keys(text)


def shown(browser: webdriver.Chrome, element: str) -> str:
    """Wait for the text of an element, and return it."""
    return str(until(browser, f"return document.getElementById('{element}').textContent"))


def asked_for(browser: webdriver.Chrome) -> set[str]:
    """Return the addresses that the browser asked for since the page was opened, without those within itself."""
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
    return {url for url in urls if not url.startswith(("data:", "chrome:"))}


def test_it_translates_what_one_types(browser: webdriver.Chrome, local: Local, exported: Exported) -> None:
    lines = list(exported.lines[:2])
    best = open_export(exported.folder).translate(lines)
    opened(browser, local.url)
    assert browser.title == "Translate English to German · hat-ray"
    typed(browser, lines[0])
    browser.find_element(By.TAG_NAME, "button").click()
    assert shown(browser, "translation") == best[0]
    typed(browser, f"{lines[0]}\n\n{lines[1]}")
    browser.find_element(By.ID, "text").send_keys(Keys.CONTROL, Keys.ENTER)
    both = f"{best[0]}\n\n{best[1]}"
    until(browser, f"return document.getElementById('translation').textContent === {json.dumps(both)}")
    assert not browser.find_element(By.ID, "more").is_displayed()
    assert browser.get_log("browser") == []
    assert asked_for(browser) == {local.url, f"{local.url}translate"}


def test_it_shows_alternatives(browser: webdriver.Chrome, local: Local, exported: Exported) -> None:
    line = exported.lines[0]
    answer = local.ask({"q": line, "source": "en", "target": "de", "alternatives": 3}, "/translate").json
    assert answer["alternatives"]
    opened(browser, local.url)
    typed(browser, line)
    Select(browser.find_element(By.ID, "alternatives")).select_by_visible_text("3")
    browser.find_element(By.TAG_NAME, "button").click()
    until(browser, "return !document.getElementById('more').hidden")
    items = [item.text for item in browser.find_elements(By.CSS_SELECTOR, "#others li")]
    assert items == answer["alternatives"]
    assert shown(browser, "translation") == answer["translatedText"]


def test_a_refusal_is_shown_with_the_requests_id(browser: webdriver.Chrome, local: Local) -> None:
    opened(browser, local.url)
    Select(browser.find_element(By.ID, "alternatives")).select_by_visible_text("3")  # asks for lines as they are
    typed(browser, "the dog " * 100)
    browser.find_element(By.TAG_NAME, "button").click()
    problem = shown(browser, "problem")
    assert problem.startswith("q may have at most 60 tokens, got ")
    assert int(problem.partition("(request ")[2].rstrip(")"), 16)
    typed(browser, "a dog")
    browser.find_element(By.TAG_NAME, "button").click()
    assert shown(browser, "translation")
    assert browser.find_element(By.ID, "problem").text == ""


def test_hostile_text_stays_text(browser: webdriver.Chrome, exported: Exported) -> None:
    """In languages and translations: nothing of it becomes a part of the page."""
    with served(exported.folder) as local:
        local.worker._reader = replace(local.worker._reader, languages=(NASTY, NASTY))
        opened(browser, local.url)
        assert f"into {NASTY}" in browser.find_element(By.ID, "translated").get_attribute("textContent")
        assert browser.execute_script("return document.getElementById('form').dataset.source") == NASTY
        answer = json.dumps({"translatedText": NASTY, "alternatives": [NASTY]})
        browser.execute_script(f"const answer = {json.dumps(answer)}; window.fetch = async () => new Response(answer);")
        typed(browser, "a dog")
        browser.find_element(By.TAG_NAME, "button").click()
        assert shown(browser, "translation") == NASTY
        assert browser.execute_script("return document.querySelector('#others li').textContent") == NASTY
        assert browser.execute_script("return window.hacked") is None
        assert browser.execute_script("return document.images.length") == 0


def test_the_policy_forbids_scripts_and_other_addresses(browser: webdriver.Chrome, local: Local) -> None:
    for path in ("/", "/docs"):
        headers = local.ask(path=path).headers
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
    opened(browser, local.url)
    browser.execute_script(
        "const script = document.createElement('script'); script.textContent = 'window.hacked = 1';"
        "document.body.append(script);"
        "fetch('http://127.0.0.1:1/').catch(error => { window.refused = error.message; });"
    )
    assert until(browser, "return window.refused")
    assert browser.execute_script("return window.hacked") is None
    assert sum("Content Security Policy" in entry["message"] for entry in browser.get_log("browser")) >= 2
    assert {urlsplit(url).port for url in asked_for(browser)} == {local.port}


@pytest.mark.parametrize("width", [320, 1400])
def test_it_fits_and_says_what_it_is(browser: webdriver.Chrome, local: Local, width: int) -> None:
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    for path in ("", "docs"):
        opened(browser, local.url + path)
        assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth"), path
        assert browser.execute_script("return document.documentElement.lang") == "en"
        unnamed = "return [...document.querySelectorAll('textarea, select')].filter(one => !one.labels.length).length"
        assert browser.execute_script(unnamed) == 0
        assert browser.get_log("browser") == []


def test_it_works_below_a_route_and_links_lead(browser: webdriver.Chrome, exported: Exported) -> None:
    with served(exported.folder, route="/mt") as local:
        opened(browser, local.url)
        assert browser.current_url == f"{local.url}/"
        typed(browser, "a dog")
        browser.find_element(By.TAG_NAME, "button").click()
        assert shown(browser, "translation")
        browser.find_element(By.LINK_TEXT, "interface").click()
        assert browser.current_url == f"{local.url}/docs"
        paths = [heading.text for heading in browser.find_elements(By.CSS_SELECTOR, "h2 code")]
        assert {"POST /", "POST /translate", "GET /health"} <= set(paths)
        browser.find_element(By.LINK_TEXT, "openapi.json").click()
        assert json.loads(browser.find_element(By.TAG_NAME, "pre").text)["openapi"] == "3.1.0"
        browser.back()
        browser.find_element(By.LINK_TEXT, "Translate").click()
        assert browser.current_url == f"{local.url}/"


def test_a_model_without_languages_has_a_page_that_says_how_to_ask(exported: Exported) -> None:
    with served(exported.folder) as local:
        local.worker._reader = replace(local.worker._reader, languages=None)
        answer = local.ask(path="/")
    assert answer.status == 200
    assert b"The model does not name its languages." in answer.content
    assert b"<form" not in answer.content
