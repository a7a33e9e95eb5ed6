"""Downloads from a real HTTP server on this machine, which breaks off, lacks ranges, or lies when it is told to."""

import gzip
import hashlib
import http.server
import io
import json
import logging
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from hat_ray.corpus.config import CorpusConfig, Download, FilesConfig
from hat_ray.corpus.text.download import fetch, text_files, text_folder
from hat_ray.corpus.text.transfer import Transfer
from hat_ray.errors import CorpusError, NoRoomError, RecipeError, StorageError
from hat_ray.recipe import parse_recipe
from tests.command import hat_ray
from tests.waiting import wait_for


@dataclass
class Site:
    """What the server holds, how it misbehaves, and what it was asked."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    ranges: bool = True
    version: str = '"1"'
    break_after: list[int] = field(default_factory=list)
    """Bytes after which each of the next answers breaks off."""
    statuses: list[int] = field(default_factory=list)
    """HTTP errors of the next answers."""
    seconds_a_block: float = 0.0
    requests: list[tuple[str, str | None, int]] = field(default_factory=list)
    """Path, Range header and status of each answer."""


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content, asked = site.files.get(self.path.lstrip("/")), self.headers.get("Range")
            error = site.statuses.pop(0) if site.statuses else 404 if content is None else 0
            first = int(asked.removeprefix("bytes=").rstrip("-")) if asked and site.ranges else 0
            if first and self.headers.get("If-Range") not in (None, site.version):
                first = 0
            if content is not None and first and first >= len(content):
                error = 416
            site.requests.append((self.path, asked, error or (206 if first else 200)))
            if error or content is None:
                self.send_response(error)
                if error == 416 and content is not None:
                    self.send_header("Content-Range", f"bytes */{len(content)}")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            body = content[first:]
            self.send_response(206 if first else 200)
            if first:
                self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", site.version)
            self.end_headers()
            end = site.break_after.pop(0) if site.break_after else len(body)
            for start in range(0, min(end, len(body)), 4096):
                self.wfile.write(body[start : min(start + 4096, end)])
                time.sleep(site.seconds_a_block)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]  # a client that is killed
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    site.url = f"http://127.0.0.1:{server.server_port}"
    yield site
    server.shutdown()
    server.server_close()


CONTENT = bytes(range(256)) * 400
LINES = {"train": "a dog\na cat\nthe dog sees the cat\n", "valid": "a dog\n", "test": "a cat\n"}


def transfer(site: Site, place: Path, tries: int = 3) -> tuple[Transfer, list[float]]:
    pauses: list[float] = []
    return Transfer(f"{site.url}/x", place / "x", 5, tries, sleep=pauses.append), pauses


def test_a_broken_transfer_goes_on_where_it_broke_off(site: Site, tmp_path: Path) -> None:
    site.files["x"], site.break_after = CONTENT, [5000, 20_000]
    moved, pauses = transfer(site, tmp_path)
    told: list[tuple[int, int]] = []
    assert moved.run(lambda done, total, _: told.append((done, total))).read_bytes() == CONTENT
    assert [(asked, status) for _, asked, status in site.requests] == [
        (None, 200),
        ("bytes=5000-", 206),
        ("bytes=25000-", 206),
    ]
    assert pauses == [1.0, 1.0]  # each try brought new bytes
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_server_without_ranges_is_asked_for_all_again(site: Site, tmp_path: Path) -> None:
    site.files["x"], site.break_after, site.ranges = CONTENT, [5000], False
    assert transfer(site, tmp_path)[0].run().read_bytes() == CONTENT
    assert [status for _, _, status in site.requests] == [200, 200]


def test_a_file_that_changed_at_its_source_is_not_glued_to_its_old_half(site: Site, tmp_path: Path) -> None:
    site.files["x"], site.break_after = CONTENT, [5000]
    with pytest.raises(StorageError, match="ended after 5000 of"):
        transfer(site, tmp_path, tries=1)[0].run()
    site.files["x"], site.version = CONTENT[::-1], '"2"'
    assert transfer(site, tmp_path)[0].run().read_bytes() == CONTENT[::-1]


@pytest.mark.parametrize(
    "mark",
    ['{"version": "1\\nHost: other"}', '{"version": "\u2028"}', '{"version": ["1"]}', "[" * 50_000, " " * 99_999],
)
def test_a_damaged_mark_of_a_transfer_means_all_bytes_again(mark: str, site: Site, tmp_path: Path) -> None:
    site.files["x"] = CONTENT
    (tmp_path / "x.part").write_bytes(CONTENT[:5000])
    (tmp_path / "x.part.json").write_text(mark)
    assert transfer(site, tmp_path)[0].run().read_bytes() == CONTENT
    assert [(asked, status) for _, asked, status in site.requests] == [(None, 200)]


def test_a_transfer_killed_after_its_last_byte_needs_no_more(site: Site, tmp_path: Path) -> None:
    site.files["x"] = CONTENT
    moved, _ = transfer(site, tmp_path)
    moved.run()
    (tmp_path / "x.part.json").write_text(json.dumps({"version": site.version}))
    assert transfer(site, tmp_path)[0].run().read_bytes() == CONTENT
    assert site.requests[-1][2] == 416


def test_passing_errors_are_tried_again_with_growing_pauses_and_then_told(site: Site, tmp_path: Path) -> None:
    site.files["x"], site.statuses = CONTENT, [503, 500]
    moved, pauses = transfer(site, tmp_path, tries=4)
    assert moved.run().read_bytes() == CONTENT
    assert pauses == [1.0, 2.0]
    site.statuses = [503] * 9
    (other := tmp_path / "other").mkdir()
    with pytest.raises(
        StorageError, match=r"cannot download .*/x: the server answers 503 .*, 4 times; try again later"
    ):
        transfer(site, other, tries=4)[0].run()


def test_nobody_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"cannot download http://127.0.0.1:9/x: .*refused.*, 2 times") as caught:
        Transfer("http://127.0.0.1:9/x", tmp_path / "x", 5, 2, sleep=lambda _: None).run()
    assert "\n" not in str(caught.value)


def test_a_file_that_is_gone_is_not_asked_for_again(site: Site, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"the server answers 404 Not Found; check its address, or give the files"):
        transfer(site, tmp_path)[0].run()
    assert len(site.requests) == 1


def archive_of(members: dict[str, str], kind: str = "tgz") -> bytes:
    sink = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(sink, "w") as file:
            for name, text in members.items():
                file.writestr(name, text)
        return sink.getvalue()
    with tarfile.open(fileobj=sink, mode="w:gz" if kind == "tgz" else "w") as tar:
        for name, text in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(text.encode())
            tar.addfile(info, io.BytesIO(text.encode()))
    return sink.getvalue()


def config_of(site: Site, place: Path, *downloads: Download, **settings: object) -> CorpusConfig:
    names = {f"{split}_{side}": f"text/{split}.{side}" for split in LINES for side in ("source", "target")}
    return CorpusConfig(
        source="files",
        files=FilesConfig(**names),
        downloads=downloads,
        downloads_folder=str(place / "downloads"),
        download_tries=1,
        **settings,  # type: ignore[arg-type]
    )


MEMBERS = {f"text/{split}.{side}": lines for split, lines in LINES.items() for side in ("source", "target")}


@pytest.mark.parametrize("kind", ["tgz", "tar", "zip"])
def test_archives_are_fetched_once_and_their_members_are_the_text(site: Site, tmp_path: Path, kind: str) -> None:
    site.files[f"a.{kind}"] = archive_of({"other": "x", **{f"./{name}": text for name, text in MEMBERS.items()}}, kind)
    config = config_of(site, tmp_path, Download(url=f"{site.url}/a.{kind}", members=tuple(MEMBERS)))
    fetch(config)
    fetch(config)
    assert len(site.requests) == 1
    files = text_files(config)
    assert {field: Path(files.parts(field)[0].path).read_text() for field in ("train_source", "test_target")} == {
        "train_source": LINES["train"],
        "test_target": LINES["test"],
    }
    assert not (text_folder(config) / "other").exists()
    (text_folder(config) / "text/valid.source").unlink()
    fetch(config)
    assert (text_folder(config) / "text/valid.source").read_text() == LINES["valid"]
    assert len(site.requests) == 1


def test_a_file_that_is_no_archive_is_used_as_it_is(site: Site, tmp_path: Path) -> None:
    site.files["data/train.en.gz"] = gzip.compress(b"a dog\n")
    config = config_of(site, tmp_path, Download(url=f"{site.url}/data/train.en.gz"))
    fetch(config)
    assert (text_folder(config) / "train.en.gz").read_bytes() == site.files["data/train.en.gz"]


def test_an_unknown_checksum_is_noted_said_and_held_to(
    site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site.files["a"] = CONTENT
    config = config_of(site, tmp_path, Download(url=f"{site.url}/a"))
    with caplog.at_level(logging.INFO):
        fetch(config)
    assert f"noted for the next time: sha256 {hashlib.sha256(CONTENT).hexdigest()}" in caplog.text
    kept = next((tmp_path / "downloads" / "files").rglob("a"))
    kept.unlink()
    site.files["a"] = CONTENT[1:]
    with pytest.raises(CorpusError, match=r"as at the first download; delete .*a\.sha256\.json to accept it") as caught:
        fetch(config)
    assert "\n" not in str(caught.value)
    assert not kept.exists()
    assert not list(kept.parent.glob("*.part"))


def test_a_wrong_checksum_is_refused_and_a_right_one_is_silent(site: Site, tmp_path: Path) -> None:
    site.files["a"] = CONTENT
    digest = hashlib.sha256(CONTENT).hexdigest()
    wrong = config_of(site, tmp_path, Download(url=f"{site.url}/a", sha256="0" * 64))
    with pytest.raises(CorpusError, match=rf"must have the SHA-256 0{{64}}, it has {digest}"):
        fetch(wrong)
    assert not [p for p in (tmp_path / "downloads").rglob("a*") if p.is_file()]
    right = config_of(site, tmp_path, Download(url=f"{site.url}/a", sha256=digest))
    fetch(right)
    assert (text_folder(right) / "a").read_bytes() == CONTENT


def test_a_file_that_was_damaged_on_disk_is_fetched_again(site: Site, tmp_path: Path) -> None:
    site.files["a"] = CONTENT
    config = config_of(site, tmp_path, Download(url=f"{site.url}/a"))
    fetch(config)
    kept = next((tmp_path / "downloads" / "files").rglob("a"))
    kept.write_bytes(CONTENT[:-1] + b"?")
    fetch(config)
    assert (text_folder(config) / "a").read_bytes() == CONTENT
    assert len(site.requests) == 2


def test_a_full_disk_is_no_mistake_of_the_user(site: Site, tmp_path: Path) -> None:
    site.files["a"] = CONTENT
    config = config_of(site, tmp_path, Download(url=f"{site.url}/a"))
    fetch(config)
    kept = next((tmp_path / "downloads" / "files").rglob("a"))
    kept.unlink()
    kept.with_name("a.part").symlink_to("/dev/full")
    with pytest.raises(NoRoomError, match=r"No space left on device.*make room"):
        fetch(config)


def test_a_server_that_fails_is_no_mistake_of_the_user(site: Site, tmp_path: Path) -> None:
    site.files["a"], site.statuses = CONTENT, [503] * 9
    names = [f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")]
    files = json.dumps(dict.fromkeys(names, "a"))
    settings = ["corpus.source=files", f"corpus.files={files}", f'corpus.downloads=[{{"url": "{site.url}/a"}}]']
    changes = [part for each in (*settings, "corpus.download_tries=1") for part in ("--set", each)]
    done = hat_ray(
        *("corpus", "toy", "--local", "--run", tmp_path / "run", *changes),
        cwd=tmp_path,
        env={**os.environ, "HAT_RAY_CACHE": str(tmp_path / "cache")},
    )
    lines = done.stderr.strip().splitlines()
    assert "Traceback" not in done.stderr
    assert (done.returncode, "answers 503" in lines[-1]) == (1, True), done.stderr
    site.statuses = [404]
    assert hat_ray("corpus", "toy", "--local", "--run", tmp_path / "other", *changes, cwd=tmp_path).returncode == 2


def test_members_that_would_leave_the_folder_do_not(site: Site, tmp_path: Path) -> None:
    site.files["a.tgz"] = archive_of({"../x": "evil", "/abs": "evil", "text/ok": "good"})
    config = config_of(site, tmp_path, Download(url=f"{site.url}/a.tgz", members=("text/ok",)))
    fetch(config)
    assert (text_folder(config) / "text/ok").read_text() == "good"
    assert not [path for path in tmp_path.rglob("*") if path.name in ("x", "abs")]
    for member in ("../x", "/abs", "a/../../x", "./a"):
        with pytest.raises(ValueError, match="a member is a plain path inside its archive"):
            Download(url=f"{site.url}/a.tgz", members=(member,))


def test_a_link_in_an_archive_is_no_file(site: Site, tmp_path: Path) -> None:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        info = tarfile.TarInfo("text/a")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(info)
    site.files["a.tgz"] = sink.getvalue()
    with pytest.raises(CorpusError, match=r"a\.tgz has a link as text/a, and only files"):
        fetch(config_of(site, tmp_path, Download(url=f"{site.url}/a.tgz", members=("text/a",))))


def test_what_an_archive_lacks_and_a_damaged_archive_are_told(site: Site, tmp_path: Path) -> None:
    site.files["a.tgz"] = archive_of(MEMBERS)
    with pytest.raises(CorpusError, match=r"has no file text/train.sourze; did you mean text/train.source\?"):
        fetch(config_of(site, tmp_path, Download(url=f"{site.url}/a.tgz", members=("text/train.sourze",))))
    site.files["b.tgz"] = site.files["a.tgz"][:-30]
    config = config_of(site, tmp_path, Download(url=f"{site.url}/b.tgz", members=tuple(MEMBERS)))
    with pytest.raises(CorpusError, match=r"b\.tgz is no whole archive"):
        fetch(config)


def test_text_that_the_user_gives_is_not_fetched(site: Site, tmp_path: Path) -> None:
    config = config_of(site, tmp_path, Download(url=f"{site.url}/none"))
    assert config.files is not None
    given = config.model_copy(update={"files": config.files.model_copy(update={"folder": str(tmp_path)})})
    fetch(given)
    assert text_files(given).parts("train_source")[0].path == str(tmp_path / "text/train.source")
    assert not site.requests


RECIPE = """
name: mine
corpus:
  source: files
  vocab_size: 24
  byte_fallback: false
  downloads_folder: {place}
  download_tries: 1
  downloads:
    - url: {url}/{name}
      sha256: "{sha256}"
      members: [{members}]
  files: {{{files}}}
