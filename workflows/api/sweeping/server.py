"""A running ComfyUI, over its HTTP API."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

from .workflow import Prompt, SweepError, title

POLL_SECONDS = 0.3


class Server:
    """A running ComfyUI.

    Args:
        address: host:port, with or without http:// before it.
    """

    def __init__(self, address: str):
        self.url = (address if "://" in address else f"http://{address}").rstrip("/")
        self.client_id = uuid.uuid4().hex
        self.running: str | None = None
        # It runs on this machine or in this network: no proxy in between.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def run(self, prompt: Prompt) -> list[bytes]:
        """Queues a workflow and waits; the pictures it saved.

        Raises:
            SweepError: ComfyUI refused it, a node failed, or it saved no picture.
        """
        answer = self._json("/prompt", {"prompt": prompt, "client_id": self.client_id}, prompt)
        self.running = answer["prompt_id"]
        while True:
            entry = self._json(f"/history/{self.running}").get(self.running, {})
            if entry.get("status"):
                break
            time.sleep(POLL_SECONDS)
        self.running = None
        for name, event in entry["status"].get("messages", []):
            if name == "execution_error":
                raise SweepError(f"{title(prompt, event['node_id'])}: {event['exception_message']}")
            if name == "execution_interrupted":
                raise SweepError("Somebody cancelled this run in ComfyUI.")
        outputs = entry["outputs"].values()
        found = [image for output in outputs for image in output.get("images", [])]
        saved = [image for image in found if image.get("type") == "output"]
        if not saved:
            raise SweepError("The workflow saved no picture; it needs a Save Image node.")
        return [self._request("/view?" + urllib.parse.urlencode(image)) for image in saved]

    def upload(self, path: Path) -> str:
        """Puts a picture into ComfyUI's input folder; its name there."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise SweepError(f"The picture {path} cannot be read: {error.strerror}.") from None
        border = uuid.uuid4().hex
        name = path.name.replace('"', "_")
        head = f'Content-Disposition: form-data; name="image"; filename="{name}"'
        body = f"--{border}\r\n{head}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()
        body += data + f"\r\n--{border}--\r\n".encode()
        kind = f"multipart/form-data; boundary={border}"
        answer = json.loads(self._request("/upload/image", body, kind))
        return "/".join(filter(None, (answer.get("subfolder"), answer["name"])))

    def stop(self) -> None:
        """Takes the run in progress out of ComfyUI's queue, if ComfyUI is still there."""
        if self.running is not None:
            with contextlib.suppress(SweepError):
                self._request("/queue", json.dumps({"delete": [self.running]}).encode())
                self._request("/interrupt", json.dumps({"prompt_id": self.running}).encode())

    def _json(self, path: str, payload: Any = None, prompt: Prompt | None = None) -> Any:
        data = None if payload is None else json.dumps(payload).encode()
        return json.loads(self._request(path, data, prompt=prompt))

    def _request(
        self,
        path: str,
        data: bytes | None = None,
        kind: str = "application/json",
        prompt: Prompt | None = None,
    ) -> bytes:
        headers = {} if data is None else {"Content-Type": kind}
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with self._opener.open(request, timeout=60) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise SweepError(refusal(error.code, error.read(), prompt or {})) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise SweepError(
                f"No ComfyUI answers at {self.url} ({reason}). Start it, or name its address with "
                "--server."
            ) from None


def refusal(status: int, body: bytes, prompt: Prompt) -> str:
    """What ComfyUI said when it refused a workflow, node by node."""
    try:
        answer = json.loads(body)
    except ValueError:
        answer = {}
    said = {}
    for node, found in (answer.get("node_errors") or {}).items():
        for error in found["errors"]:
            # A node's own check is repeated for each widget that it looked at: say it once.
            key = error["details"].split(" - ", 1)[-1]
            line = f"  {title(prompt, node)}: {error['message']}: {error['details']}"
            said.setdefault((node, key), line)
    lines = list(said.values())
    general = answer.get("error") or {}
    text = general.get("message") if isinstance(general, dict) else general
    if not lines and isinstance(general, dict) and general.get("details"):
        lines = [f"  {general['details']}"]
    return "\n".join([f"ComfyUI refused it: {text or f'HTTP {status}'}", *lines])
