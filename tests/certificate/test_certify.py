"""Certificates of two exports of one model: made by the command, compared with other ways to the figures, refused."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import hat_ray
from hat_ray.certificate.certificate import CertificateRules, Original, hash_of_lines, read_certificate, written
from hat_ray.certificate.page import page
from hat_ray.certificate.words import cautions
from hat_ray.corpus.corpus import Corpus
from hat_ray.errors import DamagedError, ExportError, HatRayError
from hat_ray.evaluate.scoring import score_text
from hat_ray.storage.folder import Folder
from tests.command import hat_ray as run
from tests.made_once import made_once
from tests.processes import processes_of
from tests.waiting import wait_for

if TYPE_CHECKING:
    from selenium import webdriver

GOLDEN = Path(__file__).parents[1] / "golden"
SOURCE, REFERENCE = "a&<b>.en", "test.de"
BEGUN = "hat_ray.latency.timing.quantities.peak_process"


def make(place: Path) -> None:
    """Export the golden model twice, and certify both, the second against the first."""
    place.mkdir(exist_ok=True)
    test = Corpus.load(Folder.at(GOLDEN / "run" / "corpus")).test
    for name, lines in ((SOURCE, test.source_text), (REFERENCE, test.target_text)):
        (place / name).write_text("".join(f"{line}\n" for line in lines or ()), encoding="utf-8")
    shutil.copytree(GOLDEN / "export", place / "fp32")
    commands = [["export", str(GOLDEN / "run"), "--dtype", "int8", "--out", "int8"]]
    short = ["--source", SOURCE, "--reference", REFERENCE, "--queries", "12", "--seconds", "0"]
    commands += [["certify", "fp32", *short], ["certify", "int8", "--against", "fp32", *short]]
    for command in commands:
        done = run(*command, cwd=place)
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both exports and their certificates."""
    return made_once(tmp_path_factory, "certified", make)


