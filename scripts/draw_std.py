#!/usr/bin/env python3
"""Draw docs/figures/std.svg, the diagram of docs/std.md: STD's modules in a student, and one module in detail."""

import re
import sys
from itertools import pairwise
from pathlib import Path
from xml.sax.saxutils import escape

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from common.command import DONE, guard, make_parser
from common.output_places import check_output_file, write_output

PATH = Path(__file__).resolve().parents[1] / "docs" / "figures" / "std.svg"
WIDTH, HEIGHT = 960, 712
SMALL = 11  # px, of subscripts; text is 14

# The figure has a background of its own, so that it is readable on any page; the reader's system picks the palette.
LIGHT = {
    "ground": "#ffffff",
    "ink": "#1f2328",
    "quiet": "#57606a",
    "student": "#ddeaf8",
    "std": "#fbe3c0",
    "teacher": "#dcefdc",
    "loss": "#f6dcdc",
}
DARK = {
    "ground": "#16191e",
    "ink": "#e6e8eb",
    "quiet": "#a2abb5",
    "student": "#24415f",
    "std": "#5d4415",
    "teacher": "#28502f",
    "loss": "#642f33",
}

TITLE = "Spatial-channel token distillation"
DESCRIPTION = (
    "Above: a vision MLP whose intermediate and last blocks are each read by an STD module; each module's head learns "
    "the class that its teacher prefers. Below: a module appends a spatial token as a row and a channel token as a "
    "column to the patches, updates each by a perceptron, joins the two and classifies them."
)


def rules(colours: dict[str, str]) -> str:
    """CSS rules with the colours of every class of the figure."""
    fills = "".join(f".{name}{{fill:{colours[name]}}}" for name in ("ground", "student", "std", "teacher", "loss"))
    return (
        f"{fills}text,.head{{fill:{colours['ink']}}}.note{{fill:{colours['quiet']}}}"
        f".box,.line,.frame{{stroke:{colours['ink']}}}.grid{{stroke:{colours['quiet']}}}"
    )


def text(x: float, y: float, words: str, anchor: str = "middle", style: str = "") -> str:
    """SVG of a line of text; `a_{b}` sets b as a subscript. y is the middle of the letters."""
    spans, lowered = [], False
    for i, part in enumerate(re.split(r"_\{([^}]*)\}", words)):
        if i % 2:
            spans.append(f'<tspan dy="4" font-size="{SMALL}">{escape(part)}</tspan>')
        elif part:
            spans.append(f'<tspan dy="-4">{escape(part)}</tspan>' if lowered else escape(part))
        lowered = bool(i % 2)
    kind = f' class="{style}"' if style else ""
    return f'<text x="{x:g}" y="{y + 5:g}" text-anchor="{anchor}"{kind}>{"".join(spans)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, *lines: str) -> list[str]:
    """SVG of a filled box around (x, y) with lines of text."""
    corner = f'x="{x - width / 2:g}" y="{y - height / 2:g}"'
    out = [f'<rect {corner} width="{width:g}" height="{height:g}" rx="6" class="box {kind}"/>']
    first = y - 9 * (len(lines) - 1)
    return out + [text(x, first + 18 * i, line) for i, line in enumerate(lines)]


def arrow(*points: tuple[float, float], dashed: bool = False) -> str:
    """SVG of an arrow through the points."""
    way = " ".join(f"{x:g},{y:g}" for x, y in points)
    dashes = ' stroke-dasharray="5 4"' if dashed else ""
    return f'<polyline points="{way}" class="line" marker-end="url(#head)"{dashes}/>'


def matrix(x: float, y: float, token: str) -> list[str]:
    """SVG of the patches Z as a grid around (x, y), with a token as one more row or column."""
    cell, rows, columns = 14, 5, 7
    left, top = x - cell * columns / 2, y - cell * rows / 2
    row, column = token == "row", token == "column"
    out = []
    for i in range(rows + row):
        for j in range(columns + column):
            gap_x, gap_y = 4 * (j == columns), 4 * (i == rows)
            kind = "std" if gap_x or gap_y else "student"
            corner = f'x="{left + cell * j + gap_x:g}" y="{top + cell * i + gap_y:g}"'
            out.append(f'<rect {corner} width="{cell}" height="{cell}" class="grid {kind}"/>')
    return out


