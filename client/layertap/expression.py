"""Parse tap expressions into `Tap`, and format them.

    tap      = selector { "|" block } [ "->" name ]
    block    = ident [ "(" [ arg { "," arg } ] ")" ]      the first parameter needs no name: max_pool(3); neither do
                                                          the required ones directly after it: conv(32, 3, stride=2)
    arg      = [ ident "=" ] value
    value    = number | true | false | word | "[" [ value { "," value } ] "]"

A selector, a name and a word are bare or quoted; within quotes a backslash escapes as in JSON. A bare selector or name
ends at a space, ``|``, ``"`` or ``->``; a bare word is an identifier.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping

from layertap import blocks, methods
from layertap.blocks import BoundBlock
from layertap.blocks.spec import Signature
from layertap.errors import LayertapError, TapSyntaxError
from layertap.types import Block, Tap, Value

LONGEST = 4096
"""Maximum number of characters of an expression."""
DEEPEST = 8
"""Maximum depth of nested lists."""

_SPACE = re.compile(r"\s*")
_BARE = re.compile(r"(?:(?!->)[^\s|\"])+")
_IDENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACEHOLDER_OR_IDENT = re.compile(rf"\$?{_IDENT.pattern}")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![A-Za-z0-9_.])")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_LITERALS: dict[str, bool] = {"true": True, "false": False}


def parse_tap(text: str) -> Tap:
    """Parse a tap expression.

    Raises:
        TapSyntaxError: the text does not follow the grammar; ``position`` is where.
        UnknownBlockError: a block with an unnamed parameter is not in the catalogue.
    """
    return _Parser(text).tap()


def parse_head(text: str) -> tuple[Block, ...]:
    """Parse a head alone, such as ``relu | gap``; raise the errors of `parse_tap`."""
    return _Parser(text).whole_head()


def parse_layers(text: str, spec_of: Callable[[str], Signature]) -> tuple[Block, ...]:
    """Parse the blocks of a layer in ``model.yaml``, where ``$name`` stands for one of the file's defaults.

    Args:
        text: the blocks.
        spec_of: returns the specification of a block or placeholder.

    Raises:
        TapSyntaxError, UnknownBlockError: as for `parse_tap`.
    """
    return _Parser(text, spec_of, _PLACEHOLDER_OR_IDENT).whole_head()


def parse_initial_weights(text: str) -> BoundBlock:
    """Parse initial weights of a convolution, such as ``gabor(orientations=8)``; raise the errors of `parse_tap`."""
    parser = _Parser(text, blocks.get_initial_weights)
    block = parser.block()
    parser.expect_end("the end")
    return blocks.get_initial_weights(block.name).bind(block)


def parse_method(text: str) -> BoundBlock:
    """Parse a method of attribution, such as ``integrated_gradients(steps=64)``.

    Raises:
        TapSyntaxError: the text does not follow the grammar.
        UnknownMethodError, BadParameterError: there is no such method, or a parameter is not valid.
    """
    parser = _Parser(text, methods.get)
    block = parser.block()
    parser.expect_end("the end")
    return methods.get(block.name).bind(block)


def format_tap(tap: Tap) -> str:
    """Return the expression of a tap, such that ``parse_tap(format_tap(tap)) == tap``."""
    head = "".join(f" | {format_block(block)}" for block in tap.blocks)
    name = f" -> {_format_bare(tap.name)}" if tap.name else ""
    return f"{_format_bare(tap.selector)}{head}{name}"


def canonicalize(text: str) -> str:
    """Return an expression in its canonical form, as `format_tap` writes it; return invalid text unchanged."""
    try:
        return format_tap(parse_tap(text))
    except LayertapError:
        return text


def format_block(block: Block) -> str:
    """Return a block as it is written in an expression, its first parameter unnamed."""
    first = _first_parameter(block.name)
    arguments = [
        format_value(value) if name == first else f"{name}={format_value(value)}"
        for name, value in sorted(block.parameters.items(), key=lambda item: (item[0] != first, item[0]))
    ]
    return f"{block.name}({', '.join(arguments)})" if arguments else block.name


def _first_parameter(block: str) -> str | None:
    """Return the name of a block's first parameter; None for an unknown block or one without parameters."""
    spec = blocks.find(block)
    return spec.parameters[0].name if spec and spec.parameters else None


def _format_bare(text: str) -> str:
    """Return a selector or name, quoted if necessary."""
    return text if _BARE.fullmatch(text) else json.dumps(text, ensure_ascii=False)


