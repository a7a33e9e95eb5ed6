"""Downloads from a server that means harm, and archives that were made to do harm: bounded, refused, in one line."""

import bz2
import contextlib
import gzip
import io
import lzma
import os
import random
import subprocess
import sys
import tarfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from hat_ray.corpus.config import CorpusConfig, Download, FilesConfig
from hat_ray.corpus.text import unpack as unpacking
from hat_ray.corpus.text.download import fetch
from hat_ray.corpus.text.transfer import Transfer, _RedirectionError, _Redirections
from hat_ray.corpus.text.unpack import Bounds, unpack
from hat_ray.errors import CorpusError, RecipeError, StorageError
from hat_ray.recipe import parse_recipe


@pytest.fixture(scope="module")
def web() -> Iterator[str]:
    server = subprocess.Popen([sys.executable, Path(__file__).with_name("hostile_web.py")], stdout=subprocess.PIPE)
    assert server.stdout is not None
    yield f"http://127.0.0.1:{int(server.stdout.readline())}"
    server.kill()
    server.wait(timeout=240)
    server.stdout.close()


def refused(address: str, folder: Path, match: str, max_bytes: int = 1 << 20) -> None:
    """The download is refused at the first try, and leaves nothing."""
    pauses: list[float] = []
    with pytest.raises(CorpusError, match=match) as refusal:
        Transfer(address, folder / "x", 20, 5, pauses.append, max_bytes).run()
    assert pauses == []
    assert "\n" not in str(refusal.value)
    assert not [path for path in folder.iterdir() if path.stat().st_size]


def test_a_redirection_within_the_web_is_followed(web: str, tmp_path: Path):
    moved = Transfer(f"{web}/to?/to%3F/text", tmp_path / "x", 20, 1)
    assert moved.run().read_bytes() == b"a dog\n"


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:text/plain,x", "gopher://x/", "jar:http://x/"]
)
def test_a_redirection_out_of_the_web_is_refused(target: str, web: str, tmp_path: Path):
    refused(f"{web}/to?{target}", tmp_path, rf"is redirected to {target[:4]}.* which is not on the web")


def test_a_redirection_that_gives_up_encryption_is_refused():
    request = urllib.request.Request("https://example.org/x")
    follow = _Redirections().redirect_request
    with pytest.raises(_RedirectionError, match=r"redirected to http://example\.org/y, which is not encrypted"):
        follow(request, None, 302, "", {}, "http://example.org/y")
    followed = follow(request, None, 302, "", {}, "https://example.com/y")
    assert followed is not None
    assert followed.full_url == "https://example.com/y"


def test_a_circle_of_redirections_ends(web: str, tmp_path: Path):
    with pytest.raises(CorpusError, match="cannot download"):
        Transfer(f"{web}/loop", tmp_path / "x", 20, 1, lambda _: None).run()


def test_a_file_that_is_announced_too_large_is_not_begun(web: str, tmp_path: Path):
    refused(f"{web}/announces?99999999999999", tmp_path, r"is larger than corpus.max_download_gb 0\.00104\d+ allows")


def test_a_file_that_does_not_end_is_ended(web: str, tmp_path: Path):
    refused(f"{web}/endless", tmp_path, "is larger than corpus.max_download_gb")


@pytest.mark.parametrize("size", ["-5", "many", "9" * 5000])
def test_a_length_that_is_none_is_not_believed(size: str, web: str, tmp_path: Path):
    """The answer holds no byte: what is kept is empty, or nothing, and never a traceback."""
    try:
        kept = Transfer(f"{web}/announces?{size}", tmp_path / "x", 5, 1, lambda _: None).run().read_bytes()
    except (CorpusError, StorageError):
        kept = b""
    assert kept == b""


def corpus_of(web: str, folder: Path, **changes: object) -> CorpusConfig:
    sides = [f"{split}_{side}" for split in ("train", "valid", "test") for side in ("source", "target")]
    return CorpusConfig(
        source="files",
        files=FilesConfig(**dict.fromkeys(sides, "text")),
        downloads=(Download(url=f"{web}/endless"),),
        downloads_folder=str(folder),
        **changes,  # type: ignore[arg-type]
    )


def test_the_recipe_sets_the_bound(web: str, tmp_path: Path):
    with pytest.raises(CorpusError, match=r"larger than corpus.max_download_gb 0.002 allows"):
        fetch(corpus_of(web, tmp_path, max_download_gb=0.002))
    assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) == 0


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "must begin with http"),
        ("http://x/..", "must begin with http"),
        ("http://[x/y", "Invalid IPv6"),
        ("http://x:99999/y", "Port out of range"),
        ("http:///y", "with a host"),
        ("http://x/a b", "%20 for a space"),
        ("http://x/\\u0661", "printable ASCII"),
        ("https://me:secret@x/y", "must hold no user, key, token or signature"),
        ("https://x/y?X-Amz-Signature=abc", "must hold no user, key, token or signature"),
    ],
)
def test_a_senseless_or_secret_address_is_refused_with_its_line(url: str, words: str):
    with pytest.raises(RecipeError, match=rf"line 4: corpus\.downloads\.0\.url: .*{words}"):
        parse_recipe(f'name: x\ncorpus:\n  downloads:\n    - url: "{url}"\n', "my.yaml")


def tar_of(content: bytes, name: str = "text/a", before: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as tar:
        for info in before:
            tar.addfile(info, io.BytesIO(b"\0" * info.size))
        info = tarfile.TarInfo(name)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def zip_of(content: bytes, name: str = "text/a") -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)
    return sink.getvalue()


