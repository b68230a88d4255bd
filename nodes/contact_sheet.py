"""Contact Sheet: all pictures of a list on one page, saved with its workflow."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image

from ..vlm.report.contact_sheet import contact_sheet, side_by_side
from ..vlm.report.writing import missing_letters
from .devices import conditioning_device
from .prompting import need_image
from .shown import shown


class ContactSheet(io.ComfyNode):
    """All pictures of a sweep on one page."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Sockets and widgets."""
        return io.Schema(
            node_id="VLMCContactSheet",
            display_name="Contact Sheet",
            category="VLM Conditioning/encode",
            description="Lays a list of pictures out on one page with their labels, two axes as a "
            "table, and saves it as PNG in ComfyUI's output folder. The PNG holds the workflow "
            "with all settings, as Save Image's does: drop it into ComfyUI to have them back.",
            search_aliases=["VLM", "XY plot", "grid", "collage", "image grid", "compare"],
            is_input_list=True,
            is_output_node=True,
            hidden=[io.Hidden.prompt, io.Hidden.extra_pnginfo],
            inputs=[
                io.Image.Input(
                    "images",
                    tooltip="The list of pictures, from VAE Decode behind a sweep. A batch stands "
                    "side by side in its place.",
                ),
                io.String.Input(
                    "labels",
                    force_input=True,
                    optional=True,
                    tooltip="The list of labels from Conditioning Sweep: one per picture. Two "
                    "values with · between make columns and rows.",
                ),
                io.String.Input(
                    "title", default="", optional=True, tooltip="Above all. Empty = none."
                ),
                io.Int.Input(
                    "size",
                    default=512,
                    min=0,
                    max=4096,
                    optional=True,
                    tooltip="Longest side of a picture on the sheet, in pixels. 0 = as they are.",
                ),
                io.Int.Input(
                    "columns",
                    default=0,
                    min=0,
                    max=100,
                    optional=True,
                    advanced=True,
                    tooltip="Pictures in a row, with a label under each. 0 = a table where there "
                    "are two axes, else as fits.",
                ),
                io.String.Input(
                    "filename_prefix",
                    default="vlm_conditioning/sheet",
                    optional=True,
                    tooltip="Begin of the file's name in the output folder, as on Save Image.",
                ),
            ],
            outputs=[
                io.Image.Output(display_name="sheet", tooltip="The page, which is saved already.")
            ],
        )

    @classmethod
    def execute(
        cls,
        images: list[Any],
        labels: list[str] | None = None,
        title: list[str] | None = None,
        size: list[int] | None = None,
        columns: list[int] | None = None,
        filename_prefix: list[str] | None = None,
    ) -> io.NodeOutput:
        """Draws the page and saves it."""
        pictures = [side_by_side(_pictures(each)) for each in images]
        labels, heading = [str(each) for each in labels or []], _one(title, "")
        sheet = contact_sheet(pictures, labels, heading, _one(columns, 0), _one(size, 512))
        values = torch.from_numpy(np.asarray(sheet).copy()).to(torch.float32).div_(255)[None]
        prefix = _one(filename_prefix, "vlm_conditioning/sheet")
        saved = ui.ImageSaveHelper.save_images(values, prefix, io.FolderType.output, cls)
        line = f"{len(pictures)} pictures on {sheet.width} x {sheet.height} pixels, saved"
        lacking = missing_letters(heading + "".join(labels))
        if lacking:
            line += f"; no font of this machine has {lacking[:20]}"
        return shown(line, values.to(conditioning_device()), images=saved)


def _one(values: list[Any] | None, start: Any) -> Any:
    """The widget's value: a node that takes lists gets each in a list."""
    return values[0] if values else start


def _pictures(image: Any) -> list[Image.Image]:
    values = need_image(image, "images on Contact Sheet")
    pixels = values.float().clamp(0, 1).mul(255).round().to("cpu", torch.uint8).numpy()
    return [Image.fromarray(each) for each in pixels]


NODES = [ContactSheet]
