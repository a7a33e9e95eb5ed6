"""Text in another script or another language than the recipe names."""

from pathlib import Path

import pytest

from hat_ray.corpus.cleaning.finding import TextFinding
from hat_ray.corpus.cleaning.languages import Language
from hat_ray.corpus.cleaning.letters import Letters
from hat_ray.corpus.cleaning.scripts import Script
from hat_ray.corpus.cleaning.watch import TextWatch
from hat_ray.corpus.config import CorpusConfig, FilesConfig
from hat_ray.corpus.splits import Splits
from tests.corpus.cleaning.texts import Lines, in_script, real, toy


def watched(letters: Letters, source: Lines, target: Lines) -> list[TextFinding]:
    watch = TextWatch("training", letters)
    watch.take(0, source, target)
    return watch.findings(lambda _part: ("a", "b"))


@pytest.mark.parametrize(("language", "script"), [("ru", "cyrillic"), ("fa", "arabic"), ("zh", "han")])
def test_a_stretch_in_another_script_is_named(language: str, script: str) -> None:
    source, target = toy()
    written = [in_script(line, script) for line in target]
    letters = Letters(scripts=(Script.of("en"), Script.of(language)))
    assert watched(letters, source, written) == []
    [found] = watched(letters, source, [*written[:1_230], *target[1_230:2_430], *written[2_430:]])
    assert found.kind == "target_script"
    assert abs(found.first - 1_231) <= 100
    assert abs(found.last - 2_430) <= 100
    assert "the target is not in its language's script" in found.line
    [whole] = watched(letters, written, written[::-1])[:1]
    assert watched(letters, [in_script(line, script) for line in source], written)[0].kind == "source_script"
    assert whole.whole


def test_a_recipe_that_names_another_language_is_told_which_one_the_text_is_in(shared: Path) -> None:
    pytest.importorskip("py3langid")
    place = shared / "corpora" / "multi30k-en-de"
    names = {
        f"{split}_{side}": str(place / f"{file}.{language}.gz")
        for split, file in (("train", "val"), ("valid", "test2018"), ("test", "test"))
        for side, language in (("source", "en"), ("target", "de"))
    }
    right, wrong, unknown = (
        CorpusConfig(source="files", files=FilesConfig(**names), source_language="en", target_language=target)
        for target in ("de", "fr", "xx")
    )
    assert Splits.read(right).surveyed(right)[1] == []
    assert Splits.read(unknown).surveyed(unknown)[1] == []
    found = Splits.read(wrong).surveyed(wrong)[1]
    assert [(one.split, one.kind, one.whole) for one in found] == [
        (split, "target_language", True) for split in ("training", "validation", "test")
    ]
    assert "the target is in another language (100% of the pairs, de)" in found[0].line


def test_a_stretch_in_another_language_is_named(shared: Path) -> None:
    pytest.importorskip("py3langid")
    source, target = real(shared, "multi30k-en-de", "val")
    french = ["Un homme marche dans la rue avec son chien et une femme le regarde."] * 400
    letters = Letters(languages=(Language.of("en"), Language.of("de-AT")))
    [found] = watched(letters, source, [*target[:300], *french, *target[700:]])
    assert (found.kind, found.detail) == ("target_language", "100% of the pairs, fr")
    assert abs(found.first - 301) <= 400
    assert abs(found.last - 700) <= 400


def test_languages_that_are_alike_or_not_known_raise_no_alarm() -> None:
    pytest.importorskip("py3langid")
    assert Language.of("xx") is None
    danish = [
        "Jeg vil gerne have en kop kaffe, tak.",
        "Hvor ligger den nærmeste togstation herfra?",
        "Børnene legede udenfor, indtil det blev mørkt, og så gik de hjem.",
        "Vi skal huske at købe brød og mælk, inden butikken lukker.",
    ]
    assert Language.of("nb") is not None
    assert Language.of("nb").other(danish) is None
    assert Language.of("de").other(danish) == "da"
    assert Language.of("de").other(["ok", "12"]) is None
