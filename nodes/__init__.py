"""ComfyUI's side of the pack: sockets, schemas, devices. One node family per file."""

from ..vlm.logger import LOG
from . import (
    blend,
    bridge,
    clip,
    connectors,
    contact_sheet,
    conversation,
    encode,
    files,
    griddot,
    image_prompt,
    influence,
    inspect,
    lap,
    load,
    normalize,
    picture,
    pool,
    rewrite,
    select,
    stats,
    style,
    sweep,
    target,
    tokens,
)
from .growing import refusing
from .shown import tell
from .words import InNodeWords, speaking

_ALL = [
    *load.NODES,
    *clip.NODES,
    *files.NODES,
    *encode.NODES,
    *select.NODES,
    *rewrite.NODES,
    *conversation.NODES,
    *lap.NODES,
    *influence.NODES,
    *picture.NODES,
    *image_prompt.NODES,
    *tokens.NODES,
    *griddot.NODES,
    *pool.NODES,
    *normalize.NODES,
    *stats.NODES,
    *blend.NODES,
    *style.NODES,
    *connectors.NODES,
    *bridge.NODES,
    *target.NODES,
    *sweep.NODES,
    *contact_sheet.NODES,
    *inspect.NODES,
]
NODES = [speaking(refusing(node), tell) for node in _ALL]
LOG.addFilter(InNodeWords())
