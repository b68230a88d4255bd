"""A server that answers as ComfyUI does."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from pathlib import Path

import pytest

# Helpers lie beside the tests and are imported by their names.
sys.path.insert(0, str(Path(__file__).parent))

from played_comfy import Comfy  # noqa: E402


@pytest.fixture
def comfy():
    played = Comfy()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self._answer(200, played.get(self.path))

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status, answer = played.post(self.path, body)
            self._answer(status, json.dumps(answer).encode())

        def _answer(self, status, body):
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            return

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=lambda: server.serve_forever(0.02), daemon=True).start()
    played.address = f"127.0.0.1:{server.server_port}"
    yield played
    server.shutdown()
    server.server_close()
