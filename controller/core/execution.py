"""An execution in memory: what is recorded (events), what follows (commands), the state between.

A checkpoint row is one `Event`: a fact that came from outside the state machine — a step's result,
a timer that came due, a person's wish. Everything else (which steps start, which are skipped, how
the execution ends) follows from the plan and the events, so the fold of the events *is* the
execution: `core/decide.py` is the only code that changes this state.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypedDict

if TYPE_CHECKING:
    from controller.core.plan import Block, Plan, StepPlan


class Status(StrEnum):
    """Of an execution or of a step; the seed's words, with `waiting` and `cancelled` for steps."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    COMPLETED = "completed"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


ACTIVE = frozenset({Status.RUNNING, Status.WAITING})
SETTLED = frozenset({Status.COMPLETED, Status.FAILED, Status.SKIPPED, Status.CANCELLED})
FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

PENDING, RUNNING, COMPLETED = Status.PENDING, Status.RUNNING, Status.COMPLETED
"""Where every step passes: Python 3.11 takes ten times as long for a member as for a name."""


class Reason(StrEnum):
    """Why a step is waiting, was skipped or was cancelled; verbatim in logs, metrics and JSON."""

    WHEN_FALSE = "when-false"
    FAILED_BEFORE = "failed-before"
    GOTO = "goto"
    CANCELLED = "cancelled"
    BRANCH_WON = "branch-won"
    TIMED_OUT = "timed-out"
    RETRY = "retry"
    TIMER = "timer"
    SIGNAL = "signal"
    SUBFLOW = "subflow"


class Failure(TypedDict):
    """What failed: `${error.step}`, `${error.type}`, `${error.message}`."""

    step: str | None
    type: str
    message: str


class EventType(StrEnum):
    """The kinds of checkpoint; `data` of each is described beside it."""

    COMPLETED = "completed"  # an action or a child succeeded: {outputs}
    FAILED = "failed"  # an attempt failed: {type, message}
    SUSPENDED = "suspended"  # the action waits durably: {until, signal, approval, outputs}
    DUE = "due"  # a timer: {timer: retry | wake | timeout | deadline}
    SIGNAL = "signal"  # somebody sent one: {name, payload}
    CANCEL = "cancel"  # {force, reason}
    PAUSE = "pause"  # {restart}: for one of the daemon, by nobody; {unbegun}: nothing was done yet
    RESUME = "resume"
    BROKEN = "broken"  # a bug of the engine's showed in it, and ends it: {message}
    TAKEN_OVER = "taken-over"  # another controller goes on with it: {owner}; it changes nothing


class Event(NamedTuple):
    """One recorded fact; `at` is epoch milliseconds. `step` is a step's key (see `StepState`)."""

    type: EventType
    at: int
    step: str | None = None
    attempt: int = 0
    data: Mapping[str, Any] = {}  # nobody changes it, as the type says


TimerName = Literal["retry", "wake", "timeout", "deadline"]


class Perform(NamedTuple):
    """Call the step's action."""

    step: str
    attempt: int


class Launch(NamedTuple):
    """Create the step's child execution; its id follows from (execution, step, attempt)."""

    step: str
    attempt: int


class Stop(NamedTuple):
    """End what the step does: its process, its call or its child execution."""

    step: str
    attempt: int
    force: bool


class Arm(NamedTuple):
    """Report `due` for this step and attempt (`None`: the execution) at `due`, epoch ms."""

    step: str | None
    attempt: int
    timer: TimerName
    due: int


class Finish(NamedTuple):
    """The execution has ended; nothing is recorded after this."""

    status: Status


Command = Perform | Launch | Stop | Arm | Finish


class Change(NamedTuple):
    """A transition, for those who watch: of a step, or of the execution where `step` is None."""

    step: str | None
    status: Status
    attempt: int = 0
    reason: str | None = None
    error: Failure | None = None


class Decision(NamedTuple):
    """What an event brought about; the commands wait until the event is durable."""

    commands: list[Command]
    changes: list[Change]


class Scope:
    """The variables visible at one place: the execution's, or those of one loop iteration."""

    __slots__ = ("names", "outer", "prefix")

    def __init__(self, prefix: str, outer: "Scope | None") -> None:
        self.prefix = prefix
        self.outer = outer
        self.names: dict[str, Any] = {}


