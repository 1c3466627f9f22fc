"""The contract between the engine and an action, built in or brought by a package.

An action is a `Signature` and a `perform`. A plain `perform` computes and returns at once, on the
loop; a coroutine may take its time, is cancelled to stop it, and may be awaited by nobody else.
Whatever it raises becomes one `ActionFailed`; what it returns is a JSON object, its outputs.
"""

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from controller.clock import Clock
from controller.core.definition import Output, Parameter
from controller.core.plan import Signature
from controller.core.problem import Refused

T = TypeVar("T")

GROUP = "controller.actions"
"""Entry points of this group add actions: the name is the action's, the object a `BuiltIn`."""


class ActionFailed(Exception):
    """The one way in which an action fails.

    Attributes:
        type: What `retry.on` and `${error.type}` name, such as `exit` or `timeout`.
        message: For people.
        outputs: What there is to see of it all the same.
    """

    def __init__(self, type: str, message: str, outputs: dict[str, Any] | None = None) -> None:  # ruff: ignore[builtin-argument-shadowing]  # the language's word
        super().__init__(f"{type}: {message}")
        self.type = type
        self.message = message
        self.outputs = outputs or {}


class Lease(Protocol):
    """What an attempt begins under; what the world sees of it begins only while that holds."""

    @property
    def holds(self) -> bool:
        """Whether nobody else can have the execution now; asked from any thread."""

    async def held(self) -> None:
        """Return once it `holds`; what somebody else took meanwhile is interrupted instead."""


class NotNow(Exception):
    """It was not begun: the lease did not hold at the last moment. Once it does, try again."""


async def under(lease: Lease, work: Callable[[], Awaitable[T]]) -> T:
    """The result of `work`, which is done again when it was `NotNow`."""
    while True:
        try:
            return await work()
        except NotNow:
            await lease.held()


@dataclass(slots=True)
class Call:
    """One attempt of a step, as its action sees it.

    Attributes:
        step: The step's key.
        log: Leaves a line in the execution's log: level, message, fields.
        emit: Starts the workflows that wait for an event.
        cut: Where to cut a text so that no secret is cut in two, see `Secrets.cut`.
        force: Set before the attempt is cancelled: end at once, without grace.
    """

    execution: str
    workflow: str
    step: str
    attempt: int
    log: Callable[[str, str, Mapping[str, Any] | None], None]
    clock: Clock
    lease: Lease
    emit: Callable[["Call", str, Mapping[str, Any]], Awaitable[None]]
    cut: Callable[[bytes, int], int] = lambda _text, at: at
    force: bool = False

    @property
    def key(self) -> str:
        """Names this attempt and no other: for idempotency at the other end."""
        return f"{self.execution}/{self.step}/{self.attempt}"


@dataclass(frozen=True, slots=True)
class Suspended:
    """The action waits, and nothing is held meanwhile: the engine records it and goes on later.

    Attributes:
        until: Epoch milliseconds; with `signal`, when to give up.
        signal: Name of the signal to wait for.
        approval: Only a signal whose payload says `approved: true` lets the step complete.
        outputs: Of the step, when the wait is over.
    """

    until: int | None = None
    signal: str | None = None
    approval: bool = False
    outputs: dict[str, Any] = field(default_factory=dict)


Result = dict[str, Any] | Suspended


class BuiltIn(Protocol):
    """An action of the engine's own, or of an entry point."""

    signature: Signature

    def perform(self, call: Call, inputs: dict[str, Any]) -> Result | Coroutine[Any, Any, Result]:
        """Do it; raises `ActionFailed`."""


def _signature(
    name: str,
    inputs: tuple[Parameter, ...] = (),
    outputs: tuple[Output, ...] = (),
    **more: Any,  # ruff: ignore[any-type]  # fields of Signature
) -> tuple[str, Signature]:
    return name, Signature(name, inputs, outputs, **more)


def _in(name: str, kind: str = "string", *, required: bool = False) -> Parameter:
    return Parameter.model_validate({"name": name, "type": kind, "required": required})


def _any(name: str, *, required: bool = False) -> Parameter:
    """An input of any type: definitions know no `any`, so the action checks it."""
    fields: dict[str, Any] = {"name": name, "type": "any", "required": required}
    return Parameter.model_construct(_fields_set=set(fields), **fields)


def _out(name: str, kind: str | None = None) -> Output:
    return Output.model_validate({"name": name, "type": kind})


