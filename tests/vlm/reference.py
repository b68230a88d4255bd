"""A family's own class of transformers, as what our layers are compared with."""

import inspect

import torch
import transformers
from hugging_face import plain_model


class Reference:
    """A family's own class, fed with our token ids and pixels."""

    def __init__(self, folder, family):
        self.model, _ = plain_model(folder, family.model_type)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(str(folder))
        self.vision, self.audio = family.vision, family.audio
        self.language = getattr(self.model.model, family.language, self.model.model)

    def inputs(self, states):
        """What the class takes of a prompt, by the names that its `forward` has."""
        ids = torch.tensor([states.prompt.ids])
        known = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if self.vision is not None:
            known["token_type_ids"] = self._is(ids, self.vision.image_token)
            known["mm_token_type_ids"] = known["token_type_ids"].int()
            if self.vision.frame_token != self.vision.image_token:
                known["mm_token_type_ids"] += 2 * self._is(ids, self.vision.frame_token).int()
            known |= self.vision.forward_inputs(states.prompt.shown)
            films = [one for one in states.prompt.shown if one.is_video]
            if films:
                known["video_second_per_grid"] = torch.tensor(
                    [one.seconds_per_grid for one in films]
                )
        if self.audio is not None:
            sounds = states.prompt.sounds
            known |= self.audio.forward_inputs([sounds[n] for n in states.prompt.heard])
        return {name: value for name, value in known.items() if name in self._takes}

    @property
    def _takes(self):
        return inspect.signature(self.model.forward).parameters

    def _is(self, ids, token):
        return (ids == self.tokenizer.convert_tokens_to_ids(token)).long()

    def streams(self, states):
        """What enters each decoder layer, then the stream after the last one, normed."""
        caught = []

        def catch(module, args, kwargs):
            caught.append((args[0] if args else kwargs["hidden_states"]).clone())

        hooks = [
            layer.register_forward_pre_hook(catch, with_kwargs=True)
            for layer in self.language.layers
        ]
        norm = self.language.norm
        hooks.append(norm.register_forward_hook(lambda module, args, out: caught.append(out)))
        try:
            with torch.no_grad():
                self.model(**self.inputs(states))
        finally:
            for hook in hooks:
                hook.remove()
        return caught
