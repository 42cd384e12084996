"""Fuse infrared and visible images, also when the two cameras do not quite agree.

    import fusecli

    moved = fusecli.register("ir/0001.png", "vis/0001.png").image
    fused = fusecli.fuse(moved, "vis/0001.png")  # files or arrays; an array comes back
    scores = fusecli.evaluate(moved, "vis/0001.png", fused)

What each function takes is described in `fusecli.api`.
"""

from typing import TYPE_CHECKING, Any

from fusecli.version import __version__

__all__ = ["__version__", "evaluate", "fuse", "register"]

if TYPE_CHECKING:
    from fusecli.api import evaluate, fuse, register


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    # on first use: the command line imports this package and must answer --help without torch
    if name in __all__:
        from fusecli import api

        return getattr(api, name)
    raise AttributeError(f"module 'fusecli' has no attribute '{name}'")
