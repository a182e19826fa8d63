"""Devices that are read from a CSV file.

The file holds either a curve (`read_curve`) or a table of steps (`read_steps`). A curve lists the conductance after each pulse of
LTP (potentiation) and LTD (depression). A table of steps lists the sizes of a step up and a step down at several conductances.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from scipy.optimize import isotonic_regression, least_squares

from workbench.synapse.devices import Exponential
from workbench.synapse.tables import Table

MOST = 65_536  # largest number of pulses in a curve
LONGEST = 100_000  # largest number of characters read from a line
ABOVE = 100  # number of lines at the start of a file that are searched for the header
WITH_POINTS = "with decimal points, not decimal commas"
JUMP = 0.5  # a step in the wrong direction by more than this share of the curve's range cannot be noise
SIGNS = {"ltp": 1, "ltd": -1}  # the direction of each column: 1 if it rises, -1 if it falls
AFTER_EACH = (
    "The first row is read as the conductance before the first pulse, but it looks like the conductance after the first pulse. "
    "If it is, add a column named pulse that starts at 1"
)
MOST_SMOOTHING = 0.15  # largest change by smoothing that noise can explain: root mean square (rms), as a share of the range


@dataclass(frozen=True)
class MeasuredCurve:
    """A measured response: the conductances after 0, 1, ... pulses of LTP and of LTD, normalised to their common range."""

    rise: np.ndarray  # LTP, (n + 1,), increasing
    fall: np.ndarray  # LTD, (m + 1,), decreasing
    on_off: float  # largest / smallest measured conductance; inf if the smallest is 0
    residual: float  # rms change by smoothing, as a share of the range; 0 without smoothing
    note: str = ""  # a warning about the first row of the file; "" if there is none

    def device(self) -> Table:
        """Return the device in which one pulse changes the conductance from one measured point to the next.

        Between two points, the size of the step is interpolated linearly. At the last point of a curve and beyond it, the step
        in the direction of this curve is 0. So LTP and LTD may have different end points.
        """
        rise, fall = self.rise, self.fall[::-1]
        up, down = np.append(np.diff(rise), 0.0), np.insert(np.diff(fall), 0, 0.0)
        return Table(
            len(rise) - 1, tuple(rise.tolist()), tuple(up.tolist()), tuple(fall.tolist()), tuple(down.tolist()), len(fall) - 1
        )


def read_curve(path: Path | str, smooth: bool = False) -> MeasuredCurve:
    """Read a curve from the columns ``ltp`` and ``ltd``: conductances (in any unit) before the first pulse and after the pulses.

    The first row holds the conductances before the first pulse, unless the file has a column ``pulse``. This column gives the
    number of pulses before each measurement: 0 before the first pulse, 1 after the first pulse. If this column starts above 0,
    the conductance before the first pulse is taken from the end of the other curve. If this column skips numbers, the missing
    conductances are interpolated by a monotone cubic (PCHIP). The two curves may have different lengths (leave the cells at the
    end of the shorter column empty) and different end points.

    If `smooth` is True, a noisy curve is replaced by the nearest monotone curve (isotonic regression), and `residual` of the
    result reports the size of the change. Otherwise, a curve that is not monotone is refused. A curve in the wrong direction,
    or with several cycles, is always refused. Raises a ValueError that names the column and the row where possible.
    """
    table = _table(Path(path), ("ltp", "ltd"))
    pulses = _column(path, table, "pulse") if "pulse" in table else np.arange(len(table), dtype=float)
    curves = {name: _column(path, table, name) for name in ("ltp", "ltd")}
    ends = min(map(np.min, curves.values())), max(map(np.max, curves.values()))
    if ends[0] < 0:
        raise ValueError(f"{path}: the smallest conductance is {ends[0]:g}; expected no negative conductances")
    if ends[1] <= ends[0]:
        raise ValueError(f"{path}: all conductances are {ends[0]:g}; expected at least two different values")
    values = {name: (column - ends[0]) / (ends[1] - ends[0]) for name, column in curves.items()}
    kept = {name: _monotone(path, name, values[name], sign, smooth) for name, sign in SIGNS.items()}
    if flat := [name for name, curve in kept.items() if np.ptp(curve) == 0]:
        raise ValueError(f"{path}: column {flat[0]!r}: the conductance never changes; expected at least one step")
    ladders = {}
    for name, other in (("ltp", "ltd"), ("ltd", "ltp")):
        at = _pulse_numbers(path, name, pulses, len(kept[name]))
        ladders[name] = _whole_pulses(*_with_start(at, kept[name], kept[other][-1], SIGNS[name]), SIGNS[name])
    on_off = float(ends[1] / ends[0]) if ends[0] else float("inf")
    residual = float(np.sqrt(np.mean(np.concatenate([kept[name] - values[name] for name in SIGNS]) ** 2)))
    note = AFTER_EACH if "pulse" not in table and _seems_to_lack_start(values) else ""
    return MeasuredCurve(ladders["ltp"], ladders["ltd"], on_off, residual, note)


def read_steps(path: Path | str) -> Table:
    """Read a device from the columns ``g``, ``up`` and ``down``.

    ``g`` is the conductance, from 0 to 1 and increasing. ``up`` and ``down`` are the sizes of a step up and a step down at g,
    as shares of the range. Between the rows, steps are interpolated linearly. Raises ValueError if this table is not valid.
    """
    table = _table(Path(path), ("g", "up", "down"))
    columns = {name: _column(path, table, name) for name in ("g", "up", "down")}
    g = columns["g"]
    if len({len(values) for values in columns.values()}) > 1:
        lengths = ", ".join(f"{name} {len(values)}" for name, values in columns.items())
        raise ValueError(f"{path}: the numbers of values are {lengths}; expected the same number in each column")
    wrong = {
        "g": (g < 0) | (g > 1) | np.insert(np.diff(g) <= 0, 0, False),
        **{name: (columns[name] < 0) | (columns[name] > 1) for name in ("up", "down")},
    }
    for name, where in wrong.items():
        if where.any():
            row = int(np.flatnonzero(where)[0])
            what = "conductances from 0 to 1 that increase from row to row" if name == "g" else "steps from 0 to 1"
            raise ValueError(f"{path}: row {row + 2}, column {name!r}: {columns[name][row]:g}; expected {what}")
    if columns["up"].max() < 1 / MOST:
        raise ValueError(
            f"{path}: column 'up': the largest step is {columns['up'].max():g}; expected a step of at least {1 / MOST:.2g}, as "
            "a share of the range"
        )
    knots, up, down = (tuple(columns[name].tolist()) for name in ("g", "up", "down"))
    once = Table(MOST, knots, up, knots, down)
    levels, levels_down = (
        max(1, int((once.walk(start, MOST, rising).diff().abs() >= 1 / MOST).sum()))
        for start, rising in ((0.0, True), (1.0, False))
    )
    return Table(levels, knots, up, knots, down, levels_down)


def is_curve(path: Path | str) -> bool:
    """Return False if the first line of a CSV file names the columns of a table of steps (g, up, down); otherwise return True."""
    try:
        with Path(path).open(encoding="utf-8-sig") as file:
            names = file.readline(LONGEST).strip("\n").lower().split(",")
    except (OSError, UnicodeDecodeError):
        return True  # read_curve raises the error
    return not {"g", "up", "down"} <= {name.strip(' "') for name in names}


def _table(path: Path, needed: tuple[str, ...]) -> pd.DataFrame:
    expected = f"columns {', '.join(needed)}"
    _check_head(path, needed)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # issued if a row has more cells than the header
            table = pd.read_csv(
                path, dtype=str, skipinitialspace=True, keep_default_na=False, na_values=[""], index_col=False,
                skip_blank_lines=False, nrows=MOST + 1, encoding="utf-8-sig",
            )  # fmt: skip
    except pd.errors.ParserWarning:
        raise ValueError(
            f"curve {str(path)!r}: a row has more cells than the header; expected {expected}, and numbers {WITH_POINTS}"
        ) from None
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(f"curve {str(path)!r} cannot be read as CSV ({error}); expected {expected}") from None
    table.columns = [str(name).strip().lower() for name in table.columns]
    # pandas renames a second column ltp to "ltp.1"
    table.columns = [re.sub(r"^(pulse|ltp|ltd|g|up|down)\.\d+$", r"\1", name) for name in table.columns]
    twice = [name for name in ("pulse", *needed) if list(table.columns).count(name) > 1]
    if twice:
        raise ValueError(
            f"{path}: {list(table.columns).count(twice[0])} columns are called {twice[0]!r}; expected one. Delete the others"
        )
    missing = [name for name in needed if name not in table]
    if missing:
        raise ValueError(f"{path}: no column {missing[0]!r} among {', '.join(table.columns)}; expected {expected}")
    if len(table) > MOST:
        raise ValueError(f"{path}: too many rows; expected at most {MOST}. Use fewer rows")
    return table


def _check_head(path: Path, needed: tuple[str, ...]) -> None:
    """Raise ValueError if no file `path` exists, if its header is not separated by commas, or if the header is not in line 1."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            lines = [file.readline(LONGEST).strip().lower() for _ in range(ABOVE)]
    except FileNotFoundError:
        raise ValueError(f"curve {str(path)!r}: no such file; upload a CSV file with the columns {', '.join(needed)}") from None
    except (OSError, UnicodeDecodeError):
        return  # reading the table raises the error
    for number, line in enumerate(lines, 1):
        mark = next((mark for mark in ",;\t|" if mark in line), ",")
        if not {*needed} <= {name.strip(' "') for name in line.split(mark)}:
            continue
        if mark != ",":
            raise ValueError(
                f"{path}: cells are separated by {mark!r}; expected cells separated by commas, and numbers {WITH_POINTS}"
            )
        if number > 1:
            raise ValueError(
                f"{path}: the header {', '.join(needed)} is in line {number}; expected it in line 1. Delete the lines above it"
            )
        return


