"""A model folder gives back what was written, and is refused in one line where anything of it is not as it was."""

import hashlib
import json
from pathlib import Path

import pytest
import torch

from hat_ray.core.codec import encode
from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.errors import HatRayError, StorageError
from hat_ray.model.checkpoints.about import About, is_model_folder
from hat_ray.model.checkpoints.folder import read_about, read_model_folder, write_model_folder
from hat_ray.model.checkpoints.native import save_model
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.storage.folder import Folder
from tests.damage import sealed
from tests.runtime.models import ARCHITECTURES

LINES = ["ein hund läuft", "zwei katzen sehen einen hund", "der mann schläft"] * 10
ABOUT = About("de", "en", "13a", "nrefs:1|tok:13a", {"beam": 3, "length_penalty": 0.6}, "a test", ("one note",))


@pytest.fixture(scope="module", params=["one for both sides", "one for each side"])
def vocabularies(request: pytest.FixtureRequest) -> Vocabularies:
    first = learn_vocabulary(LINES, 40, byte_fallback=False)
    if request.param == "one for both sides":
        return Vocabularies.of_both(first)
    return Vocabularies(first, learn_vocabulary(LINES, 45, byte_fallback=False))


def small(sizes: tuple[int, int], seed: int = 1) -> SubTransformer:
    config, shape = ModelConfig(share_embeddings="none"), ARCHITECTURES["one layer each"]
    return SubTransformer(shape, sizes[0], config, target_vocab_size=sizes[1], seed=seed).eval()


@pytest.fixture
def folder(tmp_path: Path, vocabularies: Vocabularies) -> Folder:
    place = Folder.at(tmp_path / "model")
    write_model_folder(place, small(vocabularies.sizes), vocabularies, ABOUT)
    return place


def test_what_was_written_comes_back(folder: Folder, vocabularies: Vocabularies) -> None:
    opened = read_model_folder(folder)
    assert opened.about == ABOUT
    assert opened.about.direction == "de-en"
    assert opened.vocabularies.joint == vocabularies.joint
    for ours, theirs in (
        (opened.vocabularies.source, vocabularies.source),
        (opened.vocabularies.target, vocabularies.target),
    ):
        assert ours.pieces() == theirs.pieces()
    assert not opened.model.training
    for name, tensor in small(vocabularies.sizes).state_dict().items():
        assert torch.equal(opened.model.state_dict()[name], tensor)
    assert read_about(folder) == ABOUT


def test_a_folder_that_is_written_again_is_none_until_it_is_whole(folder: Folder, vocabularies: Vocabularies) -> None:
    """A process that ends between the weights and the facts must not leave one model's facts on another."""
    blocked = Path(folder.path(next(iter(vocabularies.files()))))
    blocked.unlink()
    (blocked / "in the way").mkdir(parents=True)
    with pytest.raises((OSError, StorageError)):
        write_model_folder(folder, small(vocabularies.sizes, seed=2), vocabularies, ABOUT)
    assert not is_model_folder(folder)
    with pytest.raises(HatRayError, match=r"is no model folder \(it lacks about.json\)"):
        read_model_folder(folder)


@pytest.mark.parametrize("how", ["missing", "cut", "changed"])
def test_damage_is_one_line(folder: Folder, how: str) -> None:
    names = folder.list()
    assert {"about.json", "model.json", "model.safetensors"} < set(names)
    for name in names:
        path = Path(folder.path(name))
        content = path.read_bytes()
        middle = len(content) // 2
        if how == "missing":
            path.unlink()
        elif how == "cut":
            path.write_bytes(content[:middle])
        else:
            path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
        with pytest.raises(HatRayError) as told:
            read_model_folder(folder)
        assert "\n" not in str(told.value)
        assert name in str(told.value)
        path.write_bytes(content)


def forge(folder: Folder, **changes: object) -> None:
    """Write an `about.json` with a right seal and other content: its author may well be hostile."""
    path = Path(folder.path("about.json"))
    value = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps(sealed(value)))


def test_no_name_leaves_the_folder_and_no_setting_is_taken_unchecked(folder: Folder) -> None:
    files = json.loads(Path(folder.path("about.json")).read_text())["files"]
    forge(folder, files={**files, "../outside": "0" * 64})
    with pytest.raises(HatRayError, match="plain names"):
        read_model_folder(folder)
    forge(folder, files={"model.json": files["model.json"]})
    with pytest.raises(HatRayError, match=r"files must name model\.json and 1 to 31 others"):
        read_model_folder(folder)
    weights = "model.safetensors"
    forge(folder, files={"model.json": files["model.json"], weights: sha256_of(folder, weights)})
    with pytest.raises(HatRayError, match="holds no vocabularies that can be read"):
        read_model_folder(folder)
    forge(folder, files=files, format=2)
    with pytest.raises(HatRayError, match="has format 2, this hat-ray reads format 1"):
        read_model_folder(folder)
    forge(folder, format=1, about={**encode(ABOUT), "source_language": "../../etc"})
    with pytest.raises(HatRayError, match="a language is a code such as en"):
        read_model_folder(folder)


def sha256_of(folder: Folder, name: str) -> str:
    return hashlib.sha256(folder.read_bytes(name)).hexdigest()


def test_a_file_larger_than_any_real_one_is_not_read(folder: Folder, vocabularies: Vocabularies) -> None:
    with Path(folder.path(next(iter(vocabularies.files())))).open("r+b") as file:
        file.truncate((1 << 28) + 1)  # sparse: it takes no room on the disk
    with pytest.raises(HatRayError, match="the most that is read is 268435456"):
        read_model_folder(folder)


def test_the_sub_words_of_another_model_are_refused(folder: Folder, vocabularies: Vocabularies) -> None:
    source, target = vocabularies.sizes
    save_model(folder, "model", small((source, target + 1)))
    files = json.loads(Path(folder.path("about.json")).read_text())["files"]
    forge(folder, files={**files, "model.json": sha256_of(folder, "model.json")})
    with pytest.raises(HatRayError, match=rf"its vocabularies have \({source}, {target}\) entries"):
        read_model_folder(folder)
