"""A report on tokens: what they are, how large, what each picture adds, how they fit a reference.

As a picture, whose panels each say what good looks like, and as text with the same facts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from ..arguments import checked
from ..connectors.connector import Connector
from ..running.hidden_states import HiddenStates
from ..tokens.stats import Stats, need_stats
from ..tokens.tokens import Tokens
from .dimensions import Series, make_series
from .figure import Panel, draw, in_rows, save
from .layer_panels import curves_panels, dimension_panels, weights_panel
from .measures import count_of, kinds_of
from .panels import BLUE, ORANGE, RED
from .picture_panels import norms_panel, sequence_panel, shares_panel, view_panels
from .subject import MOST_VIEWS, Subject, View, find_views, look_at


@dataclass(frozen=True)
class Inspection:
    """A report, drawn when its picture is asked for.

    Attributes:
        title: Heading.
        notes: Lines under it.
        rows: Panels from top to bottom.
    """

    title: str
    notes: tuple[str, ...]
    rows: tuple[tuple[Panel, ...], ...]

    def __repr__(self) -> str:
        return f"Inspection({self.title}; {sum(map(len, self.rows))} panels)"

    @property
    def text(self) -> str:
        """The same facts in lines: the heading, the notes, one for each panel."""
        panels = [panel for row in self.rows for panel in row]
        return "\n".join([self.title, *self.notes, *(f"{p.title}: {p.here}" for p in panels)])

    def picture(self) -> Image.Image:
        """RGB, 1600 pixels wide.

        Raises:
            ModuleNotFoundError: matplotlib is not installed.
        """
        return draw(self.title, self.notes, self.rows)

    def save(self, path: str | Path) -> None:
        """Writes the picture as PNG.

        Raises:
            FileNotFoundError: The folder does not exist.
            ModuleNotFoundError: matplotlib is not installed.
        """
        save(self.picture(), path)


@checked
def inspect_tokens(
    tokens: HiddenStates | Tokens,
    images: Any = None,
    video: Any = None,
    *,
    layer: int | None = None,
    stats: Stats | None = None,
    connector: Connector | None = None,
    normalized: tuple[Tokens, Tokens] | None = None,
    alone: HiddenStates | None = None,
    title: str = "",
    notes: Sequence[str] = (),
) -> Inspection:
    """Looks at tokens; no model is run, and of hidden states only layers held are looked at.

    Args:
        tokens: Hidden states, or the tokens of a gate.
        images: The pictures they show, by their numbers, as `VLM.encode` takes them; None = grids
            on a plain ground.
        video: Frames of the video they show, which stands after the pictures.
        layer: Of hidden states, the layer to show, in -L..L-1; None = the target's if it is held,
            else the deepest held.
        stats: Reference statistics to compare dimensions with.
        connector: Whose weights by layer are shown.
        normalized: Tokens before and after they were normalised with `stats`; these are compared
            in place of the tokens.
        alone: Hidden states of the text without pictures, drawn among the norms by layer.
        title: Before the heading, such as the model's name.
        notes: Lines under the heading.

    Raises:
        ValueError: No layer is held, or not this one; NaN or Inf; statistics or a connector of
            another width.
    """
    subject = look_at(tokens, layer)
    views = find_views(subject.token_map, images, video)
    panels = [norms_panel(subject), *curves_panels(subject, alone)]
    panels += _some(shares_panel(subject))
    missing = []
    if stats is not None:
        series = _series(subject, stats, normalized)
        panels += dimension_panels(series, stats) if series else []
        if not series:
            missing.append(
                "Fewer than 2 tokens without sinks: no spread to compare with statistics."
            )
    if connector is not None:
        _check_connector(connector, subject)
        number = None if subject.states is None else subject.states.num_layers
        weights = _some(weights_panel(connector, number))
        panels += weights
        if not weights:
            missing.append(f"{connector.name} ({connector.title}) has no weights by layer to show.")
    rows = [[sequence_panel(subject)]]
    rows += [view_panels(subject, view) for view in views[:MOST_VIEWS]]
    rows += in_rows(panels)
    heading = "  ·  ".join(part for part in (title, _heading(subject)) if part)
    said = (*notes, *missing, *_about(subject, views, images is not None or video is not None))
    return Inspection(heading, said, tuple(map(tuple, rows)))


def _some(panel: Panel | None) -> list[Panel]:
    return [] if panel is None else [panel]


def _heading(subject: Subject) -> str:
    """`layer 28 of 36  ·  318 tokens, 2560 wide`."""
    count, width = subject.rows.shape
    size = f"{count_of(count)}, {width} wide"
    if subject.states is None:
        return size
    return f"layer {subject.layer} of {subject.states.num_layers - 1}  ·  {size}"


def _about(subject: Subject, views: Sequence[View], given: bool) -> list[str]:
    """What a reader must know beside the panels."""
    said = []
    if subject.batch > 1:
        said.append(f"A batch of {subject.batch}: the first one is shown.")
    if len(views) > MOST_VIEWS:
        left = ", ".join(view.name for view in views[MOST_VIEWS:])
        said.append(f"Not drawn for want of room: {left}.")
    if given and not views:
        said.append("A picture was given, and no picture's tokens are among these.")
    without = [view.name for view in views if view.picture is None]
    if given and without:
        said.append(f"No picture was given for {', '.join(without)}.")
    if subject.states is not None and len(subject.states.held) < 2:
        said.append("One layer is held: nothing to compare it with.")
    return said


def _series(
    subject: Subject, stats: Stats, normalized: tuple[Tokens, Tokens] | None
) -> list[Series]:
    """What is compared with statistics: before and after normalising, or words and pictures."""
    if normalized is None:
        need_stats(stats, Tokens(subject.rows[None]), "The report")
        looks = {"text": ("words", RED, "D"), "image": ("picture", BLUE, "o")}
        made = [
            make_series(looks[kind][0], subject.rows[mask], *looks[kind][1:])
            for kind, mask in kinds_of(subject.roles).items()
        ]
        return [each for each in made if each is not None]
    before, after = normalized
    need_stats(stats, before, "The report")
    if before.states.shape != after.states.shape:
        raise ValueError(
            f"The report compares the same tokens before and after normalising; these are "
            f"{list(before.states.shape)} and {list(after.states.shape)}. Filter before both."
        )
    pairs = (("before", before, ORANGE, "o"), ("after", after, BLUE, "D"))
    made = [
        make_series(label, each.states.flatten(0, 1).float().cpu(), colour, marker)
        for label, each, colour, marker in pairs
    ]
    return [each for each in made if each is not None]


def _check_connector(connector: Connector, subject: Subject) -> None:
    """Refuses a connector that neither reads nor gives such tokens."""
    if subject.states is not None:
        connector.check_fits(subject.states.width, subject.states.num_layers)
    elif subject.rows.shape[1] != connector.width:
        connector.check_width(subject.rows.shape[1])
