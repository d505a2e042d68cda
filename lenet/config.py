"""The base of the config classes. Each describes a section of params.yaml, next to the code that uses it."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A section of params.yaml. Unknown or missing keys and values of the wrong type or out of range are rejected.

    1 is accepted for a `float`, but 1.0 and true are rejected for an `int`, and strings are rejected for any number.
    Fields have no defaults: all values are in params.yaml.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
