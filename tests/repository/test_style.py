# SPDX-License-Identifier: Apache-2.0
"""House rules that no linter of ours holds, or that must not be switched off by a comment."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

Module = Any  # tests/repository/conftest.py
Function = ast.FunctionDef | ast.AsyncFunctionDef
Node = ast.Module | ast.ClassDef | Function
Documented = Mapping[str, set[str]]
SPDX = "# SPDX-License-Identifier: Apache-2.0\n"
LONGEST_MODULE = 400
LONGEST_FUNCTION = 40
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
BLANKETS = {"Exception", "BaseException"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b|\bNotImplementedError\b")


def _long_functions(module: Module) -> list[str]:
    functions = [node for node in ast.walk(module.tree) if isinstance(node, Function)]
    lengths = [(node, (node.end_lineno or 0) - node.lineno + 1) for node in functions]
    return [
        f"{module.place}:{node.lineno} {node.name} has {length} lines"
        for node, length in lengths
        if length > LONGEST_FUNCTION
    ]


def _undocumented(module: Module, promised: Documented = MappingProxyType({})) -> list[str]:
    return [f"{module.place}: {name}" for name in _bare(module.tree, module.name, promised)]


def _bare(node: Node, name: str, promised: Documented) -> Iterator[str]:
    """Public names without a docstring; a method may have it from a base class."""
    if ast.get_docstring(node) is None:
        yield name
    if isinstance(node, Function):
        return
    bases = [ast.unparse(base) for base in node.bases] if isinstance(node, ast.ClassDef) else []
    inherited = set[str]().union(*(promised.get(base, set()) for base in bases))
    for child in _children(node):
        if child.name not in inherited:
            yield from _bare(child, f"{name}.{child.name}", promised)


def _children(node: ast.Module | ast.ClassDef) -> list[ast.ClassDef | Function]:
    found = [child for child in node.body if isinstance(child, ast.ClassDef | Function)]
    return [child for child in found if not child.name.startswith("_")]


def _promised(modules: list[Module]) -> Documented:
    """Documented methods of every class, its own and its bases'."""
    classes = {
        node.name: node
        for module in modules
        for node in ast.walk(module.tree)
        if isinstance(node, ast.ClassDef)
    }

    def of(name: str) -> set[str]:
        if name not in classes:
            return set()
        node = classes[name]
        own = {child.name for child in _children(node) if ast.get_docstring(child)}
        return own.union(*(of(ast.unparse(base)) for base in node.bases))

    return {name: of(name) for name in classes}


def _dangers(module: Module) -> list[str]:
    """Blanket excepts, pickles and shells."""
    found = [
        (each.line, f"imports {each.target}")
        for each in module.imports
        if each.target.split(".")[0] in PICKLES
    ]
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ExceptHandler) and _swallows(node):
            found.append((node.lineno, "catches everything"))
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            on = {word.arg for word in node.keywords if ast.unparse(word.value) == "True"}
            if on & {"shell", "allow_pickle"} or called in SHELLS | {"eval", "exec", "torch.load"}:
                found.append((node.lineno, f"calls {ast.unparse(node)}"))
    return [f"{module.place}:{line} {what}" for line, what in found]


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Whether it catches everything and does not end by raising it again."""
    return _is_blanket(handler.type) and ast.unparse(handler.body[-1]) != "raise"


def _is_blanket(caught: ast.expr | None) -> bool:
    if isinstance(caught, ast.Tuple):
        return any(map(_is_blanket, caught.elts))
    return caught is None or ast.unparse(caught).split(".")[-1] in BLANKETS


def _unfinished(module: Module) -> list[str]:
    lines = module.text.splitlines()
    return [f"{module.place}:{i + 1}" for i, line in enumerate(lines) if UNFINISHED.search(line)]


class TestSources:
    """On every module of the three packages; a failure lists all offenders."""

    @pytest.mark.parametrize("rule", [_long_functions, _dangers, _unfinished])
    def test_rule(self, modules: list[Module], rule: Callable[[Module], list[str]]) -> None:
        """Functions fit a screen, nothing is dangerous or unfinished."""
        assert [line for module in modules for line in rule(module)] == []

    def test_public_names_are_documented(self, modules: list[Module]) -> None:
        """Modules, classes, functions and methods, unless the base class says it."""
        promised = _promised(modules)
        assert [line for module in modules for line in _undocumented(module, promised)] == []

    def test_modules_are_short(self, modules: list[Module]) -> None:
        """One concept for each file."""
        lengths = {module.place: len(module.text.splitlines()) for module in modules}
        assert {place: n for place, n in lengths.items() if n > LONGEST_MODULE} == {}
        assert sorted(lengths.values())[len(lengths) // 2] < 150

    def test_licence_stands_first(self, root: Path) -> None:
        """In every Python file, tests too."""
        folders = ("shared", "agent", "coordinator", "tests", "deploy", "docs")
        files = [path for folder in folders for path in (root / folder).rglob("*.py")]
        assert len(files) > 100
        assert [str(path) for path in files if not path.read_text().startswith(SPDX)] == []


class TestRulesBite:
    """Each rule finds what it is for."""

    @pytest.mark.parametrize(
        ("rule", "text"),
        [
            (_long_functions, "def f():\n" + "    x = 1\n" * 40),
            (_undocumented, ""),
            (_undocumented, '"""Module."""\nclass A: pass'),
            (_undocumented, '"""Module."""\nclass A:\n    """A."""\n    def f(self): pass'),
            (_dangers, "try: pass\nexcept: pass"),
            (_dangers, "try: pass\nexcept Exception as error: raise ValueError from error"),
            (_dangers, "try: pass\nexcept (ValueError, builtins.BaseException): pass"),
            (_dangers, "import pickle"),
            (_dangers, "def f():\n    from joblib import load"),
            (_dangers, "subprocess.run('ls', shell=True)"),
            (_dangers, "np.load(path, allow_pickle=True)"),
            (_dangers, "os.system('ls')"),
            (_unfinished, "x = 1  # TODO: more"),
        ],
    )
    def test_on(
        self, parse: Callable[..., Module], rule: Callable[[Module], list[str]], text: str
    ) -> None:
        """One offence each."""
        assert len(rule(parse("m", Path("m.py"), text))) == 1

    def test_but_not_on_good_code(self, parse: Callable[..., Module]) -> None:
        """Forty lines, private names without docstrings, named exceptions."""
        text = (
            '"""Module."""\n\nclass _A:\n    def f(self): pass\n\n'
            "def _f():\n" + "    x = 1\n" * 39 + "try: _f()\nexcept (OSError, ValueError): pass\n"
            "try: _f()\nexcept BaseException:\n    x = 2\n    raise\n"
        )
        module = parse("m", Path("m.py"), text)
        assert [rule(module) for rule in (_long_functions, _undocumented, _dangers)] == [[]] * 3

    def test_a_base_class_may_document(self, parse: Callable[..., Module]) -> None:
        """A store says once what every store does; what only one has, it says itself."""
        base = parse("m", Path("m.py"), 'class S:\n    def f(self):\n        """F."""')
        text = '"""M."""\nclass T(S):\n    """T."""\n    def f(self): pass\n    def g(self): pass'
        assert _undocumented(parse("n", Path("n.py"), text), _promised([base])) == ["n.py: n.T.g"]
