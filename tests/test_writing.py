"""Files that are there whole or not at all."""

import os
from pathlib import Path

import pytest

from fusecli.errors import FusecliError, InputError
from fusecli.io import writing


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

    def test_the_record_is_made_before_the_name_is_taken(self, tmp_path: Path) -> None:
        path = tmp_path / "a.png"
        seen = []

        def commit() -> None:
            (part,) = tmp_path.iterdir()
            seen.append((part.name, part.read_bytes()))

        writing.write_atomic(str(path), b"whole", commit)
        ((name, content),) = seen
        assert name.startswith(".a.png.")
        assert name.endswith(".part")
        assert content == b"whole"

    @pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ValueError])
    def test_whatever_interrupts_leaves_nothing(
        self, tmp_path: Path, error: type[BaseException]
    ) -> None:
        path = tmp_path / "a.png"
        path.write_bytes(b"old")

        def commit() -> None:
            raise error

        with pytest.raises(error):
            writing.write_atomic(str(path), b"new", commit)
        assert path.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [path]

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

    def test_left_overs_of_ones_own_items_only(self, tmp_path: Path) -> None:
        names = [
            ".a.png.0123abcd.part",
            ".b.png.0123abcd.part",
            ".a.png.notours.part",
            ".a.png.part",
            "a.png.0123abcd.part",
            ".a.png.extra.png.0123abcd.part",
        ]
        for name in names:
            (tmp_path / name).write_bytes(b"")
        own = [str(tmp_path / "a.png"), str(tmp_path / "c.png"), str(tmp_path / "none" / "d.png")]
        assert writing.remove_leftovers(own) == 1
        assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted(names[1:])

    def test_left_overs_of_long_names_are_known_too(self, tmp_path: Path) -> None:
        path = str(tmp_path / ("x" * 250 + ".png"))

        class Killed(BaseException):
            pass

        def kill() -> None:
            (part,) = tmp_path.iterdir()
            (tmp_path / "copy").write_bytes(b"")
            part.rename(tmp_path / "copy")
            names.append(part.name)
            raise Killed

        names: list[str] = []
        with pytest.raises(Killed):
            writing.write_atomic(path, b"x", kill)
        (tmp_path / "copy").rename(tmp_path / names[0])
        assert writing.remove_leftovers([path]) == 1
