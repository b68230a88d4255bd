"""A conversation as JSON: the turns before a prompt, with the files that they show.

    [{"role": "user", "text": "What is it?", "image": ["boat.png"]},
     {"role": "assistant", "text": "A boat at dusk."}]

The prompt is the user's next turn, so the list begins with the user and ends with an answer.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..pictures.media_files import read_picture, read_text, read_video
from ..prompts.conversation import Conversation
from ..prompts.markers import check_names
from ..quoted import reason, told
from ..sounds.sound_files import read_sound

ROLES = ("user", "assistant")
SHOWN = ("image", "video", "fps", "audio", "audio_in_video")  # by a user's turn
_LISTS = ("image", "audio")  # a file or a list of them
KEYS = ("role", "text", *SHOWN)
EXAMPLE = '[{"role": "user", "text": "What is it?"}, {"role": "assistant", "text": "A boat."}]'


@dataclass(frozen=True)
class Said:
    """One turn of a user and the model's answer, with files in place of pictures.

    Attributes:
        text: The user's words.
        image: Picture files, before the words.
        video: Folder of frames or animation, after the pictures; None = no video.
        fps: Frames per second of the video; None = as it says, 24 for a folder.
        answer: The model's words; "" = not yet given.
        audio: Sound files, after the video.
        audio_in_video: Whether the first of them is the video's own.
    """

    text: str
    image: tuple[str, ...] = ()
    video: str | None = None
    fps: float | None = None
    answer: str = ""
    audio: tuple[str, ...] = ()
    audio_in_video: bool = False

    @property
    def files(self) -> tuple[str, ...]:
        """All that it shows."""
        return (*self.image, *([self.video] if self.video else []), *self.audio)

    def at(self, place: Path) -> Said:
        """The same with files that start in a folder."""
        return self._renamed(lambda file: str(place / file))

    def without_places(self) -> Said:
        """The same with the bare names of its files."""
        return self._renamed(lambda file: Path(file).name)

    def _renamed(self, name: Callable[[str], str]) -> Said:
        image, audio = (tuple(map(name, files)) for files in (self.image, self.audio))
        return replace(self, image=image, video=self.video and name(self.video), audio=audio)


def read_turns_file(file: str | Path) -> tuple[Said, ...]:
    """The turns in a JSON file; their files still start where the list says.

    Raises:
        FileNotFoundError: No such file.
        ValueError: It is not UTF-8, not JSON, or no conversation.
    """
    text = read_text(str(file))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:  # a number can be too long as well
        raise ValueError(
            f"{Path(file).name} is not JSON ({reason(error)}). Write a list of turns, such as "
            f"{EXAMPLE}."
        ) from error
    return read_turns(found)


def read_turns(given: Any) -> tuple[Said, ...]:
    """Turns as JSON has them.

    Args:
        given: A list of objects: `role` user or assistant, `text`, and for a user `image` (a file
            or a list of them), `video`, `fps`, `audio` (as `image`) and `audio_in_video`. null is
            as good as no key.

    Returns:
        A turn for each of the user's, with its answer.

    Raises:
        ValueError: No list of such objects, an unknown key, a value of another kind, an answer
            first, two turns of one role in a row, a turn that says nothing, no answer at the end.
    """
    if not isinstance(given, list):
        raise ValueError(f"A conversation is a list of turns, such as {EXAMPLE}.")
    said: list[Said] = []
    for number, turn in enumerate(given, 1):
        where = f"Turn {number} of the conversation"
        role, fields = _fields(where, turn)
        due = ROLES[(number - 1) % 2]
        if role != due:
            first = "a conversation begins with the user" if number == 1 else "they take turns"
            raise ValueError(
                f"{where} is the {role}'s, and {first}. Put a turn of the {due} before it, or "
                "leave it out."
            )
        if role == "user":
            said.append(Said(**fields))
        else:
            said[-1] = replace(said[-1], answer=fields["text"])
    if said and not said[-1].answer:
        raise ValueError(
            "The conversation ends with a turn of the user that nobody answered, and the prompt is "
            "the user's next one. Add the assistant's turn, or give those words as the prompt."
        )
    return tuple(said)


def read_conversation(turns: Sequence[Said]) -> Conversation | None:
    """Reads the files of turns; None where there are none.

    Raises:
        FileNotFoundError: A file that is not there.
        ValueError: A file that cannot be read.
    """
    talk = Conversation()
    for turn in turns:
        images = [read_picture(file) for file in turn.image]
        video, fps = read_video(turn.video, turn.fps) if turn.video else (None, 24.0)
        audio = [read_sound(file) for file in turn.audio] or None
        asked = talk.user(
            turn.text, images or None, video=video, fps=fps, audio=audio,
            audio_in_video=turn.audio_in_video,
        )  # fmt: skip
        talk = asked.assistant(turn.answer)
    return talk if turns else None


def check_turn_names(turns: Sequence[Said]) -> None:
    """Refuses names like `<image9>` in a turn that has no such picture.

    Raises:
        ValueError: There is one.
    """
    for turn in turns:
        check_names(turn.text, len(turn.image))


def _fields(where: str, turn: Any) -> tuple[str, dict[str, Any]]:
    """The role of a turn, and its fields as `Said` has them."""
    if not isinstance(turn, Mapping):
        raise ValueError(f"{where} is no object. Write it such as {EXAMPLE[1:-1]}.")
    fields = {key: value for key, value in turn.items() if value is not None}
    if unknown := [key for key in fields if key not in KEYS]:
        raise ValueError(f"{where} has the key {told(unknown[0])}. Use {', '.join(KEYS)}.")
    role = fields.pop("role", None)
    if role not in ROLES:
        raise ValueError(f"{where} has the role {told(role)}. Write user or assistant.")
    for key in _LISTS:
        files = fields.get(key, [])
        files = [files] if isinstance(files, str) else files
        if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
            raise ValueError(f'{where}: {key} is a file or a list of files, such as ["a.png"].')
        fields[key] = tuple(files)
    fields.setdefault("text", "")
    for key in ("text", "video"):
        if not isinstance(fields.get(key, ""), str):
            raise ValueError(f"{where}: {key} is {told(fields[key])}, expected text.")
    fps = fields.get("fps", 1)
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps < 1e6:
        raise ValueError(f"{where}: fps is {told(fps)}, expected a number above 0.")
    if not isinstance(own := fields.get("audio_in_video", False), bool):
        raise ValueError(f"{where}: audio_in_video is {told(own)}, expected true or false.")
    lists = any(fields[key] for key in _LISTS)
    if role == "assistant" and (lists or fields.keys() & {"video", "fps", "audio_in_video"}):
        raise ValueError(f"{where} is an answer, which is words alone. Leave {SHOWN[0]} out.")
    if not (fields["text"].strip() or (role == "user" and (lists or "video" in fields))):
        raise ValueError(f"{where} says nothing. Give it text, or leave it out with its answer.")
    return role, fields
