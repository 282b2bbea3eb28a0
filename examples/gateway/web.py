"""What the gateway needs of Starlette: reading bodies and forms, error responses, and a streaming response."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, Final

from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from brivionix_billing.gateway import RESPONSE_HEADERS, ClientAnswer, GatewayError, too_large

_FIELD_NAME: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}(\[\])?", re.ASCII)
_PRICED_FIELDS: Final = frozenset(
    {"model", "file", "file_name", "stream", "response_format", "service_tier", "speed", "background"}
)
"""Fields that decide the price. A provider may take ``Model`` or ``model[]`` for one of them."""

_PIECE_BYTES: Final = 256 * 1024
SECURITY_HEADERS: Final = {name.encode(): value.encode() for name, value in RESPONSE_HEADERS.items()}
"""Headers of every response."""

__all__ = ["SECURITY_HEADERS", "AnswerStream", "answer_response", "body_pieces", "error_response", "parse_form"]


def error_response(error: GatewayError, request: Request) -> JSONResponse:
    """Return the response to an error, in the format of the API that was called."""
    is_anthropic = request.url.path.endswith("/messages")
    return JSONResponse(error.body_in("anthropic" if is_anthropic else "openai"), error.status, error.headers)


async def body_pieces(request: Request, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body of a request as it arrives. Raises 413 at once if its length is declared and too large."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise too_large(max_bytes)
    async for piece in request.stream():
        yield piece


async def parse_form(headers: Headers, body: bytes) -> Mapping[str, Any]:
    """Return the fields of a form: texts, lists of texts (``name[]``), and ``file`` as bytes with its ``file_name``.

    A repeated field is rejected: the provider might read the one that was not counted.
    """

    async def pieces() -> AsyncGenerator[bytes, None]:
        for start in range(0, len(body), _PIECE_BYTES):
            yield body[start : start + _PIECE_BYTES]
            await asyncio.sleep(0)  # other requests are served between two pieces
        yield b""

    _, options = parse_options_header(headers.get("content-type"))
    if options.get(b"charset", b"utf-8").lower() not in (b"utf-8", b"utf8"):
        # Python has decoders that fail in other ways, and some that take minutes.
        raise GatewayError(400, "invalid_request", "The charset of a form must be UTF-8.")
    try:
        form = await MultiPartParser(headers, pieces(), max_files=1, max_fields=50).parse()
    except (MultiPartException, KeyError) as error:
        raise GatewayError(400, "invalid_request", "The body is not a multipart form.") from error
    try:
        return await _read_fields(form)
    finally:
        await form.close()


async def _read_fields(form: FormData) -> Mapping[str, Any]:
    fields: dict[str, Any] = {}
    for name, value in form.multi_items():
        plain = name.removesuffix("[]").casefold()
        if not _FIELD_NAME.fullmatch(name) or (plain in _PRICED_FIELDS and name not in _PRICED_FIELDS):
            raise GatewayError(400, "invalid_request", "The form has a field with an invalid name.")
        if isinstance(value, UploadFile):
            if name != "file" or "file" in fields:
                raise GatewayError(400, "invalid_request", "There must be one file, in the field 'file'.", "file")
            if not (value.filename or "").isprintable():
                # It cannot be encoded again, which would look as if the provider had broken off.
                raise GatewayError(400, "invalid_request", "The form has a file name with invalid characters.")
            fields |= {"file": await value.read(), "file_name": value.filename or "file"}
        elif name.endswith("[]"):
            fields.setdefault(name, []).append(value)
        elif name in fields or name in ("file", "file_name"):
            raise GatewayError(400, "invalid_request", "The form has a repeated or an unknown field.")
        else:
            fields[name] = value
    return fields


def answer_response(answer: ClientAnswer) -> Response:
    """Return the response for an answer of the library."""
    if answer.body is None:
        return AnswerStream(answer)
    return Response(answer.body, answer.status, answer.headers, answer.media_type)


class AnswerStream(StreamingResponse):
    """Sends a stream, and says when the client takes nothing more of it."""

    def __init__(self, answer: ClientAnswer) -> None:
        self.answer = answer
        super().__init__(aiter(answer), answer.status, answer.headers, answer.media_type)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the response."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.answer.aclose()
