"""A local HTTP server that serves one file, correctly or with the faults that a test sets."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import md5
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TypeAlias

Answer: TypeAlias = "Callable[[Handler, Site], None]"


@dataclass
class Site:
    """What is served; each request takes the next of the odd answers, then all are proper."""

    content: bytes
    tag: bool = True
    date: bool = False
    ranges: bool = True
    odd: list[Answer] = field(default_factory=list)
    asked: list[dict[str, str]] = field(default_factory=list)
    address: str = ""
    gate: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"{self.address}/file.zip"

    @property
    def etag(self) -> str:
        return f'"{md5(self.content).hexdigest()}"'


class Handler(BaseHTTPRequestHandler):
    site: Site

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        site = self.site
        site.asked.append({"path": self.path, **self.headers})
        answer = site.odd.pop(0) if site.odd else proper
        answer(self, site)
        self.close_connection = True

    def send(self, status: int, headers: dict[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def describe(site: Site) -> dict[str, str]:
    headers = {"ETag": site.etag} if site.tag else {}
    return headers | ({"Last-Modified": formatdate(10**9, usegmt=True)} if site.date else {})


def start_of(handler: Handler, site: Site) -> int:
    """Where the answer to a request must start by RFC 9110."""
    wanted = handler.headers.get("Range")
    condition = handler.headers.get("If-Range")
    known = describe(site).values()
    if not wanted or not site.ranges or (condition and condition not in known):
        return 0
    return int(wanted.removeprefix("bytes=").rstrip("-"))


def proper(handler: Handler, site: Site, stop: int | None = None) -> None:
    start, whole = start_of(handler, site), len(site.content)
    headers = describe(site) | {"Content-Length": str(whole - start)}
    if start:
        headers["Content-Range"] = f"bytes {start}-{whole - 1}/{whole}"
    handler.send(206 if start else 200, headers, site.content[start:stop])


def cut(at: int) -> Answer:
    """Close the connection before byte ``at`` of the file."""
    return lambda handler, site: proper(handler, site, at)


def stall(at: int) -> Answer:
    """Send nothing from byte ``at`` on, and hold the connection."""

    def answer(handler: Handler, site: Site) -> None:
        proper(handler, site, at)
        site.gate.wait(10)

    return answer


def status(code: int) -> Answer:
    return lambda handler, site: handler.send(code, {"Content-Length": "0"})


def redirect(to: str) -> Answer:
    return lambda handler, site: handler.send(302, {"Location": to, "Content-Length": "0"})


def changing(content: bytes, answer: Answer) -> Answer:
    """The server has another file from now on."""

    def change(handler: Handler, site: Site) -> None:
        site.content = content
        answer(handler, site)

    return change


def heedless_of_conditions(handler: Handler, site: Site) -> None:
    """The rest of the current file, without regard to ``If-Range``."""
    start, whole = int(handler.headers["Range"].removeprefix("bytes=")[:-1]), len(site.content)
    headers = describe(site) | {
        "Content-Length": str(whole - start),
        "Content-Range": f"bytes {start}-{whole - 1}/{whole}",
    }
    handler.send(206, headers, site.content[start:])


def corrupt(at: int) -> Answer:
    """A wrong byte at ``at``, under the same headers."""

    def answer(handler: Handler, site: Site) -> None:
        right = site.content
        site.content = right[:at] + bytes([right[at] ^ 255]) + right[at + 1 :]
        headers = describe(Site(right, site.tag, site.date)) | {"Content-Length": str(len(right))}
        handler.send(200, headers, site.content)
        site.content = right

    return answer


def without_length(stop: int | None = None, *, chunked: bool = False) -> Answer:
    """A body that ends with the connection, or in chunks, without a length."""

    def answer(handler: Handler, site: Site) -> None:
        body = site.content[:stop]
        if not chunked:
            handler.send(200, describe(site), body)
            return
        handler.protocol_version = "HTTP/1.1"
        handler.send(200, describe(site) | {"Transfer-Encoding": "chunked"})
        handler.wfile.write(f"{len(body):x}\r\n".encode() + body + b"\r\n")
        if stop is None:
            handler.wfile.write(b"0\r\n\r\n")

    return answer


@contextmanager
def serving(content: bytes) -> Iterator[Site]:
    site = Site(content)
    handler = type("ThisHandler", (Handler,), {"site": site})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        site.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
