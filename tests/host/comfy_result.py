"""What came of a queued prompt: pictures, texts, dumped tensors, which nodes ran."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from comfy_host import ComfyHost


class PromptRejected(Exception):
    """ComfyUI answered a prompt with HTTP 400.

    Attributes:
        error: {"type", "message", "details", ...} of the prompt as a whole.
        node_errors: by node id, {"errors": [{"type", "message", "details"}], "class_type"}.
    """

    def __init__(self, status: int, body: dict[str, Any]):
        self.status = status
        self.error: dict[str, Any] = body.get("error") or {}
        self.node_errors: dict[str, Any] = body.get("node_errors") or {}
        super().__init__(f"HTTP {status}: {json.dumps(body, indent=1, default=str)[:4000]}")

    def details(self, node: str | int) -> list[str]:
        """The `details` texts of one node's errors."""
        found = self.node_errors.get(str(node), {}).get("errors", [])
        return [x["details"] for x in found]


class PromptFailed(Exception):
    """A node raised while the prompt ran.

    Attributes:
        kind: name of the exception's class, such as "ValueError".
        text: the exception's own text.
        node, node_type: where it happened.
        result: the Result up to there.
    """

    def __init__(self, event: dict[str, Any], result: Result):
        self.result = result
        self.node = str(event.get("node_id"))
        self.node_type = event.get("node_type")
        self.kind = event.get("exception_type")
        self.text = (event.get("exception_message") or "").strip()
        trace = "".join(event.get("traceback") or [])
        super().__init__(
            f"node {self.node} ({self.node_type}): {self.kind}: {self.text}\n{trace[-3000:]}"
        )


class PromptInterrupted(Exception):
    """The prompt was interrupted; `result` holds what there is."""

    def __init__(self, event: dict[str, Any], result: Result):
        self.result = result
        self.node = str(event.get("node_id"))
        super().__init__(f"interrupted at node {self.node} ({event.get('node_type')})")


@dataclass
class CondEntry:
    """One entry of a dumped CONDITIONING.

    Attributes:
        tensor: float tensor [B, N, D], exactly the bits the server had.
        option_tensors: tensors found in the options, by key.
        options: the plain ones (numbers, texts, lists and dicts of them), by key.
        keys: all keys of the options, plain or not.
    """

    tensor: Any
    option_tensors: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)


class Result:
    """A finished prompt.

    Attributes:
        prompt_id: id of the prompt.
        history: ComfyUI's history entry.
        seconds: wall time from queueing to the end as seen from here.
        events: (name, data) of all messages the server sent meanwhile, in order.
    """

    def __init__(self, host: ComfyHost, prompt_id: str, history: dict[str, Any], seconds: float):
        self.host = host
        self.prompt_id = prompt_id
        self.history = history
        self.seconds = seconds
        self.events: list[tuple[str, dict[str, Any]]] = []

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """UI outputs by node id, as in the history."""
        return self.history.get("outputs", {})

    @property
    def messages(self) -> list[tuple[str, dict[str, Any]]]:
        """(name, data) of the history's status messages."""
        return [(name, data) for name, data in self.history["status"]["messages"]]

    @property
    def cached(self) -> set[str]:
        """Ids of nodes whose result came from the cache when the prompt began."""
        found = [data["nodes"] for name, data in self.messages if name == "execution_cached"]
        return set(found[0]) if found else set()

    @property
    def executed(self) -> list[str]:
        """Ids of nodes that really ran, in order."""
        ids = [data.get("node") for name, data in self.events if name == "executing"]
        return list(dict.fromkeys(x for x in ids if x is not None))

    def progress(self, node: str | int) -> list[tuple[float, float]]:
        """(value, maximum) of every progress message of a node."""
        return [
            (data["value"], data["max"])
            for name, data in self.events
            if name == "progress" and str(data.get("node")) == str(node)
        ]

    def images(self, node: str | int | None = None) -> list[bytes]:
        """Bytes of the saved pictures (PNG) and videos (MP4), of one node or of all."""
        nodes = self.outputs if node is None else {str(node): self.outputs.get(str(node), {})}
        return [
            self.host.view(entry)
            for output in nodes.values()
            for entry in output.get("images", [])
            if entry.get("filename", "").endswith((".png", ".mp4"))
        ]

    def text(self, node: str | int) -> str:
        """The line(s) of text a node showed after it ran, joined by newlines."""
        return "\n".join(str(x) for x in self.outputs.get(str(node), {}).get("text", []))

    def dump(self, node: str | int) -> list[CondEntry]:
        """What a TestTensorDump node wrote, one item per entry of the CONDITIONING."""
        return self.dumps(node)[0]

    def dumps(self, node: str | int) -> list[list[CondEntry]]:
        """The same for each CONDITIONING of a list that the node read."""
        output = self.outputs.get(str(node), {})
        if "tensor_dump" not in output:
            raise KeyError(f"node {node} dumped nothing; there are outputs of {set(self.outputs)}")
        return [_read_dump(Path(path)) for path in output["tensor_dump"]]


def _read_dump(path: Path) -> list[CondEntry]:
    from safetensors.torch import load_file

    tensors = load_file(str(path))
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    entries = []
    for index, fact in enumerate(facts):
        prefix = f"{index}.options."
        option_tensors = {
            k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)
        }
        entries.append(
            CondEntry(tensors[f"{index}"], option_tensors, _plain(fact["options"]), fact["keys"])
        )
    return entries


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """Options with the token map read."""
    text = options.get("vlm_tokens")
    return {**options, "vlm_tokens": json.loads(text)} if isinstance(text, str) else options
