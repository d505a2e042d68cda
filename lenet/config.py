"""What the config classes have in common: each is a section of params.yaml, beside the function that it configures."""

from pydantic import BaseModel, ConfigDict


class Config(BaseModel):
    """A section of params.yaml, checked: no key is unknown, missing or of another type, and each is in its range.

    Strict: 1 is a `float`, but neither 1.0 nor true is an `int`, and no string is a number. No field has a default:
    values stand in params.yaml alone.
    """

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)
