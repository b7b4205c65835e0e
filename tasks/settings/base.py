"""The one base of all settings, and the digest that names a set of them."""

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Settings(BaseModel):
    """Frozen settings that refuse unknown keys; the description of each field appears in the Prefect UI.

    >>> class Example(Settings):
    ...     step: int = 64
    >>> Example(step=32).step
    32
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_keys(cls, given: Any) -> Any:
        unknown = [key for key in given if key not in cls.model_fields] if isinstance(given, dict) else []
        if unknown:
            raise ValueError(f"unknown: {', '.join(map(repr, unknown))}; known are {', '.join(cls.model_fields)}")
        return given


def digest(facts: Any) -> str:
    """Hexadecimal SHA-256 of anything that JSON can hold; keys are sorted, so their order does not matter.

    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
