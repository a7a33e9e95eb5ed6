"""Requests of clients and their answers: JSON in, JSON out, a clear refusal before a text reaches a batch.

In, by POST: {"text": "A dog runs."} or {"texts": ["A dog runs.", "Two men sit."]}, and options such as "n_best": 2,
"split": false, "protect": false or "glossary": {"dog": "Hund"}. A text may have several lines, which keep their places,
but where "n_best" asks for hypotheses.
Out: {"translation": "..."} or {"translations": ["...", "..."]}; or {"error": "one line", "status": 400}.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hat_ray.core.config import nearest_name
from hat_ray.corpus.protection.terms import Terms
from hat_ray.corpus.vocabulary import Vocabulary
from hat_ray.corpus.vocabulary.subwords import is_blank
from hat_ray.model.hypotheses.knobs import KNOBS, Decoding, why_no_number, why_not

BAD, FORBIDDEN, NOT_FOUND, NOT_ALLOWED, TOO_SLOW, TOO_LARGE, UNSUPPORTED = 400, 403, 404, 405, 408, 413, 415
FAULT, BUSY, TOO_LATE = 500, 503, 504
SWITCHES = ("sampling", "retry_loops")
"""Options of decoding that are true or false."""

_TEXTS, _AROUND = {"text", "texts"}, ("split", "protect", "glossary")
_USAGE = 'send {"text": "..."} or {"texts": ["...", "..."]}'


class RefusedError(Exception):
    """A refused request, with its HTTP status and one line."""

    def __init__(self, status: int, message: str) -> None:
        """What a message quotes of a request may hold anything: what is not printable is replaced."""
        line = "".join(character if character.isprintable() else "\ufffd" for character in message)
        super().__init__(status, line)
        self.status, self.message = status, line

    def to_dict(self) -> dict[str, Any]:
        return {"error": self.message, "status": self.status}


@dataclass(frozen=True)
class OptionBounds:
    """The options of decoding that a request may give, and their bounds, which bound what it costs."""

    model_beam: int = 5
    """Hypotheses kept where a request names no beam."""
    max_beam: int = 10
    max_length_factor: float = 4.0
    seeds: bool = True
    """Whether the runtime draws the same for the same seed."""

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Return the least and the largest value of each option."""
        factor = (0.0, self.max_length_factor)
        own = {
            "beam": (1, self.max_beam),
            "n_best": (1, self.max_beam),
            "max_length_factor": factor,
            "min_length_factor": factor,
        }
        rest = ["length_penalty", "no_repeat_ngram_size", "repetition_penalty", "coverage_penalty"]
        drawn = ["temperature", "top_k", *(["seed"] if self.seeds else [])]
        return {**own, **{name: (KNOBS[name].least, KNOBS[name].most) for name in (*rest, *drawn)}}

    def decoding(self, given: Mapping[str, object]) -> Decoding:
        """Return the options of a request; raises RefusedError, which names the bounds. null: it is not given."""
        ranges = self.ranges()
        chosen: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        for name, value in chosen.items():
            if name not in ranges and name not in SWITCHES:
                near = nearest_name(name, [*ranges, *SWITCHES, *_AROUND, "text", "texts"])
                hint = f"did you mean {near!r}? " if near else ""
                raise RefusedError(
                    BAD,
                    f"no option is called {name!r:.60}: {hint}there are {', '.join([*ranges, *SWITCHES, *_AROUND])}",
                )
            least, most = ranges.get(name, (0, 1))
            if isinstance(value, int | float) and not isinstance(value, bool) and not least <= value <= most:
                raise RefusedError(BAD, f"{name} must be from {least:g} to {most:g}, got {value!r:.60}")
            if (reason := why_no_number(name, value)) is not None:
                raise RefusedError(BAD, reason)
        wanted = Decoding(**chosen)
        if (reason := why_not(wanted, wanted.beam or self.model_beam)) is not None:
            raise RefusedError(BAD, reason)
        return wanted


@dataclass(frozen=True)
class TextOptions:
    """What happens to texts before and after the model reads them."""

    split: bool | None = None
    """Whether texts are split into sentences; None: as the service does. Likewise `protect`."""
    protect: bool | None = None
    """Whether URLs, numbers, placeholders and mark-up come through unchanged."""
    terms: Terms | None = None
    """Of the request's glossary; they come before those of the service."""


@dataclass(frozen=True)
class TranslationRequest:
    """The texts of one request, and how they are to be translated."""

    texts: tuple[str, ...]
    single: bool
    """It holds "text" instead of "texts", and is answered by "translation"."""
    decoding: Decoding
    around: TextOptions = TextOptions()

    def answer(self, found: Sequence[Sequence[str]]) -> dict[str, Any]:
        """Return the JSON answer from the hypotheses of each text, the best first."""
        best, others = [each[0] for each in found], [list(each[1:]) for each in found]
        answer: dict[str, Any] = {"translation": best[0]} if self.single else {"translations": best}
        if self.decoding.n_best > 1:
            answer["alternatives"] = others[0] if self.single else others
        return answer


