"""The options that say what `fusecli eval` writes, and what they mean."""

from __future__ import annotations

import difflib
import importlib.util
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from fusecli import packages
from fusecli.errors import MissingError, UsageError
from fusecli.options import flag, offering

if TYPE_CHECKING:
    from fusecli.evaluation.plots import Region
    from fusecli.evaluation.tables import Kind

TABLES: tuple[Kind, ...] = ("text", "csv", "md", "latex", "html")
PLOTS = ("box", "curves", "bars", "radar", "contact", "zoom")


@dataclass(frozen=True, kw_only=True)
class Presentation:
    """What is written where."""

    out: Annotated[
        str | None,
        flag("Report", "--out", "-o", metavar="DIR", help="Report folder; else tables to stdout."),
    ] = None
    overwrite: Annotated[bool, flag("Report", "--overwrite", help="Replace a report.")] = False
    table: Annotated[
        list[str] | None,
        flag(
            "Report",
            "--table",
            metavar="KIND",
            autocompletion=offering(*TABLES),
            show_default="text",
            help=f"{', '.join(TABLES)}; repeatable.",
        ),
    ] = None
    plots: Annotated[
        str,
        flag(
            "Report",
            "--plots",
            metavar="LIST",
            autocompletion=offering("none", *PLOTS),
            help=f"none, or of {', '.join(PLOTS)}; needs the extra report.",
        ),
    ] = "none"
    roi: Annotated[
        str | None,
        flag("Report", "--roi", metavar="X,Y,W,H", help="Region that pictures magnify."),
    ] = None
    fail_under: Annotated[
        list[str] | None,
        flag(
            "Report",
            "--fail-under",
            metavar="METRIC=VALUE",
            help="Exit 6 when the mean of any method is worse; repeatable.",
        ),
    ] = None
    dry_run: Annotated[
        bool, flag("Report", "--dry-run", "-n", help="List what would be scored; write nothing.")
    ] = False

    def kinds(self) -> tuple[Kind, ...]:
        """Return the kinds of tables that were asked for.

        Raises:
            UsageError: Not a kind.
        """
        chosen: list[Kind] = []
        for text in self.table or ("text",):
            kind = next((kind for kind in TABLES if kind == text), None)
            if kind is None:
                near = difflib.get_close_matches(text, TABLES, n=1) or TABLES
                raise UsageError(
                    f"--table {text} is not one of {', '.join(TABLES)}",
                    code="usage.table",
                    hint=f"--table {near[0]}",
                )
            if kind not in chosen:
                chosen.append(kind)
        return tuple(chosen)

    def figures(self) -> tuple[str, ...]:
        """Return the kinds of plots that were asked for.

        Raises:
            UsageError: Not a plot, nowhere to write it, or a region is missing.
            MissingError: matplotlib is not installed.
        """
        words = [word.strip() for word in self.plots.split(",")]
        chosen = tuple(dict.fromkeys(word for word in words if word not in ("", "none")))
        for word in chosen:
            if word not in PLOTS:
                near = difflib.get_close_matches(word, PLOTS, n=1)
                raise UsageError(
                    f"there is no plot '{word}'",
                    code="usage.plots",
                    facts=[f"available: {', '.join(PLOTS)}"],
                    hint=f"did you mean '{near[0]}'?" if near else None,
                )
        if not chosen:
            return ()
        if self.out is None:
            raise UsageError(
                "--plots needs a report folder", code="usage.plots", hint="add -o report"
            )
        if "zoom" in chosen and self.roi is None:
            raise UsageError(
                "--plots zoom needs a region to magnify",
                code="usage.roi",
                hint="add --roi X,Y,W,H in pixels, such as --roi 200,150,96,72",
            )
        if importlib.util.find_spec("matplotlib") is None:
            raise MissingError(
                "plots need the package matplotlib, which is not installed",
                code="extra.missing",
                hint=packages.install_extra("report"),
                details={"package": "matplotlib", "extra": "report"},
            )
        return chosen

    def region(self) -> Region | None:
        """Return `--roi` as left, top, width and height.

        Raises:
            UsageError: Not four whole numbers that make a rectangle.
        """
        if self.roi is None:
            return None
        match = re.fullmatch(r"(\d+),(\d+),([1-9]\d*),([1-9]\d*)", self.roi.replace(" ", ""))
        if match is None:
            raise UsageError(
                f"--roi {self.roi} is not a region",
                code="usage.roi",
                hint="left, top, width and height in pixels: --roi 200,150,96,72",
            )
        left, top, width, height = map(int, match.groups())
        return left, top, width, height
