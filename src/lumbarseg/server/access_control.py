"""Access control in front of MONAI Label's server, which itself accepts every request.

This ASGI layer only checks the head of a request (address, query, headers, length) and refuses it with a reason in
JSON. Bodies are checked where they are parsed, in `routes` and `datastore`.
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
Refusal = tuple[int, str]
"""HTTP status and reason."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
MAX_UPLOAD_BYTES = 1_000_000_000
"""Limit of a request with files; an exam of 512^3 voxels of two bytes is a quarter of it."""
_MAX_BODY_BYTES = 1_000_000  # limit of any other request
_NAME_PARAMETERS = ("image", "id", "label", "session_id", "tag", "model")
_BLOCKED_PATHS = ("/infer/wsi", "/reload", "/cvat")
_PUBLIC_PATHS = ("/auth/", "/auth/token")
_UPLOAD_PATHS = ("/datastore", "/session", "/model", "/infer", "/proxy")
_PLUGIN_USER = "lumbarseg"


@dataclass(frozen=True)
class AccessRules:
    """Rules for requests.

    token: required in every request, "" for none; origins: other web pages that may send requests; is_local: the server
    listens on this computer only, so it has no other host name; allow_proxy: requests may be passed to a DICOMweb
    server; max_upload_bytes: limit of a request with files.
    """

    token: str = ""
    origins: tuple[str, ...] = ()
    is_local: bool = True
    allow_proxy: bool = False
    max_upload_bytes: int = MAX_UPLOAD_BYTES


class _BodyTooLargeError(Exception):
    """A body is longer than allowed."""


@dataclass
class AccessControl:
    """ASGI application that passes allowed requests on to `app`."""

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
                await _read_body(receive, keep=False)  # a client that is still sending would not read the reason
            await send_error(send, *refusal)
        elif self.rules.token and scope["path"].startswith("/auth"):
            await _handle_login(self.rules.token, scope, receive, send)
        else:
            await _forward_limited(self.app, scope, receive, send, _body_limit(self.rules, scope))


def _find_refusal(rules: AccessRules, scope: Scope, headers: dict[str, str]) -> Refusal | None:
    """Return why a request is refused, None if it is allowed."""
    host, origin, path = headers.get("host", ""), headers.get("origin"), str(scope["path"])
    length = headers.get("content-length", "0")
    if rules.is_local and _host_name(host) not in LOOPBACK_HOSTS:
        return 403, f"{host!r} is not a host name of this server"
    if origin and origin not in (*rules.origins, f"http://{host}", f"https://{host}"):
        return 403, f"pages of {origin} may not use this server; to allow it, start it with --allow-origin {origin}"
    if headers.get("sec-fetch-site") == "cross-site" and not origin:
        return 403, "other web pages may not use this server"
    if path.startswith(_BLOCKED_PATHS):
        return 404, f"{path} is not available on this server"
    if path.startswith("/proxy") and not rules.allow_proxy:
        return 404, "this server is not connected to a DICOM server"
    if path.startswith("/proxy") and not _is_safe_name(path):
        return 404, "a path must not lead upward"
    if rules.token and path not in _PUBLIC_PATHS and not _has_token(rules.token, headers):
        return 401, "this server requires its token: the header Authorization: Bearer TOKEN"
    if not length.isdecimal():
        return 400, "content-length must be a number"
    if int(length) > _body_limit(rules, scope):
        return _too_large(_body_limit(rules, scope))
    return _check_query(scope)


def _too_large(max_bytes: int) -> Refusal:
    return 413, f"a request may have at most {max_bytes / 1e6:g} MB"


def _check_query(scope: Scope) -> Refusal | None:
    """Refuse a query with a name that could lead out of the folder of exams."""
    try:
        pairs = parse_qsl(scope.get("query_string", b"").decode("ascii"), keep_blank_values=True, errors="strict")
    except (UnicodeDecodeError, ValueError):
        return 400, "the query cannot be parsed"
    for key, value in pairs:
        if key in _NAME_PARAMETERS and not (_is_safe_image_id if key == "image" else _is_safe_name)(value):
            return 400, f"{key}={value!r} must be a name, not a path"
    return None


def _is_safe_name(text: str) -> bool:
    """Return whether a name, or each part of a /proxy path, stays in its folder."""
    parts = text.removeprefix("/proxy/").split("/") if text.startswith("/proxy/") else [text]
    return all(part not in (".", "..") and not set(part) & set('/\\\0:"<>|') for part in parts) and text.isprintable()


def _is_safe_image_id(text: str) -> bool:
    """Return whether an exam's name stays in its folder; a series may be called "4: SAG T2/STIR"."""
    parts = text.split("/")
    return text.isprintable() and "\\" not in text and (parts == [""] or not {"", ".", ".."} & set(parts))


def _host_name(host: str) -> str:
    """Return the host without its port: "[::1]" of "[::1]:8000"."""
    return (host.rpartition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]).lower()


def _has_token(expected_token: str, headers: dict[str, str]) -> bool:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and hmac.compare_digest(token.strip().encode(), expected_token.encode())


def _body_limit(rules: AccessRules, scope: Scope) -> int:
    is_upload = str(scope["path"]).startswith(_UPLOAD_PATHS) and scope["method"] in ("PUT", "POST")
    return rules.max_upload_bytes if is_upload else _MAX_BODY_BYTES


async def _forward_limited(app: Handler, scope: Scope, receive: Receive, send: Send, max_bytes: int) -> None:
    """Pass a request on; refuse it once if its body turns out longer than allowed."""
    received, is_too_large, response_started = 0, False, False

    async def receive_limited() -> Message:
        nonlocal received, is_too_large
        message = await receive()
        received += len(message.get("body", b""))
        if received > max_bytes:
            is_too_large = True
            raise _BodyTooLargeError
        return message

    async def send_unless_refused(message: Message) -> None:
        nonlocal response_started
        if not is_too_large:
            response_started = True
            await send(message)

    with suppress(_BodyTooLargeError):
        await app(scope, receive_limited, send_unless_refused)
    if is_too_large and not response_started:
        await send_error(send, *_too_large(max_bytes))


async def _handle_login(token: str, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the login requests of 3D Slicer's plug-in; the password that it asks for is the token."""
    path = scope["path"]
    if path == "/auth/":
        await send_json(send, 200, {"enabled": True})
    elif path == "/auth/token/valid":
        await send_json(send, 200, {})
    elif path == "/auth/token" and scope["method"] == "POST":
        body = await _read_body(receive)
        password = dict(parse_qsl(body.decode("utf-8", "replace"))).get("password", "")
        if hmac.compare_digest(password.encode(), token.encode()):
            await send_json(send, 200, {"access_token": token, "token_type": "Bearer", "user": _PLUGIN_USER})
        else:
            await send_error(send, 401, "this is not the token of this server")
    else:
        await send_error(send, 404, f"{path} is not available on this server")


async def _read_body(receive: Receive, keep: bool = True) -> bytes:
    """Read a body up to the limit of requests without files; or only wait for its end."""
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
    """Send a refusal with its reason."""
    await send_json(send, status, {"detail": reason})


async def send_json(send: Send, status: int, values: dict[str, Any]) -> None:
    """Send a response in JSON."""
    body = json.dumps(values).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def parse_origin(text: str) -> str:
    """Return the origin of an address, "https://viewer.example:3000/" without its path; ValueError when it has none."""
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or "@" in parts.netloc:
        raise ValueError(f"{text!r} is not the address of a page, like http://localhost:3000")
    return f"{parts.scheme}://{parts.netloc}"
