"""PEFT's ``adapter_config.json``: its fields, checked, and the layers and numbers that its patterns mean."""

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
LARGEST = 4_000_000  # bytes of an adapter's JSON
PATIENCE = 1.0  # seconds for a pattern: a regular expression may take for ever

Count = Annotated[int, Field(strict=True, ge=1)]
Number = Annotated[float, Field(allow_inf_nan=False, strict=True)]
Names = str | list[str] | None


def _or_empty(value: Any) -> Any:
    return {} if value is None else value


class PeftConfig(BaseModel):
    """The fields that are read here, with PEFT's defaults; what else the file has is in `model_extra`."""

    model_config = ConfigDict(extra="allow", frozen=True)

    peft_type: str
    base_model_name_or_path: str | None = None
    target_modules: Names = None
    exclude_modules: Names = None
    layers_to_transform: int | list[int] | None = None
    layers_pattern: Names = None
    r: Count | None = None
    rank_pattern: Annotated[dict[str, Count], BeforeValidator(_or_empty)] = {}
    # LoRA's
    lora_alpha: Number = 8
    alpha_pattern: Annotated[dict[str, Number], BeforeValidator(_or_empty)] = {}
    lora_dropout: Number = 0.0
    init_lora_weights: bool | str | None = True
    use_rslora: bool = False
    use_dora: bool = False
    # MiSS's and HiRA's
    init_weights: bool | str | None = True
    mini_r: Annotated[int, Field(strict=True, ge=0)] | None = None
    miss_dropout: Number = 0.0
    hira_dropout: Number = 0.0

    def rank(self, layer: str) -> int | None:
        """The rank that a layer has, by the first pattern that fits it; None where the file does not say."""
        return first_fit(self.rank_pattern, layer, self.r)

    def alpha(self, layer: str) -> float:
        """LoRA's alpha of a layer."""
        return first_fit(self.alpha_pattern, layer, self.lora_alpha)

    def targets(self, layers: Iterable[str]) -> list[str]:
        """Those of these layers that PEFT would put the adapter on."""
        if self.target_modules is None or self.target_modules == "all-linear":
            return []  # which of them, is not in the file
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
            if (match := fits(regex.match, rf"(?:^|.*?\.){pattern}\.(?P<idx>\d+)\.", layer))
        ]
        return bool(found) and int(found[0]["idx"]) in ([wanted] if isinstance(wanted, int) else wanted)


def read_config(folder: Path) -> PeftConfig:
    """The config of the adapter in a folder; raises DataError where it holds none, or one that makes no sense."""
    path = folder / CONFIG
    try:
        about = json.loads(read_at_most(path, LARGEST))
        if not isinstance(about, dict) or "peft_type" not in about:
            raise ValueError(f"it has no peft_type: {str(about)[:80]}")
    except FileNotFoundError:
        raise DataError(
            f"{folder} holds no adapter: there is no {CONFIG}; expected a folder that save_adapter or PEFT wrote"
        ) from None
    except (ValueError, OSError, RecursionError) as error:
        raise DataError(f"{path} is no adapter's config ({error}); expected PEFT's JSON") from error
    try:
        return PeftConfig(**about)
    except ValidationError as error:
        wrong = error.errors()[0]
        name = ".".join(str(part) for part in wrong["loc"][:2])
        raise DataError(
            f"{path}: {name}={str(wrong['input'])[:80]}: {wrong['msg'].lower()}; expected PEFT's config"
        ) from None


def first_fit(patterns: Mapping[str, Any], layer: str, otherwise: Any) -> Any:
    """The value of the first pattern that a layer's name ends with, as PEFT reads them: regular expressions."""
    return next(
        (value for key, value in patterns.items() if fits(regex.match, rf"(.*\.)?({key})$", layer)), otherwise
    )


def pattern_of(layer: str) -> str:
    """The pattern that fits this layer alone."""
    return f"^{re.escape(layer)}"


def names_of(layers: Iterable[str], every: Iterable[str]) -> list[str] | str:
    """PEFT's ``target_modules`` for these of all modules: their names, or a pattern where another name ends like one of them."""
    wanted = sorted(layers)
    others = {
        name for name in every if name not in wanted and any(ends_with(name, layer) for layer in wanted)
    }
    return "|".join(map(re.escape, wanted)) if others else wanted


def _named(names: str | list[str], layer: str) -> bool:
    if isinstance(names, str):
        return bool(fits(regex.fullmatch, names, layer))
    return any(ends_with(layer, name) for name in names)


def fits(how: Callable[..., Any], pattern: str, layer: str) -> Any:
    """Match a pattern of a file; raises DataError for one that is none, or that takes too long."""
    try:
        return how(pattern, layer, timeout=PATIENCE)
    except regex.error as error:
        raise DataError(f"{CONFIG}: the pattern {pattern!r} is no regular expression ({error})") from None
    except TimeoutError:
        raise DataError(
            f"{CONFIG}: the pattern {pattern[:80]!r} took over {PATIENCE:g} s on {layer!r}; expected one that names layers"
        ) from None
