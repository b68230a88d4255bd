"""One run through the decoder: from the deepest state known to the layer asked for, no further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from ..families.layer_cache import LayerCache
from ..files.units import GIGABYTE
from ..finite import is_finite
from ..logger import LOG
from ..prompts.positions import mrope_positions
from .backbone import TEXT
from .beginnings import find_beginnings
from .decoder_layer import CallError
from .engine import Engine
from .layer_store import LayerStore
from .left_pads import let_pads_look
from .passed_layers import PassedLayers, own_copy
from .plain_forward import ForwardInputs, PlainForward
from .prefix_cache import Prefix
from .shown_features import ShownFeatures

OUT_OF_MEMORY = getattr(torch, "OutOfMemoryError", torch.cuda.OutOfMemoryError)


class Run:
    """A run of one prompt.

    Attributes:
        function: What messages name.

    `hidden` are the states of the tokens from `offset` on; the tokens before it are a beginning
    that is `known` and has already passed the layers that run. Where it has not been, both go on
    as one. `prefix` is what will be known of the prompt afterwards: as long or longer.
    With a plain forward all tokens pass all layers.
    """

    function = "`encode`"

    def __init__(self, engine: Engine, store: LayerStore, wanted: Sequence[int]):
        """Prepares a run.

        Args:
            engine: The model.
            store: Takes the layers passed.
            wanted: The missing layers, ascending.
        """
        self.engine = engine
        self.backbone = engine.backbone
        self.store = store
        self.prompt = store.prompt
        self.plain = self.backbone.plain
        self.start = store.nearest(wanted[0]) if self.plain is None else None
        self.end = wanted[-1]
        self.device = torch.device("cpu")  # known once the host has brought the text part
        self.decoder = engine.family.decoder
        blocks = self.prompt.blocks if self.decoder.mrope else ()
        self.positions = mrope_positions(len(self.prompt.ids), blocks, self.prompt.left)
        if self.prompt.pad_position is not None:
            self.positions[:, self.prompt.real :] = self.prompt.pad_position
        self.known: Prefix | None = None
        self.prefix: Prefix | None = None
        if engine.prefix_cache.limit and self.decoder.reuses_prefix and self.plain is None:
            self.known, self.prefix = find_beginnings(
                engine.prefix_cache, store, self.start, self.end
            )
        layers = self.start, self.end
        self.shown = ShownFeatures(engine, store, layers, self.known)
        passed = range(0 if self.start is None else self.start + 1, self.end + 1)
        self.passed = PassedLayers(store, passed, self._layer_bytes())
        self.offset = 0
        self.done = 0
        self.total = self.end - (self.start or 0) + len(self.shown.needed)
        self._rotary: Any = None
        self._mask: Any = None

    @torch.no_grad()
    def go(self) -> None:
        """Runs, keeping every layer passed, and puts the prefix into the model's cache.

        Raises:
            ValueError: NaN or Inf in the states.
            torch.OutOfMemoryError: The run does not fit; says how much it needs.
        """
        with self.engine.host.running():
            try:
                self._run()
            except OUT_OF_MEMORY as error:
                raise OUT_OF_MEMORY(self._does_not_fit()) from error

    def _run(self) -> torch.Tensor:
        """Runs to the end; the states of the tokens that ran last."""
        if self.shown.needed:
            # First: the parts need not be on the device together.
            self.shown.make(self._bring, self._step)
        self.device = self._bring(TEXT)
        try:
            hidden = self._first()
            self.store.reused_tokens = self.offset
            if self.plain is None:
                hidden = self._pass(hidden)
            else:
                hidden = self._pass_whole(hidden, self.plain)
        finally:  # an interrupted run leaves fewer layers and a shorter prefix, which are as good
            self.passed.settle(self.prefix, self.engine.host.cache_device)
            if self.prefix is not None and self.prefix.states:
                self.engine.prefix_cache.put(self.store.prefix_key, self.prefix)
        LOG.debug(
            "%s: layers %d to %d of %d for %d tokens, prefix cache: %d tokens reused, on %s%s",
            self.engine.name,
            (self.start or 0) + 1,
            self.end,
            self.store.num_layers - 1,
            len(self.prompt.ids),
            self.store.reused_tokens,
            self.device,
            "" if self.plain is None else ", in plain forwards",
        )
        self._check_finite(hidden)
        return hidden

    def _pass(self, hidden: torch.Tensor) -> torch.Tensor:
        """Takes states through the layers one at a time; those of the last one."""
        for layer in range(self.start or 0, self.end):
            hidden = self._join(layer, hidden)
            hidden = self._layer(layer, hidden)
            self._hold(layer + 1, hidden)
            self._step()
        return hidden

    def _pass_whole(self, hidden: torch.Tensor, plain: PlainForward) -> torch.Tensor:
        """Takes embeddings through the layers in one forward; the states of the last one."""
        levels = range(1, 1 + min(self.backbone.num_deepstack, self.end))
        added = [self._seen(level) for level in levels] if self.shown.places else []
        allowed = self._allowed(hidden.shape[1])
        places = self.positions.to(self.device)
        self.entered = ForwardInputs(hidden, places, allowed, added, self.prompt.left)

        def keep(layer: int, states: torch.Tensor) -> None:
            if layer:
                self._hold(layer, states)
                self._step()

        return plain.run(self.entered, self.end, keep)

    def _bring(self, part: str) -> torch.device:
        """Has the host bring a part of the weights; the device it runs on."""
        self.engine.host.bring(part, self._needed(part), self.store.keyframe)
        return self.backbone.device_of(part)

    def _needed(self, part: str) -> int:
        """Bytes that a part's run takes beside the weights."""
        tokens = len(self.prompt.ids)
        needed = self.backbone.run_bytes(part, tokens, self._patches(), self._frames())
        return needed + self._waiting_bytes() if part == TEXT else needed

    def _layer_bytes(self) -> int:
        """Bytes of one layer's states."""
        return len(self.prompt.ids) * self.backbone.width * self.backbone.dtype.itemsize

    def _waiting_bytes(self) -> int:
        """Bytes that wait on the device to be kept elsewhere; a prefix twice: it goes at once."""
        device = self.engine.host.device or self.backbone.device_of(TEXT)
        if device == self.store.device:
            return 0
        waiting = len(self.passed.keeping) * self._layer_bytes()
        if self.prefix is not None:
            states = self.backbone.width + 2 * self.backbone.key_width
            size = self.prefix.length * states * self.backbone.dtype.itemsize
            waiting += 2 * min(self.end * size, self.engine.prefix_cache.limit)
        return waiting

    def _patches(self) -> int:
        """Patches of the largest picture."""
        return max(
            (vision_input.num_patches for vision_input in self.prompt.vision_inputs), default=0
        )

    def _frames(self) -> int:
        """Steps of the spectrum of the longest sound."""
        return max((sound.frames for sound in self.prompt.sounds), default=0)

    def _does_not_fit(self) -> str:
        tokens, patches = len(self.prompt.ids), self._patches()
        needed = max(self._needed(part) for part in (TEXT, *self.shown.parts))
        advice = "a smaller `dtype`, a quantised file"
        if self.prompt.vision_inputs:
            advice = f"a smaller `max_pixels`, fewer images, {advice}"
        if self.prompt.sounds:
            advice = f"a shorter sound, {advice}"
        return (
            f"{self.function}: out of memory. {self.engine.name} needs about "
            f"{needed / GIGABYTE:.1f} GB beside its weights for {tokens} tokens and {patches} "
            f"patches of its largest image, more than was free. Choose {advice}."
        )

    def _first(self) -> torch.Tensor:
        """The states that enter the first layer to run."""
        if self.known is not None:
            self.offset = self.known.length
        if self.start is not None:
            whole = torch.cat(self.store.state(self.start), dim=1)
            return whole[:, self.offset :].to(self.device)
        ids = torch.tensor([self.prompt.ids[self.offset :]], device=self.device)
        hidden = self.backbone.embed(ids)
        places, features = self._seen(0)
        if features is not None:
            hidden = hidden.clone()
            hidden[:, places] = features.to(hidden.dtype)
        hidden = self.prompt.put_embeddings(hidden, self.offset)
        if self.prefix is not None and not self.prefix.states:
            self.prefix.states.append(self._beginning(self.prefix.length, 0, hidden))
        self._hold(0, hidden)
        return hidden

    def _seen(self, level: int) -> tuple[list[int], torch.Tensor | None]:
        return self.shown.here(level, self.offset, self.device)

    def _join(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """Puts the prefix back in front where it has not passed this layer; sets up attention."""
        known = self.known
        if self.offset and known is not None and layer >= known.depth:
            before = known.states[layer].to(hidden.device)
            hidden = torch.cat([before, hidden], dim=1)
            self.offset, self._rotary = 0, None
        if self._rotary is None:
            positions = self.positions[:, self.offset :].to(self.device)
            self._rotary = self.backbone.rotary(hidden, positions)
            allowed = self._allowed(hidden.shape[1])
            pads = self.prompt.left  # such a prompt reuses no beginning, so they run as well
            self._mask = self.backbone.attention_mask(allowed, hidden, self.offset, pads)
        return hidden

    def _allowed(self, running: int) -> torch.Tensor | None:
        """Causal, and blind to padding; None where plain causal attention does the same.

        A pad token on the left looks at itself, which its attention does not show; see `left_pads`.
        """
        n, real, left = len(self.prompt.ids), self.prompt.real, self.prompt.left
        whole = self._pictures() if self.decoder.pictures_whole else None
        if not self.offset and not left and real == n and whole is None:
            return None
        key = torch.arange(n, device=self.device)
        query = torch.arange(n - running, n, device=self.device)
        mask = key[None, :] <= query[:, None]
        if whole is not None:
            mask |= (whole[query][:, None] == whole[None, :]) & (whole[None, :] >= 0)
        mask &= (key[None, :] < real) & (key[None, :] >= left)
        let_pads_look(mask, left)
        return mask[None, None]

    def _pictures(self) -> torch.Tensor | None:
        """The number of the picture that each token is part of, -1 = none; None without any."""
        columns = (self.prompt.token_map[name] for name in ("role", "image"))
        numbers = [number if role == "image" else -1 for role, number in zip(*columns, strict=True)]
        return torch.tensor(numbers, device=self.device) if max(numbers) >= 0 else None

    def _layer(self, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """Decoder layer `layer` and what DeepStack adds after it."""
        past = None
        if self.known is not None and self.offset:
            keys, values = self.known.pairs[layer]
            past = keys.to(self.device), values.to(self.device)
        cache = self._cache(past)
        self.passed.overwrite()
        hidden = self.backbone.run_layer(layer, hidden, self._rotary, self._mask, cache)
        if layer < self.backbone.num_deepstack:
            places, features = self._seen(layer + 1)
            if features is not None:
                hidden = hidden.clone()
                hidden[:, places] += features.to(hidden.dtype)
        if self.prefix is not None and cache is not None and layer >= self.prefix.depth:
            self._extend_prefix(self.prefix, hidden, cache)
        return hidden

    def _cache(self, past: tuple[torch.Tensor, torch.Tensor] | None) -> LayerCache | None:
        """What takes the next decoder layer's keys and values; None = nobody needs them."""
        return LayerCache(past) if self.prefix is not None or past is not None else None

    def _extend_prefix(self, prefix: Prefix, hidden: torch.Tensor, cache: LayerCache) -> None:
        if cache.whole is None:
            raise CallError("A decoder layer put no keys and values into the cache.")
        length = prefix.length
        keys, values = (own_copy(tensor[:, :, :length]) for tensor in cache.whole)
        prefix.states.append(self._beginning(length, prefix.depth + 1, hidden))
        prefix.pairs.append((keys, values))
        if prefix.bytes > self.engine.prefix_cache.limit:
            # Too long to keep: the rest of the run does without.
            self.engine.prefix_cache.drop(self.store.prefix_key)
            self.prefix = None

    def _beginning(self, length: int, layer: int, hidden: torch.Tensor) -> torch.Tensor:
        """A layer's states of so many first tokens, in memory of their own."""
        new = hidden[:, : length - self.offset]
        if not self.offset or self.known is None:
            return own_copy(new)
        return torch.cat([self.known.states[layer].to(hidden.device), new], dim=1)

    def _hold(self, layer: int, hidden: torch.Tensor) -> None:
        """Keeps a layer if it stays; a prefix's part is shared with the prefix cache."""
        known: tuple[torch.Tensor, ...] = ()
        rest = hidden
        if self.prefix is not None:
            known = (self.prefix.states[layer],)
            rest = hidden[:, self.prefix.length - self.offset :]
        elif self.known is not None and self.offset:
            known = (self.known.states[layer],)
        self.passed.add(layer, known, rest)
        if layer == self.store.num_layers - 1:
            # Beside the raw states: the norm's weights may be gone when it is asked for.
            whole = torch.cat([*(part.to(self.device) for part in known), rest], dim=1)
            normed = self.backbone.norm(whole)
            if normed is not None:
                self.passed.add_normed(normed)

    def _step(self) -> None:
        self.done += 1
        self.engine.host.step(self.done, self.total)

    def _check_finite(self, hidden: torch.Tensor) -> None:
        """Refuses NaN and Inf, which a residual stream never loses again once it has them."""
        if is_finite(hidden):
            return
        raise self._not_finite(self.store.drop_nonfinite())

    def _not_finite(self, bad: int) -> ValueError:
        """What is said of NaN or Inf in layer `bad`."""
        self.engine.prefix_cache.clear()
        advice = "Set `dtype` to bfloat16 or float32."
        if self.backbone.dtype in (torch.bfloat16, torch.float32):
            advice = "The model's files may be damaged; download them again."
        dtype = str(self.backbone.dtype).removeprefix("torch.")
        known = bad == 0 or bad - 1 in self.store.held
        before = "" if known else " (or of one before it, which was not kept)"
        return ValueError(
            f"{self.function}: the states of layer {bad}{before} hold NaN or Inf in {dtype}. "
            f"Finite numbers were expected. {advice}"
        )
