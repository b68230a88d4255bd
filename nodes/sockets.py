"""The wires of the pack. The prefix keeps other packs' wires from fitting by accident."""

from typing import Any

from comfy_api.latest import io

from ..vlm.connectors.connector import Connector as LoadedConnector
from ..vlm.model import VLM
from ..vlm.prompts.conversation import Conversation as Talk
from ..vlm.running.hidden_states import HiddenStates as HeldStates
from ..vlm.tokens.stats import Stats as Reference
from .devices import ManagedModule

Model = io.Custom("VLMC_MODEL")
HiddenStates = io.Custom("VLMC_HIDDEN_STATES")
Stats = io.Custom("VLMC_STATS")
Connector = io.Custom("VLMC_CONNECTOR")
Pictures = io.Custom("VLMC_PICTURES")
Conversation = io.Custom("VLMC_CONVERSATION")


def tokens_template() -> io.MatchType.Template:
    """Hidden states or CONDITIONING in, the same kind out."""
    return io.MatchType.Template("tokens", allowed_types=[HiddenStates, io.Conditioning])


class ManagedConnector:
    """What the connector socket carries: a connector and who moves its weights."""

    def __init__(self, connector: LoadedConnector):
        """Puts the connector under ComfyUI's memory management."""
        self.connector = connector
        self._managed = ManagedModule(connector.module)

    @property
    def patcher(self) -> Any:
        """What ComfyUI's caches recognise a model by."""
        return self._managed.patcher

    def bring(self, tokens: int) -> LoadedConnector:
        """The connector where it runs, with room for so many tokens."""
        self._managed.bring(self.connector.run_bytes(tokens))
        return self.connector


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
    VLM: ("a VLM", "VLM Loader or VLM From CLIP"),
    HeldStates: ("hidden states", "VLM Encode Image/Text"),
    Reference: ("reference statistics", "VLM Reference Statistics"),
    Talk: ("a conversation", "Conversation Turn"),
    ManagedConnector: ("a connector", "VLM Connector Loader"),
}
