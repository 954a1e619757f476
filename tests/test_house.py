"""The house: wings that import only downwards, a typed front door, and a command line that imports what it needs."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dja_photplug as dp
from dja_photplug import plugin

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "dja_photplug"


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A copy of the code and its rule."""
    for folder in ("dja_photplug", "hooks"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(house: Path) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("importlinter")
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    run = [sys.executable, "-c", code, "--no-cache"]
    return subprocess.run(run, cwd=house, capture_output=True, text=True, check=False)


def test_wings_import_only_downwards(house: Path) -> None:
    done = lint(house)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 kept, 0 broken" in done.stdout


AGAINST_THE_RULE = {
    "dja_photplug/sky/grid.py": (
        "import dja_photplug.mosaic.image",
        "sky is not allowed to import dja_photplug.mosaic",
    ),
    "dja_photplug/epochs/log.py": ("from dja_photplug.catalog.schema import COLUMNS", "epochs is not allowed"),
    "dja_photplug/pipeline/catalog.py": ("import dja_photplug.cli.app", "pipeline is not allowed to import"),
    "dja_photplug/pipeline/many_bands.py": (
        "import hooks.sep_engine",
        "dja_photplug.pipeline is not allowed to import hooks",
    ),
    "dja_photplug/attic.py": ("", "not listed as layers"),
}


def test_imports_against_the_rule_are_found(house: Path) -> None:
    for module, (line, _) in AGAINST_THE_RULE.items():
        with (house / module).open("a") as stream:
            stream.write(f"\n{line}\n")
    done = lint(house)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    for module, (_, told) in AGAINST_THE_RULE.items():
        assert told in said, module


def test_folders_are_of_a_size_that_a_stranger_takes_in() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 8
    for folder in [path.parent for path in PACKAGE.rglob("__init__.py")]:
        modules = [path.name for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 9, folder
        if folder != PACKAGE:  # a wing's __init__ is a docstring
            assert re.fullmatch(r'"""[^"]+"""\n', (folder / "__init__.py").read_text()), folder


def test_modules_hold_one_subject_and_functions_fit_a_screen() -> None:
    """Modules are below 450 lines and functions below 60, without what documents them."""
    assert [path.name for path in PACKAGE.rglob("*.py") if len(path.read_text().splitlines()) >= 450] == []
    found = []
    for path in (*PACKAGE.rglob("*.py"), *(ROOT / "hooks").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                code = node.body[1:] if ast.get_docstring(node) else node.body
                lines = (code[0].lineno, node.end_lineno) if code else (0, 0)
                head = node.body[0].lineno - node.lineno
                found += [f"{path.name} {node.name}"] if lines[1] - lines[0] + 1 + head >= 60 else []
    assert found == []


def test_packaging_lists_every_wing() -> None:
    folders = {".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")}
    listed = re.search(r"\npackages = \[(.*?)\]", (ROOT / "pyproject.toml").read_text(), re.DOTALL)
    assert listed is not None
    assert set(re.findall(r'"([\w.]+)"', listed[1])) == folders | {"dja_photplug.hooks"}


def list_undocumented(body: list[ast.stmt], place: str) -> list[str]:
    """Return the public functions, methods and dataclasses that lack sections of numpydoc, and these."""
    found = []
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        decorators = " ".join(map(ast.unparse, node.decorator_list))
        if isinstance(node, ast.ClassDef):
            found += list_undocumented(node.body, f"{place} {node.name}")
            # Options are documented where they are declared.
            options = any("Stage" in ast.unparse(base) for base in node.bases) or node.name == "Stage"
            needed = {"Attributes": "dataclass" in decorators and not options}
        elif (
            decorators == "property"
            or node.name.startswith("photplug_")  # documented by its spec
            or (node.name == "run" and place.startswith(("cli/commands", "cli/about")))  # documented by the help
        ):
            continue
        else:
            arguments = {each.arg for each in ast.walk(node.args) if isinstance(each, ast.arg)} - {"self", "cls"}
            needed = {
                "Parameters": bool(arguments),
                "Returns|Yields": node.returns is not None and ast.unparse(node.returns) != "None",
                "Raises": any(isinstance(each, ast.Raise) for each in ast.walk(node)),
            }
        text = ast.get_docstring(node) or ""
        missing = [title for title, there in needed.items() if there and not re.search(rf"(?m)^({title})\n-+$", text)]
        found += [f"{place} {node.name}: {', '.join(missing)}"] if missing else []
    return found


def test_public_code_says_what_it_takes_gives_and_raises() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.name != "hookspecs.py":  # hooks say it in words, and docs/hooks.md in full
            found += list_undocumented(ast.parse(path.read_text()).body, str(path.relative_to(PACKAGE)))
    assert found == []
    bare = "def measure(x) -> float:\n    'Returns what it raises.'\n    raise ValueError"
    assert list_undocumented(ast.parse(bare).body, "a") == ["a measure: Parameters, Returns|Yields, Raises"]


def test_front_doors_have_all_their_names() -> None:
    for door in (dp, plugin):
        assert door.__all__ == sorted(door.__all__)
        for name in door.__all__:
            assert getattr(door, name).__name__ if hasattr(getattr(door, name), "__name__") else True
            assert name in dir(door)
        with pytest.raises(AttributeError, match=f"module '{door.__name__}' has no attribute 'rum'"):
            door.rum  # noqa: B018


@pytest.mark.slow
def test_type_checkers_see_the_front_door(tmp_path: Path) -> None:
    """As `tests.front_door` says it, which mypy reads with everything else; here in the words of mypy."""
    pytest.importorskip("mypy")
    script = tmp_path / "script.py"
    script.write_text(
        "import dja_photplug as dp\nreveal_type(dp.run)\nreveal_type(dp.Options().detect.n_sigma)\ndp.rum\n"
    )
    run = [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(tmp_path)]
    done = subprocess.run([*run, str(script)], cwd=ROOT, capture_output=True, text=True, check=False)
    lines = done.stdout.splitlines()
    assert "def (sources: typing.Sequence[" in lines[0], done.stdout
    assert "dja_photplug.pipeline.steps.result.Result" in lines[0]
    assert 'Revealed type is "float"' in lines[1] or "builtins.float" in lines[1]
    assert 'Module has no attribute "rum"' in lines[2]


def run_lightly(code: str) -> set[str]:
    """Run code in a fresh process; return which of the heavy packages it has imported."""
    after = (
        "\nimport sys; print([m for m in ('astropy', 'numpy', 'sep', 'photutils', 'matplotlib') if m in sys.modules])"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = [sys.executable, "-c", "import dja_photplug\n" + code + after]
    done = subprocess.run(run, capture_output=True, text=True, check=True, env=environment, cwd=ROOT)
    return set(re.findall(r"'(\w+)'", done.stdout.splitlines()[-1]))


def test_help_and_plugins_import_nothing_heavy() -> None:
    main = "from dja_photplug.cli.app import main\n"
    assert run_lightly("") == set()
    assert run_lightly("from dja_photplug.plugin import Source, Stage, hookimpl, option") == set()
    assert run_lightly(f"{main}\ntry: main(['catalog', '--help'])\nexcept SystemExit: pass") == set()
    assert run_lightly(f"{main}\nmain(['plugins'])") == set()


def test_format_is_registered_whichever_is_imported_first() -> None:
    read = "from astropy.io import registry\n"
    read += "assert 'dja' in registry.get_formats(CCDData, 'Read')['Format']"
    assert "astropy" in run_lightly(f"from astropy.nddata import CCDData\n{read}")
    code = f"from astropy.nddata import CCDData\nimport dja_photplug\n{read}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
