#!/usr/bin/env python3
"""Queues a workflow many times through ComfyUI's HTTP API, over values of alpha and layer."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import itertools
import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from pathlib import Path
from typing import Any

Prompt = dict[str, dict[str, Any]]
# Where a value of the sweep goes: the classes of nodes, and their input.
PLACES = {
    "alpha": (("VLMCAlphaBlend", "VLMCStyleDelta"), "alpha"),
    "layers": (("VLMCHiddenLayerSelect", "VLMCLAPPool"), "layers"),
}
ENCODERS = ("VLMCEncode", "VLMCRewrite", "VLMCImageInfluence")
# What inputs of other nodes that hold a prompt are called, the likeliest first.
WORDS = ("prompt", "text", "value", "string", "positive")
POLL_SECONDS = 0.3
EPILOG = """\
Start ComfyUI first. WORKFLOW is one of the .json files beside this script, or your own, saved in
ComfyUI with Export (API). Every combination of the values is sampled once; the VLM encodes
picture and prompt only once, since neither alpha nor layers changes what it reads.

examples:
  sweep.py z-image-picture-style.json --alpha 0,0.15,0.3,0.5 --layers=-2,-8
  sweep.py z-image-picture-style.json --alpha 0.3 --layers "-2; -8; -2:0.7, -8:0.3"
  sweep.py z-image-hand-over.json --layers=-4,-8 --image cat.png --prompt "a cat in the snow" \\
           --set VLMCTimeHandover.percent=0.1 --set KSampler.seed=7

