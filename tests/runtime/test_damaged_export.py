"""Exports from outside: damaged, forged or strange ones are refused in one line and within bounds."""

import hashlib
import json
import os
import random
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

from hat_ray.errors import ExportError, HatRayError
from hat_ray.export.export import open_export
from hat_ray.export.place import is_export
from hat_ray.export.stream import translate_group
from hat_ray.runtime.standalone.translate import MANIFEST, SEAL, seal_of
from tests.damage import damaged
from tests.exported import Exported

KINDS = ["exported", "exported_ct2"]
LINE = "A dog runs.\n"


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> Exported:
    found: Exported = request.getfixturevalue(request.param)
    return found


def copy(made: Exported, tmp_path: Path, name: str = "copy") -> Path:
    place = tmp_path / name
    shutil.copytree(made.folder, place)
    return place


def forge(place: Path) -> None:
    """Make hashes and seal right again, as who forges an export would."""
    path = place / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
        manifest.pop(SEAL, None)
        for name in manifest["files"]:
            if (place / name).is_file() and not name.startswith("."):
                manifest["files"][name] = hashlib.sha256((place / name).read_bytes()).hexdigest()
        path.write_text(json.dumps({**manifest, SEAL: seal_of(manifest)}))
    except (ValueError, AttributeError, TypeError, KeyError, OSError):
        pass  # it is too damaged to be forged


def edit(place: Path, **changes: object) -> None:
    """Change the manifest, and seal it again; a name may be dotted with `__`."""
    manifest = json.loads((place / MANIFEST).read_text())
    for name, value in changes.items():
        *above, last = name.split("__")
        holder = manifest
        for key in above:
            holder = holder[key]
        holder[last] = value
    manifest.pop(SEAL)
    (place / MANIFEST).write_text(json.dumps({**manifest, SEAL: seal_of(manifest)}))


def refused(place: Path) -> str:
    """Return the one line with which hat-ray refuses it."""
    assert is_export(place)
    with pytest.raises(ExportError) as told:
        open_export(place)
    return " ".join(str(told.value).split())


def run_loader(script: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(script), *options], input=LINE, capture_output=True, text=True, timeout=240, check=False
    )


def test_a_whole_export_is_opened_so_that_the_refusals_below_mean_something(made: Exported, tmp_path: Path) -> None:
    place = copy(made, tmp_path)
    forge(place)
    assert len(translate_group(open_export(place), ["A dog runs."])) == 1
    done = run_loader(place / "translate.py")
    assert (done.returncode, len(done.stdout.splitlines()), done.stderr) == (0, 1, "")


