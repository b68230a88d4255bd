"""The wires of the pack. The prefix keeps other packs' wires from fitting by accident."""

from comfy_api.latest import io

Model = io.Custom("VLMC_MODEL")
HiddenStates = io.Custom("VLMC_HIDDEN_STATES")
Stats = io.Custom("VLMC_STATS")


def tokens_template() -> io.MatchType.Template:
    """Hidden states or CONDITIONING in, the same kind out."""
    return io.MatchType.Template("tokens", allowed_types=[HiddenStates, io.Conditioning])
