"""A real ComfyUI server for the tests: prompts, outputs, memory, and a view into it."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import uuid
from pathlib import Path
from typing import Any

from comfy_find import REPO
from comfy_process import ComfyProcess, ServerFailed
from comfy_result import PromptFailed, PromptInterrupted, PromptRejected, Result

PACK_FOLDER = "ComfyUI-VLM-Conditioning"
PROMPT_SECONDS = 180


class ComfyHost(ComfyProcess):
    """A ComfyUI process and its HTTP API; see ComfyProcess for what it is made from."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        # The server sends its messages only on behalf of somebody.
        self.client_id = uuid.uuid4().hex

    def get(self, path: str, timeout: float = 60) -> Any:
        """GET, parsed as JSON."""
        return json.loads(self.request(path, timeout=timeout))

    def post(self, path: str, payload: Any, timeout: float = 60) -> Any:
        """POST of JSON; the answer parsed as JSON, or None when it is empty."""
        body = self.request(path, payload, timeout)
        return json.loads(body) if body.strip() else None

    def object_info(self, node: str | None = None) -> dict[str, Any]:
        """/object_info of all nodes, or the one entry of a node."""
        if node is None:
            return self.get("/object_info")
        return self.get(f"/object_info/{urllib.parse.quote(node)}")[node]

    def wait_for_option(self, node: str, widget: str, value: str) -> None:
        """Waits until a widget offers a file that was just written: lists are kept for a moment.

        Raises:
            TimeoutError: It does not within 30 s.
        """
        began = time.monotonic()
        while time.monotonic() - began < 30:
            inputs = self.object_info(node)["input"]
            kind, *settings = (inputs["required"] | inputs.get("optional", {}))[widget]
            if value in (settings[0]["options"] if settings else kind):
                return
            time.sleep(0.1)
        raise TimeoutError(f"{widget} of {node} does not offer {value}.")

    def view(self, entry: dict[str, str]) -> bytes:
        """The bytes of an output entry {"filename", "subfolder", "type"}."""
        keys = {k: entry[k] for k in ("filename", "subfolder", "type") if k in entry}
        return self.request("/view?" + urllib.parse.urlencode(keys))

    # --- prompts -----------------------------------------------------------------------------

    def queue(self, prompt: dict[str, Any], extra_data: dict[str, Any] | None = None) -> str:
        """Queues an API prompt; its id.

        Raises:
            PromptRejected: HTTP 400; it carries node_errors.
        """
        prompt = {str(k): v for k, v in prompt.items()}
        payload = {"prompt": prompt, "client_id": self.client_id, "extra_data": extra_data or {}}
        try:
            return self.post("/prompt", payload)["prompt_id"]
        except urllib.error.HTTPError as error:
            body = error.read()
            try:
                parsed = json.loads(body)
            except json.JSONDecodeError:
                parsed = {"error": {"message": body.decode(errors="replace")}}
            raise PromptRejected(error.code, parsed) from None

    def wait(self, prompt_id: str, timeout: float = PROMPT_SECONDS) -> Result:
        """Waits for a queued prompt.

        Raises:
            PromptFailed, PromptInterrupted: a node raised, or the run was interrupted.
            TimeoutError: it took longer than `timeout` seconds.
            ServerFailed: the server died.
        """
        began = time.monotonic()
        while time.monotonic() - began < timeout:
            if self.process is not None and self.process.poll() is not None:
                raise ServerFailed(f"ComfyUI died while running a prompt.\n{self.log(60)}")
            entry = self.get(f"/history/{prompt_id}").get(prompt_id)
            if entry is not None and entry.get("status"):
                return self._finish(prompt_id, entry, time.monotonic() - began)
            time.sleep(0.02)
        raise TimeoutError(f"prompt {prompt_id} took over {timeout} s\n{self.log(40)}")

    def _finish(self, prompt_id: str, entry: dict[str, Any], seconds: float) -> Result:
        result = Result(self, prompt_id, entry, seconds)
        if self.has_tiny_native():
            events = self.get(f"/tiny_native/events?prompt_id={prompt_id}")
            result.events = [(name, data) for name, data in events]
        for name, data in result.messages:
            if name == "execution_error":
                raise PromptFailed(data, result)
            if name == "execution_interrupted":
                raise PromptInterrupted(data, result)
        return result

    def run(self, prompt: dict[str, Any], timeout: float = PROMPT_SECONDS) -> Result:
        """Queues a prompt and waits for it: `queue` and `wait`."""
        return self.wait(self.queue(prompt), timeout)

    def progressed(self, prompt_id: str, node: str) -> int:
        """Steps that a node of a running prompt has reported; 0 before its first message."""
        events = self.get(f"/tiny_native/events?prompt_id={prompt_id}")
        own = (d for name, d in events if name == "progress" and d.get("node") == node)
        return int(max((data["value"] for data in own), default=0))

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Interrupts what runs, or only if that is `prompt_id`."""
        self.post("/interrupt", {"prompt_id": prompt_id} if prompt_id else {})

    def free(self, unload_models: bool = True, free_memory: bool = True) -> None:
        """Unloads models and empties the node cache, and waits until that is done."""
        wanted = {"unload_models": unload_models, "free_memory": free_memory}
        self.post("/free", wanted)
        asked = began = time.monotonic()
        while time.monotonic() - began < 120:
            state = self.get("/tiny_native/state")
            if not state["flags"] and not state["busy"] and not (unload_models and state["loaded"]):
                return
            if time.monotonic() - asked > 5:
                # ComfyUI sets two flags one by one, and sleeps on where the second one comes while
                # its worker is at the first.
                self.post("/free", wanted)
                asked = time.monotonic()
            time.sleep(0.02)
        raise TimeoutError(f"ComfyUI did not free its memory: {state}")

    # --- the test-only pack's window into the server --------------------------------------------

    def has_tiny_native(self) -> bool:
        """Whether the test-only pack is installed here."""
        return (self.base / "custom_nodes" / "tiny_native").exists()

    def module_calls(self, ending: str = "") -> int | dict[str, int]:
        """Forward calls of torch modules in the server since `reset_module_calls`.

        Args:
            ending: sum over class names with this ending, such as "DecoderLayer"; "" returns
                the counts of all classes that are counted (see tiny_native/watch.py).
        """
        counts = self.get("/tiny_native/module_calls")
        return counts if not ending else sum(n for k, n in counts.items() if k.endswith(ending))

    def reset_module_calls(self) -> None:
        """Sets all those counts to zero."""
        self.post("/tiny_native/module_calls", {})

    def loaded_models(self) -> list[str]:
        """Class names of the models that ComfyUI holds as loaded."""
        return self.get("/tiny_native/state")["loaded"]

    def live(self, *names: str) -> dict[str, int]:
        """How many objects of classes with these names live, garbage not yet collected included."""
        return self.get("/tiny_native/live?" + urllib.parse.urlencode({"names": ",".join(names)}))

    def modules(self, *prefixes: str) -> list[str]:
        """Names of imported Python modules in the server that start with one of the prefixes."""
        query = urllib.parse.urlencode({"prefix": ",".join(prefixes)})
        return self.get(f"/tiny_native/modules?{query}")

    def assert_pack_loaded(self, folder: str = PACK_FOLDER) -> list[str]:
        """Node ids of an installed pack; AssertionError with the log when it failed to import."""
        ids = [
            name
            for name, info in self.object_info().items()
            if info.get("python_module") == f"custom_nodes.{folder}"
        ]
        assert ids, f"ComfyUI has no node of {folder}.\n{self.log(80)}"
        return sorted(ids)


def pack_source() -> Path | None:
    """This repository, when it can already be installed as a node pack."""
    return REPO if (REPO / "__init__.py").is_file() else None
