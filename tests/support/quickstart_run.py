"""Executes a quickstart with the installed package, in the current folder: files, commands, service and client.

``python quickstart_run.py PAGE [URL]``: URL is that of a provider, which the service gets instead of the page's.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parent))

import brivionix_billing
from console_kit import FENCE, Console, steps, write_files

_ENVIRONMENT = re.compile(r"([A-Z_]+)=(\S+)")
_SECRET = re.compile(r"sk-[A-Za-z0-9_.-]{20,}")


def main(page: Path, provider: str) -> None:
    """Execute the page. Its install commands are left to the caller, who made this environment."""
    installed = Path(brivionix_billing.__file__).resolve()
    assert installed.is_relative_to(Path(sys.prefix).resolve()), f"{installed} is not in {sys.prefix}"
    assert list(Path().iterdir()) == [], "the folder is not empty"
    text = page.read_text(encoding="utf-8")
    write_files(text, Path())
    before, service, after = text, "", ""
    if "## 4. A request" in text:
        before, service, after = re.split(r"(?=^## (?:3. The service|5. What it cost))", text, flags=re.MULTILINE)
    console, shown = Console(), ""
    for step in steps(before):
        shown += console.check(step)
    if service:
        serve(service, provider, _SECRET.findall(shown)[0])
        for step in steps(after):
            shown += console.check(step)
    print(f"{len(steps(text))} commands")


def serve(text: str, provider: str, secret: str) -> None:
    """Start the service as its command says, but with this provider and any free port, and run the client."""
    import uvicorn

    code, client = (body for language, body in FENCE.findall(text) if language == "python")
    Path("service.py").write_text(code, encoding="utf-8")
    (command,) = (body for _, body in FENCE.findall(text) if "uvicorn" in body)
    os.environ.update(_ENVIRONMENT.findall(command.replace("\\\n", " ")))
    os.environ.update({"GATEWAY_UPSTREAM": f"{provider}/v1", "GATEWAY_UPSTREAM_KEY": "sk-up", "GATEWAY_TOKEN": secret})
    (application,) = re.findall(r"uvicorn (\S+)", command)
    sys.path.insert(0, "")
    server = uvicorn.Server(uvicorn.Config(application, port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the service did not start"
        thread.join(0.01)
    (socket,) = server.servers[0].sockets
    os.environ["GATEWAY_URL"] = f"http://127.0.0.1:{socket.getsockname()[1]}/v1"
    names: dict[str, Any] = {}
    exec(compile(client, "client", "exec"), names)
    names["client"].close()
    server.should_exit = True
    thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
