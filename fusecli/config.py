"""Defaults from TOML files: what would otherwise be typed each time.

    [common]            # every command that has the option
    jobs = 8
    [fuse]              # one command; keys are its long options
    model = "mfeif"
    [folders]           # where FUSECLI_WEIGHTS and FUSECLI_CACHE point unless they are set
    weights = "/data/weights"

The command line wins over the environment, that over `--config` or `./fusecli.toml`, that over the
user's own file, and that over what is built in.
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import typer

from fusecli.errors import UsageError

LOCAL = "fusecli.toml"
COMMON, FOLDERS = "common", "folders"
VARIABLES = {"weights": "FUSECLI_WEIGHTS", "cache": "FUSECLI_CACHE"}
NOT_CONFIGURABLE = {"help", "config"}

_ORIGINS = "fusecli.config.origins"  # in a context's `meta`: parameter to file and table


def user_file() -> Path:
    """Return the place of the user's own configuration."""
    return Path(typer.get_app_dir("fusecli"), "config.toml")


def read(context: typer.Context, value: str | None) -> str | None:
    """Fill a command's defaults from its configuration files; the callback of `--config`.

    Raises:
        UsageError: `config.missing`, `config.syntax`, `config.unknown` or `config.value`.
    """
    if context.resilient_parsing:  # the shell completes a line: no time to read files
        return value
    if value is not None and not Path(value).is_file():
        raise UsageError(
            f"there is no configuration file {value}",
            code="config.missing",
            hint=f"leave --config out to use {LOCAL} of the working directory",
        )
    tables, command = _tables(context), context.info_name or ""
    defaults: dict[str, Any] = {}
    origins: dict[str, str] = {}
    folders: dict[str, str] = {}
    for path in (user_file(), Path(value or LOCAL)):
        if not os.path.isfile(path):  # noqa: PTH113 - False too where a home is out of reach
            continue
        document = _load(path)
        _check_names(document, tables, path)
        for name, folder in document.get(FOLDERS, {}).items():
            folders[VARIABLES[name]] = str(path.parent / _scalar(folder, f"{name} in {path}"))
        for table in (COMMON, command):
            for key, found in document.get(table, {}).items():
                option = tables[command].get(key)
                if option is not None:
                    defaults[option.name] = _checked(option, found, f"{key} in {path} [{table}]")
                    origins[option.name] = f"{path} [{table}]"
    os.environ.update({k: v for k, v in folders.items() if k not in os.environ})
    context.default_map = defaults
    context.meta[_ORIGINS] = origins
    return value


def origin(context: Any, name: str) -> str:
    """Return where the value of a parameter came from, in words."""
    source = context.get_parameter_source(name)
    kind = source.name if source is not None else "DEFAULT"
    if kind == "DEFAULT_MAP":
        return str(context.meta.get(_ORIGINS, {}).get(name, "configuration"))
    if kind == "ENVIRONMENT":
        option = next(p for p in context.command.params if p.name == name)
        return str(option.envvar)
    return "command line" if kind == "COMMANDLINE" else "built in"


def show(context: Any) -> None:
    """Print every resolved value of a command, and where it came from, on standard error."""
    from fusecli.text import visible

    for parameter in context.command.params:
        if parameter.name in context.params:
            name = _long_name(parameter) or parameter.name.upper()
            value = context.params[parameter.name]
            text = f"  {name} = {'' if value is None else value!r}"
            print(f"{visible(text):40} {origin(context, parameter.name)}", file=sys.stderr)


def _tables(context: typer.Context) -> dict[str, dict[str, Any]]:
    """Return the options that may be configured, by command and long name."""
    commands: Mapping[str, Any] = context.find_root().command.commands  # type: ignore[attr-defined]
    tables = {}
    for command, found in commands.items():
        options = {_long_name(parameter): parameter for parameter in found.params}
        if "config" in options:
            unwanted = {"", *NOT_CONFIGURABLE}
            tables[command] = {key: p for key, p in options.items() if key not in unwanted}
    return tables


def _long_name(parameter: Any) -> str:
    names = [name for name in parameter.opts if name.startswith("--")]
    return names[0].removeprefix("--") if names else ""


def _load(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UsageError(
            f"{path} is not TOML: {error}",
            code="config.syntax",
            hint="a table and an option look like [fuse] and model = 'reconet'",
        ) from None
    except OSError as error:
        raise UsageError(
            f"cannot read {path}: {error.strerror}",
            code="config.missing",
            hint=f"chmod u+r {shlex.quote(str(path))}",
        ) from None


def _check_names(
    document: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]], path: Path
) -> None:
    known = {COMMON, FOLDERS, *tables}
    for table, entries in document.items():
        if table not in known:
            raise _unknown(f"[{table}]", table, known, path)
        if not isinstance(entries, dict):
            raise UsageError(
                f"{table} in {path} belongs into a table",
                code="config.value",
                hint=f"write [{COMMON}] or [fuse] above it",
            )
        names: Iterable[str] = VARIABLES if table == FOLDERS else tables.get(table, {})
        if table == COMMON:
            names = {name for options in tables.values() for name in options}
        for key in entries:
            if key not in names:
                raise _unknown(f"{key} in [{table}]", key, names, path)


def _unknown(what: str, name: str, known: Iterable[str], path: Path) -> UsageError:
    near = difflib.get_close_matches(name, sorted(known), 1, 0.5)
    return UsageError(
        f"{what} of {path} is not known",
        code="config.unknown",
        hint=f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(known))}",
    )


def _checked(option: Any, value: Any, place: str) -> Any:
    """Return a value as the command line would have given it."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise UsageError(
                f"{place} must be true or false",
                code="config.value",
                hint=f"as in {place.partition(' ')[0]} = true",
            )
        return value
    if option.multiple and isinstance(value, list):
        return [_scalar(entry, place) for entry in value]
    return value if option.count and isinstance(value, int) else _scalar(value, place)


def _scalar(value: Any, place: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise UsageError(
            f"{place} must be text or a number",
            code="config.value",
            hint=f"as in {place.partition(' ')[0]} = 'text'",
        )
    return str(value)
