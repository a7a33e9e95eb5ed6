"""Requests of clients and their answers: JSON in, JSON out, a clear refusal before a text reaches a batch.

In, by POST: {"text": "A dog runs."} or {"texts": ["A dog runs.", "Two men sit."]}.
Out: {"translation": "..."} or {"translations": ["...", "..."]}; or {"error": "one line", "status": 400}.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from hat_ray.corpus.vocabulary import Vocabulary
from hat_ray.corpus.vocabulary.subwords import is_blank

BAD, FORBIDDEN, NOT_FOUND, NOT_ALLOWED, TOO_SLOW, TOO_LARGE = 400, 403, 404, 405, 408, 413
FAULT, BUSY, TOO_LATE = 500, 503, 504

_USAGE = 'send {"text": "..."} or {"texts": ["...", "..."]}'


class RefusedError(Exception):
    """A refused request, with its HTTP status and one line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message

    def to_dict(self) -> dict[str, Any]:
        return {"error": self.message, "status": self.status}


@dataclass(frozen=True)
class TranslationRequest:
    """The texts of one request, each of one line."""

    texts: tuple[str, ...]
    single: bool
    """It holds "text" instead of "texts", and is answered by "translation"."""

    def answer(self, translations: Sequence[str]) -> dict[str, Any]:
        """Return the JSON answer."""
        return {"translation": translations[0]} if self.single else {"translations": list(translations)}


@dataclass(frozen=True)
class RequestReader:
    """Reads requests and refuses texts that a model cannot or should not translate."""

    vocabulary: Vocabulary
    max_tokens: int
    """Maximum number of tokens of one text, its end of sentence included."""
    max_texts: int
    max_body_bytes: int

    def read(self, body: bytes) -> TranslationRequest:
        """Return the texts of a request; raises RefusedError."""
        if len(body) > self.max_body_bytes:
            raise RefusedError(TOO_LARGE, f"a request may have at most {self.max_body_bytes} bytes, got {len(body)}")
        if not body.strip():
            raise RefusedError(BAD, f"the request is empty: {_USAGE}")
        single, texts = _texts_of(_json_of(body))
        if len(texts) > self.max_texts:
            raise RefusedError(
                TOO_LARGE, f"a request may have at most {self.max_texts} texts, got {len(texts)}: send several requests"
            )
        names = ["text"] if single else [f"texts[{index}]" for index in range(len(texts))]
        return TranslationRequest(
            tuple(self._checked(name, text) for name, text in zip(names, texts, strict=True)), single
        )

    def _checked(self, name: str, value: object) -> str:
        if not isinstance(value, str):
            raise RefusedError(BAD, f"{name} must be a string, got {_kind(value)}")
        text = value.strip()
        if is_blank(text):
            raise RefusedError(BAD, f"{name} must not be empty")
        if "\n" in text or "\r" in text:
            raise RefusedError(BAD, f'{name} must be one line, got several: send each as one of "texts"')
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            found = ord(text[error.start])
            raise RefusedError(BAD, f"{name} must be Unicode text, got the lone surrogate {found:#x}") from error
        if (tokens := len(self.vocabulary.encode(text))) > self.max_tokens:
            raise RefusedError(
                TOO_LARGE, f"{name} may have at most {self.max_tokens} tokens, got {tokens}: split it into sentences"
            )
        return text


def _json_of(body: bytes) -> object:
    try:
        return json.loads(body)
    except UnicodeDecodeError as error:
        raise RefusedError(BAD, f"the request must be UTF-8, got byte {body[error.start]:#x}: {_USAGE}") from error
    except (ValueError, RecursionError) as error:
        reason = str(error) if isinstance(error, ValueError) else "it is nested too deeply"
        raise RefusedError(BAD, f"the request must be JSON ({reason}): {_USAGE}") from error


def _texts_of(value: object) -> tuple[bool, list[object]]:
    """Return whether the request holds one "text", and the values in the place of texts."""
    if not isinstance(value, dict):
        raise RefusedError(BAD, f"the request must be a JSON object, got {_kind(value)}: {_USAGE}")
    if set(value) == {"text"}:
        return True, [value["text"]]
    if set(value) != {"texts"}:
        names = ", ".join(sorted(map(str, value))) or "nothing"
        raise RefusedError(
            BAD, f"the request must hold text or texts, and only one of them, got {names:.200}: {_USAGE}"
        )
    texts = value["texts"]
    if not isinstance(texts, list) or not texts:
        raise RefusedError(BAD, f"texts must be a list of strings that is not empty, got {_kind(texts)}: {_USAGE}")
    return False, texts


def _kind(value: object) -> str:
    """Return the kind of a JSON value in words."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds = {str: "a string", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return ("an empty list" if value == [] else kinds.get(type(value))) or "something else"
