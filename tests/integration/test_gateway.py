# SPDX-License-Identifier: Apache-2.0
"""The gateway alone, before a small server of the test's own that tells what it was sent."""
from __future__ import annotations

import http.server
import json
import pathlib
import re
import threading
import time
from collections.abc import Iterator

import pytest
from s24 import gateway
from s24.base import Account, StackError
from s24.servers import Gateway

from harness import Client, free_ports, raw_request

ROUTES = """GET\t/teacher/homework\tteacher\tself\t262144\t-
POST\t/teacher/homework\tteacher\tteaches\t105906176\t-
GET\t/teacher/homework/{homework_id}\tteacher\towns\t262144\t-
POST\t/academic/homework/{homework_id}/submit\tstudent\tassigned\t105906176\t-
GET\t/internal/x\tservice\tinternal\t0\t-
GET\t/holidays\tanyone\tpublic\t0\t-\tcdn
POST\t/holidays\tadmin\tschool\t262144\t-\t-
GET\t/teacher/homework/{homework_id}/poster\tanyone\tpublic\t0\t-\tcdn
"""
OTHERS = "POST\t/auth/login\tanyone\tpublic\t262144\t-\nGET\t/teacher/classes\tteacher\tself\t0\t-\nGET\t/.well-known/jwks.json\tanyone\tpublic\t0\t-\n"


class Echo(http.server.BaseHTTPRequestHandler):
    """Answers with what it was sent."""

    protocol_version = "HTTP/1.1"
    name = ""
    asked: list[str] = []
    first_bytes: list[float] = []

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        got = 0
        while got < length:
            chunk = self.rfile.read1(min(65536, length - got))  # type: ignore[attr-defined]
            if got == 0:
                Echo.first_bytes.append(time.monotonic())
            if not chunk:
                break
            got += len(chunk)
        Echo.asked.append(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"service": self.name, "path": self.path, "headers": headers, "body": got}).encode()
        if self.path.startswith("/api/v1/auth/login") and "away" in self.path:
            self.send_response(503)
            self.send_header("Retry-After", "7")
            self.send_header("Content-Type", "application/problem+json")
        else:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
        if "/holidays" in self.path or "/poster" in self.path:
            self.cache_headers()
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Request-Id", "the daemon's own")
        self.end_headers()
        self.wfile.write(body)

    def cache_headers(self) -> None:
        """As cache_http.c says them; what the query names is said otherwise."""
        self.send_header("ETag", 'W/"abc"')
        self.send_header("X-Cache", "MISS")
        shared, edge = ("private", "no-cache") if "personal" in self.path else ("public", "max-age=1000")
        if "cookie" in self.path:
            self.send_header("Set-Cookie", "a=b")
        self.send_header("Cache-Control", f"{shared}, max-age=60" if "unsaid" in self.path else f"{shared}, {edge if shared == 'private' else 'max-age=60'}")
        if "unsaid" not in self.path:
            self.send_header("CDN-Cache-Control", f"{shared}, {edge}")
            self.send_header("X-Accel-Expires", "1" if "short" in self.path else "1000")

    do_GET = do_POST = do_PUT = do_DELETE = answer

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("gateway")
    for path in (folder, *folder.parents[:2]):
        path.chmod(0o755)
    account = Account.unprivileged()
    account.folder(folder / "log")
    servers, ports = [], {}
    for name in ("homework", "auth"):
        handler = type(f"Echo_{name}", (Echo,), {"name": name})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        ports[name] = server.server_port
    own, ports["fee"] = free_ports(2)
    routes = [*gateway.parse_routes("homework", ROUTES), *gateway.parse_routes("auth", OTHERS),
              *gateway.parse_routes("fee", "GET\t/student/fees\tstudent\tself\t0\t-\n")]
    server = Gateway(folder / "run", folder / "log", account, own)
    account.folder(server.folder, 0o700)
    for path in gateway.write_temp_folders(server.folder):
        account.folder(path, 0o700)
    server.configure(gateway.render(routes, ports, f"127.0.0.1:{own}", str(folder / "log" / "access.log"), workers="1"))
    server.start()
    yield own
    server.stop()
    for each in servers:
        each.shutdown()
        each.server_close()


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str):
    return Client(f"http://127.0.0.1:{port}").request(method, path, body, headers, bare=True)


@pytest.mark.parametrize(("path", "service"), [
    ("/api/v1/teacher/homework", "homework"), ("/api/v1/teacher/homework/1/anything", "homework"), ("/api/v1/teacher/classes", "auth"),
    ("/api/v1/auth/other", "auth"), ("/.well-known/jwks.json", "auth"), ("/api/v1/academic/homework/1/submit", "homework"),
])
def test_each_path_goes_to_its_daemon(port: int, path: str, service: str) -> None:
    answer = ask(port, "GET", path + "?page=1")
    assert (answer.status, answer.json["service"], answer.json["path"]) == (200, service, path + "?page=1")


def is_problem(answer, status: int, code: str) -> None:
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    body = answer.json
    assert (body["status"], body["code"], body["error"]) == (status, code, code)
    assert body["instance"] == "/requests/" + answer.headers["x-request-id"]
    assert "message" not in body


def test_unknown_paths_and_internal_ones_are_404(port: int) -> None:
    for path in ("/", "/api/v1/", "/api/v1/nothing", "/api/v1/internal/x", "/internal/x", "/metrics", "/api/v1/teacher/homeworkx", "/api/v1/teacher",
                 "/.problem/404", "/api/v1/teacher/homework/../../internal/x"):
        is_problem(ask(port, "GET", path), 404, "not_found")


def test_errors_of_nginx_are_problems(port: int) -> None:
    is_problem(ask(port, "TRACE", "/api/v1/auth/login"), 405, "method_not_allowed")
    assert "GET" in ask(port, "TRACE", "/api/v1/auth/login").headers["allow"]
    is_problem(ask(port, "POST", "/api/v1/auth/login", b"x" * 262145), 413, "too_large")
    is_problem(ask(port, "GET", "/api/v1/auth/login?" + "x" * 3000), 414, "uri_too_long")
    is_problem(ask(port, "GET", "/api/v1/auth/login?" + "x" * 9000), 414, "uri_too_long")
    is_problem(ask(port, "GET", "/api/v1/auth/login", None, **{"X-Long": "x" * 9000}), 431, "headers_too_large")
    is_problem(ask(port, "GET", "/api/v1/student/fees"), 502, "service_unavailable")
    assert ask(port, "GET", "/api/v1/student/fees").headers["retry-after"] == "2"


def test_a_daemons_own_error_passes_untouched(port: int) -> None:
    answer = ask(port, "GET", "/api/v1/auth/login?away")
    assert (answer.status, answer.headers["retry-after"], answer.json["service"]) == (503, "7", "auth")


@pytest.mark.parametrize("request_bytes", [
    b"GET /api/v1/auth/login HTTP/1.1\r\n\r\n",
    b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 30\r\n\r\nabc",
    b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
    b"GET nothing HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01 garbage\r\n\r\n",
])
def test_malformed_requests_are_refused_and_closed(port: int, request_bytes: bytes) -> None:
    head, _, body = raw_request(port, request_bytes).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 "), head
    assert b"application/problem+json" in head and b"Connection: close" in head
    assert json.loads(body)["error"] == "malformed"


def test_clients_choose_neither_request_id_nor_proxy_headers(port: int) -> None:
    answer = ask(port, "GET", "/api/v1/auth/login", None, **{
        "X-Request-Id": "mine", "X-Forwarded-For": "6.6.6.6", "X-Forwarded-Host": "evil", "Forwarded": "for=6.6.6.6", "X-Real-IP": "6.6.6.6",
        "X-User-Id": "1", "X-User-Role": "admin", "Authorization": "Bearer t", "Idempotency-Key": '"k"', "If-Match": '"1-a"', "Prefer": "wait=5"})
    seen = answer.json["headers"]
    assert not {"x-user-id", "x-user-role", "x-forwarded-host", "forwarded", "x-real-ip"} & set(seen)
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert (seen["authorization"], seen["idempotency-key"], seen["if-match"], seen["prefer"]) == ("Bearer t", '"k"', '"1-a"', "wait=5")
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", seen["x-request-id"])
    assert answer.headers["x-request-id"] == seen["x-request-id"]


