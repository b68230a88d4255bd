"""Token Filter: which tokens go on."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ..vlm.arguments import need_length
from ..vlm.conditioning.entries import map_tokens, read_entries, write_entries
from ..vlm.quoted import told
from ..vlm.running.hidden_states import HiddenStates
from ..vlm.token_map import count_roles
from ..vlm.tokens.filter import KEEP_PRESETS, filter_tokens, keep_roles
from .devices import conditioning_device
from .shown import shown
from .sockets import tokens_template
from .widget_text import need_text, whole_number

_MOST_LETTERS = 4096


def _numbers(text: str, name: str = "images") -> list[int] | None:
    """Numbers "0, 2" of images or turns; None where the field is empty."""
    text = text or ""
    parts = [part.strip() for part in text[:_MOST_LETTERS].split(",") if part.strip()]
    numbers = [number for number in map(whole_number, parts) if number is not None and number >= 0]
    if len(numbers) < len(parts) or len(text) > _MOST_LETTERS:
        kind = name.removesuffix("s")
        raise ValueError(f"{name} is {told(text)}; write {kind} numbers from 0, such as 0, 2.")
    return numbers or None


def _roles(text: str) -> list[str]:
    need_length(text or "", "roles", _MOST_LETTERS)
    return [part.strip() for part in (text or "").split(",") if part.strip()]


class TokenFilter(io.ComfyNode):
    """Keeps the tokens of some roles."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        template = tokens_template()
        return io.Schema(
            node_id="VLMCTokenFilter",
            display_name="Token Filter",
            category="VLM Conditioning/tokens",
            description="Keeps some of the tokens: the text's, a picture's, or any roles. Takes "
            "hidden states or CONDITIONING and gives back the same kind.",
            search_aliases=["VLM", "text tokens only", "image tokens only", "filter tokens"],
            inputs=[
                io.MatchType.Input(
                    "tokens",
                    template=template,
                    tooltip="Hidden states, or CONDITIONING that came from them.",
                ),
                io.Combo.Input(
                    "keep",
                    options=list(KEEP_PRESETS),
                    default="text",
                    tooltip="text = everything but pictures and their markers, which the research "
                    "recommends (its author later took all); prompt = your own words only; "
                    "image = the pictures' tokens; image+markers = with the tokens around them; "
                    "generated = a rewritten prompt and the pictures; all = everything.",
                ),
                io.String.Input(
                    "images",
                    default="",
                    optional=True,
                    tooltip="Only these pictures, by number from 0: 0, 2. Empty = all.",
                ),
                io.Int.Input(
                    "drop_first",
                    default=0,
                    min=0,
                    max=100000,
                    optional=True,
                    advanced=True,
                    tooltip="Drops so many of the first tokens that were kept. 0 = none.",
                ),
                io.String.Input(
                    "roles",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Roles to keep instead of the preset: system, template, text, "
                    "vision_marker, image, audio_marker, audio, thinking, generated, pad, unknown. "
                    "Empty = the preset.",
                ),
                io.String.Input(
                    "turns",
                    default="",
                    optional=True,
                    advanced=True,
                    tooltip="Only these turns of a conversation, by number from 0; the prompt is "
                    "the last. Empty = all.",
                ),
            ],
            outputs=[
                io.MatchType.Output(
                    template=template, display_name="tokens", tooltip="Of the kind that came in."
                )
            ],
        )

    @classmethod
    def validate_inputs(cls, images: str = "", roles: str = "", turns: str = "") -> bool | str:
        """Whether numbers and roles can be read, when the workflow is queued."""
        try:
            need_text(images=images, roles=roles, turns=turns)
            _numbers(images)
            _numbers(turns, "turns")
            if _roles(roles):
                keep_roles(_roles(roles))
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls,
        tokens: Any,
        keep: str,
        images: str = "",
        drop_first: int = 0,
        roles: str = "",
        turns: str = "",
    ) -> io.NodeOutput:
        """Filters every entry."""
        options = (_roles(roles) or keep, _numbers(images), drop_first, _numbers(turns, "turns"))
        if isinstance(tokens, HiddenStates):
            kept = filter_tokens(tokens, *options)
            before, after = tokens.token_map["n"], kept.token_map
            return shown(f"{after['n']} of {before} tokens kept{_kinds(after)}", kept)
        takes = "hidden states or CONDITIONING"
        entries = read_entries(tokens, "tokens on Token Filter", takes)
        filtered = map_tokens(entries, lambda each: filter_tokens(each, *options))
        after = filtered[0].tokens
        line = f"{after.n} of {entries[0].tokens.n} tokens kept{_kinds(after.token_map)}"
        if len(entries) > 1:
            line += f", {len(entries)} entries"
        return shown(line, write_entries(filtered, conditioning_device()))


def _kinds(token_map: dict | None) -> str:
    if token_map is None:
        return ""
    roles = count_roles(token_map)
    return " (" + ", ".join(f"{count} {role}" for role, count in roles.items()) + ")"


NODES = [TokenFilter]
