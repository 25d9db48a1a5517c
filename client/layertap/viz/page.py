"""Place the parts of a figure in inches from its top left corner, so that they cannot overlap."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from layertap.viz.style import SOFT
from layertap.viz.text import Notes, height_of, literal, width_of, wrap

MARGIN = 0.06
"""Margin in inches."""
NOTE_SIZE = 6.5
"""Font size of notes in points."""
MAX_INCHES = 500
"""Maximum width and height in inches; matplotlib draws at most 65,535 pixels."""


class Page:
    """A figure under construction: it collects axes and texts; `finish` computes its height and adds the notes."""

    def __init__(self, width: float) -> None:
        """Create a page; ``width`` in inches includes the margins and may be changed before `finish`."""
        self.width = width
        self.notes = Notes()
        self.remarks: list[str] = []
        """Sentences below the figure."""
        self._figure = Figure(figsize=(1, 1))
        self._axes: list[tuple[Axes, tuple[float, float, float, float]]] = []
        self._texts: list[tuple[Text, float, float]] = []

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Add axes with this box as their frame, in inches, and return them."""
        # A unique label, because matplotlib would otherwise return existing axes with the same box.
        axes = self._figure.add_axes((0, 0, 1, 1), label=str(len(self._axes)))
        self._axes.append((axes, (left, top, width, height)))
        return axes

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Add a text with its top left corner at this position in inches; ``ha`` and ``va`` change the anchor."""
        made = self._figure.text(0, 0, text, **{"va": "top", "fontsize": 8, "linespacing": 1.2, **style})
        self._texts.append((made, left, top))

    def remark(self, text: str) -> None:
        """Add a sentence below the figure, unless it is there already."""
        if text not in self.remarks:
            self.remarks.append(text)

    def finish(self, height: float) -> Figure:
        """Return the figure with ``height`` inches of content, and the remarks and shortened names below it.

        Raises:
            ValueError: the figure would be larger than matplotlib can draw.
        """
        total = self._write_notes(height) + MARGIN
        if max(total, self.width) > MAX_INCHES:
            message = f"the figure would be {self.width:.0f} × {total:.0f} inches, the maximum is {MAX_INCHES}"
            raise ValueError(f"{message}; choose fewer layers, channels or images")
        self._figure.set_size_inches(self.width, total)
        for axes, (left, top, width, tall) in self._axes:
            axes.set_position((left / self.width, 1 - (top + tall) / total, width / self.width, tall / total))
        for text, left, top in self._texts:
            text.set_position((left / self.width, 1 - top / total))
        return self._figure

    def _write_notes(self, top: float) -> float:
        """Write remarks, then notes in as many columns as fit, from ``top`` on; return where they end."""
        for remark in self.remarks:
            lines = wrap(remark, self.width - 2 * MARGIN, NOTE_SIZE + 0.5)
            self.text(MARGIN, top, "\n".join(lines), fontsize=NOTE_SIZE + 0.5, color=SOFT)
            top += height_of(len(lines), NOTE_SIZE + 0.5)
        notes = self.notes.in_full()
        if not notes:
            return top
        widest = max(width_of(note, NOTE_SIZE) for note in notes) + 0.2
        columns = max(1, int((self.width - 2 * MARGIN) // widest))
        width = (self.width - 2 * MARGIN) / columns
        blocks = [wrap(note, width, NOTE_SIZE) for note in notes]
        rows = -(-len(blocks) // columns)
        heights = [max(len(block) for block in blocks[row::rows]) for row in range(rows)]
        for index, block in enumerate(blocks):
            column, row = divmod(index, rows)
            down = top + height_of(sum(heights[:row]), NOTE_SIZE)
            self.text(MARGIN + column * width, down, literal("\n".join(block)), fontsize=NOTE_SIZE)
        return top + height_of(sum(heights), NOTE_SIZE)
