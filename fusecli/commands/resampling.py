"""How moved pixels are made: the options that `register` and `warp` share."""

from typing import Annotated, Literal

from fusecli.commands.options import flag

Interpolation = Annotated[
    Literal["nearest", "linear", "cubic"],
    flag("Resampling", "--interpolation", help="Of pixels between pixels."),
]
Border = Annotated[
    Literal["constant", "replicate", "reflect"],
    flag("Resampling", "--border", help="What is beyond the image that moves."),
]
Fill = Annotated[float, flag("Resampling", "--fill", help="Stored value there, for constant.")]
