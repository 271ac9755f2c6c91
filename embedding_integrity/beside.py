"""Joins the checks to a run of pytest, also one of other people's tests, which go on without ours.

Where ours cannot run beside them, one failing test says why. Imports none of the packages: their
names may be taken.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.machinery import PathFinder
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType

PACKAGES = ("checks", "remediation", "reports", "demo")
USAGE_ERROR = int(pytest.ExitCode.USAGE_ERROR)
ALONE = "run `embedding-integrity` for them, a command by itself"


class DeclaredOptions:
    """Stands in for pytest's parser and its groups; keeps what plugins declare."""

    def __init__(self, plugins: Sequence[str]) -> None:
        self.options: list[tuple[str, dict[str, Any]]] = []
        pytest.register_assert_rewrite(*plugins)
        for name in plugins:
            declare = getattr(_imported(name), "pytest_addoption", None)
            if declare is not None:
                declare(self)

    def getgroup(self, _name: str) -> DeclaredOptions:
        return self

    def addoption(self, name: str, **attributes: Any) -> None:
        self.options.append((name, attributes))


def _imported(name: str) -> ModuleType:
    """The module. Raises what it does; an interrupt also where Python made an error of it."""
    try:
        return import_module(name)
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, KeyboardInterrupt):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise


def join(
    plugins: Sequence[str],
    root: Path,
    parser: pytest.Parser,
    pluginmanager: pytest.PytestPluginManager,
) -> None:
    """Load the plugins, or one that says why they cannot be: a name or an option is taken."""
    if pluginmanager._configured:
        # Collected below a folder that was asked for: nothing was examined, and nothing can be.
        pytest.fail(
            f"the checks in {root / 'checks'} run only where pytest is asked for them, beside other"
            " tests with that folder as the last argument; to leave them out:"
            f" --ignore={root}",
            pytrace=False,
        )
    taken = _foreign_packages(root)
    if taken:
        # pytest put it first, and the others' imports must find their own.
        sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != root]
        names = " and ".join(f"`{name}` in {folder}" for name, folder in taken)
        reason = f"{names}: packages of theirs have the same names; {ALONE}"
    else:
        declared = {name for name, _ in DeclaredOptions(plugins).options}
        options = sorted(declared & set(_known_options(parser)))
        if not options:
            for name in plugins:
                pluginmanager.import_plugin(name)
            return
        reason = (
            f"{' and '.join(options)} of another conftest.py or plugin: options of theirs have the"
            f" same names; {ALONE}"
        )
    pluginmanager.register(_Refused(root / "checks", reason))


def stand_aside(config: pytest.Config, ours: Path, reason: str, status: int) -> bool:
    """Let what else pytest was asked for run, and a failing test of ours say why there is no other.

    False where nothing else was asked for. To be called before anything is collected.
    """
    others = [argument for argument in config.args if not _within(config, argument, ours)]
    if not others:
        return False
    config.args[:] = others
    config.pluginmanager.register(_Aside(reason, status))
    return True


def beside_others(config: pytest.Config, ours: Path) -> bool:
    """Whether pytest was asked for more than what lies in our folder."""
    return any(not _within(config, argument, ours) for argument in config.args)


def _within(config: pytest.Config, argument: str, ours: Path) -> bool:
    path = Path(config.invocation_params.dir, str(argument).partition("::")[0])
    return path.resolve().is_relative_to(ours)


def _foreign_packages(root: Path) -> list[tuple[str, Path]]:
    """Packages of our names that the others' tests import, or could."""
    found: dict[str, Path] = {}
    folders = [str(Path.cwd()), *sys.path]
    for name in PACKAGES:
        spec = getattr(sys.modules.get(name), "__spec__", None) or PathFinder.find_spec(
            name, [folder for folder in folders if not _holds_the_checks(Path(folder), root)]
        )
        folder = _folder_of(spec)
        if folder is not None and not _holds_the_checks(folder, root):
            found[name] = folder
    return list(found.items())


def _folder_of(spec: ModuleSpec | None) -> Path | None:
    """The folder that a module or package is found in; a mere folder of files is neither."""
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin).parent if spec.origin else None
    for place in spec.submodule_search_locations:
        if spec.origin or any(Path(place).glob("*.py")):
            return Path(place).parent
    return None


def _holds_the_checks(folder: Path, root: Path) -> bool:
    """Whether it is our folder, or that of another copy of this project."""
    return folder.resolve() == root or (folder / "checks" / "exit_status.py").is_file()


def _known_options(parser: pytest.Parser) -> Iterator[str]:
    # pytest has no public way to ask; both attributes are as old as its plugins.
    for group in (*parser._groups, parser._anonymous):
        for option in group.options:
            yield from option.names()


class _Refused:
    """In the place of the plugins."""

    def __init__(self, ours: Path, reason: str) -> None:
        self._ours = ours
        self._reason = reason

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> None:
        if not stand_aside(session.config, self._ours, self._reason, USAGE_ERROR):
            raise pytest.UsageError(self._reason)

    def pytest_ignore_collect(self, collection_path: Path) -> bool | None:
        return True if collection_path.is_relative_to(self._ours) else None


class _Aside:
    """Adds the failing test, and gives the run the status that ours alone would have ended with."""

    def __init__(self, reason: str, status: int) -> None:
        self._reason = reason
        self._status = status

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(
        self, session: pytest.Session, items: list[pytest.Item]
    ) -> None:
        items.append(_NotRun.from_parent(session, name="embedding-integrity", reason=self._reason))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session, exitstatus: int) -> None:
        if exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.TESTS_FAILED,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = self._status


class _NotRun(pytest.Item):
    """The test that fails in the place of ours."""

    def __init__(self, *, reason: str, **attributes: Any) -> None:
        super().__init__(**attributes, nodeid="embedding-integrity")
        self._reason = reason

    def runtest(self) -> None:
        pytest.fail(f"the checks did not run: {self._reason}", pytrace=False)

    def reportinfo(self) -> tuple[Path, None, str]:
        return self.path, None, self.name
