"""What must not change, and fixed terms, through the service, by request or for all: as `hat-ray translate` has them.

`tests/front/test_protection.py` compares that command with an exported translate.py.
"""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs ray[serve]")

from hat_ray.corpus.protection.terms import Terms
from hat_ray.export.export import open_export
from hat_ray.export.loaded import LoadedModel
from tests.exported import Exported
from tests.front.hostile import KINDS, hostile_lines
from tests.front.programs import of_service
from tests.front.test_html import Structure, drawn, require_nested
from tests.serve.local import Local, served
from tests.serve.test_metrics import metrics

TERMS = {"Hat Ray": "hat-ray 7", "Only": "Only"}
LINES = [
    "Hat Ray runs 12 km.",
    "Only we see Hat Ray and http://ex.org/a. Only they do not.",
    "Hat Ray: Only",
    "",
    "ein",
]


@pytest.fixture(scope="module")
def local(knowing: Exported) -> Iterator[Local]:
    with served(knowing.folder, max_terms=3) as one:
        yield one


@pytest.fixture(scope="module")
def model(knowing: Exported) -> LoadedModel:
    return open_export(knowing.folder)


def as_command(model: LoadedModel, lines: list[str], **options: Any) -> list[str]:
    """Return what `hat-ray translate` prints of lines."""
    front = model.front_end(**options)
    return front.translate(lines, lambda texts, numbers: model.translate(texts, first=numbers))


@pytest.mark.parametrize("name", ["protect", "glossary"])
def test_it_gives_what_the_command_gives_for_every_kind_of_line(
    knowing: Exported, local: Local, model: LoadedModel, name: str, tmp_path: Path
) -> None:
    place = tmp_path / "terms.tsv"
    place.write_text("".join(f"{term}\t{said}\n" for term, said in TERMS.items()))
    lines = LINES + [line.text for line in hostile_lines(knowing.lines, len(KINDS), seed=11)]
    options: dict[str, Any] = {"protect": False} if name == "protect" else {"terms": Terms(TERMS)}
    said = as_command(model, lines, **options)
    assert said == of_service(local.answered, lines, [1, 2, 7, 3], **{name: TERMS if name == "glossary" else False})
    with served(knowing.folder, **{name: str(place) if name == "glossary" else False}) as configured:
        assert said == of_service(configured.answered, lines, [7, 3])
    assert ("hat-ray 7" in said[0], said[2] == "hat-ray 7: Only") == (name == "glossary",) * 2


def test_terms_of_a_request_come_before_those_of_the_service(
    knowing: Exported, model: LoadedModel, tmp_path: Path
) -> None:
    place = tmp_path / "terms.tsv"
    place.write_text("Hat Ray\tof the file\nOnly\tnur\n")
    with served(knowing.folder, glossary=str(place)) as configured:
        ask = configured.answered
        both = as_command(model, LINES, terms=Terms({"Hat Ray": "of the request", "Only": "nur"}))
        assert ask({"texts": LINES, "glossary": {" Hat Ray ": "of the request"}})["translations"] == both
        assert "of the request" in both[0]
        assert ask({"texts": LINES, "protect": False})["translations"] == as_command(model, LINES, protect=False)
        file = as_command(model, LINES, terms=Terms({"Hat Ray": "of the file", "Only": "nur"}))
        assert ask({"texts": LINES})["translations"] == file
        answer = configured.ask({"q": LINES[0], "source": "en", "target": "de"}, "/translate")
        assert answer.json == {"translatedText": file[0]}
    with served(knowing.folder, protect=False) as bare:
        assert bare.answered({"text": LINES[0], "protect": True})["translation"] == as_command(model, LINES[:1])[0]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"glossary": {}}, "glossary may have 1 to 3 terms, got 0"),
        ({"glossary": dict.fromkeys("abcd", "x")}, "glossary may have 1 to 3 terms, got 4"),
        ({"glossary": ["a"]}, "glossary must be an object of terms and translations, got a list"),
        ({"glossary": {"a": 5}}, "the translation of 'a' must be a string, got a number"),
        ({"glossary": {"a": "\ud800"}}, "the translation of 'a' must be Unicode text"),
        ({"glossary": {"\ud800": "a"}}, "a term of glossary must be Unicode text"),
        ({"glossary": {"a": " "}}, "a term and its translation are one line each, without tabs, and not empty"),
        ({"glossary": {"a\tb": "c"}}, "one line each"),
        ({"glossary": {"a": "b\nc"}}, "one line each"),
        ({"glossary": {"a": "b", " a": "c"}}, "the term 'a' has two translations: delete one"),
        ({"glossary": {"a": "b" * 1001}}, "a term has at most 1000 letters"),
        ({"glossary": {"a": "b"}, "protect": False}, "glossary is not for n_best or without protect"),
        ({"glossary": {"a": "b"}, "n_best": 2, "beam": 2}, "glossary is not for n_best or without protect"),
        ({"protect": 1}, "protect must be true or false, got a number"),
        ({"protekt": True}, "no option is called 'protekt': did you mean 'protect'?"),
    ],
)
def test_a_glossary_that_cannot_be_kept_is_refused_in_one_line(
    local: Local, given: dict[str, object], words: str
) -> None:
    answer = local.ask({"text": "a dog", **given})
    assert answer.status == 400
    assert words in answer.json["error"]


