"""The archives that users install: what is in them, and that they work without the checkout."""

import hashlib
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from fusecli import __version__

ROOT = Path(__file__).parents[1]
DATA = ROOT / "tests" / "data"
SHARED = {
    "share/bash-completion/completions/fusecli": "completions/fusecli.bash",
    "share/zsh/site-functions/_fusecli": "completions/_fusecli",
    "share/fish/vendor_completions.d/fusecli.fish": "completions/fusecli.fish",
}


def command(*words: str | Path, cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(
        [*map(str, words)], cwd=cwd, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@dataclass(frozen=True)
class Archives:
    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@pytest.fixture(scope="session")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Archives:
    """Build the wheel from this tree, the source archive, and a wheel from the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    build = (sys.executable, "-m", "build", "--no-isolation", "--outdir")
    command(*build, folder / "tree", "--wheel", ROOT, cwd=folder)
    command(*build, folder / "sdist", ROOT, cwd=folder)  # the archive, then a wheel from it
    return Archives(
        next((folder / "tree").glob("*.whl")),
        next((folder / "sdist").glob("*.tar.gz")),
        next((folder / "sdist").glob("*.whl")),
    )


def checksums(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {
            name: hashlib.sha256(archive.read(name)).hexdigest()
            for name in archive.namelist()
            if not name.endswith("/RECORD")
        }


def test_the_wheel_holds_the_package_its_weights_and_completions_and_nothing_else(archives):
    names = set(checksums(archives.wheel))
    manifest = json.loads((ROOT / "weights" / "manifest.json").read_text("utf-8"))
    weights = {"manifest.json"} | {
        entry[kind] for entry in manifest["weights"] for kind in ("file", "card")
    }
    info, data = f"fusecli-{__version__}.dist-info", f"fusecli-{__version__}.data/data"
    expected = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fusecli").rglob("*.py")}
    expected |= {"fusecli/py.typed", *(f"fusecli/weights/{name}" for name in weights)}
    expected |= {f"{data}/{place}" for place in SHARED}
    expected |= {
        f"{info}/{name}" for name in ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE")
    }
    assert names == expected
    # with every file of weights/ named by the manifest, none can be shipped unchecked
    assert {path.name for path in (ROOT / "weights").iterdir()} == weights


def test_the_source_archive_makes_the_same_wheel_and_brings_the_tests(archives):
    assert checksums(archives.wheel_of_sdist) == checksums(archives.wheel)
    with tarfile.open(archives.sdist) as archive:
        top = {name.split("/")[1] for name in archive.getnames()}
    assert top >= {"fusecli", "weights", "completions", "tests", "docs", "README.md", "LICENSE"}
    assert not top & {".git", ".ci", "out", "runs"}


@dataclass(frozen=True)
class Environment:
    folder: Path
    python: Path
    variables: dict[str, str]

    def run(self, *words: str | Path) -> str:
        return command(*words, cwd=self.folder, env=self.variables)


@pytest.fixture(scope="session")
def installed(archives, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A new environment with the wheel; torch and the rest are borrowed from this one.

    Its own packages come first on the path, so a fusecli installed here is not what it sees.
    """
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder / "env", with_pip=False, symlinks=os.name != "nt")
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = folder / "env" / scripts / "python"
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "FUSECLI"))
    } | {"OMP_NUM_THREADS": "1"}
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index")
    command(*pip, "--no-deps", archives.wheel, cwd=folder, env=variables)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(command(python, "-c", ask, cwd=folder, env=variables).strip())
    paths = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site / "borrowed.pth").write_text("\n".join(sorted(paths)), "utf-8")
    return Environment(folder, python, variables)


def test_what_is_installed_comes_from_the_wheel(installed):
    places = (
        "import fusecli, importlib.resources as r;"
        "print(fusecli.__file__, r.files('fusecli').joinpath('py.typed').is_file(), sep='\\n')"
    )
    module, typed = installed.run(installed.python, "-c", places).split("\n")[:2]
    assert (installed.folder / "env").resolve() in Path(module).resolve().parents
    assert typed == "True"
    for place, source in SHARED.items():
        assert (installed.folder / "env" / place).read_bytes() == (ROOT / source).read_bytes()


def test_both_ways_to_start_it(installed):
    script = installed.python.with_name("fusecli")
    assert installed.run(script, "--version") == f"fusecli {__version__}\n"
    assert installed.run(installed.python, "-m", "fusecli", "--version") == (
        f"fusecli {__version__}\n"
    )


def test_the_installed_command_fuses_with_its_own_weights(installed):
    script = installed.python.with_name("fusecli")
    arguments = ("-o", "fused", "--limit", "2", "--json", "--progress", "none", "--device", "cpu")
    document = json.loads(installed.run(script, "fuse", DATA / "ir", DATA / "vis", *arguments))
    listed = json.loads((ROOT / "weights" / "manifest.json").read_text("utf-8"))["weights"]
    assert document["counts"] == {"found": 2, "done": 2, "skipped": 0, "failed": 0}
    assert document["model"]["sha256"] in {entry["sha256"] for entry in listed}
    assert len(list((installed.folder / "fused").glob("*.png"))) == 2
