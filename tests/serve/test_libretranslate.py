"""LibreTranslate's clients, and what its form of requests refuses."""

import json
import sys
import urllib.error
import urllib.parse
from collections.abc import Iterator
from dataclasses import replace

import pytest

pytest.importorskip("uvicorn", reason="needs ray[serve]")

from hat_ray.corpus.cleaning import languages
from hat_ray.export.export import open_export
from hat_ray.model.hypotheses.knobs import Decoding
from tests.exported import Exported
from tests.serve.clients import curl, libre_client
from tests.serve.local import Local, served

BOTH = {"source": "en", "target": "de"}
JSON = {"Content-Type": "application/json"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def local(exported: Exported) -> Iterator[Local]:
    with served(exported.folder, max_texts=12, max_beam=4, max_body_bytes=6000) as one:
        yield one


@pytest.fixture(scope="module")
def expected(exported: Exported) -> dict[str, list[str]]:
    """Four translations of each line, the best first, as the export finds them here."""
    lines, model = list(exported.lines[:8]), open_export(exported.folder)
    plain = model.translate(lines)
    several = model.hypotheses(lines, Decoding(n_best=4, beam=4))
    found = {line: [one.text for one in each] for line, each in zip(lines, several, strict=True)}
    return {line: [best, *found[line]] for line, best in zip(lines, plain, strict=True)}


def test_its_python_client_gets_what_the_export_says(local: Local, expected: dict[str, list[str]]) -> None:
    client = libre_client(local.url)
    for line, (best, *_) in expected.items():
        assert client.translate(line, "en", "de", timeout=240) == best
    assert client.languages(timeout=240) == [
        {"code": "en", "name": "English", "targets": ["de"]},
        {"code": "de", "name": "German", "targets": []},
    ]
    with pytest.raises(urllib.error.HTTPError) as refused:
        client.translate("a dog", "fr", "de", timeout=240)
    with refused.value as answer:
        assert answer.code == 400
        assert "'fr' is not supported as source: this model translates en to de" in answer.read().decode()


def test_the_language_of_a_text_is_detected_where_the_library_is(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    client = libre_client(local.url)
    monkeypatch.setitem(sys.modules, "py3langid", None)
    languages._detector.cache_clear()
    assert client.detect("Wo bin ich?", timeout=240) == [{"confidence": 0.0, "language": "en"}]
    monkeypatch.undo()
    languages._detector.cache_clear()
    pytest.importorskip("py3langid", reason="needs hat-ray[languages]")
    for code, text in (("de", "Wo ist der Bahnhof, bitte?"), ("fr", "O\u00f9 est la gare, s'il vous pla\u00eet ?")):
        first, *others = client.detect(text, timeout=240)
        assert first["language"] == code
        assert 50 < first["confidence"] <= 100
        assert all(1 <= one["confidence"] <= first["confidence"] for one in others)
    assert client.detect("12:30 !", timeout=240) == [{"confidence": 0.0, "language": "en"}]
    assert local.ask({"q": "a \ud800 dog"}, "/detect").status == 400


def test_curl_with_a_form_and_with_json(local: Local, expected: dict[str, list[str]]) -> None:
    line, (best, *_) = next(iter(expected.items()))
    form = curl(local.url + "translate", "--data-urlencode", f"q={line}", "-d", "source=en", "-d", "target=de")
    assert form == {"translatedText": best}
    body = json.dumps({"q": [line], "source": "auto", "target": "de", "format": "text", "api_key": ""})
    assert curl(local.url + "translate", "-H", "Content-Type: application/json", "-d", body) == {
        "translatedText": [best],
        "detectedLanguage": [{"confidence": 0.0, "language": "en"}],
    }
    several = curl(local.url + "translate", "-F", f"q={line}", "-F", "source=en", "-F", "target=de")
    assert several["status"] == 415
    assert "got multipart/form-data" in several["error"]


def test_a_list_of_texts_keeps_its_order(local: Local, expected: dict[str, list[str]]) -> None:
    lines = [*expected][::-1]
    answer = local.ask({"q": lines, **BOTH}, "/translate")
    assert answer.json == {"translatedText": [expected[line][0] for line in lines]}
    assert local.ask({"q": [], **BOTH}, "/translate").json == {"translatedText": []}


def test_several_lines_keep_their_ends_blank_lines_and_indents(local: Local, expected: dict[str, list[str]]) -> None:
    (a, b, c), best = list(expected)[:3], [each[0] for each in list(expected.values())[:3]]
    text = f"\n  {a}\r\n\r\n\t{b} \n \u200b\n{c}\r"
    answer = local.ask({"q": text, **BOTH}, "/translate")
    assert answer.json == {"translatedText": f"\n  {best[0]}\r\n\r\n\t{best[1]} \n \u200b\n{best[2]}\r"}
    for blank in ("", " \n\t\n"):
        assert local.ask({"q": blank, **BOTH}, "/translate").json == {"translatedText": blank}


def test_alternatives_are_the_next_best_and_each_another(local: Local, expected: dict[str, list[str]]) -> None:
    lines = list(expected)[:4]
    answer = local.ask({"q": lines, "alternatives": 3, **BOTH}, "/translate").json
    for line, best, others in zip(lines, answer["translatedText"], answer["alternatives"], strict=True):
        assert [best, *others] == list(dict.fromkeys(expected[line][1:]))
    assert any(answer["alternatives"])
    form = urllib.parse.urlencode({"q": lines[0], "alternatives": "3", **BOTH}).encode()
    one = local.ask(form, "/translate", headers=FORM).json
    assert one == {"translatedText": answer["translatedText"][0], "alternatives": answer["alternatives"][0]}
    both = local.ask({"q": f"{lines[0]}\n{lines[1]}", "alternatives": 3, **BOTH}, "/translate").json
    assert both["alternatives"][0] == "\n".join(expected[line][2] for line in lines[:2])
    assert "alternatives" not in local.ask({"q": lines, "alternatives": 0, **BOTH}, "/translate").json


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"q": None}, "q must be a text or a list of texts"),
        ({"q": 5}, "q must be a text or a list of texts"),
        ({"q": ["a", 5]}, "q must be a text or a list of texts"),
        ({"source": None}, "source must be the code of a language, en here"),
        ({"target": 7}, "target must be the code of a language, de here"),
        ({"source": "de"}, "'de' is not supported as source: this model translates en to de"),
        ({"target": "auto"}, "'auto' is not supported as target"),
        ({"format": "html"}, "format=html needs a model that learned symbols (corpus.protect): send text"),
        ({"format": "markdown"}, "format must be text or html, got 'markdown'"),
        ({"alternatives": 4}, "alternatives must be a whole number from 0 to 3, got 4"),
        ({"alternatives": -1}, "alternatives must be a whole number from 0 to 3, got -1"),
        ({"alternatives": True}, "alternatives must be a whole number"),
        ({"alternatives": 1.5}, "alternatives must be a whole number"),
        ({"alternatives": "9" * 400}, "alternatives must be a whole number"),
        ({"alternatives": "\u0661"}, "alternatives must be a whole number"),
        ({"q": "a \ud800 dog"}, "q must be Unicode text, got the lone surrogate 0xd800"),
        ({"q": ["a dog", "a\nb \ud800"]}, "q[1], line 2, must be Unicode text"),
    ],
)
def test_what_cannot_be_answered_is_refused_in_libretranslates_form(
    local: Local, given: dict[str, object], words: str
) -> None:
    answer = local.ask({"q": "a dog", **BOTH, **given}, "/translate")
    assert (answer.status, answer.json["status"]) == (400, 400)
    assert words in answer.json["error"]


