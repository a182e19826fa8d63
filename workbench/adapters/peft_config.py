"""Functions that read and validate PEFT's ``adapter_config.json``, and that apply its patterns to the names of layers."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import regex
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from workbench.adapters.names import ends_with
from workbench.atomic import read_at_most
from workbench.datasets import DataError

CONFIG = "adapter_config.json"
LARGEST = 4_000_000  # largest size in bytes of a JSON file that is read
PATIENCE = 1.0  # seconds allowed for one match, since a regular expression can take exponential time

Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Names = str | list[str] | None


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


class PeftConfig(BaseModel):
    """The fields of ``adapter_config.json`` that are used here, with PEFT's defaults. Other fields are in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    base_model_name_or_path: str | None = None
    target_modules: Names = None
    exclude_modules: Names = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: Names = None
    r: Count | None = None
    rank_pattern: Annotated[dict[str, Count], BeforeValidator(_or_empty)] = {}
    # fields of LoRA
    lora_alpha: Number = 8
    alpha_pattern: Annotated[dict[str, Number], BeforeValidator(_or_empty)] = {}
    lora_dropout: Number = 0.0
    init_lora_weights: bool | str | None = True
    use_rslora: bool = False
    use_dora: bool = False
    # fields of MiSS and HiRA
    init_weights: bool | str | None = True
    mini_r: Annotated[int, Field(strict=True, ge=0)] | None = None
    miss_dropout: Number = 0.0
    hira_dropout: Number = 0.0

    def rank(self, layer: str) -> int | None:
        """Return the rank of a layer from the first rank pattern that matches its name.

        If no pattern matches, the rank is `r`, which is None if the file has no `r`.
        """
        return first_fit(self.rank_pattern, layer, self.r)

    def alpha(self, layer: str) -> float:
        """Return LoRA's alpha for a layer from the first alpha pattern that matches its name, or `lora_alpha` if none matches."""
        return first_fit(self.alpha_pattern, layer, self.lora_alpha)

    def targets(self, layers: Iterable[str]) -> list[str]:
        """Return those of `layers` to which PEFT would add the adapter.

        The list is empty if `target_modules` is missing or "all-linear".
        """
        if self.target_modules is None or self.target_modules == "all-linear":
            return []  # the file does not list the layers
        return [layer for layer in layers if self._is_target(layer)]

    def _is_target(self, layer: str) -> bool:
        if self.exclude_modules and _named(self.exclude_modules, layer):
            return False
        if not _named(self.target_modules, layer):
            return False
        wanted = self.layers_to_transform
        if isinstance(self.target_modules, str) or wanted is None or wanted == []:
            return True
        patterns = [self.layers_pattern] if isinstance(self.layers_pattern, str) else self.layers_pattern
        found = [
            match
            for pattern in patterns or [r"[^.]*"]
            if (match := matched(regex.match, rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", layer))
        ]
        return bool(found) and int(found[0]["idx"]) in ([wanted] if isinstance(wanted, int) else wanted)


def read_config(folder: Path) -> PeftConfig:
    """Read the config of the adapter in a folder. Raises DataError if the config is missing or not valid."""
    path = folder / CONFIG
    try:
        about = json.loads(read_at_most(path, LARGEST))
        if not isinstance(about, dict) or "peft_type" not in about:
            raise ValueError(f"the field peft_type is missing: {str(about)[:80]}")
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no adapter: {CONFIG} is missing; expected a folder written by save_adapter or PEFT"
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path} is not a valid adapter config ({error}); expected JSON written by PEFT") from error
    try:
        return PeftConfig(**about)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(str(part) for part in wrong["loc"][:2])
        raise DataError(
            f"{path}: {name}={str(wrong['input'])[:80]}: {wrong['msg'].lower()}; expected a config written by PEFT"
        ) from None


def first_fit(patterns: Mapping[str, Any], layer: str, otherwise: Any) -> Any:
    """Return the value of the first pattern that matches the end of `layer`, or `otherwise` if no pattern matches.

    The keys of `patterns` are regular expressions.
    """
    return next((value for key, value in patterns.items() if matched(regex.match, rf"(.*\.)?({key})$", layer)), otherwise)


def pattern_of(layer: str) -> str:
    """Return a regular expression that matches only this layer."""
    return f"^{re.escape(layer)}"


def names_of(layers: Iterable[str], every: Iterable[str]) -> list[str] | str:
    """Return PEFT's ``target_modules`` for `layers`: their names, or a regular expression if the names are ambiguous.

    Names are ambiguous if another name in `every` ends with one of them.
    """
    wanted = sorted(layers)
    others = {name for name in every if name not in wanted and any(ends_with(name, layer) for layer in wanted)}
    return "|".join(map(re.escape, wanted)) if others else wanted


def _named(names: str | list[str], layer: str) -> bool:
    if isinstance(names, str):
        return bool(matched(regex.fullmatch, names, layer))
    return any(ends_with(layer, name) for name in names)


def matched(how: Callable[..., Any], pattern: str, layer: str) -> Any:
    """Match a layer's name with a pattern. Raises DataError if the pattern is not valid or if the match takes too long."""
    try:
        return how(pattern, layer, timeout=PATIENCE)
    except regex.error as error:
        raise DataError(
            f"{CONFIG}: the pattern {pattern!r} is not a valid regular expression ({error}); correct it in the file"
        ) from None
    except TimeoutError:
        raise DataError(
            f"{CONFIG}: matching the pattern {pattern[:80]!r} with {layer!r} took over {PATIENCE:g} s; expected a "
            "simpler pattern of layer names"
        ) from None