def test_an_upload_is_passed_on_while_it_arrives(port: int) -> None:
    for path in ("/api/v1/teacher/homework", "/api/v1/academic/homework/1/submit"):
        Echo.first_bytes.clear()
        sent_last = 0.0

        def slowly() -> Iterator[bytes]:
            nonlocal sent_last
            yield b"x" * 1_000_000
            time.sleep(0.3)
            sent_last = time.monotonic()
            yield b"x" * 1_000_000

        client = __import__("http.client").client.HTTPConnection("127.0.0.1", port, timeout=20)
        client.request("POST", path, body=slowly(), headers={"Content-Length": "2000000"})
        assert json.loads(client.getresponse().read())["body"] == 2_000_000
        assert Echo.first_bytes[0] < sent_last, "the body was buffered"
        client.close()


def test_health_is_the_gateways_own(port: int) -> None:
    answer = ask(port, "GET", "/health")
    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_two_daemons_with_one_path_are_refused() -> None:
    routes = [*gateway.parse_routes("a", "GET\t/x/{id}/y\t\t\t\t"), *gateway.parse_routes("b", "GET\t/x/{id}/z\t\t\t\t")]
    with pytest.raises(StackError, match="must be one"):
        gateway.locations(routes)
    with pytest.raises(StackError, match="cannot route"):
        gateway.parse_routes("a", "GET\t/x y;}\t\t\t\t")


def test_the_access_log_has_no_query_and_no_token(port: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    ask(port, "GET", "/api/v1/auth/login?secret=canary-query", None, Authorization="Bearer canary-token")
    time.sleep(1.3)
    log = next(pathlib.Path(tmp_path_factory.getbasetemp()).glob("gateway*/log/access.log")).read_text()
    assert json.loads(log.splitlines()[-1])["path"] == "/api/v1/auth/login"
    assert "canary" not in log


def times_asked(port: int, path: str, count: int = 3, **headers: str) -> int:
    """How often the daemon was asked for so many requests."""
    before = len(Echo.asked)
    for _ in range(count):
        assert ask(port, "GET", path, None, **headers).status == 200
    return len(Echo.asked) - before


# cache.md: the gateway's nginx obeys what the daemons say to shared caches.
@pytest.mark.parametrize("path", ["/api/v1/holidays?one", "/api/v1/teacher/homework/1/poster?one"])
def test_what_is_the_same_for_everyone_is_asked_for_once(port: int, path: str) -> None:
    assert times_asked(port, path) == 1
    answer = ask(port, "GET", path)
    assert answer.headers["x-cache"] == "HIT" and "x-accel-expires" not in answer.headers
    assert answer.headers["cache-control"] == "public, max-age=60" and answer.headers["cdn-cache-control"] == "public, max-age=1000"
    assert ask(port, "GET", path, None, **{"If-None-Match": 'W/"abc"'}).status == 304
    assert ask(port, "HEAD", path).headers["x-cache"] == "HIT"


def test_a_first_conditional_request_does_not_make_the_kept_answer_a_304(port: int) -> None:
    path = "/api/v1/holidays?conditional"
    first = ask(port, "GET", path, None, **{"If-None-Match": 'W/"other"', "Range": "bytes=0-1"})
    assert first.status in (200, 206)
    body = ask(port, "GET", path)
    assert body.status == 200 and not {"if-none-match", "range"} & set(body.json["headers"])


@pytest.mark.parametrize("query", ["personal", "unsaid", "cookie"])
def test_what_is_not_for_everyone_is_never_kept(port: int, query: str) -> None:
    assert times_asked(port, f"/api/v1/holidays?{query}") == 3


def test_who_says_who_he_is_gets_his_own_answer(port: int) -> None:
    path = "/api/v1/holidays?mine"
    assert times_asked(port, path, Authorization="Bearer a") == 3
    assert times_asked(port, path, Cookie="session=1") == 3
    assert ask(port, "GET", path).headers["x-cache"] == "MISS", "nothing of it was kept"
    assert times_asked(port, path, Authorization="Bearer a") == 3, "and nobody who is somebody gets what was kept for nobody"


def test_a_kept_answer_is_asked_for_again_when_its_time_is_over(port: int) -> None:
    path = "/api/v1/holidays?short"
    assert times_asked(port, path) <= 2
    time.sleep(2.1)
    assert times_asked(port, path, 1) == 1


def test_other_routes_are_never_kept_whatever_their_daemon_says(port: int) -> None:
    assert times_asked(port, "/api/v1/auth/other?/holidays") == 3
    before = len(Echo.asked)
    for _ in range(2):
        assert ask(port, "POST", "/api/v1/holidays?one", b"x").status == 200
    assert len(Echo.asked) - before == 2