class Frame:
    """One list of steps being executed: the top, a branch, or one iteration of a loop.

    Attributes:
        active: How many of its steps are running or waiting.
        open: How many have not settled.
        failure: Set once a failure here will fail the list: nothing new starts.
    """

    __slots__ = ("active", "block", "closed", "failure", "index", "open", "owner", "scope", "steps")

    def __init__(self, block: "Block", scope: Scope, owner: "StepState | None", index: int) -> None:
        self.block = block
        self.scope = scope
        self.owner = owner
        self.index = index
        self.active = 0
        self.open = len(block.steps)
        self.closed = False
        self.failure: Failure | None = None
        self.steps: dict[str, StepState] = {}


class StepState:
    """One step at one place. Its `key` is its id, after `loop[index].` for each loop around it.

    Attributes:
        attempt: How often it was started, over all visits; with the key it names one attempt.
        tries: How often in this visit; what `retry.attempts` counts.
        unmet: How many of its dependencies have not settled.
        frames: Its lists of steps, where it is a condition, a parallel or a loop.
        cursor: The next branch or iteration to open.
        since: From when its timeout counts.
    """

    __slots__ = (
        "attempt",
        "completed_at",
        "cursor",
        "due",
        "error",
        "failure",
        "frame",
        "frames",
        "gotos",
        "items",
        "key",
        "open_frames",
        "outputs",
        "plan",
        "reason",
        "results",
        "signal",
        "since",
        "started_at",
        "status",
        "stopping",
        "tries",
        "unmet",
        "wait",
    )

    def __init__(self, plan: "StepPlan", frame: Frame) -> None:
        self.plan = plan
        self.frame = frame
        self.key = frame.scope.prefix + plan.id
        self.attempt = 0
        self.gotos = 0
        self.reset(frame)

    def reset(self, frame: Frame) -> None:
        """Make it ready for another visit; attempts and gotos go on counting."""
        self.frame = frame
        self.status = PENDING
        self.tries = 0
        self.unmet = len(self.plan.needs)
        self.outputs: dict[str, Any] | None = None
        self.error: Failure | None = None
        self.reason: str | None = None
        self.started_at: int | None = None
        self.completed_at: int | None = None
        self.since = 0
        self.stopping = False
        self.due: int | None = None
        self.signal: str | None = None
        self.wait: Mapping[str, Any] = _NOTHING
        self.failure: Failure | None = None
        self.frames: dict[int, Frame] = _NO_FRAMES
        self.open_frames = 0
        self.cursor = 0
        self.items: list[Any] | None = None
        self.results: list[dict[str, Any]] = _NO_RESULTS

    def hold(self) -> None:
        """Be about to hold lists of steps, and none of an attempt before."""
        self.failure = None
        self.frames = {}
        self.open_frames = 0
        self.cursor = 0
        self.items = None
        self.results = []


# Shared by all that hold no steps, and may be ten thousand; whoever would change one gets an error.
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NO_FRAMES: Any = MappingProxyType({})
_NO_RESULTS: Any = ()


@dataclass(slots=True)
class Identity:
    """What an execution is born with and never changes; the columns of its row.

    Times are epoch milliseconds. `trigger` is `{type, due_at, …}`; `inputs` are checked already.
    """

    id: str
    workflow: str
    inputs: dict[str, Any]
    trigger: dict[str, Any]
    started_at: int


class ExecutionState:
    """The whole execution; owned by one fold and changed in place.

    Attributes:
        deadline: When it, or its error handler, has taken too long; `overdue`: it was told so.
    """

    __slots__ = (
        "cancelling",
        "completed_at",
        "deadline",
        "error",
        "failure",
        "frame",
        "handling",
        "held",
        "identity",
        "outputs",
        "overdue",
        "paused_at",
        "plan",
        "restarting",
        "signals",
        "status",
        "steps",
    )

    def __init__(self, plan: "Plan", identity: Identity) -> None:
        self.plan = plan
        self.identity = identity
        self.status = Status.RUNNING
        self.steps: dict[str, StepState] = {}
        self.frame = Frame(plan.body, Scope("", None), None, 0)
        self.handling = False
        self.failure: Failure | None = None
        self.error: dict[str, Any] | None = None
        self.cancelling = False
        self.paused_at: int | None = None
        self.restarting = False
        self.held: list[StepState] = []
        self.signals: dict[str, list[Any]] = {}
        self.outputs: dict[str, Any] = {}
        self.completed_at: int | None = None
        self.deadline = identity.started_at + plan.timeout
        self.overdue = False

    def active_steps(self) -> Iterator[StepState]:
        """Every step that runs or waits, containers included, in the order they were first met."""
        return (step for step in self.steps.values() if step.status in ACTIVE)
