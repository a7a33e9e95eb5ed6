"""What the service answers: each request by its path and method. It knows no Ray: a backend translates.

Decisions
- A request is refused in one line of JSON before it costs a translation: {"error": "...", "status": 400}.
- Every answer is bounded by `timeout_s`, and every fault is an answer of status 500, logged with the request's id.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from hat_ray.model.hypotheses.knobs import Decoding
from hat_ray.serve import libretranslate, openapi, pages
from hat_ray.serve.guard import Rules, log_refusal, request_id
from hat_ray.serve.metrics import OTHER, Metrics
from hat_ray.serve.requests import (
    BUSY,
    FAULT,
    NOT_ALLOWED,
    NOT_FOUND,
    TOO_LATE,
    RefusedError,
    RequestReader,
    TextOptions,
)
from hat_ray.serve.worker import Translated, WorkerStatus

log = logging.getLogger(__name__)

HEALTH = "/health"
_HEALTH_TIMEOUT_S = 5.0
_PLAIN = TextOptions()


class Backend(Protocol):
    """What translates: a worker of this process, or replicas elsewhere."""

    @property
    def retries(self) -> int:
        """Return how many requests were asked again because a replica was lost."""

    async def translate(self, texts: Sequence[str], decoding: Decoding, around: TextOptions) -> Translated:
        """Return the translations of each text, the best first."""

    async def reader(self) -> RequestReader:
        """Return the reader of requests, which holds the vocabulary of the model's source."""

    async def status(self) -> WorkerStatus:
        """Return what one worker reports; raises RefusedError where none can."""


@dataclass(frozen=True)
class Route:
    """What answers at a path below the service's own."""

    path: str
    """Empty for the service's own path."""
    method: str
    answer: Callable[[Request], Awaitable[Response]]


