"""Adapters of PEFT, which a comparison can include besides our methods. They need the package `peft`."""

from __future__ import annotations

import json
import warnings
from typing import Any

from torch import Tensor

from workbench.adapters.attach import targeted
from workbench.adapters.lab.tuning import Tuner
from workbench.knobs import KnobError
from workbench.training import drawn


def read(text: str) -> dict[str, Any]:
    """Return a PEFT config from JSON. Raises KnobError if the text is not valid JSON with a ``peft_type``."""
    try:
        found = json.loads(text)
        found["peft_type"] = str(found["peft_type"]).upper()
    except (ValueError, KeyError, TypeError):
        example = json.dumps({"peft_type": "VERA", "r": 64})
        raise KnobError(f"peft={text!r}: expected a PEFT config as JSON with a peft_type, such as {example}") from None
    return found


def label(text: str) -> str:
    """Return the label that this PEFT config has in a comparison, such as ``PEFT VERA``."""
    return f"PEFT {read(text)['peft_type']}"


class PeftTuner(Tuner):
    """Fine-tuning with an adapter of PEFT. The knob `peft` of the fit contains the PEFT config."""

    def put_on(self, **more: Any) -> list[dict[str, Any]]:  # noqa: D102
        try:
            import peft
        except ImportError:
            raise KnobError("the knob peft needs the package peft, which is not installed; run: pip install peft") from None
        about = {"target_modules": sorted({n.rpartition(".")[2] for n in targeted(self.model, None)}), **read(self.config.peft)}
        try:
            with drawn(self.config.seed), warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # PEFT uses deprecated parts of transformers
                wrapped = peft.get_peft_model(self.model, peft.get_peft_config(about))
        except (TypeError, ValueError, KeyError) as error:
            raise KnobError(f"peft={self.config.peft}: PEFT rejects this config ({error}); correct it") from error
        self.lm.model = wrapped.get_base_model()
        return [{"params": [p for p in self.model.parameters() if p.requires_grad], "lr": self.config.lr}]

    def updates(self) -> dict[str, Tensor]:
        """Return an empty dict, since the layers of PEFT have no common way to compute their updates."""
        return {}
