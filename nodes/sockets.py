"""The wires of the pack. The prefix keeps other packs' wires from fitting by accident."""

from typing import Any

from comfy_api.latest import io

from ..vlm.hidden_states import HiddenStates as HeldStates
from ..vlm.model import VLM
from ..vlm.stats import Stats as Reference

Model = io.Custom("VLMC_MODEL")
HiddenStates = io.Custom("VLMC_HIDDEN_STATES")
Stats = io.Custom("VLMC_STATS")


def tokens_template() -> io.MatchType.Template:
    """Hidden states or CONDITIONING in, the same kind out."""
    return io.MatchType.Template("tokens", allowed_types=[HiddenStates, io.Conditioning])


def need(value: Any, kind: type, socket: str) -> None:
    """Checks what came over a wire, which the API does not for every kind of link.

    Raises:
        TypeError: Something else than `kind`.
    """
    if isinstance(value, kind):
        return
    what, source = _WORDS[kind]
    given = next((word for known, (word, _) in _WORDS.items() if isinstance(value, known)), None)
    if given is None:
        given = "CONDITIONING" if isinstance(value, list) else type(value).__name__
    raise TypeError(f"{socket} needs {what}, this is {given}. Connect {source}.")


_WORDS = {
    VLM: ("a VLM", "VLM Loader"),
    HeldStates: ("hidden states", "VLM Encode Image/Text"),
    Reference: ("reference statistics", "VLM Reference Statistics"),
}
