"""What a document may say: the models of the definition language.

They are its one description: validation and the JSON Schema for editors come from them, and every
field says what it is for. What a document shows by itself beyond the types of its fields is in
`core/checks.py`, what needs other definitions (graph, expressions, actions) in `core/compile.py`.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from controller.core.duration import Duration

ValueType = Literal["string", "number", "integer", "boolean", "object", "array"]
Json = Any
"""A JSON value; what may be in it is the parser's concern."""

ID = r"^[A-Za-z_][A-Za-z0-9_-]*$"
NAME = r"^[A-Za-z0-9_][A-Za-z0-9_./-]*$"

Flag = Annotated[bool, Field(strict=True)]
Whole = Annotated[int, Field(strict=True)]
Number = Annotated[float, Field(strict=True)]
"""Strict: text such as `no` or `3` is text, and true is not 1."""
Id = Annotated[str, Field(pattern=ID, max_length=100)]
Variable = Annotated[str, Field(pattern=ID, max_length=100)]
Name = Annotated[str, Field(pattern=NAME, max_length=200)]

SIZE = r"^([0-9]{1,15}) ?([KMGTkmgt]?)i?[Bb]?$"
LARGEST = 2**50
"""Bytes; a larger size is a mistake."""


def parse_size(value: Any) -> int:  # ruff: ignore[any-type]  # what the document says
    """Bytes: a number, or text such as `256M`; raises `ValueError`."""
    text = str(value) if isinstance(value, int | str) and not isinstance(value, bool) else ""
    found = re.fullmatch(SIZE, text)
    size = int(found[1]) << 10 * " KMGT".index(found[2].upper() or " ") if found else 0
    if not 0 < size <= LARGEST:
        raise ValueError("a size is a number of bytes or text such as 256M or 2G")
    return size


Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({
        "oneOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": SIZE}]
    }),
]


