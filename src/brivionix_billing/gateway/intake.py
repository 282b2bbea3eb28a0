"""Reads the bodies of requests within limits: the balance first, then the bytes."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any, Final

from brivionix_billing.gateway.client_errors import GatewayError
from brivionix_billing.gateway.limits import GatewayLimits, Slot
from brivionix_billing.gateway.turns import PACED_BYTES

__all__ = ["INLINE_BYTES", "Body", "Parse", "body_size", "is_quick", "read_content", "require_few_values", "too_large"]

Body = bytes | Mapping[str, Any] | AsyncIterable[bytes]
"""A JSON body, the fields of a form with the content of files as bytes, or the pieces of either as they arrive."""
Parse = Callable[[bytes], Awaitable[Mapping[str, Any]]]
"""Parses the bytes of a form to its fields."""

INLINE_BYTES: Final = 4 * 1024
"""Up to this size, counting usually takes less than the change to another thread, and blocks the loop for about 1 ms.
The hold alone checks the balance."""
_EXPANDING: Final = (b"$ref", rb"\u00")
"""A reference in a schema, by which a small body may take as long as a large one; or escaped letters of one."""
_QUOTE: Final = ord('"')
_VALUE_OR_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"?|[,\[{]', re.DOTALL)


async def read_content(
    body: Body,
    slot: Slot,
    limits: GatewayLimits,
    require_credits: Callable[[], Awaitable[None]],
    wait_pace: Callable[[int], Awaitable[None]],
    parse: Parse | None = None,
) -> bytes | Mapping[str, Any]:
    """Return the bytes of a JSON body, or the fields of a form.

    ``require_credits`` is awaited before more than a few kilobytes are read, and ``wait_pace`` with the number of bytes
    of each long part before more is read. Raises ``request_too_large`` (413),
    ``request_too_slow`` (408), ``too_many_requests`` (429), ``overloaded`` (503), and what its arguments raise.
    """
    is_form = parse is not None or isinstance(body, Mapping)
    max_bytes = limits.max_form_bytes if is_form else limits.max_body_bytes
    if isinstance(body, bytes | Mapping):
        size = body_size(body)
        if size > max_bytes:
            raise too_large(max_bytes)
        slot.add_bytes(size)
        if size > INLINE_BYTES:
            await require_credits()
        content: bytes | Mapping[str, Any] = body
    else:
        content = await _read_pieces(body, slot, max_bytes, limits.body_seconds, require_credits, wait_pace)
    return await parse(content) if parse is not None and isinstance(content, bytes) else content


async def _read_pieces(
    pieces: AsyncIterable[bytes],
    slot: Slot,
    max_bytes: int,
    seconds: float,
    require_credits: Callable[[], Awaitable[None]],
    wait_pace: Callable[[int], Awaitable[None]],
) -> bytes:
    parts, part = list[bytes](), bytearray()  # of which the last one is not complete
    size = 0
    is_checked = False
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    try:
        async with asyncio.timeout_at(end) as timer:
            async for piece in pieces:
                size += len(piece)
                if size > max_bytes:
                    raise too_large(max_bytes)
                slot.add_bytes(len(piece))
                part += piece
                if not is_checked and size > INLINE_BYTES:
                    await require_credits()
                    is_checked = True
                if len(part) >= PACED_BYTES:
                    count = len(part)
                    parts.append(bytes(part))
                    part.clear()
                    since = loop.time()
                    timer.reschedule(None)  # while the body waits for those of others, its client is not slow
                    await wait_pace(count)
                    end += loop.time() - since
                    timer.reschedule(end)
    except TimeoutError:
        raise GatewayError(408, "request_too_slow", "The request took too long to arrive.") from None
    return b"".join([*parts, bytes(part)])  # which leaves Python's lock to others, if it takes a while


def too_large(max_bytes: int) -> GatewayError:
    """Return the error for a body that is too large."""
    return GatewayError(413, "request_too_large", f"The body of a request may have at most {max_bytes} bytes.")


def body_size(body: bytes | Mapping[str, Any]) -> int:
    """Return the approximate size of a body in bytes."""
    if isinstance(body, bytes):
        return len(body)
    return sum(len(value) for value in body.values() if isinstance(value, bytes | str))


def is_quick(content: bytes | Mapping[str, Any]) -> bool:
    """Return whether a body is counted in about a millisecond at most."""
    return (
        isinstance(content, bytes)
        and len(content) <= INLINE_BYTES
        and not any(expanding in content for expanding in _EXPANDING)
    )


def require_few_values(body: bytes, max_values: int) -> None:
    """Raise ``request_too_large`` if a JSON body has too many values, before it is parsed.

    The first value of each array and object follows a bracket, and every other a comma.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") <= max_values:
        return
    # Most of these may be in texts. A value has at most two strings: its key and itself.
    values = strings = 0
    for found in _VALUE_OR_STRING.finditer(body):
        if body[found.start()] == _QUOTE:
            strings += 1
        else:
            values += 1
        if values > max_values or strings > 2 * max_values:
            message = f"The body of a request may have at most {max_values} JSON values."
            raise GatewayError(413, "request_too_large", message)
