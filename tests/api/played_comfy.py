"""A ComfyUI that the tests play, and the scripts of workflows/api as Python runs them."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import json
import sys
import urllib.parse
from pathlib import Path

from PIL import Image

API = Path(__file__).parents[2] / "workflows" / "api"
STYLE = API / "z-image-picture-style.json"


def load(name):
    sys.path.insert(0, str(API))  # as Python does for a script
    spec = importlib.util.spec_from_file_location(name, API / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words_for(comfy, out, *words):
    """The command line of sweep.py for z-image-picture-style and this ComfyUI."""
    return [str(STYLE), "--server", comfy.address, "--out", str(out), *words]


def pictures(folder):
    """What it made."""
    return list(folder.glob("z-image*.png"))


def png(text):
    """A picture whose colour tells texts apart."""
    drawn = io.BytesIO()
    Image.new("RGB", (48, 32), tuple(hashlib.sha256(text.encode()).digest()[:3])).save(drawn, "PNG")
    return drawn.getvalue()


PNG = png("")


class Comfy:
    """What the script asks of a ComfyUI.

    Attributes:
        prompts: the workflows that were queued.
        uploads: bodies of the uploads.
        posts: other paths that something was posted to.
        refusal: answer with HTTP 400 to the next workflow.
        failure: event of a node that fails in every run.
        pictures: how many pictures a run saves.
    """

    def __init__(self):
        self.prompts, self.uploads, self.posts = [], [], []
        self.refusal = self.failure = None
        self.pictures = 1

    def post(self, path, body):
        if path == "/upload/image":
            self.uploads.append(body)
            return 200, {"name": "cat (1).png", "subfolder": "", "type": "input"}
        if path != "/prompt":
            self.posts.append(path)
            return 200, {}
        if self.refusal is not None:
            return 400, self.refusal
        self.prompts.append(json.loads(body)["prompt"])
        return 200, {"prompt_id": str(len(self.prompts))}

    def get(self, path):
        if path.startswith("/view"):
            name = urllib.parse.parse_qs(path.partition("?")[2])["filename"][0]
            return png(name)
        number = path.rpartition("/")[2]
        images = [
            {"filename": f"{number}_{index}.png", "subfolder": "", "type": "output"}
            for index in range(self.pictures)
        ]
        images.append({"filename": "preview.png", "subfolder": "", "type": "temp"})
        messages = [] if self.failure is None else [["execution_error", self.failure]]
        entry = {"status": {"messages": messages}, "outputs": {"9": {"images": images}}}
        return json.dumps({number: entry}).encode()


def of_class(prompt, kind):
    return next(node["inputs"] for node in prompt.values() if node["class_type"] == kind)
