"""The layer before the server: who may ask, and for what."""

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


async def behind(scope: Any, receive: Any, send: Any) -> None:
    """Reads the whole body and answers how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message.get("more_body", False)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"size": size}).encode()})


def ask(
    rules: AccessRules,
    path: str = "/info/",
    query: Any = (),
    method: str = "GET",
    headers: Iterable[tuple[str, str]] = (),
    parts: Iterable[bytes] = (b"",),
) -> tuple[int, dict[str, Any]]:
    """A request through the guard: status and JSON."""
    given_ = dict([("host", "127.0.0.1:8000"), *headers])
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": urlencode(query).encode(),
        "headers": [(key.encode(), value.encode()) for key, value in given_.items()],
    }
    left, sent = list(parts), []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(AccessControl(behind, rules)(scope, receive, send))
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_a_plain_request_passes() -> None:
    assert ask(AccessRules())[0] == 200
    assert ask(AccessRules(), headers=[("host", "localhost:9")])[0] == 200
    assert ask(AccessRules(), headers=[("host", "[::1]:9")])[0] == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:8000", "", "localhost.evil"])
def test_a_name_that_is_not_this_computers_is_refused(host: str) -> None:
    status, told = ask(AccessRules(), headers=[("host", host)])
    assert status == 403 and "is not called" in told["detail"]


def test_a_foreign_page_is_refused_unless_it_was_named() -> None:
    foreign = [("origin", "http://viewer.example:3000")]
    assert ask(AccessRules(), headers=foreign)[0] == 403
    assert ask(AccessRules(origins=("http://viewer.example:3000",)), headers=foreign)[0] == 200
    assert ask(AccessRules(), headers=[("origin", "http://127.0.0.1:8000")])[0] == 200
    assert ask(AccessRules(), headers=[("origin", "null")])[0] == 403
    assert ask(AccessRules(), headers=[("sec-fetch-site", "cross-site")])[0] == 403


@given(
    st.sampled_from(["id", "label", "session_id", "tag", "model"]),
    st.text(max_size=5),
    st.sampled_from(["/", "\\", "\0", ":"]),
    st.text(max_size=5),
)
def test_no_name_can_be_a_path(key: str, before: str, sign: str, after: str) -> None:
    assert ask(AccessRules(), "/datastore/image", {key: before + sign + after})[0] == 400


@given(st.text(max_size=5), st.sampled_from(["../", "/..", "/./", "//", "\\", "\0", "\n"]), st.text(max_size=5))
def test_no_exam_is_called_as_a_way_upward(before: str, sign: str, after: str) -> None:
    if sign != "/.." or not after or after.startswith("/"):  # "a/..b" is no way upward
        assert (
            ask(
                AccessRules(), "/datastore/image", {"image": (f"{before}/" if sign == "../" else before) + sign + after}
            )[0]
            == 400
        )


@pytest.mark.parametrize("name", ["4: t2_tse_sag", "5: SAG T2/STIR", "T2 <sag> |2|", ""])
def test_a_series_may_be_called_as_3d_slicer_calls_it(name: str) -> None:
    assert ask(AccessRules(), "/infer/lumbar_spine", {"image": name, "session_id": "x"}, "POST")[0] == 200


@pytest.mark.parametrize("value", ["..", ".", "../../etc/passwd", "/etc/passwd", "C:\\x", "a\nb", "a/../../b", "a//b"])
def test_no_name_leads_out_of_the_folder(value: str) -> None:
    assert ask(AccessRules(), "/infer/lumbar_spine", {"image": value}, "POST")[0] == 400


@pytest.mark.parametrize("path", ["/infer/wsi/x", "/reload", "/proxy/dicom/studies"])
def test_what_is_not_offered_is_not_there(path: str) -> None:
    assert ask(AccessRules(), path, method="POST")[0] == 404


def test_a_dicom_server_behind_is_asked_only_below_its_root() -> None:
    rules = AccessRules(allow_proxy=True)
    assert ask(rules, "/proxy/dicom/wado/studies/1.2.3")[0] == 200
    assert ask(rules, "/proxy/dicom/wado/../../instances")[0] == 404


def test_a_token_is_wanted_by_every_request_but_the_login() -> None:
    rules = AccessRules(token=TOKEN, is_local=False)
    bearer = [("authorization", f"Bearer {TOKEN}"), ("host", "server.example")]
    assert ask(rules, headers=[("host", "server.example")])[0] == 401
    assert ask(rules, headers=[("host", "server.example"), ("authorization", "Bearer wrong")])[0] == 401
    assert ask(rules, headers=bearer)[0] == 200


def test_the_plug_in_logs_in_with_the_token_as_password() -> None:
    rules = AccessRules(token=TOKEN)
    assert ask(rules, "/auth/")[1] == {"enabled": True}
    login = urlencode({"username": "me", "password": TOKEN, "grant_type": "password"}).encode()
    status, told = ask(rules, "/auth/token", method="POST", parts=[login])
    assert status == 200 and told["access_token"] == TOKEN
    bearer = [("authorization", f"{told['token_type']} {told['access_token']}")]
    assert ask(rules, "/auth/token/valid", headers=bearer)[0] == 200
    assert ask(rules, "/auth/token/valid")[0] == 401
    assert ask(rules, "/auth/token", method="POST", parts=[b"password=guess"])[0] == 401


def test_a_body_that_is_too_long_is_refused_by_its_length_or_on_its_way() -> None:
    rules = AccessRules(max_upload_bytes=100)
    path = "/datastore/image"
    assert ask(rules, path, method="PUT", parts=[b"x" * 60, b"x" * 40])[1] == {"size": 100}
    assert ask(rules, path, method="PUT", headers=[("content-length", "101")])[0] == 413
    assert ask(rules, path, method="PUT", parts=[b"x" * 60, b"x" * 60])[0] == 413
    assert ask(rules, path, method="PUT", headers=[("content-length", "-1")])[0] == 400
    assert ask(AccessRules(), "/train/x", method="POST", parts=[b"x" * 2_000_000])[0] == 413


def test_origins_are_addresses_of_pages() -> None:
    assert parse_origin("http://localhost:3000/viewer") == "http://localhost:3000"
    for text in ("localhost:3000", "file:///x", "http://", "http://user@host"):
        with pytest.raises(ValueError, match="no address of a page"):
            parse_origin(text)
