"""LibreTranslate's form of requests and answers, so that its clients work with a model of one direction.

In, by POST, as JSON or as a form: `q` (a text, or a list of them), `source`, `target`, `format`, `alternatives`.
Out: {"translatedText": "..."}; or {"error": "one line", "status": 400}.

Decisions
- `/detect` names the likeliest languages where py3langid is installed, else the one that the model reads, of
  confidence 0. `source=auto` means that one in any case: there is no other model to choose.
- Of `format=html` the text of each block is a line, whose tags come through as the model's symbols do; a model without
  symbols refuses it. There are no alternatives then.
- Lines of a text are translated one by one, and keep their ends, blank lines and indents.
- Names that we do not know are ignored, as LibreTranslate does: clients send keys and secrets that it may want.
"""

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

from hat_ray.corpus.cleaning.languages import likeliest
from hat_ray.corpus.protection.terms import Terms
from hat_ray.corpus.vocabulary.subwords import is_blank
from hat_ray.front.html import Document
from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.serve.requests import BAD, NOT_FOUND, UNSUPPORTED, RefusedError, RequestReader, TextOptions, json_object

AUTO = "auto"
_USAGE = 'send {"q": "...", "source": "...", "target": "..."}'
_FORM = "application/x-www-form-urlencoded"
_MOST_FIELDS = 20
_LINE_END = re.compile(r"(\r\n|\r|\n)")
_TABLE = """ar Arabic,az Azerbaijani,be Belarusian,bg Bulgarian,bn Bengali,ca Catalan,cs Czech,cy Welsh,da Danish,
de German,el Greek,en English,eo Esperanto,es Spanish,et Estonian,eu Basque,fa Persian,fi Finnish,fr French,ga Irish,
gl Galician,gu Gujarati,he Hebrew,hi Hindi,hr Croatian,hu Hungarian,hy Armenian,id Indonesian,is Icelandic,it Italian,
ja Japanese,ka Georgian,kk Kazakh,km Khmer,ko Korean,ky Kyrgyz,lt Lithuanian,lv Latvian,mk Macedonian,ml Malayalam,
mr Marathi,ms Malay,mt Maltese,my Burmese,nb Norwegian Bokmål,ne Nepali,nl Dutch,nn Norwegian Nynorsk,no Norwegian,
pl Polish,ps Pashto,pt Portuguese,ro Romanian,ru Russian,sk Slovak,sl Slovenian,sq Albanian,sr Serbian,sv Swedish,
sw Swahili,ta Tamil,te Telugu,th Thai,tl Tagalog,tr Turkish,uk Ukrainian,ur Urdu,uz Uzbek,vi Vietnamese,zh Chinese"""
_NAMES = dict(pair.strip().split(" ", 1) for pair in _TABLE.split(","))
"""English names of languages. One that is missing is named by its code."""


@dataclass(frozen=True)
class Text:
    """A text as pieces: lines, each with the blanks around it, and the ends of lines between them."""

    pieces: tuple[str, ...]
    lines: tuple[int, ...]
    """Which pieces are translated."""

    @classmethod
    def of(cls, text: str) -> "Text":
        """Cut a text at the ends of its lines, and blanks off its lines."""
        pieces = [piece for line in _LINE_END.split(text) for piece in _with_blanks_apart(line)]
        return cls(tuple(pieces), tuple(row for row, piece in enumerate(pieces) if not is_blank(piece)))

    def joined(self, translations: Sequence[str]) -> str:
        """Return the text with its lines translated."""
        pieces = list(self.pieces)
        for row, translation in zip(self.lines, translations, strict=True):
            pieces[row] = translation
        return "".join(pieces)


