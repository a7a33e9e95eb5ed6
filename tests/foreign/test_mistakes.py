"""What users bring by mistake ends in one line: paths of nobody, long names, damaged archives, words for numbers."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from hat_ray.corpus.fairseq.data_bin import DataBin
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.corpus.vocabulary.given import given_vocabularies
from hat_ray.errors import HatRayError
from hat_ray.foreign.open import open_foreign
from hat_ray.pipeline.places import Place, place_of
from hat_ray.pipeline.trained.identity import identity_of
from hat_ray.space.hat_yaml import write_space
from tests.command import hat_ray
from tests.model import hat_files

LONG = "a" * 300
SMALL = write_space(hat_files.SPACE) + "max-update: 20\nlr-scheduler: inverse_sqrt\n"


@pytest.mark.parametrize("place", ["~nobody-of-this-machine/x", LONG])
def test_a_place_that_cannot_be_there_is_refused(place: str) -> None:
    for read in (
        lambda: open_foreign(place),
        lambda: DataBin.open(place, "en", "de"),
        lambda: given_vocabularies(VocabularyConfig(source=place), ("en", "de")),
        lambda: identity_of(place, "supernet.teacher"),
    ):
        with pytest.raises(HatRayError) as refused:
            read()
        assert "\n" not in str(refused.value)


def test_a_language_with_a_long_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HatRayError, match="must hold dict"):
        DataBin.open(str(tmp_path), LONG, "de")


def test_a_teacher_that_is_not_there_is_no_teacher(tmp_path: Path) -> None:
    for place in (tmp_path / "none", tmp_path):
        with pytest.raises(
            HatRayError, match=r"^supernet\.teacher: \S+ cannot be read \(\S+ is no file and holds none: "
        ):
            identity_of(str(place), "supernet.teacher")


def test_a_home_folder_is_written_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "ex").mkdir()
    (tmp_path / "ex" / "manifest.json").write_text("{}")
    assert place_of("~/ex") is place_of(str(tmp_path / "ex")) is Place.EXPORT


def entry(path: Path, content: bytes, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr("a.npy", content)
    return path


def head(text: str) -> bytes:
    padded = text.encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded


@pytest.mark.parametrize("text", ["{'descr': (), 'fortran_order': False, 'shape': (1,)}", "{[]: 1}"])
def test_a_damaged_head_of_an_array_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(HatRayError, match=r"is a damaged \.npz archive|is no array"):
        open_foreign(entry(tmp_path / "x.npz", head(text)))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_compressed_array_is_refused(tmp_path: Path, method: int) -> None:
    content = head("{'descr': '<f4', 'fortran_order': False, 'shape': (64,), }") + np.arange(64, dtype="<f4").tobytes()
    path = entry(tmp_path / "x.npz", content, method)
    whole = bytearray(path.read_bytes())
    for at in range(40, 120):
        whole[at] ^= 0xFF
    path.write_bytes(whole)
    with pytest.raises(HatRayError, match=r"\.npz"):
        open_foreign(path)


def test_codes_without_merges_are_refused(tmp_path: Path) -> None:
    (tmp_path / "codes").write_text("#version: 0.2\n")
    (tmp_path / "dict.txt").write_text("a 3\nb 2\n")
    config = VocabularyConfig(source=str(tmp_path / "dict.txt"), bpe_codes=str(tmp_path / "codes"))
    with pytest.raises(HatRayError, match="holds no merges"):
        given_vocabularies(config, ("en", "de"))


def test_a_dictionary_may_begin_with_a_brace(tmp_path: Path) -> None:
    (tmp_path / "dict.txt").write_text("{ 9\nb 4\n")
    assert given_vocabularies(VocabularyConfig(source=str(tmp_path / "dict.txt")), ("en", "de")).sizes == (6, 6)


@pytest.mark.parametrize(
    "line", ["mutation-prob: abc", "latency-constraint: [1]", "label-smoothing: x", "lr: abc", "warmup-init-lr: [1]"]
)
def test_a_word_where_hat_has_a_number_is_refused(tmp_path: Path, line: str) -> None:
    first = "evo-iter: 3\n" if line.startswith(("mutation", "latency")) else SMALL
    criterion = "criterion: label_smoothed_cross_entropy\n" if line.startswith("label") else ""
    (tmp_path / "s.yml").write_text(f"{first}{criterion}{line}\n")
    done = hat_ray("import", "recipe", "s.yml", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert f"{line.partition(':')[0]} must be a number, got" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_recipe_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "s.yml").write_text(SMALL)
    done = hat_ray("import", "recipe", "s.yml", "--out", "no/m.yaml", cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "no/m.yaml" in done.stderr
    assert "Traceback" not in done.stderr
