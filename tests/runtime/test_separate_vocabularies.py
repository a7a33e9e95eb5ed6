"""A model with a vocabulary for each side, from corpus to exported translator."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pytest

from hat_ray.corpus.config import CorpusConfig, FilesConfig, ToyConfig
from hat_ray.corpus.corpus import Corpus
from hat_ray.corpus.prepare import prepare
from hat_ray.corpus.toy.generate import generate
from hat_ray.corpus.vocabulary.config import VocabularyConfig
from hat_ray.evaluate.config import EvaluateConfig
from hat_ray.evaluate.distil import distil, training_sentences
from hat_ray.evaluate.translate import translate
from hat_ray.export.export import open_export
from hat_ray.model.config import ModelConfig
from hat_ray.model.subtransformer import SubTransformer
from hat_ray.runtime.protocol import Bounds
from hat_ray.space.presets import preset
from hat_ray.storage.folder import Folder
from tests.corpus.vocabulary.foreign_files import bpe_codes, sentencepiece_model, write_dictionary
from tests.exporting import export_model

apply_bpe = pytest.importorskip("subword_nmt.apply_bpe")
pytest.importorskip("sacremoses")

CONFIG = EvaluateConfig(beam=3, sentences=12, max_length_factor=1, max_length_extra=5)
ANY = Bounds(None, 100)


@dataclass(frozen=True)
class Made:
    corpus: Corpus
    model: SubTransformer


def text_files(place: Path) -> FilesConfig:
    texts = generate(ToyConfig(train_pairs=300, valid_pairs=20, test_pairs=20))
    for split, text in texts.items():
        for side in ("source", "target"):
            (place / f"{split}.{side}").write_text("".join(f"{line}\n" for line in getattr(text, side)))
    names = {f"{split}_{side}": f"{split}.{side}" for split in texts for side in ("source", "target")}
    return FilesConfig(folder=str(place), **names)


@pytest.fixture(scope="module", params=["learned", "spm and dictionary"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    place = tmp_path_factory.mktemp("text")
    files = text_files(place)
    if request.param == "learned":
        own = VocabularyConfig(shared=False)
    else:
        lines = {side: (place / f"train.{side}").read_text().splitlines() for side in ("source", "target")}
        (place / "source.spm").write_bytes(sentencepiece_model(lines["source"], 210))
        codes = bpe_codes(lines["target"], 120)
        (place / "codes").write_text(codes)
        bpe = apply_bpe.BPE((place / "codes").open())
        write_dictionary(place / "dict.txt", [bpe.process_line(line) for line in lines["target"]])
        own = VocabularyConfig(source="source.spm", target="dict.txt", target_bpe_codes="codes")
    config = CorpusConfig(source="files", files=files, vocab_size=340, vocabulary=own)
    prepare(config, Folder.at(place / "corpus"), seed=1)
    corpus = Corpus.load(Folder.at(place / "corpus"))
    sizes = corpus.vocabularies.sizes
    model = SubTransformer(
        preset("toy").smallest(),
        sizes[0],
        ModelConfig(share_embeddings="decoder"),
        target_vocab_size=sizes[1],
        seed=3,
    )
    return Made(corpus, model.eval())


def test_each_side_of_the_corpus_is_encoded_by_its_own_vocabulary(made: Made) -> None:
    both, test = made.corpus.vocabularies, made.corpus.test
    assert not both.joint
    assert both.source.pieces() != both.target.pieces()
    assert made.corpus.summary.vocabulary_sizes == both.sizes
    for row in range(len(test)):
        assert test.source[row].tolist() == both.source.encode(test.source_text[row])
        assert test.target[row].tolist() == both.target.encode(test.target_text[row])
        assert both.target.decode(test.target[row].tolist()) == test.target_text[row]
    assert max(int(made.corpus.train.source[row].max()) for row in range(100)) < both.sizes[0]


@pytest.mark.parametrize(
    ("runtime", "short_list"),
    [
        ("onnx", 0),
        pytest.param("onnx", 20, marks=pytest.mark.slow),
        pytest.param(
            "ctranslate2", 0, marks=pytest.mark.skipif(not find_spec("ctranslate2"), reason="an optional extra")
        ),
    ],
)
def test_an_export_has_both_vocabularies_and_translates_without_hat_ray(
    made: Made, tmp_path: Path, runtime: str, short_list: int
) -> None:
    out = tmp_path / "out"
    exported = export_model(made.model, made.corpus, out, "fp32", CONFIG, ANY, runtime=runtime, short_list=short_list)
    lines = [*made.corpus.test.source_text[:12], ""]
    expected = translate(made.model, made.corpus.vocabularies, lines, CONFIG)
    opened = open_export(out)
    assert opened.vocabularies.sizes == made.corpus.vocabularies.sizes
    ours = opened.translate(lines)
    assert exported.parity.logit_error < 1e-3
    if (runtime, short_list) == ("onnx", 0):  # the library's own search breaks the ties of random weights differently
        assert ours == expected
        assert exported.parity.identical == 12
    code = "import sys; sys.modules['hat_ray'] = None; import runpy; sys.argv = sys.argv[1:]; " + (
        "sys.path.insert(0, ''); runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(out / "translate.py")],
        input="".join(f"{line}\n" for line in lines),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split("\n")[:-1] == ours


def test_a_corpus_is_distilled_with_both_vocabularies(made: Made, tmp_path: Path) -> None:
    greedy = CONFIG.model_copy(update={"beam": 1})

    def lines(sources: Sequence[str], *, first: int = 1) -> list[str]:
        return translate(made.model, made.corpus.vocabularies, sources, greedy)

    done = distil(lines, training_sentences(made.corpus), Folder.at(tmp_path), "model", chunk_pairs=400)
    train, both = made.corpus.train, made.corpus.vocabularies
    sources = [both.source.decode(train.source[row].tolist()) for row in range(len(train))]
    assert Path(done.source).read_text().split("\n")[:-1] == sources
    assert Path(done.target).read_text().split("\n")[:-1] == translate(made.model, both, sources, greedy)
