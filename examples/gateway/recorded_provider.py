"""A local provider that replays recorded answers of OpenAI, and simulates failures on request.

``recordings.jsonl`` has a text answer and an answer with tool calls, for chat completions and for Responses, complete
and as a stream. They were recorded by the tests of pydantic-ai (MIT, Copyright Pydantic Services Inc.). A request with
tools gets the tool calls; any other request gets the text. These parts are not as recorded:

- the model name, which is that of the request;
- ids and times of complete answers to chat completions;
- the stream of the text answer to chat completions, which is built here from the complete answer.

Answers of other endpoints (messages, embeddings, images, transcriptions) are made by ``made_answers.py``.

The usage is always the recorded one and does not depend on the request.

The header ``x-demo`` selects failures, such as ``cut=3,slow=0.1``:

========= ============================================================================================================
status=N  fail with this status
cut=N     break the connection after N events
stop=N    end the stream normally after N events
error=N   send an error after N events, and keep the connection open until the client closes it
wait=N    send nothing after N events, and keep the connection open until the client closes it
slow=S    wait S seconds before each event
long=N    begin the answer with N KiB that mean nothing: comments of a stream, white space of JSON
usage=no  leave out the usage
usage=odd send a usage that contradicts itself
========= ============================================================================================================
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from . import made_answers

__all__ = ["recordings", "create_provider"]

_PATHS: Final = (
    "/chat/completions",
    "/responses",
    "/messages",
    "/embeddings",
    "/images/generations",
    "/audio/transcriptions",
)
_HERE: Final = Path(__file__).parent
_FOREVER: Final = 3600
"""Wait of a stream that stays open, in seconds."""
_ERROR_EVENT: Final = {"error": {"message": "Overloaded", "type": "server_error", "param": None, "code": "demo"}}


class CutError(Exception):
    """A broken connection that the request asked for."""


def _is_unrequested(record: logging.LogRecord) -> bool:
    """Return False for the log record of a requested cut."""
    return record.exc_info is None or not isinstance(record.exc_info[1], CutError)


def recordings() -> dict[tuple[str, bool], dict[str, Any]]:
    """Return the recordings by endpoint and presence of tools."""
    lines = (_HERE / "recordings.jsonl").read_text(encoding="utf-8").splitlines()
    return {(recording["endpoint"], recording["tools"]): recording for recording in map(json.loads, lines)}


def create_provider(demo: str = "") -> Starlette:
    """Create the provider. ``demo`` selects failures for requests without the header ``x-demo``."""
    logging.getLogger("uvicorn.error").addFilter(_is_unrequested)
    all_recordings = recordings()
    seen: list[dict[str, Any]] = []
    headers: list[dict[str, str]] = []

    async def answer(request: Request) -> Response:
        body: dict[str, Any] = await _read_request(request)
        seen.append(body)
        headers.append(dict(request.headers))
        failures = dict(word.split("=") for word in request.headers.get("x-demo", demo).split(",") if word)
        if "status" in failures:
            return _error_response(int(failures["status"]))
        complete, events = _answers(request.url.path, body, failures.get("usage"), all_recordings)
        if str(body.get("stream", False)).lower() != "true":
            await asyncio.sleep(float(failures.get("slow", 0)))
            padding = b" " * 1024 * int(failures.get("long", 0))
            return Response(padding + json.dumps(complete).encode(), media_type="application/json")
        return StreamingResponse(_emit_events(events, failures), media_type="text/event-stream; charset=utf-8")

    app = Starlette(routes=[Route(f"/v1{path}", answer, methods=["POST"]) for path in _PATHS])
    app.state.seen, app.state.headers = seen, headers
    return app


async def _read_request(request: Request) -> dict[str, Any]:
    if not request.url.path.endswith("/transcriptions"):
        body: dict[str, Any] = await request.json()
        return body
    async with request.form() as form:
        return {name: await value.read() if isinstance(value, UploadFile) else value for name, value in form.items()}


def _answers(
    path: str, body: dict[str, Any], usage: str | None, all_recordings: dict[tuple[str, bool], dict[str, Any]]
) -> tuple[dict[str, Any], Iterator[str]]:
    """Return the complete answer to a request, and its events."""
    model, nothing = body["model"], iter(())
    if path.endswith("/messages"):
        return _rewrite_body(made_answers.message(model), model, usage), _ended(made_answers.message_events(model))
    if path.endswith("/embeddings"):
        return made_answers.embeddings(model, body["input"]), nothing
    if path.endswith("/generations"):
        return made_answers.images(body.get("n", 1)), nothing
    if path.endswith("/transcriptions"):
        return made_answers.transcription(), _ended(made_answers.transcription_events())
    endpoint = "chat" if path.endswith("/chat/completions") else "responses"
    recording = all_recordings[endpoint, bool(body.get("tools"))]
    return _rewrite_body(recording["body"], model, usage), _events(recording, body, usage)


def _ended(events: Iterator[str]) -> Iterator[str]:
    return (f"{event}\n\n" for event in events)


def _error_response(status: int) -> Response:
    error = {"message": f"Recorded failure {status}", "type": "server_error", "param": None, "code": "demo"}
    return JSONResponse({"error": error}, status, headers={"retry-after": "1"} if status == 429 else None)


async def _emit_events(events: Iterator[str], failures: dict[str, str]) -> AsyncIterator[str]:
    """Yield the events, with the selected failures."""
    for _ in range(int(failures.get("long", 0))):
        yield f":{' ' * 1021}\n\n"
    for number, event in enumerate(events):
        if failures.get("cut") == str(number):
            raise CutError
        if failures.get("stop") == str(number):
            return
        if failures.get("error") == str(number):
            yield f"event: error\ndata: {json.dumps(_ERROR_EVENT)}\n\n"
        if str(number) in (failures.get("error"), failures.get("wait")):
            await asyncio.sleep(_FOREVER)
        await asyncio.sleep(float(failures.get("slow", 0)))
        yield event


def _events(recording: dict[str, Any], request: dict[str, Any], usage: str | None) -> Iterator[str]:
    """Yield the events of a stream, with the model of the request and the selected usage."""
    for event in _recorded_events(recording):
        head, mark, data = event.partition("data: ")
        if not data.startswith("{"):
            yield event + "\n\n"
            continue
        content = json.loads(data)
        if "choices" in content:
            if not content["choices"] and not (request.get("stream_options") or {}).get("include_usage"):
                continue
            content = _rewrite_body(content, request["model"], usage)
        elif "response" in content:
            content["response"] = _rewrite_body(content["response"], request["model"], usage)
        yield f"{head}{mark}{json.dumps(content, ensure_ascii=False, separators=(',', ':'))}\n\n"


def _recorded_events(recording: dict[str, Any]) -> Iterator[str]:
    """Yield the recorded events. If only the complete answer was recorded, its text is split into words."""
    if recording["sse"] is not None:
        yield from recording["sse"].strip().split("\n\n")
        return
    body = recording["body"]
    envelope = {**body, "object": "chat.completion.chunk", "usage": None}
    text = body["choices"][0]["message"]["content"]
    words = [word + " " for word in text.split(" ")]
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in [*words[:-1], words[-1][:-1]]), {}]
    for delta in deltas:
        choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
        yield "data: " + json.dumps({**envelope, "choices": [choice]})
    yield "data: " + json.dumps({**envelope, "choices": [], "usage": body["usage"]})
    yield "data: [DONE]"


def _rewrite_body(body: dict[str, Any], model: str, usage: str | None) -> dict[str, Any]:
    """Return a recorded body with another model; with ``usage``, without its usage (no) or with a wrong one (odd)."""
    changed = {**body, "model": model}
    if usage == "no":
        changed.pop("usage", None)
    elif usage == "odd" and changed.get("usage"):
        counts = dict(changed["usage"])
        if "cache_read_input_tokens" in counts:  # Anthropic's counts stand beside each other, so none contradicts
            return {**changed, "usage": {**counts, "output_tokens": -5}}
        details = "prompt_tokens_details" if "prompt_tokens" in counts else "input_tokens_details"
        counts[details] = {**counts[details], "cached_tokens": 10**6}
        changed["usage"] = counts
    return changed
