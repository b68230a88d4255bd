"""How the tests of wrong input look at what ComfyUI answers."""

from __future__ import annotations

from typing import Any

import pytest
from comfy_host import ComfyHost
from comfy_result import PromptFailed, PromptRejected
from graphs import Prompt


def refused(host: ComfyHost, prompt: Prompt) -> PromptRejected:
    """Queues a prompt that must get HTTP 400; what came back.

    A prompt with another output that is right would run, and the answer would be 200.
    """
    with pytest.raises(PromptRejected) as caught:
        host.queue(prompt)
    assert caught.value.status == 400
    return caught.value


def failed(host: ComfyHost, prompt: Prompt, at: str, kind: str = "ValueError") -> str:
    """Runs a prompt whose node `at` must raise an exception of class `kind`; its sentence."""
    with pytest.raises(PromptFailed) as caught:
        host.run(prompt)
    assert (caught.value.node, caught.value.kind) == (at, kind), str(caught.value)
    return caught.value.text


def change(prompt: Prompt, name: str, **inputs: Any) -> Prompt:
    """The prompt with other values on one node."""
    changed = {**prompt[name]["inputs"], **inputs}
    return prompt | {name: prompt[name] | {"inputs": changed}}
