"""The routes of the gateway, each with and without ``/v1``: clients differ in what they take as the base URL."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from datetime import time as time_of_day
from typing import Any, Final

from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from brivionix_billing import BillingError
from brivionix_billing.gateway import Api, GatewayError, describe_exception, from_billing_error
from brivionix_billing.times import Period

from .service import API_PATHS, Gateway
from .web import SECURITY_HEADERS, error_response

__all__ = ["GatewayApp", "create_app"]

_LOG: Final = logging.getLogger("gateway")
_MAX_USAGE: Final = timedelta(days=100)
"""Maximum period of a query of the usage: others wait for the ledger meanwhile."""
_MAX_REQUESTS: Final = 100
"""Maximum number of requests in a page."""
_OF_THE_ACCOUNT: Final = ("cost", "lots", "owed")
"""Fields of requests that a member does not get: the purchases and the debt of the account that pays for it."""
_COMPLETIONS: Final[dict[str, Api]] = {prefix + path: api for api, path in API_PATHS.items() for prefix in ("/v1", "")}
Handler = Callable[[Gateway, Request], Awaitable[Response]]


def _with_headers(send: Send, id: str) -> Send:
    """Add the headers of every response: the id of the request, and that it may not be cached or taken for a page."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [pair for pair in message["headers"] if pair[0] not in SECURITY_HEADERS]
            message["headers"] = [*headers, *SECURITY_HEADERS.items(), (b"x-request-id", id.encode())]
        await send(message)

    return send_with_headers


def _new_id() -> str:
    """Return an id that begins with the time: the ledger's database stores ids in order, and changes fewer pages.

    With ids from clients, two requests could have the same id.
    """
    return f"req_{time.time_ns():016x}{os.urandom(8).hex()}"


async def models(gateway: Gateway, request: Request) -> Response:
    token = await gateway.token(request)
    return JSONResponse({"object": "list", "data": [_model(gateway, name) for name in gateway.models(token)]})


async def model(gateway: Gateway, request: Request) -> Response:
    token, name = await gateway.token(request), gateway.book.resolve_model(request.path_params["model"])
    if name not in gateway.models(token):
        raise BillingError("model_not_allowed", name)
    return JSONResponse(_model(gateway, name))


def _model(gateway: Gateway, name: str) -> dict[str, Any]:
    released = gateway.book.model_info(name).released
    created = 0 if released is None else int(datetime.combine(released, time_of_day(), UTC).timestamp())
    return {"id": name, "object": "model", "created": created, "owned_by": "gateway"}


async def balance(gateway: Gateway, request: Request) -> Response:
    return JSONResponse(await gateway.balance(await gateway.token(request)))


async def usage(gateway: Gateway, request: Request) -> Response:
    """Return usage by day and model (``?by=token``: and token), this month or ``?period=2026-10`` or ``FROM/TO``."""
    token, query = await gateway.token(request), request.query_params
    period = _period(query, query.get("period") or gateway.clock().strftime("%Y-%m"))
    by_token = query.get("by") == "token"
    lines = await gateway.usage(token, period, by_token=by_token)
    return JSONResponse({"account": token.account, "period": str(period), "usage": [line.as_dict() for line in lines]})


async def requests(gateway: Gateway, request: Request) -> Response:
    """Return requests of the token's account, or of its member, the newest first: what each cost, and its state.

    ``?token=`` and ``?model=`` filter; ``?period=`` is as for the usage (default: all); ``?limit=`` is 1 to 100;
    ``?after=`` is the ``next`` of the previous page.
    """
    token, query = await gateway.token(request), request.query_params
    try:
        limit = int(query.get("limit") or _MAX_REQUESTS)
        page = await gateway.requests(
            token.account,
            token=query.get("token") or None,
            model=query.get("model") or None,
            member=token.member,
            period=_period(query, query["period"]) if query.get("period") else None,
            limit=limit if 1 <= limit <= _MAX_REQUESTS else 0,
            after=query.get("after") or None,
        )
    except (ValueError, BillingError) as error:
        if isinstance(error, BillingError) and error.code != "invalid_argument":
            raise
        message = f"Use a limit of 1 to {_MAX_REQUESTS}, and as after the next of the previous page."
        raise GatewayError(400, "invalid_request", message) from None
    hidden = () if token.member is None else _OF_THE_ACCOUNT
    found = [{name: value for name, value in found.as_dict().items() if name not in hidden} for found in page.requests]
    return JSONResponse({"account": token.account, "requests": found, "next": page.next})


def _period(query: QueryParams, text: str) -> Period:
    period = Period.parse(text, query.get("zone") or "UTC")
    if period.end - period.start > _MAX_USAGE:
        raise BillingError("invalid_period", f"the period is too long; use at most {_MAX_USAGE.days} days")
    return period


async def health(gateway: Gateway, _request: Request) -> Response:
    """Check that the ledger answers, for load balancers."""
    return JSONResponse({"status": await gateway.probe.check()})


class GatewayApp(Starlette):
    """The ASGI application. Its :attr:`gateway` exists while it serves.

    Requests to models, which are nearly all, are spared Starlette's router and middleware.
    """

    gateway: Gateway

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request. Its id is ``request_id`` in the scope, and ``x-request-id`` for the client."""
        if scope["type"] == "http":
            scope["request_id"] = id = _new_id()
            send = _with_headers(send, id)
            api = _COMPLETIONS.get(scope["path"])
            if api is not None:
                response = await self._complete(Request(scope, receive), api)
                await response(scope, receive, send)
                return
        await super().__call__(scope, receive, send)

    async def _complete(self, request: Request, api: Api) -> Response:
        if request.method != "POST":
            return await _http_error(request, HTTPException(405))
        try:
            return await self.gateway.handle_completion(request, api)
        except Exception as error:
            return _error_response(error, request)


def _error_response(error: Exception, request: Request) -> Response:
    if isinstance(error, BillingError):
        return error_response(from_billing_error(error), request)
    if isinstance(error, GatewayError):
        return error_response(error, request)
    if isinstance(error, ClientDisconnect):
        return Response(status_code=400)  # no one reads it
    # Caught here, so that the response still gets its request id.
    _LOG.error("%s failed: %s", request.scope["request_id"], describe_exception(error))
    return error_response(GatewayError(500, "internal_error", "The gateway failed."), request)


def create_app(make: Callable[[], Gateway]) -> GatewayApp:
    """Return the ASGI application. ``make`` is called where its event loop runs."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        app.gateway = make()
        await app.gateway.open()
        try:
            yield
        finally:
            await app.gateway.close()

    def bound(handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        async def handle(request: Request) -> Response:
            try:
                return await handler(app.gateway, request)
            except HTTPException:
                raise
            except Exception as error:
                return _error_response(error, request)

        return handle

    paths: list[tuple[str, str, Handler]] = [
        ("GET", "/models", models),
        ("GET", "/models/{model:path}", model),
        ("GET", "/balance", balance),
        ("GET", "/usage", usage),
        ("GET", "/requests", requests),
        ("GET", "/health", health),
    ]
    app = GatewayApp(
        routes=[
            Route(prefix + path, bound(handler), methods=[method])
            for prefix in ("/v1", "")
            for method, path, handler in paths
        ],
        exception_handlers={HTTPException: _http_error},
        lifespan=lifespan,
    )
    return app


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {
        404: ("unknown_path", "This path does not exist here."),
        405: ("unknown_method", "This path does not support this method."),
    }
    code, message = messages.get(error.status_code, ("invalid_request", "The request is not valid."))
    return error_response(GatewayError(error.status_code, code, message), request)