def test_what_ctranslate2_refuses_to_translate_with_is_one_line(exported_ct2: Exported, tmp_path: Path) -> None:
    place = copy(exported_ct2, tmp_path)
    config = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps({**config, "decoder_start_token": None}))
    forge(place)
    with pytest.raises(
        ExportError, match=r"^CTranslate2 cannot translate \(.*start token.*\): export the model again$"
    ):
        translate_group(open_export(place), [LINE.strip()])
    done = run_loader(place / "translate.py")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_every_bit_of_the_manifest_is_sealed(exported: Exported, tmp_path: Path) -> None:
    place = copy(exported, tmp_path)
    text = (place / MANIFEST).read_text()
    assert '"beam": 2' in text
    (place / MANIFEST).write_text(text.replace('"beam": 2', '"beam": 3'))
    assert "manifest.json is damaged" in refused(place)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"search__beam": 10**9}, "search.beam must be a whole number from 1 to 1000"),
        ({"search__beam": True}, "search.beam must be a whole number"),
        ({"search__batch_tokens": "2048"}, "search.batch_tokens must be a whole number"),
        ({"search__length_penalty": 1e308}, "search.length_penalty must be a number from 0 to 100"),
        ({"search": []}, "search.beam must be"),
        ({"max_positions": 10**30}, "max_positions must be"),
        ({"special_tokens": {"pad": 1, "eos": 10**6}}, "special_tokens must lie within vocab_size"),
        ({"special_tokens": {"pad": 1, "eos": "2"}}, "special_tokens.eos must be a whole number"),
        ({"vocab_size": 299}, "299"),
        ({"vocabulary": "/etc/passwd"}, "'/etc/passwd' must be one of files"),
        ({"vocabulary": 7}, "must name files"),
        ({"files": {}}, "files must name"),
        ({"files__../x": "0" * 64}, "plain names"),
        ({"files__/etc/passwd": "0" * 64}, "plain names"),
        ({"files": []}, "files must name"),
        ({"files__manifest.json": "0" * 64}, "plain names"),
        ({"kind": ["hat-ray export"]}, "is not of an export"),
        ({"format": 99}, "is not of an export"),
    ],
)
def test_a_manifest_of_other_values_is_refused_by_rule(
    exported: Exported, tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    place = copy(exported, tmp_path)
    edit(place, **changes)
    assert words in refused(place)


def fifo(path: Path) -> None:
    os.mkfifo(path)


def device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def folder(path: Path) -> None:
    path.mkdir()


def link_out(path: Path) -> None:
    outside = path.parent.parent / "outside"
    outside.write_bytes(b"x" * 10)
    path.symlink_to(outside)


def loop(path: Path) -> None:
    path.symlink_to(path.name)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(path.parent)  # a socket's path has at most 107 bytes
        server.bind(path.name)


def sparse(path: Path) -> None:
    with path.open("wb") as stream:
        stream.truncate(1 << 35)


@pytest.mark.parametrize("name", ["manifest.json", "vocabulary.model", "architecture.json"])
@pytest.mark.parametrize("strange", [fifo, device, folder, link_out, loop, listener, sparse])
def test_a_file_that_is_no_plain_file_is_refused_at_once(
    exported: Exported, tmp_path: Path, strange: Callable[[Path], None], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    place = copy(exported, tmp_path)
    (place / name).unlink()
    strange(place / name)
    monkeypatch.chdir(tmp_path)
    assert "plain file" in refused(place)


def test_graphs_have_their_weights_in_the_export(exported: Exported, tmp_path: Path) -> None:
    place = copy(exported, tmp_path)
    graph = onnx.load(place / "encoder.onnx", load_external_data=False)
    outside = next(tensor for tensor in graph.graph.initializer if tensor.external_data)
    next(entry for entry in outside.external_data if entry.key == "location").value = "../weights.bin"
    (place / "encoder.onnx").write_bytes(graph.SerializeToString())
    shutil.copy(place / "weights.bin", tmp_path / "weights.bin")
    forge(place)
    assert "outside the export" in refused(place)
    done = run_loader(exported.folder / "translate.py", "--folder", str(place))
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr


def test_ctranslate2_reads_no_file_that_the_manifest_does_not_name(exported_ct2: Exported, tmp_path: Path) -> None:
    place = copy(exported_ct2, tmp_path)
    (place / "vmap.txt").write_text("a\tb\n")
    assert "vmap.txt is no part of this export" in refused(place)


def harm_one(place: Path, rng: random.Random) -> str:
    """Damage one file of an export, every other time with hashes that fit; return which."""
    name = rng.choice(sorted(path.name for path in place.iterdir() if path.name != "translate.py"))
    path = place / name
    path.write_bytes(damaged(path.read_bytes(), rng))
    if rng.random() < 0.5:
        forge(place)
    return name


def try_seeds(made: Exported, tmp_path: Path, seeds: range) -> dict[str, int]:
    """Damage and open so many exports in this process; count how it went."""
    ends = {"refused": 0, "translated": 0}
    for seed in seeds:
        place = copy(made, tmp_path, f"{seed}")
        name = harm_one(place, random.Random(seed))
        try:
            translate_group(open_export(place), [LINE.strip()])
            ends["translated"] += 1
        except HatRayError:
            ends["refused"] += 1
        except BaseException as error:
            error.add_note(f"seed {seed}, {name}")
            raise
        shutil.rmtree(place)
    return ends


def test_damaged_exports_are_refused_or_translate(made: Exported, tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    ends = try_seeds(made, tmp_path, range(60))
    assert ends["refused"] >= 40, ends
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500 * 1024, "memory grew by 500 MB"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_hundreds_of_damaged_exports_are_refused_or_translate(made: Exported, tmp_path: Path) -> None:
    ends = try_seeds(made, tmp_path, range(1000, 1500))
    assert ends["refused"] >= 350, ends
