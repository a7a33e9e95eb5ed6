"""The description of the service's routes in OpenAPI 3.1, with the bounds of the model that it serves.

Decisions
- It is written by hand, and not made by FastAPI: requests are read from bytes within bounds, refused in one line, and
  known to no framework. A test compares the routes with it, and validates real answers by its schemas.
"""

from collections.abc import Mapping
from typing import Any

import hat_ray
from hat_ray.model.hypotheses.knobs import KNOBS
from hat_ray.serve.requests import SWITCHES, RequestReader

Schema = dict[str, Any]

_WHOLE = ("beam", "n_best", "no_repeat_ngram_size", "top_k", "seed")
_REFUSALS = {
    "400": "The request is not what it must be.",
    "403": "Another host name, or a page of another origin.",
    "404": "The model does not name its languages.",
    "408": "The request was sent too slowly.",
    "413": "More tokens, texts or bytes than allowed.",
    "415": "Neither JSON nor a form.",
    "500": "A fault: it is in the service's log under the request's id.",
    "503": "Too many requests wait, no replica answers, or the service is ending.",
    "504": "Not answered in time.",
}
_ALWAYS = ("403", "408", "413", "500", "503", "504")
_TEXT = {"type": "string"}
_PERCENT = {"type": "number", "minimum": 0, "maximum": 100}
_TERMS_NEED = "For models that learned symbols; not with n_best above 1."
_NAME: Schema = {"type": "object", "required": ["code", "name"], "properties": {"code": _TEXT, "name": _TEXT}}


def document(reader: RequestReader, route: str) -> dict[str, Any]:
    """Return the description of a service below a route (empty: it has none)."""
    ours = _ref("TranslationRequest")
    forms = {name: {"schema": _ref("LibreTranslateRequest")} for name in ("application/json", _FORM)}
    detect = {name: {"schema": _ref("DetectionRequest")} for name in ("application/json", _FORM)}
    text, json = "text/plain", "application/json"
    paths = {
        "/": {
            "get": _operation("page", "A page to type into", "text/html", _TEXT),
            "post": _operation(
                "translate", "Translate a text or several", json, _ref("Translation"), {json: {"schema": ours}}, "400"
            ),
        },
        "/translate": {
            "post": _operation(
                "libreTranslate",
                "Translate as LibreTranslate does",
                json,
                _ref("LibreTranslation"),
                forms,
                "400",
                "404",
                "415",
            )
        },
        "/languages": {
            "get": _operation(
                "languages", "The languages", json, {"type": "array", "items": _ref("Language")}, None, "404"
            )
        },
        "/detect": {
            "post": _operation(
                "detect",
                "The one language that the model reads; nothing is detected",
                json,
                {"type": "array", "items": _ref("Detection")},
                detect,
                "400",
                "404",
                "415",
            )
        },
        "/frontend/settings": {
            "get": _operation("settings", "What LibreTranslate's pages ask for", json, _ref("Settings"), None, "404")
        },
        "/health": {"get": _operation("health", "Report that a replica answers", json, _ref("Health"))},
        "/metrics": {"get": _operation("metrics", "Counters in Prometheus's text format", text, _TEXT)},
        "/openapi.json": {"get": _operation("openapi", "This description", json, {"type": "object"})},
        "/spec": {
            "get": _operation("spec", "This description, where LibreTranslate has its own", json, {"type": "object"})
        },
        "/docs": {"get": _operation("docs", "This description as a page", "text/html", _TEXT)},
    }
    found = {
        "openapi": "3.1.0",
        "info": {
            "title": "hat-ray translation service",
            "version": hat_ray.__version__,
            "description": "One model of one direction. Each answer has an X-Request-ID: the client's, where it is "
            "plain and has at most 128 characters, or a new one. A refused request is answered in one line of JSON.",
        },
        "paths": paths,
        "components": {"schemas": _schemas(reader), "responses": _refusals()},
    }
    return {**found, "servers": [{"url": route}]} if route else found


_FORM = "application/x-www-form-urlencoded"


def _operation(
    name: str, summary: str, kind: str, answer: Schema, body: Mapping[str, Any] | None = None, *refusals: str
) -> dict[str, Any]:
    """Return an operation that answers with a content type; `refusals` come beside those that any may have."""
    statuses = sorted({*refusals, *_ALWAYS})
    operation: dict[str, Any] = {
        "operationId": name,
        "summary": summary,
        "responses": {
            "200": {"description": "The answer.", "content": {kind: {"schema": answer}}},
            **{status: {"$ref": f"#/components/responses/{status}"} for status in statuses},
        },
    }
    return {**operation, "requestBody": {"required": True, "content": dict(body)}} if body else operation