BUILT_IN: Mapping[str, Signature] = dict((
    _signature(  # ruff: ignore[call-with-shell-equals-true]  # names the input that is shell
        "shell",
        (_any("command", required=True), _in("env", "object"), _in("cwd"), _in("stdin")),
        (_out("stdout", "string"), _out("exit_code", "integer")),
        shell="command",
    ),
    _signature(
        "python",
        (_in("script", required=True), _in("inputs", "object")),
        literal=frozenset({"script"}),
    ),
    _signature(
        "http",
        (
            _in("url", required=True),
            _in("method"),
            _in("headers", "object"),
            _any("json"),
            _in("body"),
            _any("expect_status"),
            _any("timeout"),
        ),
        (
            _out("status", "integer"),
            _out("headers", "object"),
            _out("json"),
            _out("body", "string"),
        ),
    ),
    _signature("log", (_any("message", required=True), _in("level"), _in("fields", "object"))),
    _signature("set", open_inputs=True),
    _signature("fail", (_in("message"), _in("type"))),
    _signature("sleep", (_any("duration"), _in("until"))),
    _signature("emit", (_in("event", required=True), _in("data", "object")), recorded=True),
    _signature(
        "wait_for_signal",
        (_in("name", required=True), _any("timeout")),
        (_out("payload"),),
        recorded=True,
    ),
    _signature(
        "approval",
        (_in("name"), _in("message"), _any("timeout")),
        (_out("payload", "object"),),
        recorded=True,
    ),
    _signature(
        "notify",
        (
            _in("message", required=True),
            _in("title"),
            _in("webhook"),
            _in("slack"),
            _in("email", "object"),
            _in("fields", "object"),
        ),
    ),
    _signature(
        "sql",
        (
            _in("url", required=True),
            _in("query", required=True),
            _any("parameters"),
            _in("max_rows", "integer"),
        ),
        (_out("rows", "array"), _out("row_count", "integer")),
        literal=frozenset({"query"}),
    ),
))
"""Signatures of the built-in actions; the modules behind them are imported when they are called."""


class Registry:
    """Actions by name: the built-in ones, and those of entry points.

    Args:
        built_in: Makes a built-in action; the module that has it is imported then.
    """

    def __init__(self, built_in: Callable[[str], BuiltIn]) -> None:
        self._built_in = built_in
        self._loaded: dict[str, BuiltIn] = {}
        self._entry_points: dict[str, Any] | None = None

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """Of every action; entry points are loaded for theirs."""
        return {name: self.get(name).signature for name in self._entries()} | dict(BUILT_IN)

    @property
    def in_use(self) -> Mapping[str, BuiltIn]:
        """Those that have been called."""
        return dict(self._loaded)

    def get(self, name: str) -> BuiltIn:
        """The action; raises `Refused` when there is none, or it cannot be loaded."""
        found = self._loaded.get(name)
        if found is None:
            found = self._loaded[name] = self._load(name)
        return found

    def _load(self, name: str) -> BuiltIn:
        if name in BUILT_IN:
            return self._built_in(name)
        entry = self._entries().get(name)
        if entry is None:
            raise Refused(f"there is no action {name!r}", reason="unknown-action")
        try:
            return _checked(name, entry.load())
        except Exception as error:
            message = f"the action {name!r} of {entry.value} cannot be loaded: {error}"
            raise Refused(message, reason="broken-action") from error

    def _entries(self) -> dict[str, Any]:
        if self._entry_points is None:
            from importlib.metadata import entry_points  # ruff: ignore[import-outside-top-level]  # start-up time

            found: dict[str, Any] = {}
            for each in entry_points(group=GROUP):
                if each.name in BUILT_IN or each.name in found:
                    message = f"the action {each.name!r} of {each.value} exists already"
                    raise Refused(message, reason="broken-action")
                found[each.name] = each
            self._entry_points = found
        return self._entry_points


def _checked(name: str, loaded: Any) -> BuiltIn:  # ruff: ignore[any-type]  # whatever a package has there
    """An instance or a class without arguments, made sure to be an action of this name."""
    action: BuiltIn = loaded() if isinstance(loaded, type) else loaded
    signature = getattr(action, "signature", None)
    if not isinstance(signature, Signature) or not callable(getattr(action, "perform", None)):
        raise TypeError("it has no `signature` and `perform`")
    if signature.name != name:
        raise TypeError(f"its signature is that of {signature.name!r}")
    return action
