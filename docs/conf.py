"""Sphinx configuration of the documentation site; `make docs` builds it into ``build/docs``.

The navigation comes from the lists of ``index.md``, the reference from the code: see ``scripts/reference_pages.py``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode

import layertap

ROOT = Path(__file__).parent.parent
NAPOLEON = Config()

sys.path.insert(0, str(ROOT))
from scripts import reference_pages  # noqa: E402 - found by the line above

project = "Layertap"
release = version = layertap.__version__
copyright = "The Layertap authors"  # noqa: A001 - Sphinx names it so

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_static"]

html_theme = "furo"
html_title = f"Layertap {release}"
html_static_path = ["_static"]
html_css_files = ["layertap.css"]
html_copy_source = False

myst_heading_anchors = 4

# Docstrings mark names of Python objects with single backticks, as in `Client.extract`.
default_role = "py:obj"
add_module_names = False
autoclass_content = "both"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_mock_imports = ["torch"]
python_maximum_signature_line_length = 88

# Inventories of other projects would need a network: names that are not Layertap's stay without a link.
nitpick_ignore_regex = [(r"py:.*", r"(?!layertap\b).*\..*")]
# Aliases and private classes in annotations that have no entry of their own.
nitpick_ignore = [
    ("py:class", name)
    for name in (
        *("File", "Figure", "PathLike", "Positions", "layertap.viz.pictures.Positions"),
        "layertap._moments.Moments",
    )
]


class Generated(SphinxDirective):
    """``.. generated:: NAME``: the part of that name, made from the code by ``scripts/reference_pages.py``."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the parsed part."""
        self.env.note_reread()
        text = reference_pages.PARTS[self.arguments[0]]()
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def render_docstring(app: Sphinx, what: str, name: str, value: object, options: object, lines: list[str]) -> None:
    """Turn a docstring's Google sections and plurals of names (`Tap`s) into reStructuredText."""
    if what not in {"attribute", "data", "property"}:  # there, "size: of the batch" would be read as a type
        lines[:] = GoogleDocstring(lines, NAPOLEON, app, what, name, value, options).lines()
    lines[:] = [re.sub(r"(`[\w.]+`)(?=\w)", r"\1\\ ", line) for line in lines]


def shorten_defaults(
    _app: Sphinx, _what: str, _name: str, _value: object, _options: object, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Replace defaults that are no Python, ``<factory>`` and ``<Layout.OTHER: 'other'>``, by what is."""
    if signature:
        signature = re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", signature.replace("<factory>", "..."))
    return signature, returns


def find_by_last_name(
    app: Sphinx, _env: BuildEnvironment, node: pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Resolve a short name of another module, such as `UnavailableError` in the docstring of a client."""
    target = node["reftarget"]
    domain = app.env.domains.python_domain
    if node["refdomain"] != "py" or "." in target:
        return None
    found = {domain.objects[name].node_id: name for name in domain.objects if name.endswith(f".{target}")}
    if len(found) != 1:
        return None
    (name,) = found.values()
    entry = domain.objects[name]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, content, name)


def unlink_folders(app: Sphinx, page: str, source: list[str]) -> None:
    """Replace links to folders of the repository, which are not part of the site, by their paths."""
    folder = Path(app.srcdir, page).parent

    def replace(link: re.Match[str]) -> str:
        target = folder / link[2]
        return f"{link[1]} (`{target.resolve().relative_to(ROOT)}`)" if target.is_dir() else link[0]

    source[0] = re.sub(r"\[([^\]]+)\]\((\.\./[^)#]+)\)", replace, source[0])


def add_navigation(_app: Sphinx, page: str, source: list[str]) -> None:
    """Append a hidden table of contents for each section of ``index.md`` that lists pages."""
    if page != "index":
        return
    for section in re.split(r"^## ", source[0], flags=re.MULTILINE)[1:]:
        caption = section.splitlines()[0]
        pages = re.findall(r"^- \[(.*?)\]\(([\w./-]+)\.(?:md|rst)\)", section, flags=re.MULTILINE)
        if pages:
            listed = "\n".join(f"{title} <{target}>" for title, target in pages)
            source[0] += f"\n\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n"


def setup(app: Sphinx) -> None:
    """Register the directive and the navigation."""
    app.add_directive("generated", Generated)
    app.connect("autodoc-process-docstring", render_docstring)
    app.connect("autodoc-process-signature", shorten_defaults)
    app.connect("missing-reference", find_by_last_name)
    app.connect("source-read", unlink_folders)
    app.connect("source-read", add_navigation)
