"""Makes the classes of the package known to transformers, at the moment when transformers is first used.

`import ecg_transformers` costs nothing where no model is needed: reading, checking and drawing records load neither
torch nor transformers. As soon as transformers is imported, by whomever, its Auto classes and `pipeline` know every
method. Our own modules that hold classes import transformers too; it is then loaded before they are, so that no
class is asked for while its module is still half loaded.
"""

import importlib.util
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

# modules that registering loads, directly or through others: a method's folder but for its registry entry, and the rooms
# that hold extractors, cards and pipelines
HOLDS_CLASSES = re.compile(
    r"ecg_transformers\.(features\.(?!check(?:ing|_report)$)|hub\.|pipelines\."
    r"|models\.(auto$|base$|classification$|config$|leads$|outputs$|refusals$|\w+\.(?!method$)))"
)
# modules of transformers that are imported when one of its Auto classes or a pipeline is asked for
ASKED_FOR_CLASSES = ("transformers.models.auto", "transformers.pipelines")


def register_with_transformers() -> None:
    """Register now where transformers is loaded already, else as soon as it is."""
    if "transformers" in sys.modules:
        _register()
    elif not any(isinstance(finder, _Registration) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Registration())


@contextmanager
def postponed() -> Iterator[None]:
    """Register when the block is left, though transformers is loaded inside; after an error, which mostly ends a command,
    when a class is next asked for.

    So a command reads its options with transformers' parser, and answers `--help`, before torch is loaded.
    """
    finders = [finder for finder in sys.meta_path if isinstance(finder, _Registration)]
    for finder in finders:
        sys.meta_path.remove(finder)
    try:
        yield
    except BaseException:
        sys.meta_path[:0] = finders
        raise
    if finders:
        register_with_transformers()


def _register() -> None:
    from ecg_transformers.hub.by_name import register_names
    from ecg_transformers.models.auto import register_auto_classes
    from ecg_transformers.pipelines import register_pipelines

    register_auto_classes()
    register_names()
    register_pipelines()


class _Loaded(Loader):
    """Gives a module that is there already."""

    def __init__(self, module: ModuleType) -> None:
        self.module, self.spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self.module

    def exec_module(self, module: ModuleType) -> None:
        module.__spec__ = self.spec


class _Registration(MetaPathFinder):
    """Sees the first import of transformers, or of a module that needs it; finds nothing itself.

    Where transformers is there already (see `postponed`), it sees that of its Auto classes or pipelines.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname == "transformers":
            return self._transformers()
        is_late = "transformers" in sys.modules
        if HOLDS_CLASSES.match(fullname) or (is_late and fullname in ASKED_FOR_CLASSES):
            if is_late:
                sys.meta_path.remove(self)
                _register()
            else:
                import_module("transformers")
            module = sys.modules.get(fullname)
            if module is not None:  # registering has loaded it: a second time would make other classes
                spec = ModuleSpec(fullname, _Loaded(module))
                module.__spec__ = spec  # importlib takes the one that it finds here, until the module is handed out
                return spec
        return None

    def _transformers(self) -> ModuleSpec | None:
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec("transformers")
        if spec is not None and spec.loader is not None:
            execute = spec.loader.exec_module

            def execute_and_register(module: ModuleType) -> None:
                execute(module)
                _register()

            spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec
