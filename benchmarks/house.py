"""The house in figures, from the syntax trees alone: `python -m benchmarks.house [--draw]`.

Nothing is imported but the standard library. `--draw` writes the picture of the rooms, drawn from
the imports, into `docs/architecture.md`; the test of the architecture uses what is found here.

How it is counted: an import counts wherever it stands, also inside a function, but not under
`if TYPE_CHECKING`, which never runs. `from fusecli.a import b` goes to the module `fusecli.a.b`
where there is one, else to `fusecli.a`. A circle is a strongly connected set of modules. A list of
options is a `Literal[...]` of two or more words; it is repeated when it stands in two places or
more. Parameters include keywords, not `self` or `cls`. The types on the way are the classes defined
in the modules that `commands/fuse.py` reaches by imports, without networks, metrics and kernels:
what somebody may have to know who follows `fusecli fuse` to a network's forward.
"""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "fusecli"
PAGE = ROOT / "docs" / "architecture.md"
# Each floor may import from those after it and from itself; a new room must be given a place.
FLOORS = (
    ("__main__", "cli", "commands", "completions"),
    ("api",),
    ("diagnosis", "exporting"),
    ("evaluation", "training", "model_cards"),
    ("fusion", "warps"),
    ("registration",),
    ("run",),
    ("conversion",),
    ("checkpoint", "runtime"),
    ("models",),
    ("fields", "losses", "perceptual", "metrics", "ops"),
    ("images", "pairs", "pictures"),
    ("options", "report"),
    ("outcome", "config", "writing"),
    ("memory", "packages", "text"),
    ("errors", "version"),
)


def trees(package: Path = PACKAGE) -> dict[str, ast.Module]:
    """Return the syntax tree of every module, by its name below the package (`run.plan`)."""
    found = {}
    for file in sorted(package.rglob("*.py")):
        parts = file.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text("utf-8"))
    return found


def running(tree: ast.AST) -> Iterator[ast.AST]:
    """Return all nodes but those that only a type checker sees."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            for other in child.orelse:
                yield from running(other)
        else:
            yield from running(child)


def imports(modules: dict[str, ast.Module]) -> dict[str, set[str]]:
    """Return what each module imports from the package, lazily or not."""
    found: dict[str, set[str]] = {name: set() for name in modules}
    for name, tree in modules.items():
        for node in running(tree):
            for target in _targets(node):
                while target not in modules:
                    target = target.rpartition(".")[0]
                if target != name:
                    found[name].add(target)
    return found


def _targets(node: ast.AST) -> list[str]:
    """Return the modules an import names, where they lie in the package."""
    if isinstance(node, ast.Import):
        full = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        full = [f"{node.module}.{alias.name}" for alias in node.names]
    else:
        return []
    return [name.removeprefix("fusecli.") for name in full if name.startswith("fusecli.")]


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Return the sets of modules that reach one another."""
    reach = {name: reached(graph, name) for name in graph}
    sets = {frozenset(m for m in reach[n] if n in reach[m]) for n in graph if n in reach[n]}
    return sorted(map(set, sets), key=sorted)


def reached(graph: dict[str, set[str]], start: str) -> set[str]:
    """Return every module that one leads to by imports; itself only by a circle."""
    found: set[str] = set()
    todo = [start]
    while todo:
        new = graph[todo.pop()] - found
        found |= new
        todo += new
    return found


def room(module: str) -> str:
    """Return the room of a module: its folder, or itself where it lies at the top."""
    return module.partition(".")[0]


def upwards(graph: dict[str, set[str]]) -> list[str]:
    """Return the imports that run upwards, and the rooms that have no floor."""
    floor = {name: level for level, names in enumerate(FLOORS) for name in names}
    rooms = {room(module) for module in graph} - {""}
    wrong = [f"{name} has no floor in benchmarks/house.py" for name in sorted(rooms - set(floor))]
    for module, targets in graph.items():
        for target in sorted(targets):
            a, b = room(module), room(target)
            if a in floor and b in floor and floor[b] < floor[a]:
                wrong.append(f"{module} imports {target}")
    return wrong


def functions(modules: dict[str, ast.Module]) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Return every function and method."""
    for tree in modules.values():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield node


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many parameters a caller may fill."""
    given = function.args
    names = [a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


def option_lists(modules: dict[str, ast.Module]) -> Counter[str]:
    """Return how often each `Literal[...]` of two or more words is written."""
    return Counter(
        ast.unparse(node.slice)
        for tree in modules.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.value, ast.Name)
        and node.value.id == "Literal"
        and isinstance(node.slice, ast.Tuple)
    )


def figures(package: Path = PACKAGE) -> dict[str, int]:
    """Return what is counted, by what it is."""
    modules = trees(package)
    graph = imports(modules)
    classes = {
        name: [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        for name, tree in modules.items()
    }
    way = {"commands.fuse"} | reached(graph, "commands.fuse")
    aside = ("models.", "metrics", "ops.kernels")
    lines = {file: len(file.read_text("utf-8").splitlines()) for file in package.rglob("*.py")}
    every = list(functions(modules))
    return {
        "files": len(lines),
        "lines": sum(lines.values()),
        "modules in the largest folder": max(Counter(file.parent for file in lines).values()),
        "classes called Rules": sum(c.name == "Rules" for found in classes.values() for c in found),
        "option lists written more than once": sum(n > 1 for n in option_lists(modules).values()),
        "own types on the way of fuse": sum(
            len(classes[module]) for module in way if not module.startswith(aside)
        ),
        "circles of imports": len(circles(graph)),
        "functions over 40 lines": sum((f.end_lineno or 0) - f.lineno >= 40 for f in every),
        "functions over 6 parameters": sum(parameters(f) > 6 for f in every),
    }


def picture(graph: dict[str, set[str]]) -> str:
    """Return the rooms as a Mermaid chart: one box a floor, an arrow where one imports another.

    An arrow is left out where others lead there, too.
    """
    floors = [" · ".join(names) for names in FLOORS]
    level = {name: index for index, names in enumerate(FLOORS) for name in names}
    arrows: dict[str, set[str]] = {str(index): set() for index in range(len(FLOORS))}
    for module, targets in graph.items():
        for target in targets:
            a, b = level.get(room(module)), level.get(room(target))
            if a is not None and b is not None and a < b:
                arrows[str(a)].add(str(b))
    lines = [f'  f{index}["{text}"]' for index, text in enumerate(floors)]
    for start, ends in arrows.items():
        longer = {far for near in ends for far in reached(arrows, near)}
        lines += [f"  f{start} --> f{end}" for end in sorted(ends - longer, key=int)]
    return "\n".join(["```mermaid", "flowchart TD", *lines, "```"])


def drawn(text: str, graph: dict[str, set[str]]) -> str:
    """Return a page with its picture as the imports are."""
    place = re.compile(r"(<!-- shown, not run: the rooms -->\n).*?(\n<!-- end -->)", re.DOTALL)
    return place.sub(lambda found: found[1] + picture(graph) + found[2], text)


def main() -> None:
    """Print the figures, and what is wrong; draw where that is asked for."""
    graph = imports(trees())
    for name, value in figures().items():
        print(f"{value:6}  {name}")
    for text in (*upwards(graph), *(f"circle: {', '.join(sorted(c))}" for c in circles(graph))):
        print(text)
    if "--draw" in sys.argv[1:]:
        PAGE.write_text(drawn(PAGE.read_text("utf-8"), graph), "utf-8")


if __name__ == "__main__":
    main()
