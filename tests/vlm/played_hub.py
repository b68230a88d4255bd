"""A Hub that the tests play: files of one revision, as huggingface_hub asks for them."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vlm.download.pins import Pin, PinnedFile

REPO, REVISION = "Somebody/Small-VLM", "0123456789abcdef0123456789abcdef01234567"


class PlayedHub(ThreadingHTTPServer):
    """Answers HEAD and GET of `/REPO/resolve/REVISION/FILE`, Range included.

    Attributes:
        files: Content by its path in the repository.
        asked: Every request so far: (method, path, Range or None).
        stop_at: Bytes of a file after which the answer stands still while `go_on` is not set.
        broken: Bytes of a file after which the connection is closed, once.
        served: Bytes that were sent of each path.
        status: Answered instead of any file.
        headers_of: More headers, or other ones, for every answer.
    """

    daemon_threads = True

    def __init__(self, files: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.asked: list[tuple[str, str, str | None]] = []
        self.served: dict[str, int] = {}
        self.stop_at: dict[str, int] = {}
        self.broken: dict[str, int] = {}
        self.go_on = threading.Event()
        self.status: int | None = None
        self.headers_of: dict[str, str] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that was killed is what some tests want."""

    def wait_until(self, path: str, count: int) -> None:
        """Waits until that many bytes of a file have been sent."""
        began = time.monotonic()
        while self.served.get(path, 0) < count:
            assert time.monotonic() - began < 60, f"{path}: {self.served}"
            time.sleep(0.02)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PlayedHub

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        hub = self.server
        hub.asked.append((self.command, self.path, self.headers.get("Range")))
        found = re.fullmatch(f"/{REPO}/resolve/{REVISION}/(.+)", self.path)
        content = hub.files.get(found[1]) if found else None
        status = hub.status or (200 if content is not None else 404)
        if content is None or status != 200:
            self.send_response(status)
            if status == 404:
                self.send_header("X-Error-Code", "EntryNotFound" if found else "RevisionNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if asked := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or ""):
            start = int(asked[1])
        self.send_response(206 if start else 200)
        digest = hashlib.sha256(content).hexdigest()
        headers = {
            "X-Repo-Commit": REVISION,
            "ETag": f'"{digest[:40]}"',
            "X-Linked-Etag": f'"{digest}"',
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
            "Content-Length": str(len(content) - start),
        }
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        for name, value in (headers | hub.headers_of).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self._send(found[1], content, start)

    def _send(self, path: str, content: bytes, start: int) -> None:
        hub = self.server
        for begin in range(start, len(content), 65536):
            if begin >= hub.stop_at.get(path, len(content)):
                hub.go_on.wait(60)
            if begin >= hub.broken.get(path, len(content)):
                del hub.broken[path]
                self.close_connection = True
                self.wfile.flush()
                self.connection.close()
                return
            block = content[begin : begin + 65536]
            self.wfile.write(block)
            hub.served[path] = hub.served.get(path, 0) + len(block)


@contextmanager
def playing(files: dict[str, bytes]) -> Iterator[PlayedHub]:
    """The Hub, while the block runs."""
    hub = PlayedHub(files)
    thread = threading.Thread(target=hub.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.go_on.set()
        hub.shutdown()
        hub.server_close()
        thread.join()


def pin_of(files: dict[str, bytes], name: str = "VLM/Small-VLM") -> Pin:
    """What a pin of these files is, config.json last."""
    pinned = [
        PinnedFile(path, len(content), hashlib.sha256(content).hexdigest())
        for path, content in files.items()
    ]
    pinned.sort(key=lambda file: file.name == "config.json")
    return Pin(name, "tests", REPO, REVISION, tuple(pinned))


def as_json(pin: Pin) -> list[dict[str, Any]]:
    """The content of a pins.json that holds this pin alone."""
    files = {file.path: {"size": file.size, "sha256": file.sha256} for file in pin.files}
    return [
        {
            "name": pin.name,
            "for": pin.serves,
            "repo": pin.repo,
            "revision": pin.revision,
            "files": files,
        }
    ]


def folder_files(folder: Path) -> dict[str, bytes]:
    """The files of a folder by their name."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.is_file()}