def _column(path: Path | str, table: pd.DataFrame, name: str) -> np.ndarray:
    """Return the numbers in a column, without the empty cells at its end."""
    cells = table[name].str.strip()
    last = cells.last_valid_index()
    cells = cells[: 0 if last is None else last + 1]
    values = pd.to_numeric(cells, errors="coerce").to_numpy(float)
    wrong = np.flatnonzero(~np.isfinite(values))
    if len(wrong):
        row = int(wrong[0])
        if pd.isna(cells.iloc[row]):
            where = "" if row else f"; {name} begins in row {cells.first_valid_index() + 2}"
            raise ValueError(
                f"{path}: row {row + 2}, column {name!r}: the cell is empty{where}. Expected each column to start in "
                "row 2, below the header, and to have no gaps; only cells at its end may be empty"
            )
        raise ValueError(
            f"{path}: row {row + 2}, column {name!r}: {cells.iloc[row]!r} is not a finite number (row 1 is the header); "
            "correct the cell or delete the row"
        )
    if len(values) < 2:
        raise ValueError(f"{path}: column {name!r}: found {len(values)}, but expected at least 2 values")
    return values


def _pulse_numbers(path: Path | str, name: str, at: np.ndarray, count: int) -> np.ndarray:
    if len(at) < count:
        raise ValueError(
            f"{path}: row {len(at) + 2}, column 'pulse': the cell is empty; expected the pulse number of each {name} value"
        )
    at = at[:count]
    wrong = np.insert(np.diff(at) <= 0, 0, False) | (at != np.rint(at)) | (at > MOST)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"{path}: row {row + 2}, column 'pulse' ({name}): expected whole numbers that increase row by row, at most {MOST}"
        )
    if not 0 <= at[0] <= at[1] - at[0]:
        raise ValueError(
            f"{path}: row 2, column 'pulse' ({name}): {at[0]:g}; expected 0 if this row is the conductance before the "
            f"first pulse, and at most {at[1] - at[0]:g} if it is a later conductance. Count the pulses of each curve from 0 or 1"
        )
    return at