def test_a_model_without_symbols_takes_no_glossary(exported: Exported, tmp_path: Path) -> None:
    with served(exported.folder) as local:
        answer = local.ask({"text": "a dog", "glossary": {"dog": "Hund"}})
        assert (answer.status, "needs a model that learned symbols" in answer.json["error"]) == (400, True)
        assert local.answered({"text": "a dog", "glossary": None})
    (tmp_path / "terms.tsv").write_text("dog\tHund\n")
    with (
        pytest.raises(Exception, match="a glossary needs a model that learned symbols"),
        served(exported.folder, glossary=str(tmp_path / "terms.tsv")),
    ):
        pass


def test_html_keeps_its_tags_and_is_translated_between_them(knowing: Exported, tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("R&D\tF&E\nx\ty\n")
    draw = random.Random(5)
    texts = [drawn(draw) for _ in range(12)]
    texts += ["<p>See <b>R&amp;D</b> at <a href='http://ex.org/a'>http://ex.org/a</a>.</p>", "", "no tags", "<br>"]
    texts.append("".join(f"<b>x</b> <i>{word}</i> " for word in "abcdefghijkl"))  # more than there are symbols
    with served(knowing.folder, glossary=str(tmp_path / "terms.tsv")) as local:
        asked = {"source": "en", "target": "de", "format": "html"}
        answer = local.ask({"q": texts, **asked}, "/translate")
        assert answer.status == 200, answer.content
        for text, said in zip(texts, answer.json["translatedText"], strict=True):
            require_nested(said)
            assert sorted(Structure(said).tags) == sorted(Structure(text).tags)
        said = answer.json["translatedText"]
        assert said[12].count("F&amp;E") == said[12].count(">http://ex.org/a<") == said[12].count("<b>F") == 1
        assert said[13] == ""
        assert said[15] == "<br>"
        one = local.ask({"q": texts[12], **asked, "source": "auto"}, "/translate").json
        assert one == {"translatedText": said[12], "detectedLanguage": {"confidence": 0.0, "language": "en"}}
        refused = local.ask({"q": "<b>a</b>", "alternatives": 1, **asked}, "/translate")
        assert (refused.status, "alternatives are not for format=html" in refused.json["error"]) == (400, True)


def test_sentences_that_are_protected_and_repaired_are_counted(knowing: Exported) -> None:
    with served(knowing.folder) as local:
        ask = local.answered
        ask({"texts": ["See http://ex.org/a now. Then not.", "12 km.", "no part"]})
        ask({"text": "See http://ex.org/a now.", "protect": False})
        local.ask({"q": "See {name} now.\nSee {name} now.", "source": "en", "target": "de"}, "/translate")
        found = metrics(local)
    assert found["hat_ray_protected_sentences_total", "/"] == 2
    assert found["hat_ray_repaired_sentences_total", "/"] == 1, "what needs no model needs no repair"
    assert found["hat_ray_protected_sentences_total", "/translate"] == 2
    assert found["hat_ray_repaired_sentences_total", "/translate"] == 2
