"""The options that commands share, as groups: each dataclass here is one panel of `--help`.

A command names a group as a parameter; `grouped` turns its fields into flags and hands the command
the filled group. So a flag is spelled once, and a new shared flag reaches every command.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_type_hints

import typer

from fusecli.config import read as read_config
from fusecli.config import show as show_origins
from fusecli.errors import UsageError

if TYPE_CHECKING:
    from fusecli.report import Reporter

Infrared = Annotated[
    str | None,
    typer.Argument(metavar="IR", help="Infrared file, folder or quoted glob.", show_default=False),
]
Visible = Annotated[
    str | None,
    typer.Argument(metavar="VIS", help="Visible file, folder or quoted glob.", show_default=False),
]

Command = TypeVar("Command", bound=Callable[..., Any])


Side = Literal["ir", "vis"]
"""One image of a pair."""
Keep = Literal["keep", "drop"]
DType = Literal["auto", "uint8", "uint16", "float32"]
OnReject = Literal["identity", "fail"]
"""What becomes of a pair that cannot be registered: passed on as it is, or a failure."""


def offering(*words: str) -> Callable[[], list[str]]:
    """Return an `autocompletion` for options whose type does not tell what shells may offer."""
    return lambda: list(words)


def flag(panel: str, *names: str, help: str, **more: Any) -> Any:
    """Return an option of one panel of `--help`; `more` is what `typer.Option` takes."""
    return typer.Option(*names, help=help, rich_help_panel=panel, **more)


Quality = Annotated[int, flag("Output", "--quality", min=1, max=100, help="Of JPEG and WebP.")]


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Which files, and which two of them are a pair."""

    recursive: Annotated[bool, flag("Input", "--recursive", "-r", help="Descend into folders.")] = (
        False
    )
    pairs: Annotated[
        str | None,
        flag(
            "Input",
            "--pairs",
            metavar="FILE",
            help="Pair list (.csv, .tsv, .jsonl, - for stdin) "
            "with columns ir, vis and optionally name, in place of IR and VIS.",
        ),
    ] = None
    limit: Annotated[
        int | None, flag("Input", "--limit", min=1, help="Stop after the first N pairs by key.")
    ] = None
    ir_suffix: Annotated[
        str, flag("Input", "--ir-suffix", metavar="S", help="End of infrared names to leave out.")
    ] = ""
    vis_suffix: Annotated[
        str, flag("Input", "--vis-suffix", metavar="S", help="End of visible names to leave out.")
    ] = ""
    pair_regex: Annotated[
        str | None,
        flag(
            "Input",
            "--pair-regex",
            metavar="RE",
            help="Its groups (or group 'key') in the relative path are the key.",
        ),
    ] = None
    pair_by: Annotated[
        Literal["key", "order", "time"],
        flag("Input", "--pair-by", help="Match by key, by sorted place, or by times in names."),
    ] = "key"
    time_format: Annotated[
        str | None,
        flag(
            "Input",
            "--time-format",
            metavar="FORMAT",
            show_default="found",
            help="Of the times in names, such as %Y%m%d_%H%M%S_%f.",
        ),
    ] = None
    max_gap: Annotated[
        float | None,
        flag(
            "Input",
            "--max-gap",
            metavar="SECONDS",
            min=0,
            show_default="half a period",
            help="Between two frames of a pair by time.",
        ),
    ] = None
    offset: Annotated[
        float,
        flag("Input", "--offset", metavar="SECONDS", help="Added to infrared times."),
    ] = 0.0
    unpaired: Annotated[
        Literal["error", "skip"],
        flag("Input", "--unpaired", help="What to do about files without a partner."),
    ] = "error"


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where results go and what they are called."""

    out: Annotated[
        str,
        flag(
            "Output",
            "--out",
            "-o",
            metavar="PATH",
            show_default=False,
            help="Folder; or a file for one item, or - for stdout.",
        ),
    ]
    overwrite: Annotated[bool, flag("Output", "--overwrite", help="Replace what exists.")] = False
    resume: Annotated[
        bool, flag("Output", "--resume", help="Redo only what is missing or has changed.")
    ] = False
    checksum: Annotated[
        bool, flag("Output", "--checksum", help="Compare inputs by content, not by time.")
    ] = False
    manifest: Annotated[
        str,
        flag(
            "Output",
            "--manifest",
            metavar="PATH",
            help="Record of the run: a file, none, or auto: OUT/.fusecli/manifest.jsonl.",
        ),
    ] = "auto"
    name: Annotated[
        str,
        flag(
            "Output",
            "--name",
            metavar="TEMPLATE",
            help="Stem of each result; fields: key, stem, parent, model, index.",
        ),
    ] = "{key}"
    format: Annotated[
        Literal["auto", "png", "tiff", "jpeg", "webp", "npy"],
        flag("Output", "--format", help="auto keeps TIFF for TIFF and float results, else PNG."),
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Where networks run, and in which precision."""

    jobs: Annotated[
        str,
        flag(
            "Running",
            "--jobs",
            "-j",
            metavar="N",
            envvar="FUSECLI_JOBS",
            help="Reading and writing threads.",
        ),
    ] = "auto"
    device: Annotated[
        str,
        flag(
            "Running",
            "--device",
            metavar="D",
            autocompletion=offering("auto", "cpu", "cuda", "mps"),
            envvar="FUSECLI_DEVICE",
            help="auto, cpu, cuda, cuda:N (several with commas), mps.",
        ),
    ] = "auto"
    precision: Annotated[
        Literal["fp32", "bf16", "fp16", "auto"],
        flag("Running", "--precision", help="Of networks."),
    ] = "fp32"
    seed: Annotated[int, flag("Running", "--seed", help="For anything random.")] = 0


