"""A web server on this machine that serves a folder, counts what it sends, and misbehaves as it is told."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock, Thread

__all__ = ["Fault", "FolderServer", "serve_folder"]


@dataclass(kw_only=True)
class Fault:
    """How a server misbehaves, `times` times, with files whose name ends in `name`.

    Attributes
    ----------
    status : int
        Answered in place of the file.
    location : str
        Where it sends the asker.
    after : int
        Bytes of a body after which the connection ends.
    longer : int
        Bytes that the length it tells is too large by.
    pause : float
        Seconds between the pieces of a body, 16 of them.
    ranges : bool
        Whether it knows parts of files.
    change : callable
        What it sends in place of the right bytes.
    """

    name: str = ""
    times: int = 10**9
    status: int = 0
    location: str = ""
    after: int | None = None
    longer: int = 0
    pause: float = 0.0
    ranges: bool = True
    change: Callable[[bytes], bytes] | None = None


@dataclass
class FolderServer:
    """What a server knows of itself.

    Attributes
    ----------
    url : str
    sent : Counter
        Bytes of bodies by name of the file.
    requests : list of str
        Method, name and range of each.
    faults : list of Fault
    """

    folder: Path
    url: str = ""
    sent: Counter[str] = field(default_factory=Counter)
    requests: list[str] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)

    def take_fault(self, name: str) -> Fault:
        with self.lock:
            for fault in self.faults:
                if fault.times > 0 and name.endswith(fault.name):
                    fault.times -= 1
                    return fault
        return Fault()

    @property
    def total(self) -> int:
        return sum(self.sent.values())


def _handler(server: FolderServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: object) -> None:
            pass

        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            name = self.path.lstrip("/")
            path, given = server.folder / name, self.headers.get("Range", "")
            with server.lock:
                server.requests.append(f"{self.command} {name} {given}".strip())
            fault = server.take_fault(name) if with_body or not self.is_about_bodies(name) else Fault()
            if fault.status or not path.is_file():
                self.refuse(fault)
                return
            size = path.stat().st_size
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", given) if fault.ranges else None
            start, stop = (int(match[1]), min(int(match[2]) + 1, size)) if match else (0, size)
            tag = f'"{size}-{path.stat().st_mtime_ns}"'
            if start >= size > 0 or self.headers.get("If-Match", tag) != tag:
                self.refuse(Fault(status=416 if start >= size else 412))
                return
            self.send_response(206 if match else 200)
            self.send_header("Content-Length", str(stop - start + fault.longer))
            self.send_header("Last-Modified", formatdate(path.stat().st_mtime, usegmt=True))
            self.send_header("ETag", tag)
            if match:
                self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
            self.end_headers()
            if with_body:
                self.send_body(path, start, stop, fault)

        def is_about_bodies(self, name: str) -> bool:
            """Return whether the next fault shows in the body of an answer only."""
            faults = (fault for fault in server.faults if fault.times > 0 and name.endswith(fault.name))
            return not getattr(next(faults, None), "status", 1)

        def refuse(self, fault: Fault) -> None:
            self.send_response(fault.status or 404)
            if fault.location:
                self.send_header("Location", fault.location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send_body(self, path: Path, start: int, stop: int, fault: Fault) -> None:
            end = stop if fault.after is None else min(stop, start + fault.after)
            step = max(1, (stop - start) // 16) if fault.pause else 1 << 20
            with path.open("rb") as file, suppress(ConnectionError):
                file.seek(start)
                for first in range(start, end, step):
                    time.sleep(fault.pause)
                    piece = file.read(min(step, end - first))
                    piece = fault.change(piece) if fault.change else piece
                    self.wfile.write(piece)
                    with server.lock:
                        server.sent[path.name] += len(piece)
            self.close_connection = fault != Fault()

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of those who went away."""


@contextmanager
def serve_folder(folder: Path) -> Iterator[FolderServer]:
    """Serve a folder on a port that is free, as long as the context lasts."""
    state = FolderServer(folder)
    httpd = _Server(("127.0.0.1", 0), _handler(state))
    state.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        httpd.shutdown()
        httpd.server_close()
        thread.join()