@dataclass(frozen=True)
class RequestReader:
    """Reads requests and refuses texts that a model cannot or should not translate."""

    vocabulary: Vocabulary
    max_tokens: int
    """Maximum number of tokens of one text, its end of sentence included."""
    max_texts: int
    max_body_bytes: int
    options: OptionBounds = OptionBounds()
    languages: tuple[str, str] | None = None
    """Codes of source and target; None: the model does not name them."""
    protect: bool = True
    """Whether the service protects texts where a request does not say."""
    max_terms: int = 100
    """Maximum number of terms of a glossary."""
    knows_symbols: bool = False
    """Whether the model learned the symbols that a glossary needs."""

    def read(self, body: bytes) -> TranslationRequest:
        """Return the texts and options of a request; raises RefusedError."""
        if len(body) > self.max_body_bytes:
            raise RefusedError(TOO_LARGE, f"a request may have at most {self.max_body_bytes} bytes, got {len(body)}")
        if not body.strip():
            raise RefusedError(BAD, f"the request is empty: {_USAGE}")
        value = json_object(body)
        single, texts = _texts_of(value)
        decoding = self.options.decoding({name: one for name, one in value.items() if name not in {*_TEXTS, *_AROUND}})
        self.require_count(len(texts))
        names = ["text"] if single else [f"texts[{index}]" for index in range(len(texts))]
        check = self.checked if decoding.n_best > 1 else self.unicode
        found = tuple(check(name, text) for name, text in zip(names, texts, strict=True))
        self.require_tokens(found)
        return TranslationRequest(found, single, decoding, self._around(value, decoding))

    def _around(self, value: Mapping[str, object], decoding: Decoding) -> TextOptions:
        split, protect = (_switch(name, value.get(name)) for name in ("split", "protect"))
        if (given := value.get("glossary")) is None:
            return TextOptions(split, protect)
        if decoding.n_best > 1 or not (self.protect if protect is None else protect):
            raise RefusedError(BAD, "glossary is not for n_best or without protect: leave it or them out")
        if not self.knows_symbols:
            raise RefusedError(BAD, "glossary needs a model that learned symbols (corpus.protect): leave it out")
        if not self.max_terms:
            raise RefusedError(BAD, "this service takes no glossary of a request: leave it out")
        if not isinstance(given, dict):
            raise RefusedError(BAD, f"glossary must be an object of terms and translations, got {_kind(given)}")
        for term, translation in given.items():
            self.unicode("a term of glossary", term)
            self.unicode(f"the translation of {term!r:.60}", translation)
        try:
            return TextOptions(split, protect, Terms.of(given, "glossary", self.max_terms))
        except ValueError as error:
            raise RefusedError(BAD, str(error)) from error

    def require_count(self, texts: int) -> None:
        """Raise RefusedError for more texts than a request may have."""
        if texts > self.max_texts:
            raise RefusedError(
                TOO_LARGE, f"a request may have at most {self.max_texts} texts, got {texts}: send several requests"
            )

    def require_tokens(self, texts: Sequence[str]) -> None:
        """Raise RefusedError for texts that cost more than as many of the longest sentences as a request may have."""
        tokens, most = sum(map(len, self.vocabulary.encode_lines(texts))), self.max_texts * self.max_tokens
        if tokens > most:
            raise RefusedError(TOO_LARGE, f"a request may have at most {most} tokens, got {tokens}: send several")

    def unicode(self, name: str, value: object) -> str:
        """Return a text that may have several lines; raises RefusedError, which calls it by its name."""
        if not isinstance(value, str):
            raise RefusedError(BAD, f"{name} must be a string, got {_kind(value)}")
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            found = ord(value[error.start])
            raise RefusedError(BAD, f"{name} must be Unicode text, got the lone surrogate {found:#x}") from error
        return value

    def checked(self, name: str, value: object) -> str:
        """Return a text that is translated whole: one line that the model can read, without blanks around it."""
        text = self.unicode(name, value).strip()
        if is_blank(text):
            raise RefusedError(BAD, f"{name} must not be empty")
        if "\n" in text or "\r" in text:
            raise RefusedError(BAD, f'{name} must be one line, got several: send each as one of "texts"')
        if (tokens := len(self.vocabulary.encode(text))) > self.max_tokens:
            raise RefusedError(
                TOO_LARGE, f"{name} may have at most {self.max_tokens} tokens, got {tokens}: split it into sentences"
            )
        return text


def json_object(body: bytes, usage: str = _USAGE) -> dict[str, object]:
    """Return a body that is a JSON object; raises RefusedError, which says what to send."""
    try:
        value = json.loads(body)
    except UnicodeDecodeError as error:
        raise RefusedError(BAD, f"the request must be UTF-8, got byte {body[error.start]:#x}: {usage}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise RefusedError(BAD, f"the request must be JSON ({reason}): {usage}") from error
    if not isinstance(value, dict):
        raise RefusedError(BAD, f"the request must be a JSON object, got {_kind(value)}: {usage}")
    return value


def _texts_of(value: Mapping[str, object]) -> tuple[bool, list[object]]:
    """Return whether the request holds one "text", and the values in the place of texts."""
    found = _TEXTS & value.keys()
    if len(found) != 1:
        names = ", ".join(sorted(map(str, value))) or "nothing"
        raise RefusedError(
            BAD, f"the request must hold text or texts, and only one of them, got {names:.200}: {_USAGE}"
        )
    if found == {"text"}:
        return True, [value["text"]]
    texts = value["texts"]
    if not isinstance(texts, list) or not texts:
        raise RefusedError(BAD, f"texts must be a list of strings that is not empty, got {_kind(texts)}: {_USAGE}")
    return False, texts


def _switch(name: str, value: object) -> bool | None:
    if value is None or isinstance(value, bool):
        return value
    raise RefusedError(BAD, f"{name} must be true or false, got {_kind(value)}")


def _kind(value: object) -> str:
    """Return the kind of a JSON value in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return ("an empty list" if value == [] else kinds.get(type(value))) or "something else"