def _with_start(at: np.ndarray, values: np.ndarray, before: float, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """If `at` lacks pulse 0, insert its conductance: `before`, or `values[0]` if `before` would make the curve turn back."""
    if at[0] == 0:
        return at, values
    return np.insert(at, 0, 0.0), np.insert(values, 0, sign * min(sign * before, sign * values[0]))


def _seems_to_lack_start(values: dict[str, np.ndarray]) -> bool:
    """Return True if each curve begins about one step away from the end of the other curve."""
    ltp, ltd = values["ltp"], values["ltd"]
    starts = ((ltp[0] - ltd[-1], ltp[1] - ltp[0]), (ltp[-1] - ltd[0], ltd[0] - ltd[1]))
    return all(0 < 0.5 * step < gap < 2 * step for gap, step in starts)


def _monotone(path: Path | str, name: str, values: np.ndarray, sign: int, smooth: bool) -> np.ndarray:
    _refuse_what_is_no_curve(path, name, values, sign)
    if smooth:
        kept = isotonic_regression(values, increasing=sign > 0).x
        moved, span = float(np.sqrt(np.mean((kept - values) ** 2))), float(np.ptp(values))
        if moved > MOST_SMOOTHING * span:
            raise ValueError(
                f"{path}: column {name!r}: smoothing would change the values by {moved / span:.0%} of their range "
                "(rms), which is too much for noise; expected a nearly monotone curve. If the column has several "
                "cycles, keep only one"
            )
        return kept
    back = np.flatnonzero(sign * np.diff(values) < 0)
    if len(back):
        row, word = int(back[0]) + 1, "rises" if sign > 0 else "falls"
        raise ValueError(
            f"{path}: row {row + 2}, column {name!r}: the curve turns back ({len(back)} of {len(values) - 1} steps); "
            f"expected a curve that {word}. Set smooth to replace it by the nearest monotone curve"
        )
    return values


def _refuse_what_is_no_curve(path: Path | str, name: str, values: np.ndarray, sign: int) -> None:
    """Raise ValueError if a curve has the wrong direction, or turns back so far in one step that a new cycle must begin there."""
    back = -sign * np.diff(values)
    row, span = int(back.argmax()) + 1, float(np.ptp(values))
    if len(values) > 2 and span > 0 and back.max() > JUMP * span:
        raise ValueError(
            f"{path}: row {row + 2}, column {name!r}: the curve turns back by {back.max() / span:.0%} of its range "
            "in one step; expected a single cycle. If the column has several cycles, keep one, or save each in a "
            "separate file"
        )
    part = max(1, len(values) // 4)
    if sign * (values[-part:].mean() - values[:part].mean()) < 0:
        word, order = ("rises", "low to high") if sign > 0 else ("falls", "high to low")
        raise ValueError(
            f"{path}: column {name!r} has the wrong direction; expected a curve that {word} from {order} in the "
            "order of pulses. Reverse the column, or exchange ltp and ltd if they are swapped"
        )


def _whole_pulses(at: np.ndarray, values: np.ndarray, sign: int) -> np.ndarray:
    """Return a strictly monotone curve with a conductance for every pulse number.

    `at` holds the pulse numbers of `values`. Equal neighbouring conductances are merged into one point, in the middle of their
    pulse numbers (those at an end of the curve: at this end). The conductances between the points are interpolated.
    """
    edges = np.flatnonzero(np.diff(values) != 0)
    first, last = np.insert(edges + 1, 0, 0), np.append(edges, len(values) - 1)
    middle = (at[first] + at[last]) / 2
    middle[0], middle[-1] = at[0], at[-1]
    filled = PchipInterpolator(middle, values[first])(np.arange(at[-1] + 1))
    filled[[0, -1]] = values[[0, -1]]
    # Rounding may make two neighbours equal or swap them. Keep only strictly monotone points.
    return filled[np.append(True, sign * np.diff(filled) > 0)].clip(0, 1)


def fit_exponential(curve: MeasuredCurve) -> tuple[Exponential, float]:
    """Fit an exponential device to a measured curve.

    Returns the better fit of two devices, one with mirrored and one with retraced LTD (see `Exponential`), and the root mean
    square difference between its response and the measured curve, as a share of the range. Each pulse of a curve is one level.
    """
    levels, down = len(curve.rise) - 1, len(curve.fall) - 1

    def made(nu: np.ndarray, retraced: bool) -> Exponential:
        return Exponential(levels, float(nu[0]), float(nu[1]), retraced, down)

    def gaps(nu: np.ndarray, retraced: bool) -> np.ndarray:
        rise, fall = (part.numpy() for part in made(nu, retraced).staircase())
        return np.concatenate([rise - curve.rise, fall - curve.fall])

    fits = [
        (least_squares(gaps, start, bounds=(0, 200), args=(retraced,), x_scale=1.0), retraced)
        for retraced in (False, True)
        for start in ((0.5, 0.5), (4.0, 4.0))
    ]
    best, retraced = min(fits, key=lambda fit: fit[0].cost)
    return made(best.x, retraced), float(np.sqrt(np.mean(best.fun**2)))
