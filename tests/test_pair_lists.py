"""Pairs that a list names: CSV, TSV and JSON lines, from a file or standard input."""

import io
import os
import sys
from pathlib import Path

import pytest

from fusecli.errors import InputError
from fusecli.pairs import Pair, read_pair_list
from fusecli.pairs.files import check_key


@pytest.fixture(autouse=True)
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


class TestPairLists:
    def read(self, name: str, text: str) -> list[Pair]:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8", newline="")
        return list(read_pair_list(name))

    def refuse(self, name: str, text: str) -> InputError:
        with pytest.raises(InputError) as caught:
            self.read(name, text)
        return caught.value

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("l.csv", "ir,vis,name\ni/1.png,v/1.png,one\ni/2.png,v/2.png,\n"),
            ("l.csv", "\ufeffname,VIS,ir\r\none,v/1.png,i/1.png\r\n\r\n,v/2.png,i/2.png\r\n"),
            ("l.tsv", "ir\tvis\tname\ni/1.png\tv/1.png\tone\ni/2.png\tv/2.png"),
            ("l.txt", "ir\tvis\tname\ni/1.png\tv/1.png\tone\ni/2.png\tv/2.png\n"),
            (
                "l.jsonl",
                '{"ir":"i/1.png","vis":"v/1.png","name":"one"}\n\n'
                '{"vis":"v/2.png","ir":"i/2.png","weather":"fog"}\n',
            ),
        ],
    )
    def test_every_kind_of_list(self, name: str, text: str) -> None:
        assert self.read(name, text) == [
            Pair("one", "i/1.png", "v/1.png"),
            Pair("v/2", "i/2.png", "v/2.png"),
        ]

    def test_relative_paths_start_at_the_list(self) -> None:
        (pair,) = self.read("lists/l.csv", "ir,vis\na.png,./b c.png\n")
        assert pair == Pair("b c", f"lists{os.sep}a.png", f"lists{os.sep}./b c.png")

    def test_absolute_inputs_are_fine_when_they_are_named(self) -> None:
        (pair,) = self.read("l.csv", "ir,vis,name\n/d/a.png,/d/b.png,x/y\n")
        assert pair == Pair("x/y", "/d/a.png", "/d/b.png")

    def test_quoted_fields_may_hold_the_delimiter(self) -> None:
        (pair,) = self.read("l.csv", 'ir,vis\n"a,1.png","b ""x"".png"\n')
        assert pair == Pair('b "x"', "a,1.png", 'b "x".png')

    def test_standard_input_is_relative_to_the_working_directory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(sys, "stdin", io.StringIO('{"ir": "a.png", "vis": "b.png"}\n'))
        assert list(read_pair_list("-")) == [Pair("b", "a.png", "b.png")]

    @pytest.mark.parametrize(
        ("row", "code"),
        [
            ("a.png,b.png,../up", "pair.key"),
            ("a.png,b.png,/abs", "pair.key"),
            ("a.png,b.png,a/../../b", "pair.key"),
            ("a.png,b.png,a//b", "pair.key"),
            ("a.png,b.png,a/", "pair.key"),
            ("a.png,b.png,bell\x07", "pair.key"),
            ("a.png,../b.png,", "pair.key"),
            ("a.png,/d/b.png,", "pair.key"),
            ("a.png,,x", "pair.list"),
            ("a.png", "pair.list"),
            ("a.png,b.png,x,y", "pair.list"),
            ('a.png,"b.png,x', "pair.list"),
            ("a\0.png,b.png,x", "pair.list"),
        ],
    )
    def test_bad_rows_are_refused_with_their_line(self, row: str, code: str) -> None:
        error = self.refuse("l.csv", f"ir,vis,name\nok.png,ok.png,ok\n{row}\n")
        assert error.code == code
        assert "line 3" in error.message

    def test_a_climbing_path_is_refused_with_the_way_out(self) -> None:
        error = self.refuse("l.csv", "ir,vis\na.png,../b.png\n")
        assert error.hint == "add a column 'name' with the key of the output"

    @pytest.mark.parametrize("text", ["", "a.png,b.png\n", "ir;vis\n1;2\n", '["ir", "vis"]\n'])
    def test_a_list_without_its_columns_is_refused(self, text: str) -> None:
        error = self.refuse("l.csv", text)
        assert error.code == "pair.list"
        assert "ir,vis" in (error.hint or "")

    @pytest.mark.parametrize(
        "line",
        ["{", '"text"', '{"ir": 1, "vis": "b"}', '{"ir":"a","vis":"b","name":7}', "[" * 9999],
    )
    def test_bad_json_lines_are_refused(self, line: str) -> None:
        assert self.refuse("l.jsonl", line + "\n").code == "pair.list"

    def test_a_key_that_occurs_twice_is_refused(self) -> None:
        error = self.refuse("l.csv", "ir,vis\na.png,x.png\nb.png,x.jpg\n")
        assert error.code == "pair.duplicate"
        assert error.details == {"key": "x", "line": 3}

    def test_bytes_that_are_no_text_and_endless_lines_are_refused(self) -> None:
        Path("l.csv").write_bytes(b"ir,vis\n\xff\xfe,b.png\n")
        with pytest.raises(InputError, match="not UTF-8"):
            list(read_pair_list("l.csv"))
        assert self.refuse("l.csv", "ir,vis\n" + "x" * 200_000).code == "pair.list"

    def test_a_missing_list(self) -> None:
        with pytest.raises(InputError) as caught:
            list(read_pair_list("none.csv"))
        assert caught.value.code == "read.missing"

    def test_it_is_read_as_it_is_used(self) -> None:
        lines = ["ir,vis\n", "a.png,b.png\n", "broken\n"]
        Path("l.csv").write_text("".join(lines), encoding="utf-8")
        stream = read_pair_list("l.csv")
        assert next(stream).key == "b"
        with pytest.raises(InputError):
            next(stream)


@pytest.mark.parametrize("key", ["a", "s1/a.b", "..a", "a..", "夜の道 straße №1", "a b/c"])
def test_keys_that_stay_inside_are_kept(key: str) -> None:
    assert check_key(key) == key
