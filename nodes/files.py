"""Save and Load VLM Conditioning: one machine encodes, another samples."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..vlm.conditioning.entries import Entry, read_entries, write_entries
from ..vlm.conditioning.file import load_about, load_conditioning, save_conditioning
from ..vlm.files.units import MEGABYTE
from ..vlm.token_map import count_roles
from . import folders
from .devices import conditioning_device
from .shown import shown
from .widget_text import need_text

NUMBER, OVERWRITE = "number", "overwrite"
# Notes that Load shows, from this node and from the command line.
_TOLD = ("model", "target", "layers", "text", "notes")
_LONGEST = 60


class SaveConditioning(io.ComfyNode):
    """Writes a CONDITIONING with its token map to a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCSaveConditioning",
            display_name="Save VLM Conditioning",
            category="VLM Conditioning/load",
            description="Writes a conditioning with its token map to output/vlm_conditioning, for "
            "Load VLM Conditioning here or on another machine.",
            search_aliases=["VLM", "save conditioning", "export conditioning", "safetensors"],
            inputs=[
                io.Conditioning.Input(
                    "conditioning",
                    tooltip="Any CONDITIONING, also that of CLIP Text Encode. Hooks and "
                    "ControlNets cannot be saved: put their nodes behind Load VLM Conditioning.",
                ),
                io.String.Input(
                    "name",
                    default="conditioning",
                    tooltip="Name of the file in output/vlm_conditioning; folders with /, such as "
                    "cats/style. %year%, %month%, %day%, %hour%, %minute% and %second% become the "
                    "time.",
                ),
                io.Combo.Input(
                    "if_exists",
                    options=[NUMBER, OVERWRITE],
                    default=NUMBER,
                    tooltip="number = every run gets a file of its own, style_00001_, "
                    "style_00002_ and so on; overwrite = always the file with the plain name.",
                ),
                io.String.Input(
                    "notes",
                    default="",
                    multiline=True,
                    optional=True,
                    advanced=True,
                    tooltip="Written into the file and shown by Load VLM Conditioning. Empty = "
                    "nothing.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning", tooltip="As it came in.")],
            is_output_node=True,  # the machine that encodes needs no sampler behind it
        )

    @classmethod
    def validate_inputs(cls, name: str) -> bool | str:
        """Whether the name can be a file's, when the workflow is queued."""
        if name is None:
            return True
        try:
            need_text(name=name)
            folders.check_conditioning_name(name)
        except ValueError as error:
            return str(error)
        return True

    @classmethod
    def execute(
        cls, conditioning: Any, name: str, if_exists: str, notes: str = ""
    ) -> io.NodeOutput:
        """Saves every entry with its options."""
        entries = read_entries(conditioning, "conditioning on Save VLM Conditioning")
        label, path = folders.new_conditioning_file(name, numbered=if_exists == NUMBER)
        save_conditioning(entries, path, _about(entries[0], notes))
        size = path.stat().st_size / MEGABYTE
        # Over the API the file can then be fetched from /view, as pictures are.
        place = folders.view_entry(path)
        line = (
            f"saved as {place['type']}/{place['subfolder']}/{place['filename']}: "
            f"{_contents(entries)}, {size:.1f} MB. Load VLM Conditioning lists it as {label}"
        )
        return shown(line, conditioning, vlm_conditioning=[place])


class LoadConditioning(io.ComfyNode):
    """Reads a CONDITIONING back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCLoadConditioning",
            display_name="Load VLM Conditioning",
            category="VLM Conditioning/load",
            description="Reads a conditioning that Save VLM Conditioning or the command line "
            "(python -m vlm encode) wrote. Neither the VLM nor a text encoder is needed.",
            search_aliases=["VLM", "load conditioning", "import conditioning", "safetensors"],
            inputs=[
                io.Combo.Input(
                    "file",
                    options=folders.conditioning_names(),
                    tooltip="A file below input (input/...), output/vlm_conditioning (output/...) "
                    "or models/vlm_conditioning (models/...). A replaced file is read again.",
                )
            ],
            outputs=[
                io.Conditioning.Output(
                    display_name="conditioning",
                    tooltip="As it was saved, with its token map. Goes straight into a sampler.",
                )
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str) -> tuple | None:
        """Changes when the file does, so that a replaced one is read."""
        return folders.conditioning_fingerprint(file)

    @classmethod
    def validate_inputs(cls, file: str) -> bool | str:
        """Whether the file is there, when the workflow is queued."""
        if file is None:
            return True
        try:
            folders.conditioning_file(file)
        except FileNotFoundError as error:
            return str(error)
        return True

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        """Loads every entry with its options."""
        path = folders.conditioning_file(file)
        entries = load_conditioning(path)
        line = f"{file}: {_contents(entries)}{_told(load_about(path))}"
        return shown(line, write_entries(entries, conditioning_device()))


def _contents(entries: list[Entry]) -> str:
    """`24 tokens (10 template, 14 text), 2560 wide, 2 entries`."""
    tokens = entries[0].tokens
    roles = count_roles(tokens.token_map) if tokens.token_map is not None else {}
    kinds = ", ".join(f"{count} {role}" for role, count in roles.items())
    several = f", {len(entries)} entries" if len(entries) > 1 else ""
    return f"{tokens.n} tokens{f' ({kinds})' if kinds else ''}, {tokens.width} wide{several}"


def _about(first: Entry, notes: str) -> dict[str, Any]:
    """Notes for the file: what is known of the conditioning."""
    tokens = first.tokens
    about: dict[str, Any] = {"pack": _pack_version(), "tokens": tokens.n, "width": tokens.width}
    if tokens.token_map is not None:
        about["roles"] = count_roles(tokens.token_map)
    return about | ({"notes": notes} if notes else {})


def _told(about: Mapping[str, Any]) -> str:
    """`; model tiny; layers -8`: what a person wants to know again, in short."""
    told = ""
    for name in _TOLD:
        text = " ".join(str(about.get(name) or "").split())
        if len(text) > _LONGEST:
            text = text[: _LONGEST - 1] + "…"
        told += f"; {name} {text}" if text else ""
    return told


def _pack_version() -> str:
    project = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    found = re.search(r'^version = "(.+)"$', project, re.MULTILINE)
    return found[1] if found else "unknown"


NODES = [SaveConditioning, LoadConditioning]
