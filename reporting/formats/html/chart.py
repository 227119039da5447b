"""Geometry of charts: numbers in, SVG coordinates out. The template draws them."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 480, 320  # user units; letters are 13 high
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 14, 46
LETTER = 8.4  # width of a letter of a label on average, where they are largest: on a phone
COLOURS, DASHES = 8, 4
MOST_TICKS = 6
NAMES_WIDTH, ROW_HEIGHT = 170, 20  # of a dot plot


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    position: float
    label: str


@dataclass(frozen=True)
class Line:
    """A curve.

    Attributes:
        colour, dash: numbers of the style sheet's.
        points, band: of a polyline and a polygon; "" without a band.
        dots: (x, y) of a line of one point.
        shown: whether it is drawn before the reader switches it on.
    """

    label: str
    colour: int
    dash: int
    points: str
    band: str
    dots: tuple[tuple[float, float], ...]
    tooltip: str
    shown: bool = True


@dataclass(frozen=True)
class Dot:
    """A point with its name at `anchor`; `x_label` is None where the name would cover another one.

    `span` are the heights of the ends of its error bar; None without one.
    """

    label: str
    colour: int
    x: float
    y: float
    x_label: float | None
    y_label: float
    anchor: str
    tooltip: str
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Bar:
    """A rectangle; `kind` is a class of the style sheet. `span` are the heights of the ends of its error bar."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    tooltip: str
    span: tuple[float, float] | None = None


@dataclass(frozen=True)
class Chart:
    """All that is drawn of one chart.

    Attributes:
        identity: unique on the page.
        place: below the title: the protocol.
        description: the chart in words, for readers who cannot see it.
        level, level_name: the height of a dotted line across the chart, and its name.
    """

    identity: str
    title: str
    place: str
    description: str
    x_name: str
    y_name: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    lines: tuple[Line, ...] = ()
    dots: tuple[Dot, ...] = ()
    bars: tuple[Bar, ...] = ()
    level: float | None = None
    level_name: str = ""
    note: str = ""

    width, height, left, right, top, bottom = WIDTH, HEIGHT, LEFT, WIDTH - RIGHT, TOP, HEIGHT - BOTTOM  # of all


@dataclass(frozen=True)
class DotRow:
    """A row of a dot plot: a name, a point for each trial, and a tick at their mean."""

    label: str
    colour: int
    y: float
    points: tuple[float, ...]
    mean: float
    tooltip: str


@dataclass(frozen=True)
class DotPlot:
    """All that is drawn of a chart with a row for each method; fields as in `Chart`, but `level` is on the x-axis."""

    identity: str
    title: str
    place: str
    description: str
    x_name: str
    x_ticks: tuple[Tick, ...]
    rows: tuple[DotRow, ...]
    height: float
    level: float | None = None
    level_name: str = ""
    note: str = ""

    width, left, right, top, row = WIDTH, NAMES_WIDTH, WIDTH - RIGHT, TOP, ROW_HEIGHT  # of all

    @property
    def bottom(self) -> float:
        """The height of the x-axis."""
        return self.height - BOTTOM


class Scale:
    """A linear map from values to coordinates, with round ticks within."""

    def __init__(self, values: Iterable[float], start: float, stop: float, whole: bool = False, margin: float = 0.06):
        values = list(values)
        low, high = min(values), max(values)
        room = margin * (high - low) if high > low else (0.5 if whole else max(1.0, 0.05 * abs(high)))
        self.low, self.high, self.start, self.stop = low - room, high + room, start, stop
        self.step = _step(self.high - self.low, whole)

    def __call__(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.stop - self.start), 1)

    def ticks(self) -> tuple[Tick, ...]:
        """Returns the round values within the scale, at most MOST_TICKS or two more."""
        decimals = max(0, -math.floor(math.log10(self.step) + 1e-9))
        numbers = range(math.ceil(self.low / self.step - 1e-9), math.floor(self.high / self.step + 1e-9) + 1)
        return tuple(Tick(self(n * self.step), f"{n * self.step:,.{decimals}f}") for n in numbers)


