"""Write ``client/layertap/_rpc_methods.py``: the methods of both clients that only make a call (``make generated``)."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from layertap import types
from layertap.wire.rpcs import RPCS, ClientMethod, UnaryRpc

OUT = Path(__file__).parent.parent / "client" / "layertap" / "_rpc_methods.py"
"""Path of the generated module."""
HEAD = '''"""Methods of both clients. Generated from the table of RPCs by ``make generated``; do not edit."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TypeVar

from layertap._calls import Call, call_of
from layertap.blocks.spec import BlockSpec
from layertap.types import {names}
from layertap.wire import rpcs

Reply = TypeVar("Reply")
'''
"""First lines of the generated module."""
CLASS = '''
class {prefix}RpcMethods(ABC):
    """Methods of {of} that make one call and return its response."""

    @abstractmethod
    {declared} _call(self, call: Call[Reply], timeout_seconds: float | None) -> Reply:
        """Make a call and return its decoded response."""
'''
"""First lines of each class."""
SEVERAL = {
    "tuple[Tap | str, ...]": ("Tap | str | Sequence[Tap | str]", "as_sequence"),
    "tuple[str, ...]": ("str | Sequence[str]", "as_names"),
}
"""Annotations of taps and names in a request; a method takes one or several, and the function makes a tuple of them."""
MARGIN = 112
"""Maximum length of a line of a docstring."""


def parameters(request: Any) -> Iterator[str]:
    """Yield the parameters of a method: the fields of its request, and the deadline."""
    keyword_only = False
    for field in dataclasses.fields(request):
        if field.kw_only and not keyword_only:
            keyword_only = True
            yield "*"
        annotation, _ = SEVERAL.get(str(field.type), (field.type, ""))
        default = "" if field.default is dataclasses.MISSING else f" = {field.default!r}"
        yield f"{field.name}: {annotation}{default}".replace("''", '""')
    if not keyword_only:
        yield "*"
    yield "timeout_seconds: float | None = None"


def construction(request: Any) -> str:
    """Return the expression that constructs the request from the parameters."""
    arguments = [
        f"{field.name}={SEVERAL[str(field.type)][1]}({field.name})"
        if str(field.type) in SEVERAL
        else f"{field.name}={field.name}"
        for field in dataclasses.fields(request)
    ]
    return f"{request.__name__}({', '.join(arguments)})"


def source(constant: str, method: ClientMethod, *, is_async: bool) -> str:
    """Return the source of a method."""
    doc = "\n".join(line for text in method.doc.splitlines() for line in textwrap.wrap(text, MARGIN) or [""])
    declared, awaiting = ("async def", "await ") if is_async else ("def", "")
    call = f"{awaiting}self._call(call_of(rpcs.{constant}, request), timeout_seconds)"
    if method.attribute:
        call = f"({call}).{method.attribute}" if is_async else f"{call}.{method.attribute}"
    end = '"""' if "\n" not in doc else '\n"""'
    lines = [
        f"{declared} {method.name}(self, {', '.join(parameters(method.request))}) -> {method.result}:",
        textwrap.indent(f'"""{doc}{end}', "    "),
        f"    request = {construction(method.request)}",
        f"    {call}" if method.result == "None" else f"    return {call}",
    ]
    return textwrap.indent("\n".join(lines), "    ")


def module() -> str:
    """Return the source of the module, before it is formatted."""
    rows = [
        (re.sub(r"(?<=[a-z])(?=[A-Z])", "_", rpc.name).upper(), rpc.method)
        for rpc in RPCS
        if isinstance(rpc, UnaryRpc) and rpc.method is not None
    ]
    parts = []
    for prefix, is_async, of in (("", False, "the blocking client"), ("Async", True, "the asyncio client")):
        head = CLASS.format(prefix=prefix, of=of, declared="async def" if is_async else "def")
        parts += [head, *(source(*row, is_async=is_async) + "\n" for row in rows)]
    body = "\n".join(parts)
    names = sorted(name for name in types.__all__ if re.search(rf"\b{name}\b", body))
    return HEAD.format(names=", ".join(names)) + "\n" + body


def main() -> None:
    """Write the module."""
    OUT.write_text(module(), encoding="utf-8")
    ruff = [sys.executable, "-m", "ruff"]
    subprocess.run([*ruff, "check", "--quiet", "--fix", "--select", "F401,I001", OUT], check=True)
    subprocess.run([*ruff, "format", "--quiet", OUT], check=True)


if __name__ == "__main__":
    main()
