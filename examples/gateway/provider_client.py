"""What the gateway needs of aiohttp: a response as the library reads it, and a form."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp

__all__ = ["ProviderAnswer", "form_data"]


class ProviderAnswer:
    """A response of aiohttp whose body was not read yet, as ``brivionix_billing.gateway`` reads one."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status_code = response.status
        self.headers: Mapping[str, str] = response.headers  # in any case

    def aiter_bytes(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives."""
        return self._response.content.iter_any()

    async def aclose(self) -> None:
        """Return the connection to the pool, or close it if the body was not read to its end."""
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def form_data(fields: Mapping[str, Any]) -> aiohttp.FormData:
    """Return the fields of a form with a file, encoded again."""
    form = aiohttp.FormData()
    for name, value in fields.items():
        if name == "file":
            form.add_field(name, value, filename=fields["file_name"], content_type="application/octet-stream")
        elif name != "file_name":
            for each in value if isinstance(value, list) else [value]:
                form.add_field(name, each)
    return form