class LogScale:
    """A logarithmic map from positive values to coordinates."""

    def __init__(self, values: Iterable[float], start: float, stop: float, margin: float):
        self._of_logarithms = Scale(map(math.log10, values), start, stop, margin=margin)

    def __call__(self, value: float) -> float:
        return self._of_logarithms(math.log10(value))

    def ticks(self) -> tuple[Tick, ...]:
        """Returns 1, 2 and 5 times the powers of ten within the scale; where that is too many, the powers alone."""
        low, high = self._of_logarithms.low, self._of_logarithms.high
        for factors in ((1, 2, 5), (1,)):
            powers = range(math.floor(low), math.ceil(high) + 1)
            values = [factor * 10.0**power for power in powers for factor in factors]
            inside = [value for value in values if low <= math.log10(value) <= high]
            if len(inside) <= MOST_TICKS + 2:
                break
        return tuple(Tick(self(value), f"{value:,.12g}") for value in inside)


def _step(span: float, whole: bool) -> float:
    """Returns 1, 2 or 5 times a power of ten that gives at most MOST_TICKS ticks."""
    power = 10.0 ** math.floor(math.log10(span / MOST_TICKS))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power * MOST_TICKS >= span)
    return max(1.0, step) if whole else step


def horizontal(values: Iterable[float], whole: bool = False, margin: float = 0.06, left: float = LEFT) -> Scale:
    """Returns the scale of the x-axis from `left` on, with whole ticks only if asked."""
    return Scale(values, left, WIDTH - RIGHT, whole, margin)


def logarithmic(values: Iterable[float], margin: float = 0.12) -> LogScale:
    """Returns the logarithmic scale of the x-axis."""
    return LogScale(values, LEFT, WIDTH - RIGHT, margin)


def vertical(values: Iterable[float]) -> Scale:
    """Returns the scale of the y-axis."""
    return Scale(values, HEIGHT - BOTTOM, TOP)


def path(xs: Sequence[float], ys: Sequence[float]) -> str:
    """Returns the `points` of a polyline or a polygon."""
    return " ".join(f"{x:g},{y:g}" for x, y in zip(xs, ys, strict=True))


def level_name_box(level: float, name: str) -> tuple[float, float, float, float]:
    """Returns left, top, right and bottom of the name of a level at that height."""
    baseline = level + (18 if level < TOP + 16 else -6)
    return LEFT + 4, baseline - 11, LEFT + 4 + LETTER * len(name), baseline + 3


def place_names(
    points: Sequence[tuple[float, float, str]], reserved: Iterable[tuple[float, float, float, float]] = ()
) -> list[tuple[float, float, str] | None]:
    """Returns a place for the name of each point that covers no point and no other name; None where there is none.

    Args:
        reserved: boxes that no name may cover, either.

    Returns:
        x, y and text-anchor; to the right if possible, else to the left, above or below.
    """
    taken = [*reserved, *((x - 5, y - 5, x + 5, y + 5) for x, y, _ in points)]
    places = []
    for x, y, name in points:
        wide = LETTER * len(name)
        tried = [
            (x + 8, y + 4, "start", x + 8),
            (x - 8, y + 4, "end", x - 8 - wide),
            (x, y - 9, "middle", x - wide / 2),
            (x, y + 18, "middle", x - wide / 2),
        ]
        found = None
        for at_x, at_y, anchor, begin in tried:
            box = (begin, at_y - 11, begin + wide, at_y + 3)
            inside = box[0] >= LEFT and box[2] <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if inside and not any(_overlap(box, other) for other in taken):
                found = round(at_x, 1), round(at_y, 1), anchor
                taken.append(box)
                break
        places.append(found)
    return places


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
