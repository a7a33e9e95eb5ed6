"""Requests: what is read, and what is refused with which status and words."""

import json

import pytest

from hat_ray.corpus.vocabulary.learn import learn_vocabulary
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.serve.requests import RefusedError, RequestReader, TranslationRequest


@pytest.fixture(scope="module")
def reader() -> RequestReader:
    lines = ["a dog runs", "two men sit on a bench", "the dog sees two dogs"] * 5
    return RequestReader(learn_vocabulary(lines, 300, byte_fallback=True), 20, 3, 400)


def test_one_text_and_several_are_read_and_answered_in_their_own_form(reader: RequestReader) -> None:
    one = reader.read(b'{"text": "  a dog runs\\n"}')
    assert one == TranslationRequest(("  a dog runs\n",), True, Decoding())
    assert one.answer([["ein Hund"]]) == {"translation": "ein Hund"}
    several = reader.read('{"texts": ["a dog", "дом 漢字 \\u0000"]}'.encode())
    assert several.texts == ("a dog", "дом 漢字 \x00")
    assert several.answer([["x"], ["y"]]) == {"translations": ["x", "y"]}


def test_options_are_read_and_alternatives_answered(reader: RequestReader) -> None:
    one = reader.read(b'{"text": "a dog", "n_best": 3, "beam": null, "max_length_factor": 2, "length_penalty": 0.5}')
    assert one.decoding == Decoding(n_best=3, max_length_factor=2, length_penalty=0.5)
    assert one.answer([["a", "b", "c"]]) == {"translation": "a", "alternatives": ["b", "c"]}
    several = reader.read(b'{"texts": ["a dog", "dogs"], "beam": 8, "n_best": 2}')
    assert several.answer([["a", "b"], ["c", "d"]]) == {"translations": ["a", "c"], "alternatives": [["b"], ["d"]]}


def test_any_text_may_be_translated_by_its_sentences(reader: RequestReader) -> None:
    texts = ["", "a dog.\r\n\n two men ", "\u2581\u200b", "a dog runs " * 12]
    assert reader.read(json.dumps({"texts": texts[:3]}).encode()).texts == tuple(texts[:3])
    assert reader.read(json.dumps({"text": texts[3]}).encode()).texts == (texts[3],)
    asked = [reader.read(f'{{"text": "a", "split": {value}}}'.encode()) for value in ("true", "false", "null")]
    assert [one.around.split for one in asked] == [True, False, None]


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ('"beam": 11', "beam must be from 1 to 10, got 11"),
        ('"beam": 0', "beam must be from 1 to 10, got 0"),
        ('"beam": true', "beam must be a whole number, got True"),
        ('"beam": "5"', "beam must be a whole number, got '5'"),
        ('"beam": 2.5', "beam must be a whole number, got 2.5"),
        (f'"beam": 1{"0" * 320}', "beam must be from 1 to 10, got 1000"),
        ('"n_best": 6', "n_best can be at most the beam, which is 5, got 6: raise beam"),
        ('"n_best": 3, "beam": 2', "n_best can be at most the beam, which is 2, got 3"),
        ('"max_length_factor": 4.5', "max_length_factor must be from 0 to 4, got 4.5"),
        ('"min_length_factor": NaN', "min_length_factor must be from 0 to 4, got nan"),
        ('"max_length_factor": 1e999', "max_length_factor must be from 0 to 4, got inf"),
        ('"no_repeat_ngram_size": [2]', "no_repeat_ngram_size must be a whole number"),
        ('"baem": 5', "no option is called 'baem': did you mean 'beam'? there are beam, n_best, max_length_factor"),
        ('"sampling": 1', "sampling must be true or false, got 1"),
        ('"sampling": true, "beam": 2', "sampling has no beam: leave beam out, or sampling"),
        ('"seed": 1', "seed is a setting of sampling: add sampling, or leave seed out"),
        ('"sampling": true, "seed": 1.5', "seed must be a whole number, got 1.5"),
        ('"sampling": true, "seed": -1', "seed must be from 0 to 9.22337e+18, got -1"),
        ('"sampling": true, "n_best": 11', "n_best must be from 1 to 10, got 11"),
        ('"sampling": true, "temperature": 0', "temperature must be from 0.01 to 100, got 0"),
        ('"\\ud800\\n": 1', "no option is called"),
    ],
)
def test_an_option_out_of_bounds_is_refused_with_the_bounds(reader: RequestReader, option: str, words: str) -> None:
    with pytest.raises(RefusedError) as refused:
        reader.read(f'{{"text": "a dog", {option}}}'.encode())
    assert refused.value.status == 400
    assert words in refused.value.message
    assert refused.value.message.isprintable()
    assert len(refused.value.message) < 300


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "is empty"),
        (b" \n", 400, "is empty"),
        (b"a dog runs", 400, "must be JSON"),
        (b"\xff\xfe", 400, "must be JSON|must be UTF-8"),
        (b'{"text": "\xff"}', 400, "must be UTF-8, got byte 0xff"),
        (b"[" * 300, 400, "must be JSON"),
        (b'["a dog"]', 400, "must be a JSON object, got a list"),
        (b"null", 400, "got null"),
        (b"{}", 400, "got nothing"),
        (b'{"text": "a", "texts": ["b"]}', 400, "only one of them, got text, texts"),
        (b'{"txet": "a"}', 400, "got txet"),
        (b'{"text": "", "n_best": 2}', 400, "text must not be empty"),
        (b'{"text": " \\u2003 ", "n_best": 2}', 400, "text must not be empty"),
        (b'{"text": "\\u2581\\u200b\\u0007", "n_best": 2}', 400, "text must not be empty"),
        (b'{"text": 5}', 400, "text must be a string, got a number"),
        (b'{"text": true}', 400, "got true"),
        (b'{"text": {"a": 1}}', 400, "got an object"),
        (b'{"text": "a dog\\na man", "n_best": 2}', 400, "must be one line"),
        (b'{"text": "a dog", "split": "no"}', 400, "split must be true or false, got a string"),
        (b'{"text": "a dog", "spilt": true}', 400, "no option is called 'spilt'.*, split"),
        (b'{"text": "a \\ud800 dog"}', 400, "lone surrogate 0xd800"),
        (b'{"texts": []}', 400, "got an empty list"),
        (b'{"texts": "a dog"}', 400, "got a string"),
        (b'{"texts": ["a dog", ""], "n_best": 2}', 400, r"texts\[1\] must not be empty"),
        (b'{"texts": ["a", "b", "c", "d"]}', 413, "at most 3 texts, got 4"),
        (json.dumps({"text": "a dog runs " * 12, "n_best": 2}).encode(), 413, "at most 20 tokens, got"),
        (json.dumps({"texts": ["a dog runs " * 9] * 3}).encode(), 413, "a request may have at most 60 tokens, got"),
        (json.dumps({"text": "a dog runs " * 100}).encode(), 413, "at most 400 bytes, got"),
    ],
)
def test_what_cannot_be_translated_is_refused_in_one_line(
    reader: RequestReader, body: bytes, status: int, words: str
) -> None:
    with pytest.raises(RefusedError, match=words) as refused:
        reader.read(body)
    assert refused.value.status == status
    assert "\n" not in refused.value.message
    assert refused.value.to_dict() == {"error": refused.value.message, "status": status}
