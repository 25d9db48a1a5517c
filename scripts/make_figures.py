"""Draw the figures of ``docs/how-it-works.md`` into ``docs/images``.

A figure consists of boxes on a grid of columns and rows, and arrows between them. To change one, edit `REQUEST` or `PLAN` and run
``make generated``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

IMAGES = Path(__file__).parent.parent / "docs" / "images"

WIDTH, HEIGHT = 248, 58
"""Width and height of a box, in pixels."""
GAP_X, GAP_Y = 58, 34
MARGIN, TITLE_HEIGHT = 16, 34
INK, EDGE, FILL, PALE = "#1f2933", "#486581", "#e6f0f9", "#f7f9fb"
ARROW_HEAD = (
    "<defs><marker id='head' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='7' markerHeight='7' orient='auto'>"
    f"<path d='M0 0 8 4 0 8z' fill='{EDGE}'/></marker></defs>"
)
FONT = "font-family='system-ui, sans-serif'"
MONO = "font-family='ui-monospace, monospace'"


@dataclass(frozen=True)
class Box:
    """One step: its description and its file."""

    column: int
    row: int
    text: str
    file: str

    @property
    def left(self) -> int:
        """X coordinate of the left edge, in pixels."""
        return MARGIN + self.column * (WIDTH + GAP_X)

    @property
    def top(self) -> int:
        """Y coordinate of the upper edge, in pixels."""
        return MARGIN + TITLE_HEIGHT + self.row * (HEIGHT + GAP_Y)

    @property
    def middle(self) -> tuple[int, int]:
        """Center of the box, in pixels."""
        return self.left + WIDTH // 2, self.top + HEIGHT // 2


@dataclass(frozen=True)
class Figure:
    """A grid of boxes, with a title above each column."""

    description: str
    columns: tuple[str, ...]
    boxes: dict[str, Box]
    arrows: tuple[tuple[str, str, str], ...]
    """Start box, end box, and a label, which can be empty."""


REQUEST = Figure(
    "The path of an Extract request: from the client through the event loop to one worker thread, and back.",
    ("Client", "Server: event loop", "Server: worker thread", "onnxruntime"),
    {
        "call": Box(0, 0, "Encode taps and images", "Client.extract"),
        "admit": Box(1, 0, "Check token, admit or refuse", "rpc/access.py, dispatch.py"),
        "decode": Box(2, 0, "Decode the message", "rpc/feature_service.py"),
        "resolve": Box(2, 1, "Resolve taps, check limits", "planning/planner.py"),
        "images": Box(2, 2, "Decode and resize images", "inference/decoding.py"),
        "acquire": Box(2, 3, "Acquire the compiled plan", "inference/plans.py"),
        "compile": Box(3, 3, "Compile the plan", "graph/, blocks/"),
        "join": Box(2, 4, "Join requests of the same plan", "inference/batching.py"),
        "run": Box(3, 4, "Run the session", "runtime/"),
        "name": Box(2, 5, "Name and encode the results", "inference/response.py, wire/"),
        "send": Box(1, 5, "Send, then record metrics", "rpc/dispatch.py"),
        "arrays": Box(0, 5, "Arrays by result name", "Features"),
    },
    (
        ("call", "admit", ""),
        ("admit", "decode", "bytes"),
        ("decode", "resolve", ""),
        ("resolve", "images", ""),
        ("images", "acquire", ""),
        ("acquire", "compile", "if new"),
        ("acquire", "join", ""),
        ("join", "run", "batch"),
        ("join", "name", "outputs"),
        ("name", "send", "bytes"),
        ("send", "arrays", ""),
    ),
)

PLAN = Figure(
    "The life of a plan: resolved from taps, found in the store or compiled, run, and evicted.",
    ("Run", "Find or make", "End"),
    {
        "resolve": Box(1, 0, "Resolve taps to layers and blocks", "planning/planner.py"),
        "refuse": Box(2, 0, "Refuse with a typed error", "layertap.errors"),
        "cached": Box(1, 1, "Look the plan up in the store", "planning/plan_store.py"),
        "wider": Box(1, 2, "Look for a wider compiled plan", "inference/plans.py"),
        "prune": Box(1, 3, "Prune the graph, attach the heads", "graph/compile.py"),
        "open": Box(1, 4, "Open a session, keep it", "runtime/, planning/plan_store.py"),
        "run": Box(0, 2, "Run batches of images", "inference/batching.py"),
        "evict": Box(2, 4, "Evict the least recently used", "planning/plan_store.py"),
    },
    (
        ("resolve", "refuse", "no fit"),
        ("resolve", "cached", ""),
        ("cached", "run", "found"),
        ("cached", "wider", "not found"),
        ("wider", "run", "found"),
        ("wider", "prune", "not found"),
        ("prune", "open", ""),
        ("open", "run", "ready"),
        ("open", "evict", "full"),
    ),
)

FIGURES = {"request-path.svg": REQUEST, "plan-life.svg": PLAN}


def svg(figure: Figure) -> str:
    """Return the figure as SVG."""
    width = 2 * MARGIN + len(figure.columns) * (WIDTH + GAP_X) - GAP_X
    rows = 1 + max(box.row for box in figure.boxes.values())
    height = 2 * MARGIN + TITLE_HEIGHT + rows * (HEIGHT + GAP_Y) - GAP_Y
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width} {height}' width='{width}' height='{height}' role='img'>",
        f"<title>{escape(figure.description)}</title>",
        ARROW_HEAD,
        f"<rect width='{width}' height='{height}' fill='white'/>",
        *columns(figure, height),
        *(arrow(figure.boxes[start], figure.boxes[end], label) for start, end, label in figure.arrows),
        *(drawn for box in figure.boxes.values() for drawn in box_lines(box)),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def columns(figure: Figure, height: int) -> Iterator[str]:
    """Yield the background and the title of each column."""
    for number, title in enumerate(figure.columns):
        x = MARGIN // 2 + number * (WIDTH + GAP_X)
        yield f"<rect x='{x}' y='4' width='{WIDTH + MARGIN}' height='{height - 8}' rx='8' fill='{PALE}'/>"
        yield text(x + (WIDTH + MARGIN) // 2, MARGIN + 14, title, f"{FONT} font-weight='600' font-size='14'")


def box_lines(box: Box) -> Iterator[str]:
    """Yield the rectangle and the two lines of a box."""
    x, y = box.middle
    yield (
        f"<rect x='{box.left}' y='{box.top}' width='{WIDTH}' height='{HEIGHT}' rx='6' fill='{FILL}' stroke='{EDGE}'/>"
    )
    yield text(x, y - 5, box.text, f"{FONT} font-size='14'")
    yield text(x, y + 15, box.file, f"{MONO} font-size='12'")


def arrow(start: Box, end: Box, label: str) -> str:
    """Return an arrow along a row, along a column, or around one corner."""
    (x1, y1), (x2, y2) = start.middle, end.middle
    across, down = (x2 > x1) - (x2 < x1), (y2 > y1) - (y2 < y1)
    first, last = (x1 + across * WIDTH // 2, y1), (x2 - across * WIDTH // 2, y2)
    if not across:
        first, last = (x1, y1 + down * HEIGHT // 2), (x2, y2 - down * HEIGHT // 2)
        path = f"M{first[0]} {first[1]}V{last[1]}"
        at = (first[0] + 8, (first[1] + last[1]) // 2 + 4, "start")
    elif not down:
        path = f"M{first[0]} {first[1]}H{last[0]}"
        at = ((first[0] + last[0]) // 2, first[1] - 7, "middle")
    else:
        path = f"M{first[0]} {first[1]}H{x2}V{y2 - down * HEIGHT // 2}"
        at = (first[0] + across * GAP_X // 2, first[1] - 7, "middle")
    drawn = f"<path d='{path}' fill='none' stroke='{EDGE}' stroke-width='1.5' marker-end='url(#head)'/>"
    return drawn + (text(at[0], at[1], label, f"{FONT} font-size='12'", at[2]) if label else "")


def text(x: int, y: int, words: str, style: str, anchor: str = "middle") -> str:
    """Return a line of text."""
    return f"<text x='{x}' y='{y}' text-anchor='{anchor}' fill='{INK}' {style}>{escape(words)}</text>"


def main() -> None:
    """Write the figures."""
    for name, figure in FIGURES.items():
        (IMAGES / name).write_text(svg(figure), encoding="utf-8")


if __name__ == "__main__":
    main()
