"""Annotations for constructor arguments: the signatures are the schema that configurations are checked against."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveFraction = Annotated[float, Field(gt=0, le=1)]
Switch = Literal["auto", "on", "off"]
Node = Mapping[str, Any]  # a part of a configuration that is instantiated later

__all__ = [
    "Fraction",
    "Node",
    "NonNegativeFloat",
    "NonNegativeInt",
    "PositiveFloat",
    "PositiveFraction",
    "PositiveInt",
    "Switch",
]
