"""A provider on this machine: it replays answers of OpenAI that were recorded, and fails as it is told.

``recordings.jsonl`` holds, for chat completions and for Responses, an answer of text and one of tool calls, whole and
as a stream. They were recorded by the tests of pydantic-ai (MIT, Copyright Pydantic Services Inc.). A request with
tools gets the calls, any other the text. Changed are: the name of the model, which becomes the one that was asked for;
ids and times of whole chats; and the stream of a chat's text, which was recorded as a whole, and is told in pieces
here. The usage is always as recorded, whatever was asked.

The header ``x-demo`` says what is to go wrong, in words such as ``cut=3,slow=0.1``:

======== ===========================================================================================================
status=N it fails with this status
cut=N    it breaks the connection after N events
stop=N   it ends after N events, as if that were all
error=N  it says after N events that it failed, and waits for its client to hang up
wait=N   it says nothing more after N events, until its client hangs up
slow=S   it waits S seconds before each event
usage=no the usage is left out; ``usage=odd``: it contradicts itself
======== ===========================================================================================================
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

__all__ = ["recordings", "create_provider"]

_HERE: Final = Path(__file__).parent
_FOREVER: Final = 3600
_FAILED: Final = {"error": {"message": "Overloaded", "type": "server_error", "param": None, "code": "demo"}}


class CutError(Exception):
    """Breaks a connection, as it was asked for."""


def _hide_requested_cuts(record: logging.LogRecord) -> bool:
    """Whether the log should have a failure of the server."""
    return record.exc_info is None or not isinstance(record.exc_info[1], CutError)


def recordings() -> dict[tuple[str, bool], dict[str, Any]]:
    """What was recorded, by endpoint and whether there are tools."""
    lines = (_HERE / "recordings.jsonl").read_text(encoding="utf-8").splitlines()
    return {(found["endpoint"], found["tools"]): found for found in map(json.loads, lines)}


def create_provider(demo: str = "") -> Starlette:
    """The provider. ``demo`` is what goes wrong where a request says nothing of it."""
    logging.getLogger("uvicorn.error").addFilter(_hide_requested_cuts)
    known = recordings()
    seen: list[dict[str, Any]] = []

    async def answer(request: Request) -> Response:
        asked: dict[str, Any] = await request.json()
        seen.append(asked)
        wrong = dict(word.split("=") for word in request.headers.get("x-demo", demo).split(",") if word)
        if "status" in wrong:
            return _failure(int(wrong["status"]))
        endpoint = "chat" if request.url.path.endswith("/chat/completions") else "responses"
        found = known[endpoint, bool(asked.get("tools"))]
        if not asked.get("stream"):
            await asyncio.sleep(float(wrong.get("slow", 0)))
            return JSONResponse(_rewrite_body(found["body"], asked["model"], wrong.get("usage")))
        events = _events(found, asked, wrong.get("usage"))
        return StreamingResponse(_emit_events(events, wrong), media_type="text/event-stream; charset=utf-8")

    paths = ("/v1/chat/completions", "/v1/responses")
    app = Starlette(routes=[Route(path, answer, methods=["POST"]) for path in paths])
    app.state.seen = seen
    return app


def _failure(status: int) -> Response:
    said = {"message": f"Recorded failure {status}", "type": "server_error", "param": None, "code": "demo"}
    return JSONResponse({"error": said}, status, headers={"retry-after": "1"} if status == 429 else None)


async def _emit_events(events: Iterator[str], wrong: dict[str, str]) -> AsyncIterator[str]:
    for number, event in enumerate(events):
        if wrong.get("cut") == str(number):
            raise CutError
        if wrong.get("stop") == str(number):
            return
        if wrong.get("error") == str(number):
            yield f"event: error\ndata: {json.dumps(_FAILED)}\n\n"
        if str(number) in (wrong.get("error"), wrong.get("wait")):
            await asyncio.sleep(_FOREVER)
        await asyncio.sleep(float(wrong.get("slow", 0)))
        yield event


def _events(found: dict[str, Any], asked: dict[str, Any], usage: str | None) -> Iterator[str]:
    for event in _recorded_events(found):
        head, mark, data = event.partition("data: ")
        if not data.startswith("{"):
            yield event + "\n\n"
            continue
        told = json.loads(data)
        if "choices" in told:
            if not told["choices"] and not (asked.get("stream_options") or {}).get("include_usage"):
                continue
            told = _rewrite_body(told, asked["model"], usage)
        elif "response" in told:
            told["response"] = _rewrite_body(told["response"], asked["model"], usage)
        yield f"{head}{mark}{json.dumps(told, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _recorded_events(found: dict[str, Any]) -> Iterator[str]:
    if found["sse"] is not None:
        yield from found["sse"].strip().split("\n\n")
        return
    body = found["body"]
    around = {**body, "object": "chat.completion.chunk", "usage": None}
    text = body["choices"][0]["message"]["content"]
    words = [word + " " for word in text.split(" ")]
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in [*words[:-1], words[-1][:-1]]), {}]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        yield "data: " + json.dumps({**around, "choices": [choice]})
    yield "data: " + json.dumps({**around, "choices": [], "usage": body["usage"]})
    yield "data: [DONE]"


def _rewrite_body(body: dict[str, Any], model: str, usage: str | None) -> dict[str, Any]:
    """A recorded body for another model, and with no usage, or a wrong one, if that was asked for."""
    changed = {**body, "model": model}
    if usage == "no":
        changed.pop("usage", None)
    elif usage == "odd" and changed.get("usage"):
        told = dict(changed["usage"])
        details = "prompt_tokens_details" if "prompt_tokens" in told else "input_tokens_details"
        told[details] = {**told[details], "cached_tokens": 10**6}
        changed["usage"] = told
    return changed
