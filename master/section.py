"""What every section of config.json is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A part of the file: a key that is not known is a mistake, not a wish."""

    model_config = ConfigDict(extra="forbid", frozen=True)
