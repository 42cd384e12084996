"""Files that are there whole or not at all."""

import io
import os
from pathlib import Path

import pytest

from fusecli import writing
from fusecli.errors import FusecliError, InputError


class TestWriting:
    def test_the_file_appears_whole_and_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "deep" / "a.png"
        writing.write_atomic(str(path), b"one")
        writing.write_atomic(str(path), b"two")
        assert path.read_bytes() == b"two"
        assert list(path.parent.iterdir()) == [path]

    def test_a_plain_name_goes_to_the_working_directory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        writing.write_atomic("a.png", b"x")
        assert Path("a.png").read_bytes() == b"x"

    def test_a_part_is_whole_but_has_no_final_name_yet(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"old")
        part = Path(writing.write_part(str(path), b"new"))
        assert path.read_bytes() == b"old"
        assert part.read_bytes() == b"new"
        assert writing.part_of(part.name) == writing.part_prefix("a.png") == ".a.png."
        writing.discard(str(part))
        assert list(tmp_path.iterdir()) == [path]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
    def test_whatever_interrupts_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
    ) -> None:
        class Interrupted(io.BytesIO):
            def write(self, data: object) -> int:
                raise error

        def interrupted(part: str, mode: str) -> Interrupted:
            Path(part).touch()
            return Interrupted()

        monkeypatch.setattr("builtins.open", interrupted)
        with pytest.raises(error):
            writing.write_atomic(str(tmp_path / "a.png"), b"new")
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize(
        ("number", "code"), [(28, "write.full"), (30, "write.permission"), (13, "write.permission"),
                             (5, "write.failed")]
    )  # fmt: skip
    def test_errors_of_the_system_are_item_failures(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, code: str
    ) -> None:
        def broken(*args: str) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(os, "replace", broken)
        with pytest.raises(FusecliError) as caught:
            writing.write_atomic(str(tmp_path / "a.png"), b"x")
        assert caught.value.code == code
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "a.png").mkdir()
        with pytest.raises(InputError) as caught:
            writing.write_atomic(str(tmp_path / "a.png"), b"x")
        assert caught.value.code.startswith("write.")
        assert [entry.name for entry in tmp_path.iterdir()] == ["a.png"]

    def test_the_longest_names_still_work(self, tmp_path: Path) -> None:
        path = tmp_path / ("ü" * 125 + ".png")  # 254 bytes
        writing.write_atomic(str(path), b"x")
        assert path.read_bytes() == b"x"

    def test_the_parts_of_long_names_are_known_too(self, tmp_path: Path) -> None:
        name = "x" * 250 + ".png"
        part = Path(writing.write_part(str(tmp_path / name), b"x"))
        assert writing.part_of(part.name) == writing.part_prefix(name)

    @pytest.mark.parametrize(
        "name", [".a.png.notours.part", ".a.png.part", "a.png.0123abcd.part", ".0123abcd.part"]
    )
    def test_other_files_are_no_parts(self, name: str) -> None:
        assert writing.part_of(name) is None