def format_value(value: Value) -> str:
    """Return a parameter's value as it is written in an expression."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(format_value(item) for item in value)}]"
    if isinstance(value, str):
        return value if _IDENT.fullmatch(value) and value not in _LITERALS else json.dumps(value, ensure_ascii=False)
    return repr(value)


class _Parser:
    """A recursive descent parser of one expression; ``position`` is where the next token may start."""

    def __init__(
        self, text: str, spec_of: Callable[[str], Signature] = blocks.get, block_name: re.Pattern[str] = _IDENT
    ) -> None:
        """Start at the beginning of the text.

        Args:
            text: the expression.
            spec_of: returns the specification of a block, for unnamed parameters.
            block_name: the pattern of a block's name.
        """
        self.text = text
        self.spec_of = spec_of
        self.block_name = block_name
        self.position = 0
        if len(text) > LONGEST:
            raise self.error(f"expected at most {LONGEST} characters, got {len(text)}")
        self.skip_space()

    def tap(self) -> Tap:
        """Parse a whole tap expression."""
        selector = self.bare_or_quoted("a selector")
        head = self.head() if self.take("|") else ()
        name = self.bare_or_quoted("a name") if self.take("->") else ""
        self.expect_end("'|', '->' or the end")
        return Tap(selector, head, name)

    def whole_head(self) -> tuple[Block, ...]:
        """Parse a head up to the end of the text."""
        head = self.head()
        self.expect_end("'|' or the end")
        return head

    def head(self) -> tuple[Block, ...]:
        """Parse blocks separated by ``|``."""
        head = [self.block()]
        while self.take("|"):
            head.append(self.block())
        return tuple(head)

    def block(self) -> Block:
        """Parse a block with its arguments."""
        start = self.position
        name = self.match(self.block_name, "a block's name")
        parameters: dict[str, Value] = {}
        if self.take("(") and not self.take(")"):
            self.argument(name, start, parameters)
            while self.take(","):
                self.argument(name, start, parameters)
            self.expect(")", "',' or ')'")
        return Block(name, parameters)

    def argument(self, block: str, block_start: int, parameters: dict[str, Value]) -> None:
        """Parse an argument and add it to ``parameters``."""
        start = self.position
        named = re.compile(rf"({_IDENT.pattern})\s*=").match(self.text, start)
        if named:
            name = named.group(1)
            self.position = named.end()
            self.skip_space()
        else:
            name = self.unnamed_parameter(block, block_start, parameters)
        if name in parameters:
            raise self.error(f"{name} is given twice", start)
        parameters[name] = self.value()

    def unnamed_parameter(self, block: str, block_start: int, given: Mapping[str, Value]) -> str:
        """Return the parameter that an unnamed value is for, according to the value's position."""
        try:
            spec = self.spec_of(block)
        except LayertapError as error:
            error.metadata = {**error.metadata, "position": str(block_start)}
            raise
        if not spec.parameters:
            raise self.error(f"{block} takes no parameters")
        if tuple(given) != spec.unnamed[: len(given)] or len(given) >= len(spec.unnamed):
            raise self.error(f"expected name=value: only {' and '.join(spec.unnamed)} of {block} may be unnamed")
        return spec.unnamed[len(given)]

    def value(self, depth: int = 0) -> Value:
        """Parse a value; ``depth`` is the number of lists around it."""
        if self.take("["):
            if depth == DEEPEST:
                raise self.error(f"lists may be nested at most {DEEPEST} deep")
            return self.values(depth + 1)
        if number := _NUMBER.match(self.text, self.position):
            return self.number(number)
        if self.peek('"'):
            return self.quoted()
        word = self.match(_IDENT, "a value")
        return _LITERALS.get(word, word)

    def values(self, depth: int) -> tuple[Value, ...]:
        """Parse the rest of a list, after its opening bracket."""
        if self.take("]"):
            return ()
        values = [self.value(depth)]
        while self.take(","):
            values.append(self.value(depth))
        self.expect("]", "',' or ']'")
        return tuple(values)

    def number(self, match: re.Match[str]) -> Value:
        """Convert a matched number to an int, or to a float if it has a fraction or an exponent."""
        text = match.group()
        start = self.position
        self.position = match.end()
        self.skip_space()
        if re.fullmatch(r"[+-]?\d+", text):
            if len(text) > 20:  # noqa: PLR2004 - no 64-bit integer is longer
                raise self.error("the integer is too large", start)
            return int(text)
        if float(text) in (float("inf"), float("-inf")):
            raise self.error("the number is too large", start)
        return float(text)

    def bare_or_quoted(self, what: str) -> str:
        """Parse a bare or quoted text; ``what`` names it in error messages."""
        text = self.quoted() if self.peek('"') else self.match(_BARE, what)
        if not text:
            raise self.error(f"expected {what}")
        return text

    def quoted(self) -> str:
        """Parse a quoted text."""
        start = self.position
        match = _QUOTED.match(self.text, start)
        if not match:
            raise self.error("the quotation has no closing quote")
        try:
            text = json.loads(match.group(), strict=False)
        except ValueError as error:
            raise self.error("the quotation has an invalid escape; escapes follow JSON", start) from error
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise self.error("the quotation has an unpaired surrogate", start)
        self.position = match.end()
        self.skip_space()
        return str(text)

    def match(self, pattern: re.Pattern[str], what: str) -> str:
        """Consume a match of the pattern and the space after it."""
        match = pattern.match(self.text, self.position)
        if not match:
            raise self.error(f"expected {what}")
        self.position = match.end()
        self.skip_space()
        return match.group()

    def peek(self, token: str) -> bool:
        """Return whether the text continues with the token."""
        return self.text.startswith(token, self.position)

    def take(self, token: str) -> bool:
        """Consume the token and the space after it if the text continues with it; return whether it did."""
        if not self.peek(token):
            return False
        self.position += len(token)
        self.skip_space()
        return True

    def expect(self, token: str, what: str) -> None:
        """Consume the token or raise an error; ``what`` lists the expected tokens."""
        if not self.take(token):
            raise self.error(f"expected {what}")

    def expect_end(self, what: str) -> None:
        """Raise an error unless the whole text is consumed."""
        if self.position < len(self.text):
            raise self.error(f"expected {what}")

    def skip_space(self) -> None:
        """Consume white space."""
        match = _SPACE.match(self.text, self.position)
        self.position = match.end() if match else self.position

    def error(self, what: str, position: int | None = None) -> TapSyntaxError:
        """Return a syntax error at ``position``, by default the current one."""
        position = self.position if position is None else position
        rest = self.text[position : position + 20]
        found = f"found {rest!r}" if rest else "the expression ends"
        message = f"tap expression, position {position}: {what}; {found}"
        return TapSyntaxError(message, position=position, expression=self.text[:200])
