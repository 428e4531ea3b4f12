"""How figures, counts and moments are written on pages. Integers only: nothing here rounds an amount of money."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from markupsafe import Markup

from control.web.charts import share_bar
from ledger.money import format_usdc

DECIMALS: Final = 6
DECIMALS_MIN: Final = 2
MINUS: Final = "\N{MINUS SIGN}"
THIN: Final = "\N{NARROW NO-BREAK SPACE}"
SECOND_MS: Final = 1000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS
_AGES: Final = ((365 * DAY_MS, "year"), (30 * DAY_MS, "month"), (DAY_MS, "day"), (HOUR_MS, "hour"), (MINUTE_MS, "minute"))
_SIZES: Final = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def usdc(amount: int) -> str:
    """Write microunits exactly: grouped, without the zeros at the end beyond two decimals, such as `1,234.50` or `0.000033`."""
    whole, decimals = format_usdc(abs(amount)).split(".")
    shown = decimals.rstrip("0").ljust(DECIMALS_MIN, "0")
    return f"{MINUS if amount < 0 else ''}{int(whole):,}.{shown}"


def usdc_column(amount: int) -> Markup:
    """Write microunits with all six decimals, so that the figures of a column stand below each other; zeros at the end are set back."""
    shown = usdc(amount)
    missing = DECIMALS - len(shown.partition(".")[2])
    return Markup('{}<span class="zeros">{}</span>').format(shown, "0" * missing) if missing else Markup("{}").format(shown)


def signed_usdc_column(amount: int) -> Markup:
    """Write microunits as `usdc_column` does, with a sign before what is not zero."""
    return Markup("{}{}").format("+" if amount > 0 else "", usdc_column(amount))


def signed_usdc(amount: int) -> str:
    """Write microunits with a sign before what is not zero."""
    return f"+{usdc(amount)}" if amount > 0 else usdc(amount)


def count(number: int) -> str:
    """Write a number of things in full, grouped."""
    return f"{MINUS if number < 0 else ''}{abs(number):,}"


def compact(number: int) -> str:
    """Write a large number of things in three digits or fewer, cut and not rounded: `1.2 M` is never less than it says."""
    for size, sign in _SIZES:
        if number >= size:
            tenths = number * 10 // size
            shown = str(tenths // 10) if tenths >= 1000 or tenths % 10 == 0 else f"{tenths // 10}.{tenths % 10}"
            return f"{shown}{THIN}{sign}"
    return count(number)


def percent(part: int, whole: int) -> str:
    """Write `part` of `whole` in percent, with one decimal; a dash where there is no whole."""
    if whole <= 0:
        return "–"
    thousandths = (part * 2000 + whole) // (2 * whole)
    return f"{thousandths // 10}.{thousandths % 10}{THIN}%"


def moment(at: datetime | int) -> Markup:
    """Write a moment to the second in UTC; the page's script can show it in local time. An integer is milliseconds."""
    when = _utc(at)
    return Markup('<time datetime="{}" data-moment="second">{}</time>').format(when.strftime("%Y-%m-%dT%H:%M:%SZ"), when.strftime("%Y-%m-%d %H:%M:%S"))


def day(at: datetime | int) -> Markup:
    """Write the day of a moment in UTC."""
    when = _utc(at)
    return Markup('<time datetime="{}">{}</time>').format(when.strftime("%Y-%m-%d"), when.strftime("%Y-%m-%d"))


def ago(at: datetime | int, now: datetime | None = None) -> Markup:
    """Write how long ago a moment was; the page's script keeps it true."""
    when = _utc(at)
    passed = int(((now or datetime.now(UTC)) - when).total_seconds() * 1000)
    return Markup('<time datetime="{}" data-moment="ago">{}</time>').format(when.strftime("%Y-%m-%dT%H:%M:%SZ"), _age(passed))


def duration(milliseconds: int) -> str:
    """Write a length of time in one or two units: `850 ms`, `1.2 s`, `3 min 20 s`, `2 h 5 min`, `4 days`."""
    if milliseconds < SECOND_MS:
        return f"{milliseconds}{THIN}ms"
    if milliseconds < MINUTE_MS:
        tenths = milliseconds // 100
        return f"{tenths // 10}.{tenths % 10}{THIN}s" if tenths < 100 else f"{tenths // 10}{THIN}s"
    if milliseconds < HOUR_MS:
        return _two(milliseconds, (MINUTE_MS, "min"), smaller=(SECOND_MS, "s"))
    if milliseconds < 2 * DAY_MS:
        return _two(milliseconds, (HOUR_MS, "h"), smaller=(MINUTE_MS, "min"))
    return f"{milliseconds // DAY_MS:,} days"


def _two(milliseconds: int, larger: tuple[int, str], *, smaller: tuple[int, str]) -> str:
    rest = milliseconds % larger[0] // smaller[0]
    return f"{milliseconds // larger[0]}{THIN}{larger[1]}" + (f" {rest}{THIN}{smaller[1]}" if rest else "")


def _age(passed_ms: int) -> str:
    for length, name in _AGES:
        if passed_ms >= length:
            number = passed_ms // length
            return f"{number} {name}{'' if number == 1 else 's'} ago"
    return "just now"


def _utc(at: datetime | int) -> datetime:
    return datetime.fromtimestamp(at // 1000, UTC) if isinstance(at, int) else at.astimezone(UTC)


FILTERS: Final[dict[str, Callable[..., str]]] = {
    "usdc": usdc, "signed_usdc": signed_usdc, "usdc_column": usdc_column, "signed_usdc_column": signed_usdc_column,
    "count": count, "compact": compact, "percent": percent, "moment": moment, "day": day, "ago": ago,
    "duration": duration, "share_bar": share_bar,
}  # fmt: skip