def _version(value: Any) -> Any:  # ruff: ignore[any-type]  # what the document says
    """`version: 1.0` is a number in YAML, and meant as text."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


class Model(BaseModel):
    """Immutable, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Parameter(Model):
    """An input: of a workflow or of an action."""

    name: Variable = Field(description="Name of the input.")
    type: ValueType = Field("string", description="Type of the value.")
    required: Flag = Field(default=False, description="It must be given.")
    default: Json = Field(None, description="Value when it is not given.")
    description: str = Field("", description="Shown to people.")
    enum: tuple[Json, ...] | None = Field(None, description="The values it may have.")
    const: Json = Field(None, description="The one value it may have.")
    pattern: str | None = Field(None, description="Regular expression that text must match.")
    format: str | None = Field(None, description="JSON Schema format, such as `email` or `uri`.")
    minimum: Number | None = Field(None, description="Smallest number.")
    maximum: Number | None = Field(None, description="Largest number.")
    exclusiveMinimum: Number | None = Field(None, description="Numbers must be above this.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    exclusiveMaximum: Number | None = Field(None, description="Numbers must be below this.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    multipleOf: Number | None = Field(None, gt=0, description="Numbers must be a multiple of this.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    minLength: Whole | None = Field(None, ge=0, description="Shortest text.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    maxLength: Whole | None = Field(None, ge=0, description="Longest text.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    minItems: Whole | None = Field(None, ge=0, description="Fewest items of an array.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    maxItems: Whole | None = Field(None, ge=0, description="Most items of an array.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    uniqueItems: Flag | None = Field(None, description="No item comes twice.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name
    items: Json = Field(None, description="JSON Schema of the items.")
    properties: dict[str, Json] | None = Field(None, description="JSON Schemas of members.")
    additionalProperties: Json = Field(None, description="JSON Schema of other members.")  # ruff: ignore[mixed-case-variable-in-class-scope]  # JSON Schema's name

    @property
    def has_default(self) -> bool:
        """`default` is given, be it null."""
        return "default" in self.model_fields_set

    def schema_of_value(self) -> dict[str, Any] | None:
        """JSON Schema of the constraints beyond the type; None: there are none."""
        given = self.model_fields_set - {"name", "type", "required", "default", "description"}
        dumped = self.model_dump(include=given, mode="json") if given else {}
        limits = {key: each for key, each in dumped.items() if each is not None or key == "const"}
        return {"type": self.type, **limits} if limits else None


class Output(Model):
    """An output: of a workflow or of an action."""

    name: Variable = Field(description="Name of the output.")
    type: ValueType | None = Field(None, description="Type of the value.")
    source: str | None = Field(
        None, description="Of a workflow's output: a step's id, a path below one, or `${…}`."
    )
    description: str = Field("", description="Shown to people.")


class Retry(Model):
    """How a failed step is tried again."""

    attempts: Whole | None = Field(
        None, ge=1, le=1000, description="All tries, the first included; default from settings."
    )
    delay: Duration | None = Field(None, description="Before another try; default from settings.")
    backoff: Literal["constant", "linear", "exponential"] = Field(
        "exponential",
        description="After the nth try: delay, delay * n, or delay * 2^(n-1).",
    )
    max_delay: Duration | None = Field(None, description="The longest delay.")
    jitter: Number = Field(
        0.0, ge=0, le=1, description="Share of the delay that is random, 0 to 1."
    )
    on: tuple[str, ...] = Field((), description="Error types to retry; empty: all.")
    then: Literal["fail", "continue", "goto"] = Field(
        "fail", description="What to do when all tries have failed."
    )


class Condition(Model):
    """A choice between two lists of steps."""

    expression: str | Flag = Field(description="A boolean expression.")
    then_steps: tuple["Step", ...] = Field((), description="Steps if it is true.")
    else_steps: tuple["Step", ...] = Field((), description="Steps if it is false.")


class Parallel(Model):
    """Lists of steps side by side."""

    branches: tuple[tuple["Step", ...], ...] = Field(min_length=1, description="Lists of steps.")
    wait_all: Flag = Field(
        default=True,
        description="False: the first branch to complete wins, the others are cancelled.",
    )
    max_parallel: Whole | None = Field(None, ge=1, description="How many branches run at once.")


class Loop(Model):
    """A list of steps, once for each item, or as long as a condition holds."""

    over: Json = Field(None, description="A list (or an object), usually `${…}`.")
    as_: Variable = Field(
        "item", alias="as", description="The loop variable; its index is this name with `_index`."
    )
    steps: tuple["Step", ...] = Field(min_length=1, description="Steps of one iteration.")
    max_iterations: Whole | None = Field(
        None, ge=1, description="More items than this fail the step before the first iteration."
    )
    parallel: Whole = Field(1, ge=1, le=10_000, description="Iterations at once.")
    while_: str | Flag | None = Field(
        None, alias="while", description="Instead of `over`: go on as long as this holds."
    )


class Step(Model):
    """One step of a workflow."""

    id: Id = Field(description="Unique in the workflow.")
    name: str = Field("", description="Shown to people.")
    type: Literal["action", "condition", "parallel", "loop", "subflow"] = Field(
        description="What kind of step it is."
    )
    description: str = Field("", description="Shown to people.")
    inputs: dict[str, Json] = Field(
        default_factory=dict, description="Inputs of the action or subflow; may use `${…}`."
    )
    outputs: tuple[Variable, ...] = Field(
        (), description="Variables to make of the result; without it, those the action declares."
    )
    depends_on: tuple[str, ...] | None = Field(
        None, description="Steps of the same list to wait for; default: the step above."
    )
    when: str | Flag | None = Field(None, description="A boolean expression; false skips the step.")
    on_error: Literal["fail", "continue", "retry", "goto"] = Field(
        "fail", description="What to do when it fails."
    )
    goto: str | None = Field(None, description="The step of the same list to go on at.")
    retry: Retry | None = Field(None, description="How to try again.")
    timeout: Duration | None = Field(None, description="How long one attempt may take.")
    idempotent: Flag = Field(
        default=True,
        description="False: a step in flight at a crash fails as `interrupted`, never twice.",
    )
    action: str | None = Field(None, description="The action to call (`type: action`).")
    condition: Condition | None = Field(None, description="The choice (`type: condition`).")
    parallel: Parallel | None = Field(None, description="The branches (`type: parallel`).")
    loop: Loop | None = Field(None, description="The loop (`type: loop`).")
    subflow: str | None = Field(None, description="The workflow to execute (`type: subflow`).")

    def children(self) -> Iterator["Step"]:
        """The steps directly inside it."""
        if self.condition is not None:
            yield from self.condition.then_steps
            yield from self.condition.else_steps
        if self.parallel is not None:
            for branch in self.parallel.branches:
                yield from branch
        if self.loop is not None:
            yield from self.loop.steps


class Schedule(Model):
    """When a workflow is executed by itself."""

    cron: str | None = Field(
        None, description="Five fields, six with seconds first, or @daily and friends."
    )
    at: str | None = Field(None, description="One time, ISO 8601.")
    timezone: str = Field("UTC", description="IANA time zone.")
    inputs: dict[str, Json] = Field(default_factory=dict, description="Inputs of the executions.")
    overlap: Literal["skip", "queue_one", "queue_all", "cancel_running", "allow"] = Field(
        "skip", description="What to do when it fires while an execution of it has not ended."
    )
    catchup: Duration = Field(0, description="How far back missed fires are made up.")
    jitter: Duration = Field(0, description="Fires are late by up to this.")
    start: str | None = Field(None, description="No fire before this time, ISO 8601.")
    end: str | None = Field(None, description="No fire after this time, ISO 8601.")
    paused: Flag = Field(default=False, description="Does not fire.")


class ScheduledTrigger(Model):
    """Executed by time."""

    type: Literal["scheduled"] = Field(description="The kind of trigger.")
    config: Schedule = Field(description="When.")


class ManualTrigger(Model):
    """Executed by people; every workflow is, with or without this trigger."""

    type: Literal["manual"] = Field(description="The kind of trigger.")
    config: dict[str, Json] = Field(default_factory=dict, description="Not interpreted.")


class EventConfig(Model):
    """Which events."""

    event: str = Field(min_length=1, max_length=200, description="Name of the event, as in `emit`.")
    when: str | Flag | None = Field(
        None, description="A boolean expression over `event.data`; false ignores the event."
    )
    inputs: dict[str, Json] = Field(
        default_factory=dict, description="Inputs, with `${event.data.…}`."
    )


class EventTrigger(Model):
    """Executed by an event that a step emits."""

    type: Literal["event"] = Field(description="The kind of trigger.")
    config: EventConfig = Field(description="Which event.")


class WebhookConfig(Model):
    """Which requests."""

    secret: str | None = Field(
        None, description="Name of the secret that requests are signed with."
    )
    inputs: dict[str, Json] = Field(
        default_factory=dict, description="Inputs, with `${event.data.…}` for the request's JSON."
    )


class WebhookTrigger(Model):
    """Executed by a request to the HTTP port."""

    type: Literal["webhook"] = Field(description="The kind of trigger.")
    config: WebhookConfig = Field(
        default_factory=WebhookConfig, description="How requests are taken."
    )


Trigger = Annotated[
    ScheduledTrigger | ManualTrigger | EventTrigger | WebhookTrigger, Field(discriminator="type")
]


class Concurrency(Model):
    """How many executions of the workflow run at once."""

    max: Whole = Field(1, ge=1, description="How many.")
    key: str | None = Field(None, description="Counted by the value of this text with `${…}`.")
    on_full: Literal["queue", "skip", "cancel_oldest"] = Field(
        "queue", description="What to do with one more."
    )


class Retention(Model):
    """How long finished executions are kept."""

    days: Whole | None = Field(None, ge=1, description="Days since the end.")
    keep_last: Whole | None = Field(None, ge=1, description="The newest ones.")


class Workflow(Model):
    """A workflow."""

    kind: Literal["workflow"] = Field("workflow", description="What the document defines.")
    name: Name = Field(description="Identity of the workflow.")
    version: Annotated[str, BeforeValidator(_version)] = Field(
        "1.0.0", description="The author's label; the engine goes by the content's digest."
    )
    description: str = Field("", description="Shown to people, searchable.")
    labels: dict[str, str] = Field(default_factory=dict, description="Shown, searchable.")
    metadata: dict[str, Json] = Field(default_factory=dict, description="Kept, not interpreted.")
    status: Literal["active", "inactive"] = Field(
        "active", description="Inactive: kept, not scheduled, refused by execute."
    )
    inputs: tuple[Parameter, ...] = Field((), description="What an execution is given.")
    outputs: tuple[Output, ...] = Field((), description="What an execution gives.")
    triggers: tuple[Trigger, ...] = Field((), description="What starts executions.")
    steps: tuple[Step, ...] = Field(min_length=1, description="What is done.")
    error_handler: Step | None = Field(
        None, description="One step that runs once when the execution fails; sees `${error.…}`."
    )
    timeout: Duration | None = Field(
        None, gt=0, description="Of the whole execution; default from settings."
    )
    concurrency: Concurrency | None = Field(None, description="How many executions at once.")
    retention: Retention | None = Field(None, description="How long executions are kept.")

    def all_steps(self) -> Iterator[Step]:
        """Every step, however deep, and the error handler."""
        front = list(reversed(self.steps))
        if self.error_handler is not None:
            front.insert(0, self.error_handler)
        while front:
            step = front.pop()
            yield step
            front.extend(reversed(list(step.children())))


class Sandbox(Model):
    """What a script is kept from."""

    network: Flag = Field(default=True, description="It may use the network.")
    memory: Size | None = Field(None, description="Bytes of address space, or text such as 256M.")


class Run(Model):
    """What a defined action does: `python`, `shell`, or one built-in action with its inputs."""

    kind: str = Field(description="`python`, `shell`, or the built-in action.")
    script: str | None = Field(None, description="Of `python` and `shell`.")
    inputs: dict[str, Json] = Field(
        default_factory=dict, description="Of a built-in action; may use `${…}` over the inputs."
    )


def _run(value: Any) -> Any:  # ruff: ignore[any-type]  # what the document says
    """`{python: text}`, `{shell: text}` or `{http: {…}}`."""
    if isinstance(value, Run):
        return value
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError("it has one key: `python`, `shell`, or a built-in action")
    [(kind, body)] = value.items()
    if kind in {"python", "shell"}:
        if not isinstance(body, str) or not body.strip():
            raise ValueError(f"`{kind}` is the text of a script")
        return Run(kind=kind, script=body)
    if body is not None and not isinstance(body, dict):
        raise ValueError(f"`{kind}` is followed by the inputs of that action")
    return Run(kind=str(kind), inputs=body or {})


class Action(Model):
    """An action, defined."""

    kind: Literal["action"] = Field(description="What the document defines.")
    name: Name = Field(description="What steps call it by.")
    description: str = Field("", description="Shown to people.")
    inputs: tuple[Parameter, ...] = Field((), description="What it takes.")
    outputs: tuple[Output, ...] = Field((), description="What it gives.")
    run: Annotated[Run, BeforeValidator(_run)] = Field(description="What it does.")
    timeout: Duration | None = Field(None, gt=0, description="How long one call may take.")
    sandbox: Sandbox | None = Field(None, description="What its script is kept from.")
    env: dict[str, str] = Field(default_factory=dict, description="Environment of its script.")


Condition.model_rebuild()