def network() -> list[str]:
    """SVG of the student from left to right, with modules below two of its blocks and their teachers."""
    y, out = 84, [text(30, 36, "A student with modules at two blocks", "start", "title")]
    chain = [
        (80, 84, "student", ("image",)),
        (188, 84, "student", ("patches", "P×N")),
        (292, 76, "student", ("block", "1")),
        (450, 92, "student", ("block", "⌊2L/3⌋")),
        (622, 76, "student", ("block", "L")),
        (748, 100, "student", ("norm, mean", "over patches")),
        (876, 84, "student", ("class", "head")),
    ]
    for x, width, kind, lines in chain:
        out += box(x, y, width, 48, kind, *lines)
    for (a, wide_a, *_), (b, wide_b, *_) in pairwise(chain):
        out.append(arrow((a + wide_a / 2, y), (b - wide_b / 2 - 2, y)))
    for x in (366, 540):  # the blocks between
        out.append(f'<rect x="{x - 16}" y="{y - 12}" width="30" height="24" class="ground"/>')
        out.append(text(x - 1, y - 2, "···"))
    for x, token, teacher, side in ((450, 1, "small teacher", -1), (622, 2, "large teacher", 1)):
        out.append(arrow((x, y + 24), (x, 146)))
        out += box(x, 168, 104, 40, "std", "STD module")
        out.append(arrow((x, 188), (x, 212)))
        out += box(x, 230, 104, 32, "std", "head")
        out.append(arrow((x, 246), (x, 274)))
        out.append(text(x - 8 * side, 258, f"z_{{dist,{token}}}", "start" if side < 0 else "end"))
        out += box(x, 294, 128, 36, "loss", f"w_{{{token}}} · CE")
        out += box(x + 216 * side, 294, 124, 36, "teacher", teacher)
        out.append(arrow((x + 154 * side, 294), (x + 66 * side, 294)))
        out.append(text(x + 109 * side, 282, "argmax", style="note"))
    out.append(arrow((876, 108), (876, 204)))
    out.append(text(884, 152, "z", "start"))
    out += box(876, 224, 84, 36, "loss", "CE(z, y)")
    out.append(text(30, 164, "Modules read a block and write", "start", "note"))
    out.append(text(30, 182, "nothing back to its patches.", "start", "note"))
    out.append(text(30, 218, "Teachers see the same images.", "start", "note"))
    return out


def module() -> list[str]:
    """SVG of a module: from Z with a token, through its perceptron, to the token that the head reads."""
    out = [text(30, 366, "Inside a module, and its head", "start", "title")]
    out.append(f'<line x1="30" y1="340" x2="{WIDTH - 30}" y2="340" class="grid"/>')
    ways = (
        (
            448,
            "row",
            "[Z; T_{S}]:  (P+1)×N",
            ("each of the N columns:", "P+1 → N/2 → GELU → 1"),
            "T_{S} + Δ:  1×N",
            "spatial",
        ),
        (
            602,
            "column",
            "[Z, T_{C}]:  P×(N+1)",
            ("each of the P rows:", "N+1 → 4N → GELU → 1"),
            "T_{C} + Δ:  P×1",
            "channel",
        ),
    )
    for y, token, joined, perceptron, updated, name in ways:
        out += matrix(108, y, token)
        out.append(text(108, y + (66 if token == "row" else 54), joined))
        out.append(arrow((182, y), (212, y)))
        out += box(260, y, 92, 44, "std", "LayerNorm")
        out.append(arrow((306, y), (334, y)))
        out += box(428, y, 184, 56, "std", *perceptron)
        out.append(arrow((520, y), (550, y)))
        out += box(616, y, 128, 40, "std", updated)
        out.append(text(616, y + (-34 if token == "row" else 34), f"{name} token", style="note"))
    out.append(arrow((680, 448), (768, 448), (768, 501)))
    out.append(arrow((680, 602), (768, 602), (768, 549)))
    out += box(768, 525, 84, 44, "std", "join", "N+P")
    out.append(arrow((810, 525), (834, 525)))
    out += box(866, 525, 60, 44, "std", "head", "→ K")
    out.append(arrow((866, 547), (866, 584)))
    out.append(text(866, 598, "z_{dist}"))
    out.append(arrow((616, 468), (616, 501), dashed=True))
    out.append(arrow((616, 582), (616, 549), dashed=True))
    out += [
        '<rect x="526" y="503" width="180" height="44" rx="6" class="frame ground" stroke-dasharray="5 4"/>',
        text(616, 516, "ψ: V ≤ I(T_{S}; T_{C})"),
        text(616, 534, "MINE, with --std_mine", style="note"),
    ]
    out.append(
        text(30, 690, "P patches, N channels, K classes, L blocks; Δ is what the perceptron gives.", "start", "note")
    )
    return out


def drawing() -> str:
    """The SVG file as text."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'role="img" aria-labelledby="title description">',
        f'<title id="title">{TITLE}</title>',
        f'<desc id="description">{escape(DESCRIPTION)}</desc>',
        "<style>",
        "text{font:14px system-ui,'Segoe UI',Helvetica,Arial,sans-serif}.title{font-size:16px;font-weight:600}"
        ".note{font-size:13px}.box,.line,.frame{stroke-width:1.2}.line{fill:none}",
        rules(LIGHT),
        f"@media (prefers-color-scheme:dark){{{rules(DARK)}}}",
        "</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0 8 4 0 8z" class="head"/></marker></defs>',
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" class="ground"/>',
        *network(),
        *module(),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


@guard
def main(argv: list[str] | None = None) -> int:
    parser = make_parser(__doc__)
    parser.add_argument(
        "--out", type=Path, default=PATH, metavar="FILE", help="default docs/figures/std.svg, which is drawn anew"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace another FILE if it exists")
    arguments = parser.parse_args(argv)
    check_output_file("--out", arguments.out, arguments.overwrite or arguments.out == PATH)
    write_output("--out", arguments.out, drawing())
    return DONE


if __name__ == "__main__":
    sys.exit(main())
