"""The plan of the house, as far as import contracts cannot see it."""

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.text_damage import damage

from ecg_transformers.models.registry import list_methods
from ecg_transformers.registration import HOLDS_CLASSES

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ecg_transformers"
FILES = sorted(SOURCE.rglob("*.py"))
WRITTEN = [
    path
    for folder in ("src", "tests", "examples", "experiments", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
]

# what a wrapper leaves behind, one example of each kind with what finds it
DAMAGED = {
    "banner": "# " + "-" * 4 + " MoCo v3\n",
    "torn banner": "# a title\n# ---------\n",
    "double back-ticks": '"""Shape ' + "`" * 2 + '(B, L)."""\n',
    "role": '"""See :' + 'func:`load`."""\n',
    "block": '"""Use it' + '::\n\n    load()\n"""\n',
    "placeholder": 'text = (\n    f"{name} is missing; "\n    f"give it."\n)\n',
    "cut string": 'text = (\n    "this sentence was "\n    "cut "\n    "behind a word."\n)\n',
    "pushed word": '"""Title.\n\n' + "word " * 20 + '\n    any\nof the paragraph.\n"""\n',
    "two pushed words": '"""Title.\n\n' + "word " * 20 + '\nlooks at\nall of it.\n"""\n',
    "torn code": '"""Title.\n\nThe shape is `(B, N, L,\nbeat_len)` here.\n"""\n',
    "last words": 'def f():\n    """' + "word " * 22 + '\n    left alone."""\n',
    "blank": 'def f():\n    """ "x" or "y"."""\n',
}

# public functions that may say `Any`, and why
ANY_IS_MEANT = {
    "data/corpora/base.py:Corpus.__init__": "every corpus has options of its own class",
    "data/corpora/folder/labels.py:label_rule": "the options of the corpus that calls it, which imports this file",
    "files.py:as_json": "JSON of the kind that went in",
    "models/base.py:ECGPreTrainedModel.__call__": "the output class of each model's forward",
    "models/registry.py:ECGMethod.extractor_class": "the extractors stand on a higher floor",
    "models/registry.py:ECGMethod.make_extractor": "the extractors stand on a higher floor",
    "models/registry.py:resolve": "whatever the dotted name leads to",
    "pipelines/base.py:ECGPipeline.__call__": "one result, a list or an iterator, as in transformers",
    "data/streams.py:ShardStream.shuffle": "the signature of datasets",
    "training/classifier/job.py:Job.predict": "the answers of each kind of job",
}

DOCUMENTED = (ast.FunctionDef, ast.ClassDef)
MOST_LINES_OF_A_FILE, MOST_LINES_OF_CODE = 430, 46  # about 400, about 40
LONG_ON_PURPOSE = {
    "src/ecg_transformers/features/feature_extraction_ecg.py:__init__": "a published setting a line, as it is saved",
}

NAMES_OF_TRANSFORMERS = ("_auto_class", "_can_record_outputs")


def named(path):
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", [path for path in FILES if SOURCE / "models" not in path.parents], ids=named)
def test_nothing_outside_models_names_a_method(path):
    """No branch on a method's name anywhere: the registry answers. Examples in docstrings may name one."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docstrings = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    names = set(list_methods())
    found = {
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and id(node) not in docstrings
        and node.value in names
    }
    assert not found


@pytest.mark.parametrize(
    "path",
    [p for p in FILES if p.name.startswith(("configuration_", "modeling_")) or p.parts[-2:] == ("models", "base.py")],
    ids=named,
)
def test_annotations_of_configs_and_models_are_real_objects(path):
    """transformers reads them; the future import turns them into strings, and validation silently stops."""
    assert "from __future__ import annotations" not in path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", [p for p in FILES if p.name.startswith("configuration_")], ids=named)
def test_configuration_files_carry_a_year(path):
    """transformers' common tests skip their check of missing weights for files without one."""
    assert re.match(r"# Copyright 20\d\d", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WRITTEN, ids=named)
def test_no_wrapper_has_damaged_a_file(path):
    assert not damage(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kind", DAMAGED)
def test_every_kind_of_damage_is_found(kind):
    assert damage(DAMAGED[kind])


def test_what_is_whole_is_not_taken_for_damage():
    whole = '"""Title.\n\nArgs:\n    x: `(B, L)`.\n"""\n# words - and more\ntext = f"{x} " "and the rest"\n'
    assert not damage(whole)


def says_any(annotation):
    """Whether an annotation is `Any`, alone or beside others (`Any | None`)."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        annotation = ast.parse(annotation.value, mode="eval").body
    if isinstance(annotation, ast.BinOp):
        return says_any(annotation.left) or says_any(annotation.right)
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def public_functions(body, prefix=""):
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            yield from public_functions(node.body, f"{node.name}.")
        elif isinstance(node, ast.FunctionDef) and (
            not node.name.startswith("_") or node.name in ("__init__", "__call__")
        ):
            yield prefix + node.name, node


def test_public_signatures_say_what_they_take_and_give():
    found = set()
    for path in FILES:
        for name, function in public_functions(ast.parse(path.read_text(encoding="utf-8")).body):
            given = function.args
            annotations = [one.annotation for one in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
            if any(map(says_any, [*annotations, function.returns])):
                found.add(f"{path.relative_to(SOURCE).as_posix()}:{name}")
    assert found == set(ANY_IS_MEANT)


def test_no_modules_import_each_other_in_a_circle():
    """Imports inside functions count, too: they hide a circle and do not remove it."""
    import grimp

    graph = grimp.build_graph("ecg_transformers")
    above = {module: graph.find_upstream_modules(module) for module in graph.modules}
    assert not sorted(module for module in above if any(module in above[other] for other in above[module]))


def judges(node):
    """Whether a node is an assertion, or a call or block that is one."""
    called = ast.unparse(node.func).split(".")[-1] if isinstance(node, ast.Call) else ""
    return isinstance(node, ast.Assert) or called.startswith("assert_") or called in ("raises", "warns", "close")


def asserted_under_an_if(node, under=False):
    """Lines of assertions that may never be reached; functions inside a test are looked at where they are called."""
    for child in ast.iter_child_nodes(node):
        if under and judges(child):
            yield child.lineno
        if not isinstance(child, ast.FunctionDef):
            yield from asserted_under_an_if(child, under or isinstance(child, ast.If))


def left_early(test):
    """Lines of a test at which it ends before its assertions, as if they stood under an `if`."""
    branches = [node for node in ast.walk(test) if isinstance(node, ast.If)]
    return [node.lineno for node in branches if any(isinstance(one, ast.Return) for one in node.body)]


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("test_*.py")), ids=named)
def test_no_assertion_of_a_test_stands_under_an_if(path):
    functions = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.FunctionDef)]
    tests = [function for function in functions if function.name.startswith("test_")]
    assert [line for test in tests for line in (*asserted_under_an_if(test), *left_early(test))] == []


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=named)
def test_no_test_stands_on_a_private_name_of_the_package(path):
    """Neither imported, nor read from or replaced in one of its modules."""
    tree, found = ast.parse(path.read_text(encoding="utf-8")), []
    ours = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "ecg_transformers":
            found += [name.name for name in node.names if name.name.startswith("_")]
            ours |= {name.asname or name.name for name in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ours:
            found += [node.attr] if re.match("_[a-z]", node.attr) and node.attr not in NAMES_OF_TRANSFORMERS else []
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith(("monkeypatch.", "unittest.mock.patch")):
            words = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            replaced = words if node.args and ast.unparse(node.args[0]).split(".")[0] in ours else []
            replaced += [word for word in words if word.startswith("ecg_transformers.")]
            found += [word for word in replaced if re.match("_[a-z]", word.split(".")[-1])]
    assert found == []


class _ImportedAtOnce(ast.NodeVisitor):
    """Names that a module imports when it is loaded: not in its functions, not for its types."""

    def __init__(self, path):
        self.names = set()
        self.visit(ast.parse(path.read_text(encoding="utf-8")))

    def visit_FunctionDef(self, node):
        pass

    def visit_If(self, node):
        if "TYPE_CHECKING" not in ast.unparse(node.test):
            self.generic_visit(node)

    def visit_Import(self, node):
        self.names |= {name.name for name in node.names}

    def visit_ImportFrom(self, node):
        self.names |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}


def test_whatever_is_imported_first_transformers_is_loaded_before_it():
    """Loading transformers registers our classes: a module that does so when half loaded itself would be asked for them."""
    modules = {".".join(path.relative_to(SOURCE.parent).with_suffix("").parts): path for path in FILES}
    imports = {name.removesuffix(".__init__"): _ImportedAtOnce(path).names for name, path in modules.items()}
    needs = {name for name, found in imports.items() if any(word.split(".")[0] == "transformers" for word in found)}
    while more := {name for name, found in imports.items() if found & needs} - needs:
        needs |= more
    rooms = ("models", "features", "pipelines", "hub")
    held = {name for name in needs if name.startswith(tuple(f"ecg_transformers.{room}." for room in rooms))}
    assert len(held) > 50
    assert {name for name in held if not HOLDS_CLASSES.match(name)} == set()


def test_the_floors_are_kept_by_every_module_the_command_line_included():
    result = subprocess.run([Path(sys.executable).with_name("lint-imports")], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-3000:]


def test_every_method_stands_in_the_contract_of_independence():
    contracts = configparser.ConfigParser()
    contracts.read(ROOT / ".importlinter", encoding="utf-8")
    modules = contracts["importlinter:contract:methods"]["modules"].split()
    assert set(modules) == {f"ecg_transformers.models.{name}" for name in list_methods()}


def test_importing_the_package_opens_no_socket():
    script = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('network at import')\n"
        "socket.socket.connect = refuse\nsocket.create_connection = refuse\n"
        "import ecg_transformers\nprint(len(ecg_transformers.list_methods()))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr[-1000:]


def test_the_package_works_without_a_home_directory(tmp_path):
    env = {key: value for key, value in os.environ.items() if key not in ("HOME", "HF_HOME", "XDG_CACHE_HOME")}
    script = (
        "import ecg_transformers as ecg\n"
        f"rows = ecg.load_ecg_dataset('synthetic', split='train', num_records=4, cache_dir={str(tmp_path / 'ä cache')!r})\n"
        "print(ecg.ECGFeatureExtractor.for_method('st_mem')(rows[0])['input_values'].shape)"
    )
    result = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, timeout=280)
    assert result.returncode == 0, result.stderr[-1000:]
    assert "(1, 12, 2250)" in result.stdout


def code_lines(function, lines):
    """Lines of a function but for documentation, comments and blanks."""
    told = [node.body[0] for node in ast.walk(function) if isinstance(node, DOCUMENTED) and ast.get_docstring(node)]
    prose = {line for text in told for line in range(text.lineno, text.end_lineno + 1)}
    rows = range(function.lineno, function.end_lineno + 1)
    return sum(1 for row in rows if row not in prose and re.match(r"\s*[^\s#]", lines[row - 1]))


@pytest.mark.parametrize("path", [path for path in WRITTEN if "tests" not in path.relative_to(ROOT).parts], ids=named)
def test_a_file_and_its_functions_fit_into_a_reader_s_head(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    functions = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.FunctionDef)]
    assert len(lines) <= MOST_LINES_OF_A_FILE
    long = {f"{named(path)}:{one.name}" for one in functions if code_lines(one, lines) > MOST_LINES_OF_CODE}
    assert long <= set(LONG_ON_PURPOSE)


def test_no_file_is_large():
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    large = [
        name
        for name in tracked.split("\0")
        if name and (ROOT / name).is_file() and (ROOT / name).stat().st_size > 2 * 2**20
    ]
    assert not large
