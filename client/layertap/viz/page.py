"""A figure whose parts are placed in inches from its top left corner, so that nothing overlaps by chance."""

from __future__ import annotations

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from layertap.viz.style import SOFT
from layertap.viz.text import Notes, height_of, literal, width_of, wrap

MARGIN = 0.06
NOTE_SIZE = 6.5
LARGEST_INCHES = 500
"""Of a side: matplotlib draws at most 65,535 pixels."""


class Page:
    """Collects axes and texts; `finish` knows the height, adds the notes and returns the figure."""

    def __init__(self, width: float) -> None:
        """``width`` is in inches, margins included; it may be set later, before `finish`."""
        self.width = width
        self.notes = Notes()
        self.remarks: list[str] = []
        """What a reader must know besides; below the figure, each once."""
        self._figure = Figure(figsize=(1, 1))
        self._axes: list[tuple[Axes, tuple[float, float, float, float]]] = []
        self._texts: list[tuple[Text, float, float]] = []

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Return new axes whose frame is this box."""
        # A label of its own: axes of the same place would be taken for the same ones.
        axes = self._figure.add_axes((0, 0, 1, 1), label=str(len(self._axes)))
        self._axes.append((axes, (left, top, width, height)))
        return axes

    def text(self, left: float, top: float, text: str, **style: Any) -> None:
        """Write a text whose top left corner, or as ``ha`` and ``va`` say, is here."""
        made = self._figure.text(0, 0, text, **{"va": "top", "fontsize": 8, "linespacing": 1.2, **style})
        self._texts.append((made, left, top))

    def remark(self, text: str) -> None:
        """Put a sentence below the figure, once."""
        if text not in self.remarks:
            self.remarks.append(text)

    def finish(self, height: float) -> Figure:
        """Return the figure: so many inches of content, and below them the remarks and the names in full.

        Raises:
            ValueError: it would be larger than can be drawn.
        """
        total = self._write_notes(height) + MARGIN
        if max(total, self.width) > LARGEST_INCHES:
            message = f"the figure would be {self.width:.0f} × {total:.0f} inches, and {LARGEST_INCHES} can be drawn"
            raise ValueError(f"{message}; choose fewer layers, channels or images")
        self._figure.set_size_inches(self.width, total)
        for axes, (left, top, width, tall) in self._axes:
            axes.set_position((left / self.width, 1 - (top + tall) / total, width / self.width, tall / total))
        for text, left, top in self._texts:
            text.set_position((left / self.width, 1 - top / total))
        return self._figure

    def _write_notes(self, top: float) -> float:
        """Write remarks and notes from here on, the notes in as many columns as fit; return where they end."""
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