"""


def recipe_of(site: Site, place: Path, name: str = "a.tgz", sha256: str = "") -> Path:
    files = ", ".join(
        f"{field}: text/{field.replace('_', '.')}"
        for field in FilesConfig.model_fields
        if "_s" in field or "_t" in field
    )
    text = RECIPE.format(
        place=place / "downloads", url=site.url, name=name, sha256=sha256, members=", ".join(MEMBERS), files=files
    )
    parse_recipe(text, "mine.yaml")
    (place / "mine.yaml").write_text(text)
    return place / "mine.yaml"


def test_the_command_downloads_and_prepares_and_refuses_in_one_line(site: Site, tmp_path: Path) -> None:
    site.files["a.tgz"] = archive_of(MEMBERS)

    def corpus(**changes: str) -> CompletedProcess[str]:
        recipe = recipe_of(site, tmp_path, **changes)
        return hat_ray("corpus", recipe, "--local", "--run", tmp_path / "run", cwd=tmp_path)

    for changes, complaint in (
        ({"sha256": "0" * 64}, "must have the SHA-256 000"),
        ({"name": "no.tgz"}, "answers 404"),
    ):
        done = corpus(**changes)
        assert done.returncode == 2, done.stderr
        assert complaint in done.stderr.splitlines()[-1]
    done = corpus()
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "corpus" / "summary.json").is_file()


def test_a_killed_download_goes_on(site: Site, tmp_path: Path) -> None:
    """The process gets SIGKILL in the middle of a transfer; the next one asks for the rest alone."""
    site.files["big"], site.seconds_a_block = os.urandom(4_000_000), 0.002
    code = (
        "import sys; from pathlib import Path; from hat_ray.corpus.text.transfer import Transfer\n"
        f"Transfer('{site.url}/big', Path('{tmp_path}/big'), 5, 1).run()"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    part = tmp_path / "big.part"
    wait_for(lambda: part.exists() and part.stat().st_size > 500_000, every_s=0.01)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=240)
    size = part.stat().st_size
    assert 0 < size < 4_000_000
    assert Transfer(f"{site.url}/big", tmp_path / "big", 5, 1).run().read_bytes() == site.files["big"]
    assert site.requests[-1][1:] == (f"bytes={size}-", 206)


def test_a_senseless_address_is_refused_with_its_line() -> None:
    with pytest.raises(RecipeError, match=r"line 4: corpus\.downloads\.0\.url: .*must begin with http"):
        parse_recipe("name: x\ncorpus:\n  downloads:\n    - url: ftp://x/y\n", "my.yaml")
