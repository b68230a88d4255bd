"""ComfyUI's side of the pack: sockets, schemas, devices. One node family per file."""

from . import blend, encode, load, normalize, style, target, tokens

NODES = [
    *load.NODES,
    *encode.NODES,
    *tokens.NODES,
    *normalize.NODES,
    *blend.NODES,
    *style.NODES,
    *target.NODES,
]
