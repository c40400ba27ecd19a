"""A custom rule: `"%s of %s" % (done, total)` becomes an f-string. A script for `engines.script`; it needs libcst.

It rewrites only what means the same: `%s` alone, a tuple written in place with as many elements as there are `%s`,
and elements that are names, attributes or subscripts without quotes. (`"%s" % x` is left: x may be a tuple.)
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import libcst

PLACEHOLDER = re.compile(r"%(.)", re.DOTALL)


class PercentToFString(libcst.CSTTransformer):
    """Rewrites on the way out, and counts."""

    def __init__(self, module: libcst.Module) -> None:
        super().__init__()
        self.module = module
        self.places = 0

    def leave_BinaryOperation(
        self, original_node: libcst.BinaryOperation, updated_node: libcst.BinaryOperation
    ) -> libcst.BaseExpression:
        template = updated_node.left
        if not (
            isinstance(updated_node.operator, libcst.Modulo) and isinstance(template, libcst.SimpleString)
        ):
            return updated_node
        values = self.simple_values(updated_node.right)
        if "\\" in template.raw_value or "{" in template.raw_value or "}" in template.raw_value:
            return updated_node
        if template.prefix or PLACEHOLDER.findall(template.raw_value) != ["s"] * len(values) or not values:
            return updated_node
        self.places += 1
        remaining = iter(values)
        text = PLACEHOLDER.sub(lambda _: f"{{{next(remaining)}}}", template.raw_value)
        return libcst.parse_expression(f"f{template.quote}{text}{template.quote}")

    def simple_values(self, right: libcst.BaseExpression) -> list[str]:
        """The source of each element of a tuple written in place; none if any is not simple."""
        if not isinstance(right, libcst.Tuple):
            return []
        simple = (libcst.Name, libcst.Attribute, libcst.Subscript)
        values = [self.module.code_for_node(element.value) for element in right.elements]
        fits = all(
            isinstance(element, libcst.Element) and isinstance(element.value, simple)
            for element in right.elements
        )
        return values if fits and not any(set(value) & set("\"'\\\n") for value in values) else []


def rewritten(source: bytes) -> tuple[bytes, int]:
    """The new content and the number of places changed."""
    module = libcst.parse_module(source)
    transformer = PercentToFString(module)
    changed = module.visit(transformer)
    return (changed.bytes if transformer.places else source), transformer.places


def main() -> None:
    command, *paths = sys.argv[1:]
    if command == "rewrite":
        sys.stdout.buffer.write(rewritten(sys.stdin.buffer.read())[0])
        return
    for path in paths:
        try:
            _, places = rewritten(Path(path).read_bytes())
        except libcst.ParserSyntaxError:
            continue
        if places:
            print(json.dumps({"path": path, "places": places}))


if __name__ == "__main__":
    main()