PACKED = {
    "tar": tar_of,
    "tgz": lambda content: gzip.compress(tar_of(content)),
    "tbz": lambda content: bz2.compress(tar_of(content)),
    "txz": lambda content: lzma.compress(tar_of(content)),
    "zip": zip_of,
}


@pytest.mark.parametrize("kind", PACKED)
def test_each_kind_of_archive_is_unpacked(kind: str, tmp_path: Path):
    (tmp_path / "x").write_bytes(PACKED[kind](b"a dog\n" * 1000))
    unpack(tmp_path / "x", ["text/a"], tmp_path / "out")
    assert (tmp_path / "out" / "text" / "a").read_bytes() == b"a dog\n" * 1000


@pytest.mark.parametrize("kind", ["tgz", "tbz", "txz", "zip"])
def test_a_bomb_is_refused_at_its_bound(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(unpacking, "_HARMLESS_BYTES", 3_000_000)
    (tmp_path / "bomb").write_bytes(PACKED[kind](bytes(20_000_000)))
    bounds = Bounds(max_bytes=5_000_000, max_expansion=50)
    limit = bounds.limit((tmp_path / "bomb").stat().st_size)
    assert limit < 20_000_000
    with pytest.raises(CorpusError, match=rf"bomb unpacks to more than {limit / 1e6:.0f} MB: no text does; raise"):
        unpack(tmp_path / "bomb", ["text/a"], tmp_path / "out", bounds)
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []
    unpack(tmp_path / "bomb", ["text/a"], tmp_path / "out", Bounds(max_expansion=1e7))
    assert (tmp_path / "out" / "text" / "a").stat().st_size == 20_000_000


def test_a_bomb_that_is_passed_over_counts_too(tmp_path: Path):
    big = tarfile.TarInfo("other")
    big.size = 80_000_000
    (tmp_path / "bomb").write_bytes(gzip.compress(tar_of(b"a dog\n", before=(big,)), 1))
    with pytest.raises(CorpusError, match="unpacks to more than 64 MB"):
        unpack(tmp_path / "bomb", ["text/a"], tmp_path / "out")


def test_a_header_that_would_fill_memory_is_refused(tmp_path: Path):
    name = tarfile.TarInfo("././@LongLink")
    name.type, name.size = tarfile.GNUTYPE_LONGNAME, 1 << 20
    (tmp_path / "bomb").write_bytes(tar_of(b"a dog\n", before=(name,)))
    with pytest.raises(CorpusError, match=r"is no whole archive \(a header of 1048576 bytes\)"):
        unpack(tmp_path / "bomb", ["text/a"], tmp_path / "out")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (tarfile.SYMTYPE, "a link"),
        (tarfile.LNKTYPE, "a link"),
        (tarfile.CHRTYPE, "a device"),
        (tarfile.FIFOTYPE, "a device"),
        (tarfile.DIRTYPE, "a folder"),
    ],
)
def test_what_is_no_file_is_never_unpacked(kind: bytes, words: str, tmp_path: Path):
    wanted = tarfile.TarInfo("text/a")
    wanted.type, wanted.linkname = kind, "/etc/passwd"
    (tmp_path / "x").write_bytes(tar_of(b"", "other", before=(wanted,)))
    with pytest.raises(CorpusError, match=f"x has {words} as text/a, and only files are unpacked"):
        unpack(tmp_path / "x", ["text/a"], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_link_in_a_zip_is_never_unpacked(tmp_path: Path):
    info = zipfile.ZipInfo("text/a")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "x", "w") as file:
        file.writestr(info, "/etc/passwd")
    with pytest.raises(CorpusError, match="x has a link as text/a"):
        unpack(tmp_path / "x", ["text/a"], tmp_path / "out")


def test_members_outside_the_folder_stay_unwritten(tmp_path: Path):
    for name in ("../a", "/tmp/a", "text/../../a"):
        for archive in (tar_of(b"evil", name), zip_of(b"evil", name)):
            (tmp_path / "x").write_bytes(archive)
            with pytest.raises(CorpusError, match="has no file text/a"):
                unpack(tmp_path / "x", ["text/a"], tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_damaged_archives_are_told_in_one_line(tmp_path: Path):
    """Cut, and with flipped bits, 40 seeds of each kind: what is unpacked is whole or refused, and nothing hangs."""
    content = bytes(random.Random(1).choices(b"abcdefgh \n", k=5000))
    unpacked = 0
    for kind, pack in PACKED.items():
        whole = pack(content)
        for seed in range(40):
            rng = random.Random(f"{kind}{seed}")
            damaged = bytearray(whole[: rng.randrange(len(whole))] if seed % 2 else whole)
            for _ in range(rng.randrange(1, 4)):
                if damaged:
                    damaged[rng.randrange(min(len(damaged), 600))] ^= 1 << rng.randrange(8)
            (tmp_path / "x").write_bytes(damaged)
            with contextlib.suppress(CorpusError):
                unpack(tmp_path / "x", ["text/a"], tmp_path / "out")
                unpacked += 1
    assert 3 < unpacked < 100


def test_an_archive_is_a_plain_file(tmp_path: Path):
    os.mkfifo(tmp_path / "x")
    with pytest.raises(CorpusError, match=r"archive .*x is a FIFO"):
        unpack(tmp_path / "x", ["text/a"], tmp_path / "out")
