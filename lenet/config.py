"""The base of the config classes: each is a section of params.yaml, next to the function that it configures."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A section of params.yaml. Unknown, missing and mistyped keys and values out of range are refused.

    1 is accepted as a `float`, but neither 1.0 nor true as an `int`, nor a string as a number. Fields have no defaults:
    all values are in params.yaml.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