@pytest.fixture
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to change, as the current folder."""
    shutil.copytree(made, tmp_path / "certified")
    monkeypatch.chdir(tmp_path / "certified")
    return tmp_path / "certified"


@pytest.mark.parametrize("dtype", ["fp32", "int8"])
def test_a_certificate_states_what_other_ways_find(there: Path, dtype: str):
    found = hat_ray.verify_certificate(f"{dtype}.certificate.json", dtype)
    lines, references = (Path(name).read_text(encoding="utf-8").splitlines() for name in (SOURCE, REFERENCE))
    translations = hat_ray.open_model(dtype, threads=1).translate(lines)  # hat-ray's own loader, and not the export's
    assert found.translations_sha256 == hash_of_lines(translations)
    assert found.quality == score_text(translations, [references])
    assert (found.text.sentences, found.text.source_sha256) == (len(lines), hash_of_lines(lines))
    assert found.export.download_bytes == sum(path.stat().st_size for path in Path(dtype).iterdir())
    assert (found.export.dtype, found.device.dtype, found.device.threads) == (dtype, dtype, 1)
    latency = found.latency
    assert sum(latency.counts) == latency.queries == 12
    assert latency.edges_ms[0] <= latency.p50_ms <= latency.p90_ms <= latency.p99_ms <= latency.edges_ms[-1]
    assert 20e6 < found.peak_memory_bytes < 1e9  # Python and ONNX Runtime at least, and no PyTorch
    assert (found.energy.joules is None) == found.energy.source.endswith((")", "energy_uj"))
    assert "onnxruntime" in found.versions
    assert "torch" not in found.versions


def test_the_8_bit_certificate_compares_with_the_fp32_export(there: Path):
    whole, small = (read_certificate(f"{dtype}.certificate.json") for dtype in ("fp32", "int8"))
    assert whole.original == Original("itself")
    assert whole.quality is not None
    assert small.original.bleu == whole.quality.bleu
    assert small.original.manifest_sha256 == whole.export.files[0].sha256
    assert small.original.shares["BLEU"] == small.original.own_bleu / small.original.bleu
    below = replace(small, original=Original("an fp32 export", 20, 30.0, 29.69, 50.0, 50.0))
    at_least = replace(small, original=Original("an fp32 export", 20, 30.0, 29.71, 50.0, 49.51))
    assert [one.original.keeps for one in (below, at_least)] == [False, True]
    assert any(text.startswith("Below 99 %") for text in cautions(below))
    assert not any(text.startswith("Below 99 %") for text in cautions(at_least))


def test_fewer_queries_than_mlperf_asks_are_stated(there: Path):
    found = read_certificate("fp32.certificate.json")
    assert "Not by MLPerf&#39;s rules" in Path("fp32.certificate.html").read_text(encoding="utf-8")
    enough = replace(found, rules=CertificateRules())
    assert (enough.rules.queries, enough.rules.seconds) == (1024, 60)
    assert not any("MLPerf" in text for text in cautions(enough))
    for short in (CertificateRules(queries=1023), CertificateRules(seconds=59.9)):
        assert any("MLPerf" in text for text in cautions(replace(found, rules=short)))


def test_the_page_is_the_certificates_and_escapes_what_a_file_is_called(there: Path):
    found = read_certificate("int8.certificate.json")
    text = Path("int8.certificate.html").read_text(encoding="utf-8")
    assert text == page(found)
    seal = json.loads(Path("int8.certificate.json").read_bytes())["sealed_sha256"]
    assert all(one in text for one in (seal, found.text.source_sha256, *(file.sha256 for file in found.export.files)))
    assert "a&amp;&lt;b&gt;.en" in text
    assert "&<b>" not in text
    assert "default-src &#39;none&#39;" in text or "default-src 'none'" in text


def test_the_command_of_a_certificate_repeats_it(there: Path):
    first = read_certificate("fp32.certificate.json")
    words = shlex.split(first.command)
    assert words[:3] == ["hat-ray", "certify", "fp32"]
    assert words[3:] == ["--source", SOURCE, "--reference", REFERENCE, "--queries", "12", "--seconds", "0"]
    assert run("certify", "verify", "fp32.certificate.json", cwd=there).returncode == 0
    # only now: the server that forks the commands is there, and does not begin among foreign programs
    Path("json.py").write_text("raise SystemExit('a program of the current folder was executed')\n")
    done = run("certify", "verify", "fp32.certificate.json", "fp32", "--repeat", "--json", cwd=there)
    assert done.returncode == 0, done.stderr
    again = json.loads(done.stdout)["again"]
    assert again["translations_sha256"] == first.translations_sha256
    assert again["command"] == first.command
    Path(SOURCE).write_text("Another text.\n" * first.text.sentences)
    done = run("certify", "verify", "fp32.certificate.json", "fp32", "--repeat", cwd=there)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--source must be the certified text" in done.stderr


def test_a_changed_byte_of_a_certificate_is_refused(there: Path):
    file = Path("fp32.certificate.json")
    content = file.read_bytes()
    assert written(read_certificate(str(file))).encode() == content
    for place in range(0, len(content), 23):  # names, figures, blanks and line ends among them
        for changed in (content[place] ^ 1, content[place] ^ 0x20):
            file.write_bytes(content[:place] + bytes([changed]) + content[place + 1 :])
            with pytest.raises(DamagedError) as refused:
                read_certificate(str(file))
            assert "\n" not in str(refused.value)
    done = run("certify", "verify", file, cwd=there)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)


def test_a_changed_byte_of_the_export_is_refused(there: Path):
    for path in sorted(Path("int8").iterdir()):
        content = path.read_bytes()
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(ExportError, match=f"{path.name} has another SHA-256"):
            hat_ray.verify_certificate("int8.certificate.json", "int8")
        path.write_bytes(content)
    (there / "int8" / "weights.bin").unlink()
    done = run("certify", "verify", "int8.certificate.json", "int8", cwd=there)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = run("certify", "int8", "--source", SOURCE, "--out", "new.json", cwd=there)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "is not a whole export" in done.stderr
    assert not list(there.glob("new.*"))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["nowhere", "--source", REFERENCE], "no exported model"),
        (["fp32", "--source", "nowhere"], "does not exist"),
        (["fp32", "--source", SOURCE, "--against", "int8"], "name the sentences' translations"),
        (["fp32", "--source", SOURCE, "--out", "page.html"], "ends in .json"),
    ],
)
def test_a_mistake_is_refused_in_one_line(there: Path, arguments: list[str], reason: str):
    done = run("certify", *arguments, cwd=there)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert reason in done.stderr


def test_rules_have_bounds():
    for wrong in ({"queries": 0}, {"seconds": -1.0}, {"threads": 0}, {"seconds": float("nan")}):
        with pytest.raises(HatRayError, match=next(iter(wrong))):
            CertificateRules(**wrong)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator["webdriver.Chrome"]:
    from tests.report.browsing import start_browser

    started = start_browser(tmp_path / "profile")
    yield started
    started.quit()


def test_a_browser_draws_the_page_and_asks_no_network(there: Path, browser: "webdriver.Chrome"):
    from tests.report.browsing import assert_links_lead, assert_quiet, show

    path = there / "int8.certificate.html"
    show(browser, path)
    assert_quiet(browser, path)
    assert_links_lead(browser, data_links=1)


@pytest.mark.slow
def test_a_killed_certification_leaves_nothing_and_is_begun_again(there: Path, tmp_path: Path):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    before = set(there.iterdir())
    command = [sys.executable, "-m", "hat_ray.cli", "certify", "fp32", "--source", SOURCE, "--out", "new.json"]
    killed = subprocess.Popen(command, cwd=there, env={**os.environ, "TMPDIR": str(temporary)})
    wait_for(lambda: processes_of(str(temporary), BEGUN), "no process measures")
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    wait_for(lambda: not processes_of(str(temporary), BEGUN), "the measuring process stays")
    assert set(there.iterdir()) == before
    quick = [*command[3:], "--queries", "2", "--seconds", "0"]
    done = run(*quick, cwd=there, env={**os.environ, "TMPDIR": str(temporary)})
    assert done.returncode == 0, done.stderr
    assert set(there.iterdir()) == before | {there / "new.json", there / "new.html"}
    assert not list(temporary.glob("hat-ray-certify-*"))