class Service:
    """Answers requests with the help of a backend."""

    def __init__(self, backend: Backend, rules: Rules, timeout_s: float) -> None:
        self._backend, self._rules, self._timeout_s = backend, rules, timeout_s
        self._reader: RequestReader | None = None
        self._metrics = Metrics(lambda: backend.retries)
        self.routes = (
            Route("", "GET", self._page),
            Route("", "POST", self._translation),
            Route("/translate", "POST", self._libre_translation),
            Route("/languages", "GET", self._languages),
            Route("/detect", "POST", self._detection),
            Route("/frontend/settings", "GET", self._frontend_settings),
            Route(HEALTH, "GET", self._health),
            Route("/metrics", "GET", self._exposition),
            Route("/openapi.json", "GET", self._document),
            Route("/spec", "GET", self._document),
            Route("/docs", "GET", self._description),
        )

    async def answer(self, request: Request) -> Response:
        """Answer a request; what is refused or fails is an answer as well."""
        path = path_of(request)
        name = (path or "/") if any(route.path == path for route in self.routes) else OTHER
        with self._metrics.request(name, request.method) as answered:
            response = await self._answer(request)
            answered(response.status_code)
            return response

    async def _answer(self, request: Request) -> Response:
        try:
            self._rules.check_head(request.headers)
            return await self._answered(request)
        except RefusedError as refused:
            return self._refusal(request, refused)
        except Exception as error:
            log.exception("request %s failed", request_id(request.headers))
            line = (str(error).splitlines() or [type(error).__name__])[0]
            return self._refusal(request, RefusedError(FAULT, f"this request failed: {line}"))

    async def _answered(self, request: Request) -> Response:
        route = self._route(request)
        try:
            async with asyncio.timeout(self._timeout_s):
                return await route.answer(request)
        except TimeoutError as error:
            raise RefusedError(TOO_LATE, f"not answered within {self._timeout_s:g} s: ask again") from error

    def _route(self, request: Request) -> Route:
        path = path_of(request)
        here = [route for route in self.routes if route.path == path]
        if not here:
            known = ", ".join(f"{route.method} {route.path or '/'}" for route in self.routes)
            raise RefusedError(NOT_FOUND, f"there is nothing at {path:.100}: there are {known}")
        method = "GET" if request.method == "HEAD" else request.method
        for route in here:
            if route.method == method:
                return route
        raise RefusedError(NOT_ALLOWED, f"this path is asked by {_methods(here)}, got {request.method:.20}")

    def _refusal(self, request: Request, refused: RefusedError) -> Response:
        log_refusal(request_id(request.headers), request.method, request.url.path, refused)
        headers = {"Retry-After": "1"} if refused.status == BUSY else None
        if refused.status == NOT_ALLOWED:
            path = path_of(request)
            headers = {"Allow": _methods([route for route in self.routes if route.path == path])}
        return JSONResponse(refused.to_dict(), refused.status, headers)

    async def _translation(self, request: Request) -> Response:
        """Answer our own form of request."""
        reader, body = await self.reader(), await self._rules.body(request.receive)
        asked = reader.read(body)
        return JSONResponse(asked.answer(await self._translate("/", asked.texts, asked.decoding, asked.around)))

    async def _libre_translation(self, request: Request) -> Response:
        """Answer LibreTranslate's form of request."""
        reader, body = await self.reader(), await self._rules.body(request.receive)
        asked = libretranslate.read_translation(reader, request.headers.get("content-type", ""), body)
        if isinstance(asked, libretranslate.HtmlRequest):
            return JSONResponse(await asked.answer(self._translate_lines))
        return JSONResponse(asked.answer(await self._translate("/translate", asked.lines, asked.decoding)))

    async def _translate_lines(self, lines: list[str], around: TextOptions) -> list[str]:
        return [best for best, *_ in await self._translate("/translate", lines, Decoding(), around)] if lines else []

    async def _translate(
        self, route: str, texts: Sequence[str], decoding: Decoding, around: TextOptions = _PLAIN
    ) -> list[list[str]]:
        found = await self._backend.translate(texts, decoding, around)
        self._metrics.translated(route, [line for text in texts for line in text.split("\n")])
        self._metrics.protected(route, found.protected, found.repaired)
        return found.texts

    async def _languages(self, request: Request) -> Response:
        return JSONResponse(libretranslate.languages(await self.reader()))

    async def _detection(self, request: Request) -> Response:
        reader, body = await self.reader(), await self._rules.body(request.receive)
        kind = request.headers.get("content-type", "")
        return JSONResponse(await asyncio.to_thread(libretranslate.read_detection, reader, kind, body))

    async def _frontend_settings(self, request: Request) -> Response:
        return JSONResponse(libretranslate.frontend_settings(await self.reader(), self._timeout_s))

    async def reader(self) -> RequestReader:
        """Return the reader of requests; the backend is asked once."""
        if self._reader is None:
            self._reader = await self._backend.reader()
        return self._reader

    async def _page(self, request: Request) -> Response:
        """Answer with the page to type into; its links need a path that ends with a slash."""
        path = request.url.path
        if not path.endswith("/"):
            return RedirectResponse(f"./{quote(path.rpartition('/')[2])}/")
        return pages.translation_page(await self.reader())

    async def _exposition(self, request: Request) -> Response:
        content, content_type = self._metrics.exposition(request.headers.get("accept", ""))
        return Response(content, headers={"Content-Type": content_type})

    async def _document(self, request: Request) -> Response:
        return JSONResponse(openapi.document(await self.reader(), root_of(request)))

    async def _description(self, request: Request) -> Response:
        return pages.description_page(openapi.document(await self.reader(), root_of(request)))

    async def _health(self, request: Request) -> Response:
        """Report that a worker answers."""
        try:
            async with asyncio.timeout(_HEALTH_TIMEOUT_S):
                status = await self._backend.status()
        except TimeoutError as error:
            raise RefusedError(BUSY, f"no replica answers within {_HEALTH_TIMEOUT_S:g} s") from error
        sizes = status.batch_sizes
        mean = round(sum(sizes) / len(sizes), 2) if sizes else None
        facts: dict[str, Any] = {"status": "ok", **status.model, "mean_batch": mean, "retries": self._backend.retries}
        return JSONResponse(facts)


def root_of(request: Request) -> str:
    """Return the path of the service, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def path_of(request: Request) -> str:
    """Return a request's path below the service's own, without a slash at its end."""
    return request.url.path.removeprefix(root_of(request)).rstrip("/")


def _methods(routes: Sequence[Route]) -> str:
    """Return the methods of routes, as the header Allow names them."""
    methods = {route.method for route in routes}
    return ", ".join(sorted(methods | ({"HEAD"} if "GET" in methods else set())))
