# SPDX-License-Identifier: Apache-2.0
"""What no client of ours would send: raw bytes against a daemon and through the gateway. Nothing dies, nothing is half written."""
from __future__ import annotations

import json
import socket
import threading
import time

import pytest
from scene import homework_fields, row, sign_in, unsynced

from harness import Client, TestStack, raw_request

CASES: dict[str, tuple[bytes, set[int]]] = {
    "two lengths": (b"Content-Length: 3\r\nContent-Length: 30\r\n\r\nabc", {400}),
    "two equal lengths": (b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", {400}),
    "a list of lengths": (b"Content-Length: 3, 3\r\n\r\nabc", {400}),
    "a space before the colon": (b"Content-Length : 3\r\n\r\nabc", {400}),
    "a signed length": (b"Content-Length: +3\r\n\r\nabc", {400}),
    "a hexadecimal length": (b"Content-Length: 0x3\r\n\r\nabc", {400}),
    "a huge length": (b"Content-Length: 99999999999999999999\r\n\r\nabc", {400, 413}),
    "a negative length": (b"Content-Length: -1\r\n\r\nabc", {400}),
    "length and chunks": (b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400}),
    "unknown coding": (b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "two codings": (b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "chunked twice": (b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", {400, 501}),
    "chunked with a tab": (b"Transfer-Encoding:\tchunked\x0b\r\n\r\n0\r\n\r\n", {400, 501}),
    "a folded header": (b"X-A: 1\r\n Content-Length: 3\r\n\r\n", {400}),
    "a bare line feed": (b"X-A: 1\nContent-Length: 3\r\n\r\nabc", {400}),
    "a bare carriage return": (b"X-A: 1\rContent-Length: 3\r\n\r\nabc", {400}),
    "NUL in a value": (b"X-A: a\x00b\r\n\r\n", {400}),
    "NUL in a name": (b"X-\x00A: b\r\n\r\n", {400}),
    "no colon": (b"nonsense\r\n\r\n", {400}),
    "an empty name": (b": x\r\n\r\n", {400}),
    "a name with a space": (b"X A: x\r\n\r\n", {400}),
    "two hosts": (b"Host: other\r\n\r\n", {400}),
    "a broken chunk size": (b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n", {400}),
    "a signed chunk size": (b"Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n", {400}),
    "an endless chunk size": (b"Transfer-Encoding: chunked\r\n\r\n" + b"F" * 40 + b"\r\nabc", {400, 413}),
    "a chunk without its end": (b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n", {400}),
}
LINES: dict[str, bytes] = {
    "NUL in the target": b"GET /api/v1/auth/me\x00.png HTTP/1.1\r\nHost: x\r\n\r\n",
    "a space in the target": b"GET /api/v1/auth/me x HTTP/1.1\r\nHost: x\r\n\r\n",
    "no version": b"GET /api/v1/auth/me\r\n\r\n",
    "another version": b"GET /api/v1/auth/me HTTP/9.9\r\nHost: x\r\n\r\n",
    "a lower-case version": b"GET /api/v1/auth/me http/1.1\r\nHost: x\r\n\r\n",
    "no host": b"GET /api/v1/auth/me HTTP/1.1\r\n\r\n",
    "a method of signs": b"G@T /api/v1/auth/me HTTP/1.1\r\nHost: x\r\n\r\n",
    "another protocol": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 60 + b"\r\n\r\n",
    "line feeds alone": b"GET /api/v1/auth/me HTTP/1.1\nHost: x\n\n",
    "a fragment": b"GET /api/v1/auth/me#x HTTP/1.1\r\nHost: x\r\n\r\n",
}
# A second request hides behind the first: nobody may answer it.
HIDDEN = b"GET /api/v1/hidden HTTP/1.1\r\nHost: x\r\n\r\n"


def statuses(answer: bytes) -> list[int]:
    """Of all responses in it: nothing but a status line starts a line with HTTP/1.1."""
    return [int(line.split(b" ")[1]) for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.") and line.split(b" ")[1].isdigit()]


@pytest.fixture(params=["daemon", "gateway"])
def port(request: pytest.FixtureRequest, stack: TestStack) -> int:
    return stack.services["homework"].port if request.param == "daemon" else stack.gateway.port


def state(stack: TestStack) -> tuple[object, ...]:
    """What there is: a half-written call would show in one place and not in the others."""
    buffer = stack.buffer.client()
    assert row(stack, "SELECT 1") == (1,)
    return (len(unsynced(stack, "homework:*")), len(unsynced(stack, "homework_submission:*")), buffer.xlen("events:homework"), buffer.get("wb:hlc"),
            row(stack, "SELECT count(*) FROM homework.homework"), row(stack, "SELECT count(*) FROM auth.sessions"))


def alive(stack: TestStack, pids: dict[str, int | None]) -> None:
    for service in stack.daemons:
        assert service.process.pid == pids[service.name] and not service.process.crashes()
        assert service.is_ready()


@pytest.mark.parametrize("name", CASES)
def test_a_smuggler_is_refused_and_cut_off(stack: TestStack, port: int, name: str) -> None:
    pids = {service.name: service.process.pid for service in stack.daemons}
    token = sign_in(stack, "student").token
    tail, expected = CASES[name]
    before = state(stack)
    head = f"POST /api/v1/academic/homework/{'0' * 8}-0000-7000-8000-{'0' * 12}/submit HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n" \
           "Content-Type: application/json\r\n"
    started = time.monotonic()
    answer = raw_request(port, head.encode() + tail + HIDDEN, 8)
    got = statuses(answer)
    if port == stack.gateway.port:
        # nginx reads some of them in its own way, which is a right one when it passes on nothing that it has not understood.
        expected = expected | {400, 404, 411, 413, 501}
        assert got and got[0] in expected, answer[:500]
        assert len(got) == 1 or got[0] == 404, "what it has refused ends the connection"
    else:
        assert len(got) == 1 and got[0] in expected, answer[:500]
        assert b"connection: close" in answer.lower() and time.monotonic() - started < 5
        body = json.loads(answer.split(b"\r\n\r\n", 1)[1])
        assert body["error"] == body["code"] and "message" not in body
    assert state(stack) == before
    alive(stack, pids)


@pytest.mark.parametrize("name", LINES)
def test_what_is_no_request_is_refused(stack: TestStack, port: int, name: str) -> None:
    pids = {service.name: service.process.pid for service in stack.daemons}
    answer = raw_request(port, LINES[name] + HIDDEN, 8)
    got = statuses(answer)
    if port == stack.gateway.port and name in ("a fragment", "line feeds alone", "no version"):
        assert b"hidden" not in answer and (not got or got[0] in (200, 400, 401, 404))
    else:
        assert not got or (len(got) == 1 and got[0] in (400, 404, 501, 505)), answer[:500]
    alive(stack, pids)


def test_too_many_and_too_long_headers(stack: TestStack, port: int) -> None:
    for head in (b"X-A: " + b"a" * 9000 + b"\r\n", b"".join(b"X-%d: a\r\n" % number for number in range(2000))):
        answer = raw_request(port, b"GET /api/v1/academic/homework HTTP/1.1\r\nHost: x\r\n" + head + b"\r\n", 8)
        assert statuses(answer)[:1] in ([400], [431]), answer[:300]
    answer = raw_request(port, b"GET /api/v1/" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 8)
    assert statuses(answer)[:1] in ([414], [431], [400]), answer[:300]


def drip(port: int, first: bytes, piece: bytes, pause_s: float, most_s: float) -> tuple[float, bytes]:
    """Sends a little again and again; returns when the other side has ended it, and what it said."""
    started, said = time.monotonic(), b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(first)
        connection.settimeout(pause_s)
        while time.monotonic() - started < most_s:
            try:
                chunk = connection.recv(65536)
                if not chunk:
                    break
                said += chunk
            except TimeoutError:
                pass
            except OSError:
                break
            try:
                if piece:
                    connection.sendall(piece)
            except OSError:
                break
    return time.monotonic() - started, said


def test_slow_and_silent_clients_are_cut_off(stack: TestStack) -> None:
    """All at once: each takes its whole deadline."""
    daemon, gateway = stack.services["homework"].port, stack.gateway.port
    token = sign_in(stack, "student").token
    path = f"/api/v1/academic/homework/{'0' * 8}-0000-7000-8000-{'0' * 12}/submit"
    body_head = (f"POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
                 "Content-Length: 100000\r\n\r\n{").encode()
    before = state(stack)
    results: dict[str, tuple[float, bytes]] = {}

    def run(name: str, *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=lambda: results.__setitem__(name, drip(*arguments)))  # type: ignore[arg-type]
        thread.start()
        return thread

    threads = [
        run("header, daemon", daemon, b"GET /api/v1/academic/homework HTTP/1.1\r\n", b"X: y\r\n", 0.5, 40),
        run("header, gateway", gateway, b"GET /api/v1/academic/homework HTTP/1.1\r\n", b"X: y\r\n", 0.5, 40),
        run("silent, daemon", daemon, b"GET /api/v1", b"", 0.5, 40),
        run("silent, gateway", gateway, b"GET /api/v1", b"", 0.5, 40),
        run("body, daemon", daemon, body_head, b" ", 0.5, 40),
    ]
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:  # they hold up nobody
        time.sleep(0.02)
        assert Client(stack.url, token).get("/academic/homework").status == 200
    for thread in threads:
        thread.join()
    for name, (seconds, said) in results.items():
        assert seconds < 35, f"{name}: still open after {seconds:.0f} s"
        got = statuses(said)
        assert not got or got[0] in (400, 408), f"{name}: {said[:200]!r}"
    assert state(stack) == before


def test_a_body_that_never_ends_writes_nothing(stack: TestStack, port: int) -> None:
    teacher = sign_in(stack, "teacher")
    before, files = state(stack), sum(1 for path in (stack.folder / "uploads").rglob("*") if path.is_file())
    boundary = "b" * 20
    fields = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in homework_fields().items())
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="attachments"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n' + "x" * 50000
    whole = (fields + file).encode()
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall((f"POST /api/v1/teacher/homework HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {teacher.token}\r\n"
                            f"Content-Type: multipart/form-data; boundary={boundary}\r\nContent-Length: {len(whole) + 500}\r\n\r\n").encode() + whole)
        time.sleep(0.3)
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        now = sum(1 for path in (stack.folder / "uploads").rglob("*") if path.is_file())
        if now == files:
            break
        time.sleep(0.05)
    assert now == files, "a half file is left"
    assert state(stack) == before


def test_odd_forms_are_refused(stack: TestStack) -> None:
    teacher = sign_in(stack, "teacher")
    before = state(stack)
    for kind, body in (
            ("multipart/form-data", b"--x\r\n\r\n--x--\r\n"),
            ("multipart/form-data; boundary=", b"--\r\n\r\n----\r\n"),
            (f"multipart/form-data; boundary={'x' * 200}", b""),
            ("multipart/form-data; boundary=x", b""),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data; name=\"title\"\r\n\r\nno end"),
            ("multipart/form-data; boundary=x", b"--x\r\nContent-Disposition: form-data\r\n\r\nno name\r\n--x--\r\n"),
            ("multipart/form-data; boundary=x", b"--x\r\n" + b"X: y\r\n" * 5000 + b"\r\n\r\n--x--\r\n"),
            ("multipart/form-data; boundary=x", b"".join(b'--x\r\nContent-Disposition: form-data; name="f%d"\r\n\r\n\r\n' % n for n in range(100)) + b"--x--\r\n"),
            ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="title"\r\n\r\n' + b"a" * 70000 + b"\r\n--x--\r\n"),
    ):
        answer = teacher.request("POST", "/teacher/homework", body, {"Content-Type": kind})
        assert answer.status in (400, 413, 415, 422), f"{kind} {body[:60]!r}: {answer}"
        assert answer.headers["content-type"] == "application/problem+json" and "message" not in answer.json
    assert state(stack) == before


def test_odd_texts_come_back_as_they_were(stack: TestStack) -> None:
    """What is a right value is kept byte for byte, whatever a database or a browser might make of it."""
    teacher, student = sign_in(stack, "teacher"), sign_in(stack, "student")
    for text in ("'; DROP TABLE homework.homework; --", "<script>alert(1)</script>", "\\u0041 \\ \" / %s %n ${x} {{x}}", "a\tb\nc\r\nd", "\U0001F600\u202E\u0301",
                 "\ufeffx", "null", "\x7f", "é" * 100):
        made = teacher.post("/teacher/homework", {**homework_fields(title=("T" + text)[:200].replace("\n", " ").replace("\r", " ").replace("\t", " ")), "max_marks": 1,
                                                  "description": text})
        if made.status == 422:
            assert any(ord(letter) < 32 or ord(letter) in (0x7F, 0xFEFF, 0x202E) for letter in text), f"{text!r}: {made}"
            continue
        assert made.status == 201, str(made)
        seen = next(one for one in student.get("/academic/homework?page_size=500").json["homework"] if one["id"] == made.json["id"])
        assert seen["description"].strip() == text.strip()
    for text in ("a\x00b", "\ud800"):
        assert teacher.post("/teacher/homework", {**homework_fields(title=text), "max_marks": 1}).status in (400, 422)
