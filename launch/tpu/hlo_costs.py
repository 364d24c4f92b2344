"""What a program compiled for TPUs costs, read from its text.

The TPU compiler writes an estimate of its cycles beside every instruction. Loops whose
length depends on data (the iterations of Shampoo's roots) are counted as `UNKNOWN_TRIPS`.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Mapping, Sequence

UNKNOWN_TRIPS = 20
BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
COLLECTIVES = (
    "all-reduce",
    "all-gather",
    "reduce-scatter",
    "collective-permute",
    "all-to-all",
)

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_NAME = re.compile(r'op_name="([^"]*)"')
_WHILE = re.compile(r" while\(.*condition=%([\w.\-]+), body=%([\w.\-]+)")
_TRIPS = re.compile(r'known_trip_count\D*"?(\d+)')
_BOUND = re.compile(r"= s32\[\]\S* constant\((\d+)\)")
_CALL = re.compile(r" (?:call|async-start)\(.*(?:to_apply|calls)=%([\w.\-]+)")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Collective:
    """A message between chips: its kind, and the bytes of its result on each."""

    kind: str
    bytes: int


def cycles_by_part(text: str, parts: Mapping[str, str]) -> dict[str, float]:
    """Return estimated cycles of the whole program, by part.

    Args:
      text: the compiled program.
      parts: names of parts, each with a pattern that is searched for in the names of the
        operations; the first that fits counts. What fits none is "other".
    """
    bodies, entry = _computations(text)
    cycles = collections.Counter(dict.fromkeys((*parts, "other"), 0.0))

    def visit(name: str, times: int) -> None:
        for line in bodies[name]:
            own = _CYCLES.search(line)
            if own:
                found = _NAME.search(line)
                cycles[_part_of(found[1] if found else "", parts)] += times * int(own[1])
            loop, call = _WHILE.search(line), _CALL.search(line)
            if loop:
                visit(loop[2], times * _trips(line, bodies[loop[1]]))
            elif call:
                visit(call[1], times)

    visit(entry, 1)
    return dict(cycles)


def collectives(text: str) -> list[Collective]:
    """Return all messages of the program."""
    kinds = "|".join(COLLECTIVES)
    pattern = re.compile(rf"= (.*?) ({kinds})(?:-start)?\(")
    found = (pattern.search(line) for line in text.splitlines())
    return [Collective(m[2], _bytes(m[1])) for m in found if m]


def _computations(text: str) -> tuple[dict[str, Sequence[str]], str]:
    bodies: dict[str, list[str]] = {}
    entry, current = "", None
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = bodies.setdefault(header[2], [])
            entry = header[2] if header[1] else entry
        elif line.startswith("}"):
            current = None
        elif current is not None:
            current.append(line)
    return bodies, entry


def _trips(line: str, condition: Sequence[str]) -> int:
    """How often a loop runs: said by the compiler, or a counter compared with a constant."""
    known = _TRIPS.search(line)
    if known:
        return int(known[1])
    decisions = [line for line in condition if " compare(" in line or " fusion(" in line]
    bounds = [found[1] for found in map(_BOUND.search, condition) if found]
    if len(decisions) == len(bounds) == 1 and "direction=LT" in decisions[0]:
        return int(bounds[0])
    return UNKNOWN_TRIPS


def _part_of(name: str, parts: Mapping[str, str]) -> str:
    return next((part for part, pattern in parts.items() if re.search(pattern, name)), "other")


def _bytes(shapes: str) -> int:
    sizes = ((BYTES.get(kind, 4), dims) for kind, dims in _SHAPE.findall(shapes))
    return sum(size * math.prod(int(d) for d in dims.split(",") if d) for size, dims in sizes)
