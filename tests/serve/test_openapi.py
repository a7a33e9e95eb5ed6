"""The OpenAPI description is valid, lists every route, and describes the answers as they are."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("uvicorn", reason="needs ray[serve]")

from tests.exported import Exported
from tests.serve.local import Local, served

BOTH = {"source": "en", "target": "de"}
PATHS = {
    ("/", "get"),
    ("/", "post"),
    ("/translate", "post"),
    ("/languages", "get"),
    ("/detect", "post"),
    ("/frontend/settings", "get"),
    ("/health", "get"),
    ("/metrics", "get"),
    ("/openapi.json", "get"),
    ("/spec", "get"),
    ("/docs", "get"),
}


@pytest.fixture(scope="module")
def local(exported: Exported) -> Iterator[Local]:
    with served(exported.folder, max_texts=7, max_beam=4) as one:
        yield one


@pytest.fixture(scope="module")
def document(local: Local) -> Any:
    answer = local.ask(path="/openapi.json")
    assert answer.headers["content-type"] == "application/json"
    assert local.ask(path="/spec").json == answer.json
    return answer.json


def test_it_is_valid(document: Any) -> None:
    validator = pytest.importorskip("openapi_spec_validator", reason="needs hat-ray[dev]")
    validator.OpenAPIV31SpecValidator(document).validate()


def test_it_lists_every_route_and_each_is_answered(local: Local, document: Any) -> None:
    listed = {(path, method) for path, operations in document["paths"].items() for method in operations}
    assert listed == PATHS
    assert {(route.path or "/", route.method.lower()) for route in local.service.routes} == listed
    for path in {path for path, _ in PATHS}:
        for method in ("get", "post", "put", "patch", "delete", "options"):
            status = local.ask(b"{}" if method != "get" else None, path, method.upper()).status
            assert (status == 405) == ((path, method) not in listed), (path, method)


def check(document: Any, schema: dict[str, Any], value: object) -> None:
    """Raise where a value is not what a schema describes."""
    jsonschema = pytest.importorskip("jsonschema", reason="needs hat-ray[dev]")
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def schema_of(document: Any, path: str, method: str, status: int) -> dict[str, Any]:
    """Return the schema of an answer."""
    response = document["paths"][path][method]["responses"][str(status)]
    if "$ref" in response:
        response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
    return dict(response["content"]["application/json"]["schema"])


ASKED = [
    ("/", {"text": "a dog"}, 200),
    ("/", {"texts": ["a dog", "a man"], "n_best": 2, "beam": 4}, 200),
    ("/", {"text": "a dog", "n_best": 2, "length_penalty": 0.5}, 200),
    ("/", {"text": ""}, 200),
    ("/", {"text": "A dog. A man.\n\nA cat.", "split": False}, 200),
    ("/", {"text": "", "n_best": 2}, 400),
    ("/", {"text": "a dog", "beam": 5}, 400),
    ("/", {"texts": ["a dog"] * 8}, 413),
    ("/translate", {"q": "a dog", **BOTH}, 200),
    ("/translate", {"q": ["a dog", "a\nman"], "source": "auto", "target": "de", "alternatives": 3}, 200),
    ("/translate", {"q": "a dog", "source": "auto", "target": "de", "alternatives": 1}, 200),
    ("/translate", {"q": "a dog", "source": "fr", "target": "de"}, 400),
    ("/detect", {"q": "a dog"}, 200),
    ("/detect", {"q": ""}, 400),
    ("/languages", None, 200),
    ("/frontend/settings", None, 200),
    ("/health", None, 200),
    ("/openapi.json", None, 200),
]


@pytest.mark.parametrize(("path", "body", "status"), ASKED)
def test_answers_are_as_described(local: Local, document: Any, path: str, body: object, status: int) -> None:
    answer = local.ask(body, path)
    assert answer.status == status
    check(document, schema_of(document, path, "get" if body is None else "post", status), answer.json)


def test_a_text_of_several_kinds_is_refused_and_declared(local: Local, document: Any) -> None:
    answer = local.ask(b"<q/>", "/translate", headers={"Content-Type": "text/xml"})
    assert answer.status == 415
    check(document, schema_of(document, "/translate", "post", 415), answer.json)


@pytest.mark.parametrize(
    ("body", "valid"),
    [
        ({"text": "a dog"}, True),
        ({"text": "a dog", "beam": 4, "n_best": 2, "max_length_factor": 1.5}, True),
        ({"texts": ["a"] * 7}, True),
        ({"text": "a dog", "texts": ["a dog"]}, False),
        ({}, False),
        ({"texts": []}, False),
        ({"texts": ["a"] * 8}, False),
        ({"text": 5}, False),
        ({"text": "a dog", "beam": 5}, False),
        ({"text": "a dog", "beam": 2.5}, False),
        ({"text": "a dog", "n_best": 0}, False),
        ({"text": "a dog\na cat", "split": True}, True),
        ({"text": "a dog", "split": "no"}, False),
        ({"text": "a dog", "protect": False}, True),
        ({"text": "a dog", "protect": 1}, False),
        ({"text": "a dog", "glossary": {"dog": 5}}, False),
        ({"text": "a dog", "glossary": {}}, False),
        ({"text": "a dog", "max_length_factor": 4.1}, False),
        ({"text": "a dog", "sampling": True, "temperature": 0.5, "top_k": 3, "seed": 7}, True),
        ({"text": "a dog", "retry_loops": True}, True),
        ({"text": "a dog", "sampling": 1}, False),
        ({"text": "a dog", "top_k": 0.5, "sampling": True}, False),
        ({"text": "a dog", "alignments": True}, False),
    ],
)
def test_requests_that_it_allows_are_answered_and_others_refused(
    local: Local, document: Any, body: dict[str, object], valid: bool
) -> None:
    jsonschema = pytest.importorskip("jsonschema", reason="needs hat-ray[dev]")
    schema = {"$ref": "#/components/schemas/TranslationRequest", "components": document["components"]}
    assert jsonschema.Draft202012Validator(schema).is_valid(body) == valid
    assert (local.ask(body).status == 200) == valid


def test_below_a_route_it_names_that(exported: Exported) -> None:
    with served(exported.folder, route="/mt") as below:
        assert below.ask(path="/openapi.json").json["servers"] == [{"url": "/mt"}]
