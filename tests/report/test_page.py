"""The page in a real browser: what readers see, without a network and with hostile names."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from browsing import NASTY, assert_links_lead, assert_quiet, hover_text, show, until
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from hat_ray.report.data import ReportData, Translation
from hat_ray.report.render import page, write_report
from hat_ray.search.limits import Limit
from hat_ray.storage.folder import Folder

Make = Callable[..., ReportData]


@pytest.fixture(scope="module")
def written(report: ReportData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    write_report(report, Folder.at(folder))
    return folder / "report.html"


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_is_whole_quiet_and_fits(browser: webdriver.Chrome, written: Path, width: int, scheme: str) -> None:
    show(browser, written, width=width, scheme=scheme)
    assert_quiet(browser, written)
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")
    assert browser.execute_script("return document.querySelectorAll('.plot').length") == 31
    assert browser.execute_script("return document.querySelectorAll('.plot .main-svg').length") >= 31
    empty = "return [...document.querySelectorAll('.plot')].filter(p => !p.querySelector('.scatterlayer path')).length"
    assert browser.execute_script(empty) == 0


def test_figures_take_the_readers_colours_also_when_they_change(browser: webdriver.Chrome, written: Path) -> None:
    colour = "return getComputedStyle(document.querySelector('#frontier-0 .ytick text')).fill"
    show(browser, written, scheme="light")
    assert browser.execute_script(colour) == "rgb(92, 102, 112)"
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    assert until(browser, f"{colour} === 'rgb(160, 169, 178)'")


def test_hover_tells_the_architecture(browser: webdriver.Chrome, written: Path, report: ReportData) -> None:
    show(browser, written)
    text = hover_text(browser, "frontier-0")
    slug = report.devices[0].slug
    first = next(c for c in report.candidates if c not in report.frontier(slug))
    assert first.architecture.id in text
    assert f"loss {first.loss_bits:.3f}" in text
    assert f"enc {first.architecture.encoder.embed_dim}x{first.architecture.encoder.depth}" in text


def test_every_link_inside_the_page_leads_somewhere_and_data_links_hold_data(
    browser: webdriver.Chrome, written: Path
) -> None:
    show(browser, written)
    assert_links_lead(browser, 33)  # 31 figures, the runtimes and the ledger


def hostile(small_report: Make) -> ReportData:
    data = small_report(name=NASTY)
    chosen = tuple(replace(m, samples=(Translation(NASTY, NASTY, NASTY),)) for m in data.chosen)
    devices = tuple(replace(d, title=NASTY, facts={NASTY: NASTY}) for d in data.devices)
    curves = tuple(replace(curve, name=NASTY) for curve in data.supernet)
    source = replace(data.provenance, recipe_yaml=NASTY, commit=NASTY, versions={NASTY: NASTY})
    limit = Limit.of(NASTY, latency_ms=1.0)
    corpus = replace(data.corpus, source_language=NASTY, target_language=NASTY)
    return replace(
        data, chosen=chosen, devices=devices, supernet=curves, retraining=curves,
        trainings=tuple(
            replace(one, name=NASTY, bleu={NASTY: ((1, 1.0),)}) for one in data.trainings
        ),
        provenance=source, corpus=corpus,
        runtimes=tuple(
            replace(c, hardware=NASTY, without=(NASTY,), entries=tuple(replace(e, limit=limit) for e in c.entries))
            for c in data.runtimes
        ),
        ledger=replace(
            data.ledger,
            lines=tuple(replace(line, stage=NASTY, counted=NASTY) for line in data.ledger.lines),
            timed=tuple(replace(one, device=NASTY, energy_source=NASTY) for one in data.ledger.timed),
        ),
        space=replace(data.space, name=NASTY), bleu_signature=NASTY, protocol={NASTY: NASTY},
        sweep=replace(
            data.sweep, space=NASTY, devices=tuple(replace(one, title=NASTY) for one in data.sweep.devices)
        ),
        ranking=replace(data.ranking, latency=replace(data.ranking.latency, name=NASTY, unit=NASTY)),
        policies=replace(
            data.policies,
            supernets=tuple(replace(net, policy=NASTY) for net in data.policies.supernets),
            policies=tuple(replace(one, policy=NASTY) for one in data.policies.policies[:1]),
        ),
    )  # fmt: skip


def test_hostile_names_and_sentences_stay_text(browser: webdriver.Chrome, small_report: Make, tmp_path: Path) -> None:
    write_report(hostile(small_report), Folder.at(tmp_path))
    show(browser, tmp_path / "report.html")
    assert browser.get_log("browser") == []
    assert browser.execute_script("return window.hacked") is None
    assert browser.execute_script("return document.querySelectorAll('img').length") == 0
    assert browser.execute_script("return document.querySelectorAll('script').length") == 3
    assert browser.execute_script("return document.querySelector('h1').textContent") == NASTY
    assert browser.execute_script("return document.querySelector('.hypothesis').textContent") == NASTY
    assert browser.execute_script("return document.querySelector('.card strong').textContent") == NASTY
    assert browser.title.startswith(NASTY[:40])
    legend = browser.execute_script("return document.querySelector('#supernet .legendtext').textContent")
    assert "<img src=x onerror=window.hacked=1></script>" in legend
    assert browser.execute_script("return document.documentElement.scrollWidth <= innerWidth")


def test_an_injected_script_would_not_run(browser: webdriver.Chrome, report: ReportData, tmp_path: Path) -> None:
    """The second wall: were something to slip through, the page's policy stops it."""
    evil = "<script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'></body>"
    (tmp_path / "evil.html").write_text(page(report).replace("</body>", evil), encoding="utf-8")
    show(browser, tmp_path / "evil.html")
    stopped: list[str] = []

    def both_were_stopped(_: webdriver.Chrome) -> bool:
        log = browser.get_log("browser")
        stopped.extend(entry["message"] for entry in log if "Content Security Policy" in entry["message"])
        return all(any(kind in text for text in stopped) for kind in ("inline script", "inline event handler"))

    WebDriverWait(browser, 240).until(both_were_stopped)
    assert browser.execute_script("return window.hacked") is None


def test_a_run_with_nothing_found_still_has_a_page(
    browser: webdriver.Chrome, small_report: Make, tmp_path: Path
) -> None:
    bare = small_report(
        chosen=(), candidates=(), supernet=(), retraining=(), timed=(), predictors=(), searches=(), bleu_signature=None,
        sweep=None, ranking=None, policies=None, runtimes=(), ledger=None,
    )  # fmt: skip
    write_report(bare, Folder.at(tmp_path))
    show(browser, tmp_path / "report.html", width=400)
    assert browser.get_log("browser") == []
    assert "No model was chosen" in browser.execute_script("return document.body.textContent")