@dataclass(frozen=True, kw_only=True)
class Running(Computing):
    """How the work is done; none of this changes the result beyond rounding."""

    shard: Annotated[
        str,
        flag(
            "Running",
            "--shard",
            metavar="I/N",
            help="The I-th of N disjoint parts; slurm takes both from the job array.",
        ),
    ] = "1/1"
    backend: Annotated[
        str,
        flag(
            "Running",
            "--backend",
            metavar="NAME",
            envvar="FUSECLI_BACKEND",
            help="Of joblib: threading, loky (processes), dask, ray or another one.",
        ),
    ] = "threading"
    chunk: Annotated[
        int, flag("Running", "--chunk", min=1, help="Pairs sent to another process at a time.")
    ] = 64
    fail_fast: Annotated[
        bool, flag("Running", "--fail-fast", help="Stop at the first failure.")
    ] = False
    dry_run: Annotated[
        bool, flag("Running", "--dry-run", "-n", help="List what would be done; write nothing.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What the command says."""

    json: Annotated[bool, flag("Messages", "--json", help="One JSON document on stdout.")] = False
    print_paths: Annotated[
        bool, flag("Messages", "--print", help="Each written path on stdout.")
    ] = False
    print0: Annotated[bool, flag("Messages", "--print0", help="The same, NUL-separated.")] = False
    progress: Annotated[
        Literal["auto", "bar", "plain", "jsonl", "none"],
        flag("Messages", "--progress", envvar="FUSECLI_PROGRESS", help="On standard error."),
    ] = "auto"
    quiet: Annotated[bool, flag("Messages", "--quiet", "-q", help="Errors only.")] = False
    verbose: Annotated[
        int,
        flag(
            "Messages",
            "--verbose",
            "-v",
            count=True,
            show_default=False,
            help="More detail; -vv adds tracebacks.",
        ),
    ] = 0

    def reporter(self, out: str = "") -> Reporter:
        """Return the voice of the command.

        Raises:
            UsageError: Two of `--json`, `--print`, `--print0` and `-o -` ask for stdout.
        """
        from fusecli.report import Reporter

        wanted = {"--json": self.json, "--print": self.print_paths, "--print0": self.print0}
        wanted["-o -"] = out == "-"
        asked = [name for name, given in wanted.items() if given]
        if len(asked) > 1:
            raise UsageError(
                f"{' and '.join(asked)} exclude each other: each writes to standard output",
                code="usage.stdout",
                hint=f"keep {' or '.join(asked)}",
            )
        separator = "\0" if self.print0 else "\n" if self.print_paths else None
        return Reporter(
            json=self.json,
            paths=separator,
            progress=self.progress,
            quiet=self.quiet,
            verbose=self.verbose,
        )


def assignments(texts: Sequence[str], flag: str) -> dict[str, str]:
    """Return the names and values of a repeatable `NAME=VALUE` option.

    Raises:
        UsageError: A text without `=`, or a name given twice.
    """
    values: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or not name or name in values:
            again = name in values
            raise UsageError(
                f"{flag} {text} {'is given twice' if again else 'is not NAME=VALUE'}",
                code="usage.assignment",
                hint="keep one of them" if again else f"write it as {flag} {name or 'NAME'}=VALUE",
            )
        values[name] = value
    return values


ConfigFile = Annotated[
    str | None,
    flag(
        "Running",
        "--config",
        metavar="FILE",
        envvar="FUSECLI_CONFIG",
        is_eager=True,
        callback=read_config,
        show_default="./fusecli.toml",
        help="TOML file with defaults.",
    ),
]


def grouped(command: Command) -> Command:
    """Spread the option groups among a command's parameters into one flag per field.

    Every such command also takes its defaults from configuration files, and says with `-v` and
    `--dry-run` where each value came from.
    """
    parameters: list[inspect.Parameter] = []
    groups: dict[str, type[Any]] = {}
    for parameter in inspect.signature(command, eval_str=True).parameters.values():
        kind = parameter.annotation
        if not dataclasses.is_dataclass(kind):
            parameters.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
            continue
        assert isinstance(kind, type)
        groups[parameter.name] = kind
        hints = get_type_hints(kind, include_extras=True)
        for field in dataclasses.fields(kind):
            missing = field.default is dataclasses.MISSING
            default = inspect.Parameter.empty if missing else field.default
            parameters.append(
                inspect.Parameter(
                    field.name,
                    inspect.Parameter.KEYWORD_ONLY,
                    default=default,
                    annotation=hints[field.name],
                )
            )

    for name, kind in (("context", typer.Context), ("config", ConfigFile)):
        default = inspect.Parameter.empty if name == "context" else None
        parameters.append(
            inspect.Parameter(
                name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
            )
        )

    @functools.wraps(command)
    def flat(*, context: typer.Context, config: str | None, **values: Any) -> Any:
        if values.get("dry_run") and values.get("verbose") and not values.get("quiet"):
            show_origins(context)
        for name, kind in groups.items():
            fields = {field.name: values.pop(field.name) for field in dataclasses.fields(kind)}
            values[name] = kind(**fields)
        return command(**values)

    flat.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    flat.__annotations__ = {p.name: p.annotation for p in parameters}
    return flat  # type: ignore[return-value]
