"""Access control: which requests are passed to the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lumbarseg.server.access_control import AccessControl, AccessRules, parse_origin

TOKEN = "correct horse".replace(" ", "-")


async def echo_size(scope: Any, receive: Any, send: Any) -> None:
    """Application that responds with the size of the body."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"size": size}).encode()})


def request(
    rules: AccessRules,
    path: str = "/info/",
    query: Any = (),
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    parts: Iterable[bytes] = (b"",),
) -> tuple[int, dict[str, Any]]:
    """Send a request through access control; return status and JSON."""
    all_headers = dict([("host", "127.0.0.1:8000"), *headers])
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": urlencode(query).encode(),
        "headers": [(key.encode(), value.encode()) for key, value in all_headers.items()],
    }
    remaining, sent = list(parts), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": remaining.pop(0), "more_body": bool(remaining)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(AccessControl(echo_size, rules)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_local_request_passes() -> None:
    assert request(AccessRules())[0] == 200
    assert request(AccessRules(), headers=[("host", "localhost:9")])[0] == 200
    assert request(AccessRules(), headers=[("host", "[::1]:9")])[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "", "localhost.evil"])
def test_foreign_host_name_is_refused(host: str) -> None:
    status, body = request(AccessRules(), headers=[("host", host)])
    assert status == 403 and "is not a host name of this server" in body["detail"]


def test_foreign_origin_is_refused_unless_allowed() -> None:
    foreign = [("origin", "http://viewer.example:3000")]
    assert request(AccessRules(), headers=foreign)[0] == 403
    assert request(AccessRules(origins=("http://viewer.example:3000",)), headers=foreign)[0] == 200
    assert request(AccessRules(), headers=[("origin", "http://127.0.0.1:8000")])[0] == 200
    assert request(AccessRules(), headers=[("origin", "null")])[0] == 403
    assert request(AccessRules(), headers=[("sec-fetch-site", "cross-site")])[0] == 403


@given(
    st.sampled_from(["id", "label", "session_id", "tag", "model"]),
    st.text(max_size=5),
    st.sampled_from(["/", "\\", "\0", ":"]),
    st.text(max_size=5),
)
def test_names_cannot_be_paths(key: str, before: str, sign: str, after: str) -> None:
    assert request(AccessRules(), "/datastore/image", {key: before + sign + after})[0] == 400


@given(st.text(max_size=5), st.sampled_from(["../", "/..", "/./", "//", "\\", "\0", "\n"]), st.text(max_size=5))
def test_exam_names_cannot_lead_upward(before: str, sign: str, after: str) -> None:
    if sign != "/.." or not after or after.startswith("/"):  # "a/..b" does not lead upward
        assert (
            request(
                AccessRules(), "/datastore/image", {"image": (f"{before}/" if sign == "../" else before) + sign + after}
            )[0]
            == 400
        )


@pytest.mark.parametrize("name", ["4: t2_tse_sag", "5: SAG T2/STIR", "T2 <sag> |2|", ""])
def test_series_names_of_3d_slicer_are_allowed(name: str) -> None:
    assert request(AccessRules(), "/infer/lumbar_spine", {"image": name, "session_id": "x"}, "POST")[0] == 200


@pytest.mark.parametrize("value", ["..", ".", "../../etc/passwd", "/etc/passwd", "C:\\x", "a\nb", "a/../../b", "a//b"])
def test_exam_name_must_stay_in_the_folder(value: str) -> None:
    assert request(AccessRules(), "/infer/lumbar_spine", {"image": value}, "POST")[0] == 400


@pytest.mark.parametrize("path", ["/infer/wsi/x", "/reload", "/proxy/dicom/studies"])
def test_blocked_paths_are_not_found(path: str) -> None:
    assert request(AccessRules(), path, method="POST")[0] == 404


def test_proxy_paths_must_not_lead_upward() -> None:
    rules = AccessRules(allow_proxy=True)
    assert request(rules, "/proxy/dicom/wado/studies/1.2.3")[0] == 200
    assert request(rules, "/proxy/dicom/wado/../../instances")[0] == 404


def test_token_is_required_except_for_login() -> None:
    rules = AccessRules(token=TOKEN, is_local=False)
    bearer = [("authorization", f"Bearer {TOKEN}"), ("host", "server.example")]
    assert request(rules, headers=[("host", "server.example")])[0] == 401
    assert request(rules, headers=[("host", "server.example"), ("authorization", "Bearer wrong")])[0] == 401
    assert request(rules, headers=bearer)[0] == 200


def test_login_with_the_token_as_password() -> None:
    rules = AccessRules(token=TOKEN)
    assert request(rules, "/auth/")[1] == {"enabled": True}
    login = urlencode({"username": "me", "password": TOKEN, "grant_type": "password"}).encode()
    status, body = request(rules, "/auth/token", method="POST", parts=[login])
    assert status == 200 and body["access_token"] == TOKEN
    bearer = [("authorization", f"{body['token_type']} {body['access_token']}")]
    assert request(rules, "/auth/token/valid", headers=bearer)[0] == 200
    assert request(rules, "/auth/token/valid")[0] == 401
    assert request(rules, "/auth/token", method="POST", parts=[b"password=guess"])[0] == 401


def test_too_large_body_is_refused() -> None:
    rules = AccessRules(max_upload_bytes=100)
    path = "/datastore/image"
    assert request(rules, path, method="PUT", parts=[b"x" * 60, b"x" * 40])[1] == {"size": 100}
    assert request(rules, path, method="PUT", headers=[("content-length", "101")])[0] == 413
    assert request(rules, path, method="PUT", parts=[b"x" * 60, b"x" * 60])[0] == 413
    assert request(rules, path, method="PUT", headers=[("content-length", "-1")])[0] == 400
    assert request(AccessRules(), "/train/x", method="POST", parts=[b"x" * 2_000_000])[0] == 413


def test_parse_origin() -> None:
    assert parse_origin("http://localhost:3000/viewer") == "http://localhost:3000"
    for text in ("localhost:3000", "file:///x", "http://", "http://user@host"):
        with pytest.raises(ValueError, match="is not the address of a page"):
            parse_origin(text)
