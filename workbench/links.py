"""Links, which describe the state of a panel in one line of text.

An example is ``quantization/layer-trace@1?bits=4&~pin=method%3Drtn``. A link lists only the knobs that differ from their
defaults. A pinned run is given by the knobs in which it differs from the run that the panel shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode

from workbench.experiment import Experiment, get
from workbench.knobs import Config, KnobError, text_of

PIN, MOMENT = "~pin", "~at"


def differences(config: Config, other: Config) -> str:
    """Return the knobs in which `config` differs from `other`, as one short text.

    A string value is written without the name of its knob.
    """
    changed = {n: v for n, v in config.model_dump().items() if v != getattr(other, n, None)}
    return ", ".join(text_of(v) if isinstance(v, str) else f"{n} {text_of(v)}" for n, v in changed.items())


@dataclass(frozen=True)
class State:
    """The state of a panel: the experiment and its config, the pinned runs, and the position of the playback.

    `pins` are the configs of the pinned runs. `moment` is the position of the slider that plays back the run; None means the
    end of the run. `note` is a warning for the user, or "".
    """

    experiment: Experiment
    config: Config
    pins: Sequence[Config] = ()
    moment: int | None = None
    note: str = ""


def link(state: State) -> str:
    """Return the link that describes `state`, as one line."""
    pairs = _pairs(state.config, state.experiment.config())
    pairs += [(PIN, urlencode(_pairs(pin, state.config))) for pin in state.pins]
    if state.moment is not None:
        pairs.append((MOMENT, str(state.moment)))
    head = f"{state.experiment.name}@{state.experiment.version}"
    return f"{head}?{urlencode(pairs, safe='~,/')}" if pairs else head


def _pairs(config: Config, other: Config) -> list[tuple[str, str]]:
    return [(n, text_of(v)) for n, v in config.model_dump().items() if v != getattr(other, n)]


def parse(line: str) -> State:
    """Return the state that a link describes. Raises KnobError if a name is unknown or a value is not allowed."""
    head, _, rest = line.strip().partition("?")
    name, _, version = head.partition("@")
    if not name:
        raise KnobError(f"link {line!r}: expected EXPERIMENT@VERSION?knob=value&..., as the Link button of a panel shows")
    experiment = get(name)
    pairs = parse_qsl(rest, keep_blank_values=True)
    config = _config(experiment.config(), [p for p in pairs if p[0] not in (PIN, MOMENT)])
    pins = [_config(config, parse_qsl(text, keep_blank_values=True)) for key, text in pairs if key == PIN]
    moment = next((text for key, text in pairs if key == MOMENT), None)
    if moment is not None and not moment.isdecimal():
        raise KnobError(f"link {line!r}: {MOMENT}={moment!r}; expected a whole number")
    other = version not in ("", str(experiment.version))
    note = (
        f"the link was made with version {version} of {name}; the current version is {experiment.version}, so records may differ"
        if other
        else ""
    )
    return State(experiment, config, pins, None if moment is None else int(moment), note)


def _config(base: Config, pairs: Sequence[tuple[str, str]]) -> Config:
    return base.replace(**{name: type(base).read(name, text) for name, text in pairs})
