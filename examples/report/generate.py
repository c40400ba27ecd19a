"""Orders of a shop that never was, in four sources, with planted defects: what is true of them is known.

    python -m examples.report.generate FOLDER --rows 300000

Every defect is chosen by its row's number and written down in `truth.json`. What the report must find, to the cent and
to the row, is what this program counted while it wrote.
"""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import apsw
import click

from examples.report import duck

FIRST_DAY, DAYS = datetime(2023, 1, 2), 728  # noqa: DTZ001 -- shops keep local time; 104 whole weeks, from a Monday
REGIONS = (("North", 0.3), ("East", 0.15), ("South", 0.2), ("West", 0.25), ("Zürich", 0.1))
PRODUCTS = (
    ("Espresso machine", 349.0),
    ("Grinder", 129.0),
    ("Kettle", 59.0),
    ("Beans, 1 kg", 24.0),
    ("Filter papers", 6.5),
)
PRODUCT_WEIGHTS = (6, 12, 18, 44, 20)
CHANNELS = ("web", "store", "partner", "phone")  # a source each
CHANNEL_WEIGHTS = (0.45, 0.3, 0.15, 0.1)
WEEKDAY_WEIGHTS = (1.0, 0.95, 0.95, 1.05, 1.25, 1.35, 0.6)
HOUR_WEIGHTS = tuple(
    [0.2] * 7 + [0.6, 1, 1.4, 1.7, 1.8, 1.6, 1.5, 1.5, 1.6, 1.8, 2, 2.1, 2.2, 2.1, 1.7, 1.1, 0.6]
)
GROWTH = 0.5  # over the whole time, in orders a day
SHIFT_REGION, SHIFT_DAY, SHIFT_LEFT = (
    "North",
    455,
    0.5,
)  # the first day of week 66, and what was left from then on
COLUMNS = ("order_id", "ordered_at", "customer", "region", "product", "channel", "quantity", "amount")
# One row of so many has the defect. Primes: their combinations are as rare as they should be.
EVERY = {
    "duplicate": 101, "conflict": 1_009, "no amount": 211, "unreadable amount": 499, "no time": 307, "bad time": 601,
    "quantity below": 401, "quantity above": 907, "outlier": 1_511, "nothing word": 97, "case": 13, "blanks": 29,
    "date style": 7, "number style": 11, "cp1252": 53, "twice encoded": 89, "extra cell": 701, "no id": 1_301,
}  # fmt: skip
NOTHING = ("N/A", "null", "-", "None", "")
CUSTOMERS = ("Müller", "Søren", "Núñez", "Smith", "García", "Çelik", "Jones", "O'Hara", "Łukasz", "Dupré")
BRIEF: dict[str, object] = {
    "title": "Kelp & Co: two years of orders",
    "key": ["order_id"],
    "time": "ordered_at",
    "measures": ["amount", "quantity"],
    "by": ["region", "product", "channel"],
    "limits": {"quantity": [1, 100], "amount": [0, None]},
    "unit": "€",
}


@dataclass(slots=True)
class Truth:
    """What is so, counted while it was written."""

    rows: int = 0  # that are written, with duplicates and all
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    cents: int = 0  # of the rows that are kept and no outliers
    cents_by: dict[str, Counter[str]] = field(default_factory=dict)  # column → value → cents
    cents_by_week: Counter[str] = field(default_factory=Counter)
    outliers: list[str] = field(default_factory=list)  # order ids
    outlier_cents: int = 0
    recoded: int = 0
    planted: Counter[str] = field(default_factory=Counter)

    def keep(self, order: Order, outlier: bool) -> None:
        self.kept += 1
        if outlier:
            self.outliers.append(order.id)
            self.outlier_cents += order.cents
            return
        self.cents += order.cents
        for column, value in (
            ("region", order.region),
            ("product", order.product),
            ("channel", order.channel),
        ):
            self.cents_by.setdefault(column, Counter())[value] += order.cents
        monday = order.at.date() - timedelta(days=order.at.weekday())
        self.cents_by_week[str(monday)] += order.cents


@dataclass(slots=True)
class Order:
    """An order as it really was."""

    number: int
    id: str
    at: datetime
    customer: str
    region: str
    product: str
    channel: str
    quantity: int
    cents: int


