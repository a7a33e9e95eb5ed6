"""The pages "from OPUS-MT" and "from Marian": each command of theirs works, in order, with small files."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from hat_ray.corpus.vocabulary import Vocabularies
from hat_ray.foreign.marian.folder import write_marian_folder
from hat_ray.storage.folder import Folder
from tests.command import hat_ray
from tests.foreign.test_convert import learned, model_folder
from tests.foreign.test_pymarian import lines, translated
from tests.test_readme import arguments, shell_lines, text_of

SMALL: dict[str, int | bool] = {
    **{"supernet.updates": 4, "supernet.warmup_updates": 1, "supernet.validate_every": 4, "supernet.max_tokens": 300},
    **{"corpus.deduplicate": False},
}
LOOSE = ["--min-agreement", "0.9", "--max-bleu-loss", "100"]
MORE = {"corpus": ["--local"], "train": ["--local"], "export": LOOSE, "evaluate": ["--threads", "1"]}


def do_all(page: str, folder: Path) -> list[str]:
    """Run the commands of a page; after the recipe is written the page's YAML and small sizes go into it."""
    done = []
    for line in shell_lines(page):
        words, stdin, stdout = arguments(line)
        if words[0] == "python":
            with (folder / stdin).open("rb") as text:
                command = [sys.executable, *words[1:]]
                alone = subprocess.run(command, stdin=text, cwd=folder, capture_output=True, timeout=240, check=True)
            assert alone.stdout == (folder / "translated.de").read_bytes()
            continue
        content = (folder / stdin).read_bytes() if stdin else b""
        result = hat_ray(*words[1:], *MORE.get(words[1], []), cwd=folder, stdin=content)
        assert result.returncode == 0, f"{line}\n{result.stderr}"
        if stdout is not None:
            (folder / stdout).write_text(result.stdout)
        if words[1] == "space":
            complete(folder / "mine.yaml", text_of(page))
        done.append(" ".join(words[1:3]) if words[1] in ("import", "space", "train", "recipe") else words[1])
    return done


def complete(recipe: Path, page: str) -> None:
    settings = yaml.safe_load(recipe.read_text())
    for block in re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        settings |= yaml.safe_load(block)
    for key, value in SMALL.items():
        section, name = key.split(".")
        if section in settings:
            settings[section][name] = value
    recipe.write_text(yaml.safe_dump(settings))


def write_text(folder: Path) -> None:
    for seed, split in enumerate(("train", "valid", "test")):
        text = lines(60 if split == "train" else 12, seed)
        for language, made in (("en", text), ("de", [translated(line) for line in text])):
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in made))


@pytest.mark.slow
def test_the_page_from_opus_mt(tmp_path: Path) -> None:
    pytest.importorskip("transformers", reason="makes a folder with transformers: pip install transformers")
    from tests.foreign import test_huggingface as opus

    write_text(tmp_path)
    (tmp_path / "opus-mt-en-de").mkdir()
    size = opus.write_vocabulary(tmp_path / "opus-mt-en-de", apart=True)
    ids = {"vocab_size": size, "pad_token_id": size - 1, "decoder_start_token_id": size - 1}
    opus.write(opus.made(**ids, scale_embedding=True), tmp_path / "opus-mt-en-de")
    done = do_all("hat_ray/recipes/FROM_OPUS_MT.md", tmp_path)
    assert done == [
        *("import model", "translate", "evaluate", "export", "space around", "recipe check", "corpus", "train super")
    ]
    assert (tmp_path / "runs" / "mine" / "supernet" / "train.json").exists()


@pytest.mark.slow
def test_the_page_from_marian(tmp_path: Path) -> None:
    write_text(tmp_path)
    vocabularies = Vocabularies.of_both(learned())
    model = model_folder(tmp_path / "model", vocabularies)
    write_marian_folder(Folder.at(tmp_path / "marian"), model, vocabularies)
    done = do_all("hat_ray/recipes/FROM_MARIAN.md", tmp_path)
    assert done == ["import model", "translate", "export", "space around", "convert", "convert"]
    assert yaml.safe_load((tmp_path / "student.yml").read_text())["dim-emb"] == model.architecture.qkv_dim
    assert len((tmp_path / "translated.de").read_text().splitlines()) == 12
    for name in ("model.npz", "vocab.spm"):
        assert (tmp_path / "back" / name).read_bytes() == (tmp_path / "marian" / name).read_bytes(), name
