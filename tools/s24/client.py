# SPDX-License-Identifier: Apache-2.0
"""A small HTTP client for the slice and the tests: JSON in and out, multipart, and raw bytes for what no client would send."""
from __future__ import annotations

import http.client
import json
import secrets
import socket
import ssl
import urllib.parse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Answer:
    status: int
    headers: dict[str, str]  # lower-case names
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def __str__(self) -> str:
        return f"{self.status} {self.body[:500].decode(errors='replace')}"


@dataclass
class Client:
    """One caller. A path below /api/v1 may leave that out."""

    base: str
    token: str = ""
    timeout_s: float = 30
    user: dict[str, Any] = field(default_factory=dict)

    def request(self, method: str, path: str, body: object = None, headers: Mapping[str, str] | None = None, *, bare: bool = False) -> Answer:
        """`body`: bytes as they are, anything else but None as JSON."""
        url = urllib.parse.urlsplit(self.base)
        sent = {"Accept": "application/json", **(headers or {})}
        if self.token and "Authorization" not in sent:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        assert url.hostname is not None
        if url.scheme == "https":
            # The certificate of a machine's own gateway is often self-signed; this client talks to 127.0.0.1 alone.
            context = ssl._create_unverified_context()
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(url.hostname, url.port, timeout=self.timeout_s, context=context)
        else:
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=self.timeout_s)
        try:
            connection.request(method, path if bare or path.startswith("/api/") else "/api/v1" + path, body=body, headers=sent)
            reply = connection.getresponse()
            return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: object = None, **headers: str) -> Answer:
        return self.request("POST", path, body, headers)

    def put(self, path: str, body: object = None, **headers: str) -> Answer:
        return self.request("PUT", path, body, headers)

    def delete(self, path: str, **headers: str) -> Answer:
        return self.request("DELETE", path, headers=headers)

    def login(self, email: str, password: str) -> Answer:
        answer = self.request("POST", "/auth/login", {"email": email, "password": password}, {"Authorization": ""})
        if answer.status == 200:
            self.token, self.user = answer.json["access_token"], answer.json["user"]
        return answer

    def multipart(self, method: str, path: str, fields: Mapping[str, str], files: Sequence[tuple[str, str, str, bytes]] = (),
                  headers: Mapping[str, str] | None = None) -> Answer:
        """`files`: field, file name, content type, content."""
        boundary = "----" + secrets.token_hex(12)
        parts = [f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode() for name, value in fields.items()]
        for name, file_name, kind, content in files:
            head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{file_name}"\r\nContent-Type: {kind}\r\n\r\n'
            parts.append(head.encode() + content + b"\r\n")
        parts.append(f"--{boundary}--\r\n".encode())
        return self.request(method, path, b"".join(parts), {"Content-Type": f"multipart/form-data; boundary={boundary}", **(headers or {})})


def raw_request(port: int, data: bytes, timeout_s: float = 10) -> bytes:
    """Sends exactly these bytes and returns all that comes until the other side closes or is silent."""
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=timeout_s) as connection:
        connection.sendall(data)
        try:
            while chunk := connection.recv(65536):
                received += chunk
        except (TimeoutError, ConnectionResetError):
            pass
    return received