def _refusals() -> dict[str, Any]:
    content = {"application/json": {"schema": _ref("Error")}}
    return {status: {"description": words, "content": content} for status, words in _REFUSALS.items()}


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str, **properties: Schema) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


def _schemas(reader: RequestReader) -> dict[str, Schema]:
    texts = {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": reader.max_texts}
    one_or_list = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
    detection = _object("confidence language", confidence=_PERCENT, language=_TEXT)
    whole = f"With n_best above 1: one line of at most {reader.max_tokens} tokens."
    line = {**_TEXT, "description": f"One line or several, which keep their places. {whole}"}
    return {
        "Error": _object("error status", error={**_TEXT, "description": "One line."}, status={"type": "integer"}),
        "TranslationRequest": {
            **_object("", text=line, texts={**texts, "items": line}, **_options(reader)),
            "oneOf": [{"required": ["text"]}, {"required": ["texts"]}],
            "additionalProperties": False,
        },
        "Translation": {
            **_object("", translation=_TEXT, translations=texts, alternatives=_alternatives()),
            "oneOf": [{"required": ["translation"]}, {"required": ["translations"]}],
        },
        "LibreTranslateRequest": _object(
            "q source target",
            q={**one_or_list, "description": "A text of one or several lines, or a list of them (in JSON)."},
            source={**_TEXT, "description": _own(reader, 0) + ", or auto, which means the same."},
            target={**_TEXT, "description": _own(reader, 1) + "."},
            format={**_TEXT, "enum": ["text", "html"], "description": "html needs a model that learned symbols."},
            alternatives={"type": "integer", "minimum": 0, "maximum": reader.options.max_beam - 1},
        ),
        "LibreTranslation": _object(
            "translatedText",
            translatedText=one_or_list,
            alternatives=_alternatives(),
            detectedLanguage={"anyOf": [_ref("Detection"), {"type": "array", "items": _ref("Detection")}]},
        ),
        "DetectionRequest": _object("q", q={**_TEXT, "minLength": 1}),
        "Detection": detection,
        "Language": _object("code name targets", code=_TEXT, name=_TEXT, targets={"type": "array", "items": _TEXT}),
        "Settings": _object(
            "apiKeys charLimit filesTranslation frontendTimeout keyRequired language suggestions supportedFilesFormat",
            apiKeys={"const": False},
            charLimit={"type": "integer"},
            filesTranslation={"const": False},
            frontendTimeout={"type": "integer"},
            keyRequired={"const": False},
            language=_object("source target", source=_NAME, target=_NAME),
            suggestions={"const": False},
            supportedFilesFormat={"type": "array", "maxItems": 0},
        ),
        "Health": _object(
            "status mean_batch retries",
            status={"const": "ok"},
            mean_batch={"type": ["number", "null"], "description": "Texts of a batch, over the last hundred."},
            retries={"type": "integer", "description": "Requests asked again because a replica was lost."},
        ),
    }


def _alternatives() -> Schema:
    each = {"type": "array", "items": _TEXT}
    return {"anyOf": [each, {"type": "array", "items": each}], "description": "The next best, without the best."}


def _own(reader: RequestReader, side: int) -> str:
    """Return a side's language in words."""
    return reader.languages[side] if reader.languages else "a code of a language"


def _options(reader: RequestReader) -> dict[str, Schema]:
    """Return the options of decoding with their bounds, and whether texts are split."""
    split = {"type": "boolean", "description": "Translate texts by their sentences. Default: as the service does."}
    protect = {**split, "description": "Bring URLs, numbers and the like through. Default: as the service does."}
    terms = f"Terms with their fixed translations. {_TERMS_NEED}"
    glossary = {"type": "object", "additionalProperties": _TEXT, "maxProperties": reader.max_terms}
    return {
        "split": split,
        "protect": protect,
        "glossary": {**glossary, "minProperties": 1, "description": terms},
        **{name: {"type": "boolean", "description": KNOBS[name].help} for name in SWITCHES},
        **{
            name: {
                "type": "integer" if name in _WHOLE else "number",
                "minimum": least,
                "maximum": most,
                "description": KNOBS[name].help,
            }
            for name, (least, most) in reader.options.ranges().items()
        },
    }
