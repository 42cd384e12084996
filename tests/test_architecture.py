"""Imports run downwards, and in no circle."""

import ast

from benchmarks import house


def test_imports_run_downwards_and_every_room_has_a_floor():
    assert house.upwards(house.imports(house.trees())) == []


def test_no_modules_import_in_a_circle_not_even_lazily():
    assert house.circles(house.imports(house.trees())) == []


def test_an_import_upwards_a_circle_and_a_new_room_are_found():
    texts = {
        "": "",
        "errors": "def late():\n    from fusecli import images",
        "images": "from fusecli.errors import UsageError",
        "images.tiff": "if TYPE_CHECKING:\n    import fusecli.api",
        "api": "import fusecli.images.tiff",
        "attic": "",
    }
    graph = house.imports({name: ast.parse(text) for name, text in texts.items()})
    assert graph["images.tiff"] == set() and graph["api"] == {"images.tiff"}
    assert house.circles(graph) == [{"errors", "images"}]
    wrong = house.upwards(graph)
    assert wrong == ["attic has no floor in benchmarks/house.py", "errors imports images"]


def test_figures_count_what_they_say(tmp_path):
    long = "\n".join(f"    x = {n}" for n in range(40))
    (tmp_path / "commands").mkdir()
    (tmp_path / "__init__.py").touch()
    (tmp_path / "commands" / "fuse.py").write_text("from fusecli import a\nclass Rules: pass\n")
    (tmp_path / "commands" / "__init__.py").touch()
    (tmp_path / "a.py").write_text(
        "class Own: pass\n"
        "def f(a, b, c, d, e, f, g): pass\n"
        "def g(self, a, b, c, d, e, f):\n"
        f"{long}\n"
        "x: Literal['p', 'q']\ny: Literal['p', 'q']\nz: Literal['alone']\n"
    )
    found = house.figures(tmp_path)
    assert found["files"] == 4 and found["modules in the largest folder"] == 2
    assert found["classes called Rules"] == 1 and found["own types on the way of fuse"] == 2
    assert found["option lists written more than once"] == 1
    assert found["functions over 40 lines"] == found["functions over 6 parameters"] == 1
