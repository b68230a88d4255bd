"""A node pack for the host tests only: tiny random native models, and a window into the server.

It is copied or linked into a test server's custom_nodes. Nothing in it is part of the product.
"""

from comfy_api.latest import ComfyExtension, io

from . import stubs, watch
from .tiny_nodes import NODES


class TinyNative(ComfyExtension):
    """Registers the test nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The nodes."""
        return NODES


async def comfy_entrypoint() -> TinyNative:
    """What ComfyUI calls."""
    watch.install()
    stubs.install()
    return TinyNative()
