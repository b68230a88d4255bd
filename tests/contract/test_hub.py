"""huggingface_hub: how one file of a revision is looked at and brought, by the byte."""

import inspect
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from huggingface_hub import constants, get_hf_file_metadata, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.file_download import http_get
from huggingface_hub.utils import build_hf_headers, get_session

pytestmark = pytest.mark.relies("vlm/download/hub.py", "vlm/download/fetch.py")
WHOLE = bytes(range(256)) * 40
COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """Answers as the Hub does about one file, and with 404 about every other."""

    def do_HEAD(self):
        self.answer(body=False)

    def do_GET(self):
        self.answer(body=True)

    def answer(self, body):
        known = "/resolve/" in self.path and self.path.endswith("weights.bin")
        start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
        self.send_response((206 if start else 200) if known else 404)
        if known:
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("ETag", '"abc"')
            self.send_header("Accept-Ranges", "bytes")
            if start:
                last = len(WHOLE) - 1
                self.send_header("Content-Range", f"bytes {start}-{last}/{len(WHOLE)}")
        self.send_header("Content-Length", str(len(WHOLE) - start if known else 0))
        self.end_headers()
        if known and body:
            self.wfile.write(WHOLE[start:])

    def log_message(self, *_):
        """Nothing is printed."""


@pytest.fixture
def hub(monkeypatch):
    """The address of a server that speaks the Hub's protocol."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def url(hub, name="weights.bin"):
    return hf_hub_url("org/model", name, revision=COMMIT, endpoint=hub)


def test_a_file_is_looked_at_without_being_brought(hub):
    found = get_hf_file_metadata(url(hub), token=False, library_name="contract")
    assert (found.commit_hash, found.etag, found.size) == (COMMIT, "abc", len(WHOLE))


@pytest.mark.parametrize("there", [0, 1, 5000])
def test_it_goes_on_from_a_byte(hub, there):
    stream = io.BytesIO()
    stream.write(WHOLE[:there])
    headers = build_hf_headers(token=False, library_name="contract")
    assert "authorization" not in {name.lower() for name in headers}
    http_get(url(hub), stream, resume_size=there, headers=headers, expected_size=len(WHOLE))
    assert stream.getvalue() == WHOLE


def test_an_error_of_the_hub_has_its_class(hub):
    with pytest.raises(HfHubHTTPError):
        get_hf_file_metadata(url(hub, "other.bin"), token=False)


def test_settings_have_these_names():
    assert isinstance(constants.HF_HUB_OFFLINE, bool)
    assert isinstance(constants.HF_HUB_DISABLE_TELEMETRY, bool)
    assert constants.ENDPOINT.startswith("http")
    library = type(get_session()).__module__.partition(".")[0]
    assert inspect.isclass(__import__(library).HTTPError)