def orders(rows: int, seed: int) -> Iterator[Order]:
    """Orders by their numbers, at random times; the chance of a day grows, but for the region that fell."""
    chance = random.Random(seed)
    days = list(range(DAYS))
    weights = [(1 + GROWTH * day / DAYS) * WEEKDAY_WEIGHTS[day % 7] for day in days]
    regions, shares = [name for name, _ in REGIONS], [share for _, share in REGIONS]
    hours = list(range(24))
    number = 0
    while number < rows:
        batch = min(10_000, 2 * (rows - number) + 10)
        drawn = zip(
            chance.choices(days, weights, k=batch),
            chance.choices(hours, HOUR_WEIGHTS, k=batch),
            chance.choices(regions, shares, k=batch),
            chance.choices(PRODUCTS, PRODUCT_WEIGHTS, k=batch),
            chance.choices(CHANNELS, CHANNEL_WEIGHTS, k=batch),
            chance.choices(CUSTOMERS, k=batch),
            strict=True,
        )
        for day, hour, region, (product, price), channel, customer in drawn:
            if region == SHIFT_REGION and day >= SHIFT_DAY and chance.random() >= SHIFT_LEFT:
                continue
            if number == rows:
                return
            number += 1
            at = FIRST_DAY + timedelta(days=day, seconds=hour * 3600 + chance.randrange(3600))
            quantity = 1 + int(chance.random() ** 3 * 5)
            cents = round(100 * price * quantity * (0.9 + 0.2 * chance.random()))
            yield Order(number, f"K{number:08d}", at, customer, region, product, channel, quantity, cents)


class Sink:
    """Where the rows of one channel go: a CSV of one dialect or another, a Parquet file, a SQLite table."""

    def __init__(self, folder: Path, channel: str) -> None:
        self.channel = channel
        self.folder = folder
        self.rows = 0
        self.stream = (
            folder / {"web": "web.csv", "store": "stores.csv"}.get(channel, f".{channel}.csv")
        ).open("wb")
        self.delimiter = ";" if channel == "store" else ","
        self.put(list(COLUMNS), "utf-8-sig" if channel == "web" else "utf-8")

    def put(self, cells: list[str], encoding: str = "utf-8") -> None:
        """A line; quotes only where they are needed."""
        special = (self.delimiter, '"', "\n")
        quoted = [
            '"' + cell.replace('"', '""') + '"' if any(mark in cell for mark in special) else cell
            for cell in cells
        ]
        self.stream.write((self.delimiter.join(quoted) + "\n").encode(encoding, errors="replace"))
        self.rows += 1

    def close(self) -> str:
        """Finish; the source as the agent is told of it."""
        self.stream.close()
        path = Path(self.stream.name)
        if self.channel == "partner":
            return str(to_parquet(path, self.folder / "partners.parquet"))
        if self.channel == "phone":
            return f"{to_sqlite(path, self.folder / 'phone.db')}::orders"
        return str(path)


def to_parquet(path: Path, target: Path) -> Path:
    target.unlink(missing_ok=True)
    columns = ", ".join(f"'{column}': 'VARCHAR'" for column in COLUMNS)
    with duck.opened(256, target.parent) as db:
        db.execute(
            f"COPY (FROM read_csv({duck.text(path)}, header = true, columns = {{{columns}}}, auto_detect = false, "
            f"delim = ',', quote = '\"', escape = '\"', parallel = false)) TO {duck.text(target)} "
            "(FORMAT parquet, ROW_GROUP_SIZE 20480)"
        )
    path.unlink()
    return target


def to_sqlite(path: Path, target: Path) -> Path:
    target.unlink(missing_ok=True)
    db = apsw.Connection(str(target))
    db.execute(f"CREATE TABLE orders ({', '.join(COLUMNS)})")
    with path.open(encoding="utf-8", newline="") as stream, db:
        rows = csv.reader(stream)
        next(rows)
        db.executemany(f"INSERT INTO orders VALUES ({', '.join('?' * len(COLUMNS))})", rows)
    db.close()
    path.unlink()
    return target


def has(order: Order, defect: str) -> bool:
    """Whether this row has the defect. Each defect begins at another row."""
    return (order.number + 7 * len(defect)) % EVERY[defect] == 0


def lines_of(order: Order, truth: Truth) -> Iterator[tuple[list[str], str]]:
    """The row as it is written, with its encoding; a duplicate follows at once. The truth is told of both."""
    cells, why, outlier = written(order, truth)
    as_csv = order.channel in ("web", "store")
    encoding = "utf-8"
    if as_csv and has(order, "extra cell"):
        cells, why = [*cells, "?"], "not a row: 9 cells instead of 8"
    if not cells[2].isascii() or not cells[3].isascii():
        if as_csv and has(order, "cp1252"):
            encoding = "cp1252"
        elif has(order, "twice encoded") and "Ł" not in cells[2]:  # half of which Windows-1252 does not have
            cells[2:4] = (cell.encode().decode("cp1252") for cell in cells[2:4])
    yield cells, encoding
    truth.rows += 1
    if why is not None:
        truth.dropped[why] += 1
        return
    truth.keep(order, outlier)
    if has(order, "duplicate"):
        yield cells, encoding
        truth.rows += 1
        truth.dropped["a duplicate"] += 1
    elif has(order, "conflict"):
        yield [*cells[:6], str(order.quantity + 1), cells[7]], encoding
        truth.rows += 1
        truth.dropped["a second row of the same key, with other values"] += 1


