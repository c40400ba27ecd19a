"""The nouns of the report: frozen values that steps take, return and leave in the journal."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Kind = Literal["key", "time", "number", "category", "text"]
Format = Literal["csv", "parquet", "sqlite", "git"]
DateOrder = Literal["day first", "month first", "unknown"]
Period = Literal["day", "week", "month"]
Phase = Literal["collect", "clean", "analyse", "write", "done"]

VALUES_KEPT = 64  # different values of a column in a tally; a column with more is no category


@dataclass(frozen=True, slots=True)
class Brief:
    """What the report is to be about. Everything may be left out; then the columns themselves decide.

    key: the columns that name a row; two rows of one name are duplicates (none: rows that are equal in all columns).
    time, measures, by: when it happened, how much it was, what to tell apart. The first measure is the main one.
    required: a row without these is dropped (none: key, time and the first measure).
    limits: column → lowest and highest value that can be; a row outside is dropped.
    """

    title: str | None = None
    key: tuple[str, ...] = ()
    time: str | None = None
    measures: tuple[str, ...] = ()
    by: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    limits: dict[str, tuple[float | None, float | None]] = field(default_factory=dict)
    unit: str = ""  # of the first measure: "€"


@dataclass(frozen=True, slots=True)
class Job:
    """Where one run works, and how much it may take."""

    folder: str  # belongs to this run alone
    brief: Brief
    memory_mb: int  # what DuckDB may hold at a time, in all steps together
    chunk_bytes: int  # about so much of a source in one step

    @property
    def execution_log(self) -> Path:
        return Path(self.folder) / "executions.jsonl"

    @property
    def parts(self) -> Path:
        """Parquet files, each named by the hash of its content."""
        return Path(self.folder) / "parts"

    @property
    def page(self) -> Path:
        return Path(self.folder) / "report.html"

    @property
    def report(self) -> Path:
        return Path(self.folder) / "report.json"

    @property
    def dropped(self) -> Path:
        return Path(self.folder) / "dropped.csv"


@dataclass(frozen=True, slots=True)
class Source:
    """Where rows come from, as it was when the run began."""

    number: int
    name: str
    format: Format
    path: str
    size: int  # bytes; of a git repository: commits
    modified_ns: int
    digest: str  # sha256 of the file; of a git repository: the commit
    columns: tuple[str, ...]
    table: str = ""  # of SQLite
    delimiter: str = ","  # of CSV
    begin: int = 0  # where the first row begins


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a source has been read: the position is the source's own, the line is what a person counts."""

    position: int
    line: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What the cells of one column look like. Tallies of parts add up to that of the whole."""

    filled: int = 0
    numbers: int = 0
    times: int = 0
    day_first: int = 0  # 31/12/2024 can only be that
    month_first: int = 0  # 12/31/2024
    values: dict[str, int] | None = field(default_factory=dict)  # None: too many to be a category

    def __add__(self, other: Tally) -> Tally:
        both: dict[str, int] | None = None
        if self.values is not None and other.values is not None:
            both = dict(sorted((Counter(self.values) + Counter(other.values)).items()))
        return Tally(
            self.filled + other.filled,
            self.numbers + other.numbers,
            self.times + other.times,
            self.day_first + other.day_first,
            self.month_first + other.month_first,
            both if both is not None and len(both) <= 4 * VALUES_KEPT else None,
        )


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of one source as it was read: a Parquet file of texts."""

    id: str
    source: int
    file: str
    rows: int
    recoded: int  # lines whose bytes were not UTF-8, or were encoded twice
    tallies: dict[str, Tally]
    next: Cursor | None  # None: this was the last


@dataclass(frozen=True, slots=True)
class Column:
    """What a column is taken for."""

    name: str
    kind: Kind
    required: bool = False
    low: float | None = None
    high: float | None = None
    orders: tuple[DateOrder, ...] = ()  # of each source: what 03/04/2024 means in it
    spellings: dict[str, str] = field(default_factory=dict)  # of a category: folded → the commonest spelling


@dataclass(frozen=True, slots=True)
class Schema:
    """What the columns are taken for, and which of them the report is about."""

    columns: tuple[Column, ...]
    key: tuple[str, ...]
    time: str | None
    measures: tuple[str, ...]
    by: tuple[str, ...]

    def column(self, name: str) -> Column:
        return next(one for one in self.columns if one.name == name)