@dataclass(frozen=True)
class LibreRequest:
    """The texts of one request, cut into lines, and how they are to be translated."""

    texts: tuple[Text, ...]
    single: bool
    """It holds one text, no list."""
    detected: str | None
    """The language that is named as detected; None: the client names the source itself."""
    decoding: Decoding

    @property
    def lines(self) -> list[str]:
        """Return the lines of all texts."""
        return [text.pieces[row] for text in self.texts for row in text.lines]

    def answer(self, found: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return the JSON answer from the hypotheses of each line, the best first."""
        rest = list(found)
        each: list[list[str]] = []  # the translations of each text, the best first
        for text in self.texts:
            own, rest = rest[: len(text.lines)], rest[len(text.lines) :]
            ranks = range(self.decoding.n_best)
            whole = [text.joined([line[min(rank, len(line) - 1)] for line in own]) for rank in ranks]
            each.append(list(dict.fromkeys(whole)))
        answer: dict[str, Any] = {"translatedText": self._one_or_all([whole[0] for whole in each])}
        if self.decoding.n_best > 1:
            answer["alternatives"] = self._one_or_all([whole[1:] for whole in each])
        if self.detected is not None:
            answer["detectedLanguage"] = self._one_or_all([detection(self.detected)] * len(self.texts))
        return answer

    def _one_or_all(self, values: Sequence[Any]) -> Any:
        return values[0] if self.single else values


@dataclass(frozen=True)
class HtmlRequest:
    """The HTML documents of one request."""

    documents: tuple[Document, ...]
    single: bool
    """It holds one document, no list. Likewise `detected`: see `LibreRequest`."""
    detected: str | None

    async def answer(self, translate: Callable[[list[str], TextOptions], Awaitable[list[str]]]) -> dict[str, Any]:
        """Return the JSON answer; `translate` returns the translation of each line."""
        lines = [line for document in self.documents for line in document.lines]
        terms = Terms({letter: letter for line in lines for letter in line.marks})
        said = await translate([line.text for line in lines], TextOptions(protect=True, terms=terms))
        found = [line.html(text) for line, text in zip(lines, said, strict=True)]
        runs = [line.runs if html is None else [] for line, html in zip(lines, found, strict=True)]
        again = iter(await translate([run for each in runs for run in each], TextOptions()))
        whole = iter(
            line.html_of_runs([next(again) for _ in each]) if html is None else html
            for line, html, each in zip(lines, found, runs, strict=True)
        )
        answer = [document.joined([next(whole) for _ in document.lines]) for document in self.documents]
        both: dict[str, list[Any]] = {"translatedText": answer}
        if self.detected is not None:
            both["detectedLanguage"] = [detection(self.detected)] * len(answer)
        return {name: values[0] for name, values in both.items()} if self.single else both


def read_translation(reader: RequestReader, content_type: str, body: bytes) -> LibreRequest | HtmlRequest:
    """Return a request for translations; raises RefusedError."""
    given = _fields(content_type, body)
    source, _ = _require_languages(reader, given)
    if given.get("format") not in (None, "", "text", "html"):
        raise RefusedError(BAD, f"format must be text or html, got {given['format']!r:.40}")
    single, texts = _texts(given.get("q"))
    detected = source if given.get("source") == AUTO else None
    if given.get("format") == "html":
        return _html_request(reader, given, texts, single, detected)
    cut = tuple(map(Text.of, texts))
    reader.require_count(sum(len(text.lines) for text in cut))
    decoding = _decoding(reader, given.get("alternatives"))
    check = reader.checked if decoding.n_best > 1 else reader.unicode
    for index, text in enumerate(cut):
        for number, row in enumerate(text.lines, 1):
            where = "" if len(text.lines) == 1 else f", line {number},"
            check(f"{'q' if single else f'q[{index}]'}{where}", text.pieces[row])
    asked = LibreRequest(cut, single, detected, decoding)
    reader.require_tokens(asked.lines)
    return asked


def _html_request(
    reader: RequestReader, given: Mapping[str, object], texts: list[str], single: bool, detected: str | None
) -> HtmlRequest:
    if not reader.knows_symbols:
        raise RefusedError(BAD, "format=html needs a model that learned symbols (corpus.protect): send text")
    if _decoding(reader, given.get("alternatives")).n_best > 1:
        raise RefusedError(BAD, "alternatives are not for format=html: leave them out")
    checked = [reader.unicode("q" if single else f"q[{index}]", text) for index, text in enumerate(texts)]
    reader.require_tokens(checked)
    try:
        return HtmlRequest(tuple(map(Document, checked)), single, detected)
    except ValueError as error:
        raise RefusedError(BAD, str(error)) from error


def read_detection(reader: RequestReader, content_type: str, body: bytes) -> list[dict[str, Any]]:
    """Return the languages that a text may be in, in percent; raises RefusedError for a request without a text.

    It may take a second: the detector is opened at the first call.
    """
    given = _fields(content_type, body)
    source, _ = languages_of(reader)
    if not isinstance(given.get("q"), str) or not given["q"]:
        raise RefusedError(BAD, "q must be a text that is not empty")
    found = likeliest(reader.unicode("q", given["q"]))
    return [{"confidence": round(100 * share, 1), "language": code} for code, share in found] or [detection(source)]


def detection(language: str) -> dict[str, Any]:
    """Return a language that was not detected."""
    return {"confidence": 0.0, "language": language}


def languages(reader: RequestReader) -> list[dict[str, Any]]:
    """Return both languages, each with those it is translated to."""
    source, target = languages_of(reader)
    found = [{**named(source), "targets": [target]}]
    return found if _is_same(source, target) else [*found, {**named(target), "targets": []}]


def frontend_settings(reader: RequestReader, timeout_s: float) -> dict[str, Any]:
    """Return what LibreTranslate's pages ask for. A text of `charLimit` characters fits into a request in any form."""
    source, target = languages_of(reader)
    return {
        "apiKeys": False,
        "charLimit": reader.max_body_bytes // 12,
        "filesTranslation": False,
        "frontendTimeout": round(1000 * timeout_s),
        "keyRequired": False,
        "language": {"source": named(source), "target": named(target)},
        "suggestions": False,
        "supportedFilesFormat": [],
    }


def languages_of(reader: RequestReader) -> tuple[str, str]:
    """Return the codes of source and target; raises RefusedError where the model keeps none."""
    if reader.languages is None:
        raise RefusedError(NOT_FOUND, 'the model does not name its languages: send {"text": "..."} to POST /')
    return reader.languages


def _fields(content_type: str, body: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object or of a form."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "application/json" or body.lstrip()[:1] == b"{":
        return json_object(body, _USAGE)
    if kind not in ("", _FORM):
        raise RefusedError(UNSUPPORTED, f"the request must be JSON or {_FORM}, got {kind:.60}: {_USAGE}")
    try:
        pairs = parse_qsl(body.decode("utf-8"), True, errors="strict", max_num_fields=_MOST_FIELDS)
    except UnicodeDecodeError as error:
        raise RefusedError(BAD, "the form must be UTF-8") from error
    except ValueError as error:
        raise RefusedError(BAD, f"a form may have at most {_MOST_FIELDS} fields: send several texts as JSON") from error
    names = [name for name, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise RefusedError(BAD, f"{twice:.60} is given more than once: send several texts as a list, in JSON")
    return dict(pairs)


def _texts(value: object) -> tuple[bool, list[str]]:
    if isinstance(value, str):
        return True, [value]
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise RefusedError(BAD, f"q must be a text or a list of texts: {_USAGE}")
    return False, value


def _require_languages(reader: RequestReader, given: Mapping[str, object]) -> tuple[str, str]:
    """Return the model's languages; raises RefusedError where a request is for others."""
    source, target = languages_of(reader)
    for name, own, others in (("source", source, (AUTO,)), ("target", target, ())):
        code = given.get(name)
        if not isinstance(code, str) or not code:
            raise RefusedError(BAD, f"{name} must be the code of a language, {own} here: {_USAGE}")
        if code not in others and not _is_same(code, own):
            raise RefusedError(
                BAD, f"{code!r:.40} is not supported as {name}: this model translates {source} to {target}"
            )
    return source, target


def _is_same(code: str, own: str) -> bool:
    """Report whether two codes mean one language: `en` is also `en-GB`, but `en-US` is not."""
    first, second = (one.replace("_", "-").lower() for one in (code, own))
    return first == second or first == second.partition("-")[0] or first.partition("-")[0] == second


def _decoding(reader: RequestReader, alternatives: object) -> Decoding:
    """Return how a number of alternatives is found; raises RefusedError for one out of bounds."""
    most = reader.options.max_beam - 1
    written = alternatives.strip() if isinstance(alternatives, str) else alternatives
    number = int(written) if isinstance(written, str) and re.fullmatch(r"[0-9]{1,9}", written) else written
    if number is None or number == "":
        return Decoding()
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= most:
        raise RefusedError(BAD, f"alternatives must be a whole number from 0 to {most}, got {alternatives!r:.40}")
    if not number:
        return Decoding()
    return reader.options.decoding({"n_best": number + 1, "beam": max(number + 1, reader.options.model_beam)})


def named(code: str) -> dict[str, str]:
    """Return a language's code with its English name, or with the code again where the name is not known."""
    return {"code": code, "name": _NAMES.get(re.split("[-_]", code.lower())[0], code)}


def _with_blanks_apart(line: str) -> list[str]:
    """Return the blanks before a line's text, the text, and the blanks behind it."""
    text = line.strip()
    before = len(line) - len(line.lstrip())
    return [line[:before], text, line[before + len(text) :]]
