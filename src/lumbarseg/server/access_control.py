"""Who may ask, and for what: a layer before MONAI Label's server, which itself lets everybody ask for everything.

It judges the head of a request alone (address, query, headers, length) and answers a refusal as JSON. What a body
holds is judged where it is read, in `routes` and `store`.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Handler = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
MAX_UPLOAD_BYTES = 1_000_000_000
"""Bytes of one request that carries files; an exam of 512^3 voxels of two bytes is a quarter of that."""
_MAX_BODY_BYTES = 1_000_000  # of any other request
_NAME_PARAMETERS = ("image", "id", "label", "session_id", "tag", "model")
_BLOCKED_PATHS = ("/infer/wsi", "/reload", "/cvat")
_PUBLIC_PATHS = ("/auth/", "/auth/token")
_PLUGIN_USER = "lumbarseg"


@dataclass(frozen=True)
class AccessRules:
    """token: that every request must carry, "" for none; origins: of other pages that may ask.

    local: whether the server listens on this computer alone, so that no other name can be its own; proxied: whether
    requests may be passed on to a DICOMweb server.
    """

    token: str = ""
    origins: tuple[str, ...] = ()
    is_local: bool = True
    allow_proxy: bool = False
    max_upload_bytes: int = MAX_UPLOAD_BYTES


class _BodyTooLargeError(Exception):
    """A body is longer than it may be."""


@dataclass
class AccessControl:
    """The layer. handler: what is behind it."""

    app: Handler
    rules: AccessRules = field(default_factory=AccessRules)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        headers = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}
        refusal = _find_refusal(self.rules, scope, headers)
        if refusal:
            if refusal[0] != 413:
                await _read_body(receive, keep=False)  # a client that is still sending would not hear the reason
            await send_error(send, *refusal)
        elif self.rules.token and scope["path"].startswith("/auth"):
            await _handle_login(self.rules.token, scope, receive, send)
        else:
            await _forward_limited(self.app, scope, receive, send, _body_limit(self.rules, scope))


def _find_refusal(rules: AccessRules, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
    """Status and reason of a refusal, None where a request may pass."""
    host, origin, path = headers.get("host", ""), headers.get("origin"), str(scope["path"])
    if rules.is_local and _host_name(host) not in LOOPBACK_HOSTS:
        return 403, f"this server is not called {host!r}"
    if origin and origin not in (*rules.origins, f"http://{host}", f"https://{host}"):
        return 403, f"a page of {origin} may not ask this server; start it with --origin {origin} to let it"
    if headers.get("sec-fetch-site") == "cross-site" and not origin:
        return 403, "another page may not ask this server"
    if path.startswith(_BLOCKED_PATHS):
        return 404, f"{path} is not offered here"
    if path.startswith("/proxy") and not (rules.allow_proxy and _is_safe_name(path)):
        return 404, "no DICOM server is behind this one" if not rules.allow_proxy else "a path must not lead upward"
    if rules.token and path not in _PUBLIC_PATHS and not _has_token(rules.token, headers):
        return 401, "this server wants its token: the header Authorization: Bearer TOKEN"
    if not headers.get("content-length", "0").isdecimal():
        return 400, "content-length must be a number"
    if int(headers.get("content-length", "0")) > _body_limit(rules, scope):
        return 413, f"at most {_body_limit(rules, scope) / 1e6:g} MB are taken in one request"
    return _check_query(scope)


def _check_query(scope: Scope) -> tuple[int, str] | None:
    """A refusal of a name that could lead out of the folder of exams."""
    try:
        pairs = parse_qsl(scope.get("query_string", b"").decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        return 400, "the query cannot be read"
    for key, value in pairs:
        if key in _NAME_PARAMETERS and not (_is_safe_image_id if key == "image" else _is_safe_name)(value):
            return 400, f"{key}={value!r} must be a name, no path"
    return None


def _is_safe_name(text: str) -> bool:
    """Whether a name, or each part of a path, stays where it is."""
    parts = text.removeprefix("/proxy/").split("/") if text.startswith("/proxy/") else [text]
    return all(part not in (".", "..") and not set(part) & set('/\\\0:"<>|') for part in parts) and text.isprintable()


def _is_safe_image_id(text: str) -> bool:
    """Whether what a client calls an exam leads nowhere; a series may be called "4: SAG T2/STIR"."""
    parts = text.split("/")
    return text.isprintable() and "\\" not in text and (parts == [""] or not {"", ".", ".."} & set(parts))


def _host_name(host: str) -> str:
    """ "[::1]:8000" without the port."""
    return (host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower()


def _has_token(expected_token: str, headers: dict[str, str]) -> bool:
    kind, _, given = headers.get("authorization", "").partition(" ")
    return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), expected_token.encode())


def _body_limit(rules: AccessRules, scope: Scope) -> int:
    path = str(scope["path"])
    files = path.startswith(("/datastore", "/session", "/model", "/infer", "/proxy"))
    return rules.max_upload_bytes if files and scope["method"] in ("PUT", "POST") else _MAX_BODY_BYTES


async def _forward_limited(handler: Handler, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
    """Pass a request on; a body that turns out longer than it may be ends in one refusal."""
    taken, over, begun = 0, False, False

    async def counted() -> Message:
        nonlocal taken, over
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > max_bytes:
            over = True
            raise _BodyTooLargeError
        return message

    async def watched(message: Message) -> None:
        nonlocal begun
        if not over:
            begun = True
            await send(message)

    with suppress(_BodyTooLargeError):
        await handler(scope, counted, watched)
    if over and not begun:
        await send_error(send, 413, f"at most {max_bytes / 1e6:g} MB are taken in one request")


async def _handle_login(token: str, scope: Scope, receive: Receive, send: Send) -> None:
    """The requests with which 3D Slicer's plug-in logs in; the password that it asks for is the token."""
    path = scope["path"]
    if path == "/auth/":
        await send_json(send, 200, {"enabled": True})
    elif path == "/auth/token/valid":
        await send_json(send, 200, {})
    elif path == "/auth/token" and scope["method"] == "POST":
        body = await _read_body(receive)
        given = dict(parse_qsl(body.decode("utf-8", "replace"))).get("password", "")
        if hmac.compare_digest(given.encode(), token.encode()):
            await send_json(send, 200, {"access_token": token, "token_type": "Bearer", "user": _PLUGIN_USER})
        else:
            await send_error(send, 401, "this is not the token of this server")
    else:
        await send_error(send, 404, f"{path} is not offered here")


async def _read_body(receive: Receive, keep: bool = True) -> bytes:
    """The body of a request, at most what may be said; or its end waited for."""
    body, size = b"", 0
    while size <= (_MAX_BODY_BYTES if keep else MAX_UPLOAD_BYTES):
        message = await receive()
        part = message.get("body", b"")
        size += len(part)
        body += part if keep else b""
        if not message.get("more_body"):
            break
    return body[:_MAX_BODY_BYTES]


async def send_error(send: Send, status: int, reason: str) -> None:
    """A refusal, with its reason."""
    await send_json(send, status, {"detail": reason})


async def send_json(send: Send, status: int, values: dict[str, Any]) -> None:
    """An answer in JSON."""
    body = json.dumps(values).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def parse_origin(text: str) -> str:
    """ "https://viewer.example:3000/": the origin of an address; ValueError when it is none."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise ValueError(f"{text!r} is no address of a page, like http://localhost:3000")
    return f"{parts.scheme}://{parts.netloc}"