@dataclass(frozen=True, slots=True)
class Dropped:
    """Rows that were dropped for one reason, with a few of them."""

    reason: str
    rows: int
    examples: tuple[Example, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A row in its source, and the cell that decided."""

    source: int
    line: int
    value: str


@dataclass(frozen=True, slots=True)
class Repair:
    """Cells of one column that were mended in one way."""

    column: str
    what: str
    cells: int


@dataclass(frozen=True, slots=True)
class Cleaned:
    """A part, or a bucket of rows, after cleaning: what was kept is typed, what was dropped says why."""

    id: str
    kept: int
    file: str
    dropped_file: str
    dropped: tuple[Dropped, ...]
    repairs: tuple[Repair, ...] = ()
    kept_by_source: dict[int, int] = field(default_factory=dict)


@dataclass(slots=True)
class Reporting:
    """The agent's state: the phase, and how far it has got in it. Every resume continues from it."""

    phase: Phase = "collect"
    source: int = 0
    cursor: Cursor | None = None  # in the source at hand; None: at its beginning
    parts: list[Part] = field(default_factory=list)
    schema: Schema | None = None
    cleaned: list[Cleaned] = field(default_factory=list)
    rows: list[Cleaned] = field(default_factory=list)  # without duplicates: what is analysed
    analysis: Analysis | None = None
    summary: Prose | None = None
    result: Summary | None = None

    def take(self, part: Part) -> None:
        """A part was read: go on behind it, or with the next source."""
        self.parts.append(part)
        self.cursor = part.next
        if part.next is None:
            self.source += 1


@dataclass(frozen=True, slots=True)
class Bin:
    """A bar of a histogram: from `low` to below `high`."""

    low: float
    high: float
    rows: int


@dataclass(frozen=True, slots=True)
class Profile:
    """One column of the cleaned rows."""

    column: str
    kind: Kind
    rows: int
    filled: int
    distinct: int
    least: str = ""
    greatest: str = ""
    mean: float | None = None
    deviation: float | None = None
    quantiles: tuple[float, ...] = ()  # at QUANTILES
    bins: tuple[Bin, ...] = ()
    logarithmic: bool = False  # the bins are equal in ratio
    common: tuple[tuple[str, int], ...] = ()


QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True)
class Fence:
    """What is usual in one group: outside of it a value is an outlier."""

    group: str | None
    low: float
    high: float
    median: float


@dataclass(frozen=True, slots=True)
class Outlier:
    """A row whose measure is far from what is usual in its group."""

    source: int
    line: int
    group: str | None
    value: float
    usual: float
    cells: dict[str, str]


@dataclass(frozen=True, slots=True)
class Outliers:
    """The outliers of one measure: all are counted, the farthest are listed."""

    measure: str
    by: str | None  # the column whose groups differ most
    logarithmic: bool
    rows: int
    total: float
    fences: tuple[Fence, ...]
    listed: tuple[Outlier, ...]


@dataclass(frozen=True, slots=True)
class Shift:
    """A level that changed at once, and stayed."""

    at: str  # the first period of the new level
    index: int
    before: float
    after: float
    share: float  # after ÷ before − 1
    slope: float  # a period, on both sides of it
    slope_t: float  # in standard errors


@dataclass(frozen=True, slots=True)
class Series:
    """A measure over time: the whole, or one group of a column."""

    by: str | None
    group: str | None
    totals: tuple[float, ...]  # one a period
    slope: float  # a period
    intercept: float
    growth: float | None  # a month, as a share of the mean, beside the shift if there is one
    clear: bool  # whether that stands out from the noise
    shift: Shift | None


@dataclass(frozen=True, slots=True)
class Trends:
    """The main measure over time, as a whole and for each group."""

    period: Period
    starts: tuple[str, ...]  # of the whole periods
    whole: Series
    groups: tuple[Series, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """The rows with one value of a column."""

    value: str | None
    rows: int
    total: float
    mean: float
    quantiles: tuple[float, ...]
    outliers: int = 0


@dataclass(frozen=True, slots=True)
class Breakdown:
    """The main measure by the values of one column."""

    by: str
    groups: tuple[Group, ...]
    others: int  # values that are not shown


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When it happens: rows and totals by weekday (0 is Monday) and hour."""

    rows: tuple[tuple[int, int, int, float], ...]  # weekday, hour, rows, total
    hours: bool  # whether the times have any
    weeks: bool  # whether there are enough to speak of weekdays


@dataclass(frozen=True, slots=True)
class Relation:
    """How two measures go together, by rank-free Pearson correlation."""

    left: str
    right: str
    rows: int
    correlation: float


@dataclass(frozen=True, slots=True)
class Totals:
    """The main measure as a whole, outliers set aside."""

    rows: int
    total: float
    mean: float
    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True)
class Analysis:
    """All that was found."""

    totals: Totals
    profiles: tuple[Profile, ...]
    outliers: tuple[Outliers, ...]
    trends: Trends | None
    breakdowns: tuple[Breakdown, ...]
    rhythm: Rhythm | None
    relations: tuple[Relation, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a model said; no model, nothing said."""

    model: str = ""
    text: str = ""


@dataclass(frozen=True, slots=True)
class Prose:
    """The summary, the model whose words it is in (none: our own), and what a reader must know of that."""

    paragraphs: tuple[str, ...]
    model: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """All that is known at the end: the page is made of it, and `report.json` holds it. No path, no time of day."""

    brief: Brief
    sources: tuple[Source, ...]
    schema: Schema
    rows_read: int
    rows_kept: int
    recoded: int
    read_by_source: tuple[int, ...]
    kept_by_source: tuple[int, ...]
    dropped: tuple[Dropped, ...]
    repairs: tuple[Repair, ...]
    analysis: Analysis
    summary: Prose


@dataclass(frozen=True, slots=True)
class Summary:
    """The agent's result: what a person wants to know first, and where the rest is."""

    title: str
    summary: str
    findings: tuple[str, ...]
    rows_read: int
    rows_kept: int
    page: str
    page_sha256: str