Run the same command again after a stop: pictures that are there already are not made again.
"""


class SweepError(Exception):
    """What went wrong, in words for the person who ran the script."""


def main(argv: list[str] | None = None) -> int:
    """Runs the sweep; the exit code."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # letters it cannot show are no failure
        sys.stdout.reconfigure(errors="backslashreplace")
    options = parse_arguments(sys.argv[1:] if argv is None else argv)
    server = Server(options.server)
    try:
        prompt = load_prompt(options.workflow)
        prepare(prompt, options, server)
        sweep(server, prompt, options)
    except SweepError as error:
        print(f"sweep.py: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        server.stop()
        print("\nStopped. Run the same command again to go on.", file=sys.stderr)
        return 130
    return 0


def parse_arguments(argv: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("workflow", type=Path, metavar="WORKFLOW", help="a workflow in API format")
    add("--alpha", default="", metavar="LIST", help="values for Alpha Blend or Style Delta: 0,0.3")
    add("--layers", default="", metavar="LIST", help="values for Hidden Layer Select: -2,-8; "
        "separate them by semicolons where one of them has a comma")  # fmt: skip
    add("--prompt", metavar="WORDS", help="the prompt, instead of the workflow's")
    add("--image", type=Path, metavar="FILE", help="a picture; uploaded and put into Load Image")
    add("--set", action="append", default=[], metavar="CLASS.INPUT=VALUE", dest="settings",
        help="any other value, such as KSampler.steps=4; may be repeated")  # fmt: skip
    add("--server", default="127.0.0.1:8188", metavar="HOST:PORT",
        help="address of ComfyUI (default: %(default)s)")  # fmt: skip
    add("--out", type=Path, default=Path("sweep"), metavar="DIR",
        help="folder for the pictures (default: %(default)s)")  # fmt: skip
    return parser.parse_args(join_negatives(argv))


def join_negatives(argv: list[str]) -> list[str]:
    """`--layers -2,-8` as `--layers=-2,-8`: argparse takes a leading minus for an option."""
    joined: list[str] = []
    for word in argv:
        if joined and joined[-1] in ("--alpha", "--layers") and re.match(r"-\d|-\.", word):
            joined[-1] += "=" + word
        else:
            joined.append(word)
    return joined


# --- the workflow ---------------------------------------------------------------------------------


def load_prompt(path: Path) -> Prompt:
    """Reads a workflow in API format: nodes by id, each with class_type and inputs."""
    beside = Path(__file__).parent / path
    path = path if path.exists() or not beside.exists() else beside
    try:
        prompt = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SweepError(f"There is no workflow {path}.") from None
    except (OSError, ValueError) as error:
        raise SweepError(f"{path} cannot be read as JSON: {error}") from None
    nodes = prompt.values() if isinstance(prompt, dict) else [None]
    if not all(isinstance(node, dict) and "class_type" in node for node in nodes):
        raise SweepError(
            f"{path} is not in API format. Take a file of workflows/api, or save yours in ComfyUI "
            "with Export (API)."
        )
    return prompt


def prepare(prompt: Prompt, options: argparse.Namespace, server: Server) -> None:
    """Puts what is the same for the whole sweep into the workflow."""
    for setting in options.settings:
        match = re.fullmatch(r"(\w+)\.([^=]+)=(.*)", setting, re.DOTALL)
        if match is None:
            raise SweepError(f"--set {setting}: write CLASS.INPUT=VALUE, like KSampler.steps=4.")
        kind, name, value = match.groups()
        set_values(prompt, (kind,), name, parse_value(value))
    if options.prompt is not None:
        set_words(prompt, options.prompt)
    if options.image is not None:
        set_values(prompt, ("LoadImage",), "image", server.upload(options.image))


def parse_value(text: str) -> Any:
    """A number, true or false where the text is one; else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def parse_list(text: str) -> list[str]:
    """The values of a list; semicolons separate them if there is one, else commas."""
    values = [value.strip() for value in text.split(";" if ";" in text else ",")]
    return list(dict.fromkeys(value for value in values if value))


def set_values(prompt: Prompt, kinds: tuple[str, ...], name: str, value: Any) -> None:
    """Sets an input of all nodes of some classes, as far as no wire feeds it.

    Raises:
        SweepError: no such node or input.
    """
    nodes = [node for node in prompt.values() if node["class_type"] in kinds]
    free = [node for node in nodes if not isinstance(node["inputs"].get(name, []), list)]
    if not free:
        there = sorted({node["class_type"] for node in prompt.values()})
        why = "no such input, or a wire feeds it" if nodes else f"it has {', '.join(there)}"
        raise SweepError(f"The workflow has no {' or '.join(kinds)} to set {name} on: {why}.")
    for node in free:
        node["inputs"][name] = value


def set_words(prompt: Prompt, words: str) -> None:
    """Sets the prompt of what reads it with the VLM, and of encoders that had the same words.

    Raises:
        SweepError: no VLM Encode, or its prompt comes over a wire from a node without one.
    """
    encoders = [node for node in prompt.values() if node["class_type"] in ENCODERS]
    if not encoders:
        raise SweepError("The workflow has no VLM Encode, so --prompt has nowhere to go.")
    for encoder in encoders:
        old = encoder["inputs"].get("prompt", "")
        if isinstance(old, list):
            inputs, name = find_words(prompt, old)
            inputs[name] = words
            continue
        for node in prompt.values():
            for name in ("prompt", "text"):
                # No words are no words in common: an empty negative stays empty.
                same = node["inputs"].get(name) == old
                if same and (old or node is encoder):
                    node["inputs"][name] = words


def find_words(prompt: Prompt, wire: list[Any]) -> tuple[dict[str, Any], str]:
    """The inputs of the node where words stand that come over a wire, and the name of theirs.

    Raises:
        SweepError: none of a node's inputs can be told to be words, or to bring them.
    """
    passed: set[str] = set()
    node = str(wire[0])
    while node not in passed:
        passed.add(node)
        inputs = prompt.get(node, {}).get("inputs", {})
        for name in WORDS:
            if isinstance(inputs.get(name), str):
                return inputs, name
        wires = [inputs[name] for name in WORDS if isinstance(inputs.get(name), list)]
        if not wires:
            break
        node = str(wires[0][0])
    kind = prompt.get(node, {}).get("class_type", "CLASS")
    raise SweepError(
        f"The VLM's prompt comes over a wire from {title(prompt, node)}, which has no text called "
        f"{', '.join(WORDS[:-1])} or {WORDS[-1]} for --prompt to replace. Set the words where they "
        f"stand: --set {kind}.INPUT=WORDS."
    )


# --- the sweep ------------------------------------------------------------------------------------


def combinations(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Every combination of the values, layer by layer.

    Raises:
        SweepError: an alpha that is no number.
    """
    alphas: list[Any] = parse_list(options.alpha)
    try:
        alphas = list(dict.fromkeys(map(float, alphas)))
    except ValueError:
        raise SweepError(f"--alpha {options.alpha}: write numbers, such as 0,0.15,0.3.") from None
    lists = {"layers": parse_list(options.layers), "alpha": alphas}
    lists = {name: values for name, values in lists.items() if values}
    return [dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values())]


def with_values(prompt: Prompt, values: dict[str, Any]) -> Prompt:
    """A copy of the workflow with one combination of values in it."""
    changed = json.loads(json.dumps(prompt))
    for name, value in values.items():
        set_values(changed, *PLACES[name], value)
    return changed


def file_stem(workflow: Path, values: dict[str, Any], prompt: Prompt) -> str:
    """Name of a picture: the workflow's, the values, and six letters that stand for the rest."""
    parts = [f"{name}{value}" for name, value in values.items()]
    mark = hashlib.sha256(json.dumps(prompt, sort_keys=True).encode()).hexdigest()[:6]
    return re.sub(r"[^\w.+-]+", "_", "_".join([workflow.stem, *parts, mark]))


def sweep(server: Server, prompt: Prompt, options: argparse.Namespace) -> None:
    """Makes the pictures that are not there yet, one after another."""
    runs = [(values, with_values(prompt, values)) for values in combinations(options)]
    options.out.mkdir(parents=True, exist_ok=True)
    began, made = time.monotonic(), 0
    for number, (values, changed) in enumerate(runs, 1):
        stem = file_stem(options.workflow, values, changed)
        label = "  ".join([f"{number}/{len(runs)}", *(f"{k} {v}" for k, v in values.items())])
        if (options.out / f"{stem}.png").exists():
            print(f"{label}  there already")
            continue
        start = time.monotonic()
        show(f"{label}  …")
        # The one whose name says that all are there comes last.
        for index, picture in reversed(list(enumerate(server.run(changed)))):
            name = f"{stem}.png" if index == 0 else f"{stem}_{index + 1}.png"
            (options.out / name).write_bytes(picture)
        made += 1
        left = (time.monotonic() - began) / made * (len(runs) - number)
        show(f"{label}  {time.monotonic() - start:.1f} s, about {left:.0f} s left\n")
    print(f"{made} of {len(runs)} made in {time.monotonic() - began:.0f} s: {options.out}")


def show(line: str) -> None:
    """Rewrites the last line on a terminal; elsewhere prints finished lines only."""
    if sys.stdout.isatty():
        print(f"\r\033[K{line}", end="", flush=True)
    elif line.endswith("\n"):
        print(line, end="", flush=True)


# --- ComfyUI --------------------------------------------------------------------------------------


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


def title(prompt: Prompt, node: str) -> str:
    """A node as the person knows it: its title and id."""
    found = prompt.get(str(node), {})
    name = found.get("_meta", {}).get("title") or found.get("class_type", "node")
    return f"{name} (node {node})"


if __name__ == "__main__":
    sys.exit(main())
