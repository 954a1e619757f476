"""Names that are loaded when they are first used, from the imports that type checkers see.

astropy and photutils take a second; `hookimpl`, and the help of the command line, should not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType

__all__ = ["HUGE_PAGES", "defer", "when_imported"]

HUGE_PAGES = "NUMPY_MADVISE_HUGEPAGE"
"""Variable that numpy reads when it is imported: "0" for no huge pages, for the reason in `parallel/scratch.py`."""


def defer(module: str) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """Return ``__getattr__, __dir__, __all__`` of a module for the names in its ``if TYPE_CHECKING:`` block.

    So each name is written once, as an import like any other.

    Parameters
    ----------
    module : str
        Its ``__name__``.

    Returns
    -------
    load, list_names : callable
        The ``__getattr__`` and ``__dir__`` of the module. The first raises AttributeError for names that are not there.
    names : list of str
        Its ``__all__``, sorted.

    Raises
    ------
    ImportError
        Where the module has no source to read the names from.

    Examples
    --------
    >>> load, _, names = defer("dja_photplug.plugin")
    >>> "Detection" in names, load("Detection").__name__
    (True, 'Detection')
    """
    spec = sys.modules[module].__spec__
    loader = None if spec is None else spec.loader
    source = loader.get_source(module) if isinstance(loader, InspectLoader) else None
    if source is None:
        raise ImportError(f"{module}: its source, which names what it loads, is not there")
    origin: dict[str, str] = {}
    for block in ast.parse(source).body:
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING":
            for statement in block.body:
                if isinstance(statement, ast.ImportFrom) and statement.module:
                    origin |= {alias.name: statement.module for alias in statement.names}

    def load(name: str) -> object:
        if name not in origin:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        value = getattr(import_module(origin[name]), name)
        setattr(sys.modules[module], name, value)
        return value

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[module]), *origin})

    return load, list_names, sorted(origin)


def when_imported(module: str, action: Callable[[], None]) -> None:
    """Do something as soon as a module has been imported, at once where it has been.

    So a format can be registered with a class that takes half a second to import, and may never be.

    Parameters
    ----------
    module : str
    action : callable
    """
    if module in sys.modules:
        action()
    else:
        sys.meta_path.insert(0, _AfterImport(module, action))


class _AfterImport(MetaPathFinder):
    """Lets others find a module, and does something after it has been executed."""

    def __init__(self, module: str, action: Callable[[], None]) -> None:
        self.module, self.action = module, action

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the others give, with the action behind its execution."""
        if fullname != self.module:
            return None
        sys.meta_path.remove(self)
        spec = find_spec(fullname)
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def exec_module(module: ModuleType) -> None:
                execute(module)
                self.action()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec
