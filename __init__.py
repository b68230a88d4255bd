"""VLM Conditioning for ComfyUI: registers the nodes, nothing else."""

from comfy_api.latest import ComfyExtension, io  # noqa: TID251

from .nodes import NODES

WEB_DIRECTORY = "./web"


class VLMConditioning(ComfyExtension):
    """The pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Every node of the pack."""
        return NODES


async def comfy_entrypoint() -> VLMConditioning:
    """Called by ComfyUI."""
    return VLMConditioning()
