"""The Typer application: which commands exist, and how errors become exit codes."""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer

from fusecli import packages
from fusecli.commands import doctor, eval, export, fuse, models, register, train, warp
from fusecli.commands.help import Command, Group
from fusecli.commands.usage import usage_error
from fusecli.errors import FusecliError
from fusecli.version import __version__

app = typer.Typer(
    name="fusecli",
    cls=Group,
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
# in the order of --help: fuse, register, warp, train, eval, export; then what helps with them
app.command(name="fuse", cls=Command)(fuse.fuse)
app.command(name="register", cls=Command)(register.register)
app.command(name="warp", cls=Command)(warp.warp)
app.command(name="train", cls=Command)(train.train)
app.command(name="eval", cls=Command)(eval.evaluate)
app.command(name="export", cls=Command)(export.export)
app.command(name="doctor", cls=Command)(doctor.doctor)
app.add_typer(models.app, name="models")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"fusecli {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Fuse infrared and visible images, also when the two cameras do not quite agree."""


def run(arguments: list[str]) -> int:
    """Run one command line and return its exit code. Every error is shown, none escapes."""
    as_json = "--json" in arguments
    if arguments[:1] == ["help"]:  # as git and others have it
        arguments = [*arguments[1:], "--help"]
    try:
        result: Any = app(arguments, prog_name="fusecli", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except typer.Exit as stop:
        return stop.exit_code
    except (typer.Abort, KeyboardInterrupt):
        return 130
    except (BrokenPipeError, SystemExit) as stop:
        # The reader of our output has left; Typer would end the process with 1 for that.
        if isinstance(stop, SystemExit) and not isinstance(stop.__context__, BrokenPipeError):
            raise
        # keep Python's own flush at exit from complaining
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except typer.TyperException as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            return 2  # Typer has printed the help
        return _show(usage_error(error), as_json)
    except FusecliError as error:
        return _show(error, as_json)
    except Exception as error:  # whatever else arrives here is a bug of ours, and says so
        if isinstance(error, ImportError) and (missing := packages.explain(error)):
            return _show(missing, as_json)
        from fusecli.report import show_bug

        verbose = "-vv" in arguments or arguments.count("-v") + arguments.count("--verbose") > 1
        show_bug(error, json=as_json, verbose=verbose)
        return 1


def _show(error: FusecliError, as_json: bool) -> int:
    from fusecli.report import show_error

    show_error(error, json=as_json)
    return error.exit_code


def main() -> NoReturn:
    """Run the command line of this process."""
    # Reading and writing threads share the cores with the network's. OpenMP threads that spin
    # while they wait for each other then take the very core they wait for: on a busy 2-core
    # machine ten times the time. Set before torch is loaded, or it has no effect.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    sys.exit(run(sys.argv[1:]))
