"""One bounded HTTP exchange with an outside service: so many seconds in all, so many bytes at most, no redirect."""

from __future__ import annotations

import time
from typing import Any

import requests

_AT_A_TIME = 64 * 1024


def fetched(http: requests.Session, method: str, url: str, *, seconds: float, largest: int, **options: Any) -> bytes:
    """The body of an answer with status 200.

    `seconds` is for the whole answer, beside the connecting: one that sends a byte now and then holds nobody up. Raises
    `requests.RequestException` or `OSError` where it is not reached or too slow, ValueError for any other answer.
    """
    ends = time.monotonic() + seconds
    with http.request(method, url, timeout=seconds, allow_redirects=False, stream=True, **options) as answer:
        if answer.status_code != requests.codes.ok:
            raise ValueError("not answered with 200")
        body = bytearray()
        while True:
            if time.monotonic() >= ends:
                raise requests.ReadTimeout("the answer takes too long")
            try:
                part = answer.raw.read1(_AT_A_TIME, decode_content=True)
            except Exception as error:
                raise requests.ConnectionError(type(error).__name__) from None
            if not part:
                break
            body += part
            if len(body) > largest:
                raise ValueError("too large")
    return bytes(body)