def test_too_many_lines_tokens_and_bytes(local: Local) -> None:
    assert local.ask({"q": "a\n" * 13, **BOTH}, "/translate").json["error"].startswith("a request may have at most 12")
    long = local.ask({"q": ["a dog", "the dog " * 100], "alternatives": 1, **BOTH}, "/translate")
    assert (long.status, long.json["error"].startswith("q[1] may have at most 60 tokens, got ")) == (413, True)
    assert local.ask({"q": "x" * 6000, **BOTH}, "/translate").status == 413


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "q must be|source must be"),
        (b"q=a&q=b&source=en&target=de", "q is given more than once"),
        (b"&".join(b"a%d=1" % number for number in range(30)), "at most 20 fields"),
        (b"q=%FF&source=en&target=de", "the form must be UTF-8"),
        (b"q=\xff", "the form must be UTF-8"),
        (b'{"q": "a"', "must be JSON"),
    ],
)
def test_broken_forms(local: Local, body: bytes, words: str) -> None:
    answer = local.ask(body, "/translate", "POST", FORM)
    assert answer.status == 400
    assert any(word in answer.json["error"] for word in words.split("|"))


@pytest.mark.parametrize("source", ["en", "EN", "en-GB", "en_US"])
def test_a_region_of_the_models_language_is_the_same_language(local: Local, source: str) -> None:
    assert local.ask({"q": "a dog", "source": source, "target": "de"}, "/translate").status == 200


def test_a_detection_needs_a_text(local: Local) -> None:
    assert local.ask({"q": ""}, "/detect").status == 400
    assert local.ask({"q": "1?"}, "/detect").json == [{"confidence": 0.0, "language": "en"}]


def test_settings_name_a_limit_that_holds(local: Local) -> None:
    settings = local.ask(path="/frontend/settings").json
    assert settings["language"] == {
        "source": {"code": "en", "name": "English"},
        "target": {"code": "de", "name": "German"},
    }
    assert not any(settings[name] for name in ("apiKeys", "keyRequired", "filesTranslation", "suggestions"))
    text = "\U0001f600" * settings["charLimit"]
    form = urllib.parse.urlencode({"q": text}).encode()
    assert len(form) <= 6000 + 2
    assert local.ask(form, "/detect", headers=FORM).status in (200, 413)


def test_a_model_that_does_not_name_its_languages(exported: Exported) -> None:
    with served(exported.folder) as local:
        local.worker._reader = replace(local.worker._reader, languages=None)
        for path, body in (("/languages", None), ("/translate", {"q": "a", **BOTH}), ("/frontend/settings", None)):
            answer = local.ask(body, path)
            assert (answer.status, "does not name its languages" in answer.json["error"]) == (404, True)
        assert local.ask({"text": "a dog"}).status == 200