def written(order: Order, truth: Truth) -> tuple[list[str], str | None, bool]:
    """The cells with their defects, why the row must be dropped, and whether it is an outlier.

    The reasons are tried in the order in which the columns stand, as the report promises.
    """
    outlier = has(order, "outlier")
    if outlier:
        order.cents *= 100  # the decimal point was lost
    why: str | None = None
    identity, at, quantity, amount = order.id, date_of(order), str(order.quantity), amount_of(order)
    if has(order, "no id"):
        identity, why = "", "no order_id"
    if has(order, "no time"):
        at, why = NOTHING[order.number % 5], why or "no ordered_at"
    elif has(order, "bad time"):
        at, why = ("31.02.2024", "soon", "2024-13-01")[order.number % 3], why or "ordered_at cannot be read"
    if has(order, "no amount"):
        amount, why = NOTHING[order.number % 5], why or "no amount"
    elif has(order, "unreadable amount"):
        amount, why = ("free", "12..5", "see invoice")[order.number % 3], why or "amount cannot be read"
    if has(order, "quantity below"):
        quantity, why = "-3", why or "quantity below 1"
    elif has(order, "quantity above"):
        quantity, why = "9999", why or "quantity above 100"
    region = order.region
    if has(order, "case"):
        region = region.upper() if order.number % 2 else region.lower()
    if has(order, "blanks"):
        region = f" {region}  "
    customer = NOTHING[order.number % 5] if has(order, "nothing word") else order.customer
    return [identity, at, customer, region, order.product, order.channel, quantity, amount], why, outlier


def date_of(order: Order) -> str:
    """Each channel has its own way, and some people theirs. The store writes D.M.Y, the web M/D/Y at times."""
    at = order.at
    if not has(order, "date style"):
        return at.strftime("%d.%m.%Y %H:%M:%S" if order.channel == "store" else "%Y-%m-%d %H:%M:%S")
    if order.channel == "web":
        return at.strftime("%m/%d/%Y %H:%M:%S")
    if order.channel == "partner":
        return at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return at.strftime("%Y-%m-%d %H:%M:%S") if order.channel == "store" else at.strftime("%d/%m/%Y %H:%M:%S")


def amount_of(order: Order) -> str:
    """1234.50, and in the store 1.234,50."""
    plain = f"{order.cents // 100}.{order.cents % 100:02d}"
    if order.channel == "store":
        return f"{order.cents // 100:,}".replace(",", ".") + f",{order.cents % 100:02d}"
    if has(order, "number style"):
        return f"€ {order.cents // 100:,}.{order.cents % 100:02d}"
    return plain


def generate(folder: Path, rows: int, seed: int = 1) -> list[str]:
    """Write the sources and `truth.json`; the sources as the agent is told of them."""
    folder.mkdir(parents=True, exist_ok=True)
    truth = Truth()
    sinks = {channel: Sink(folder, channel) for channel in CHANNELS}
    for order in orders(rows, seed):
        sink = sinks[order.channel]
        for cells, encoding in lines_of(order, truth):
            sink.put(cells, encoding)
    named = [sink.close() for sink in sinks.values()]
    told = {
        "rows": truth.rows,
        "kept": truth.kept,
        "dropped": dict(sorted(truth.dropped.items())),
        "cents": truth.cents,
        "cents_by": {column: dict(sorted(values.items())) for column, values in truth.cents_by.items()},
        "cents_by_week": dict(sorted(truth.cents_by_week.items())),
        "outliers": sorted(truth.outliers),
        "outlier_cents": truth.outlier_cents,
        "shift": {
            "group": SHIFT_REGION,
            "at": str((FIRST_DAY + timedelta(days=SHIFT_DAY)).date()),
            "share": SHIFT_LEFT - 1,
        },
    }
    (folder / "truth.json").write_text(json.dumps(told, indent=1, ensure_ascii=False))
    return named


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(1), default=300_000, show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
def main(folder: Path, rows: int, seed: int) -> None:
    """Write orders with planted defects into FOLDER."""
    for source in generate(folder, rows, seed):
        print(source)


if __name__ == "__main__":
    main()
