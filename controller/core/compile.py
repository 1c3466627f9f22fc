"""Definition → plan: the graph of the steps, every expression compiled, every name accounted for.

Refuses what could only fail later: cycles, unknown actions and names, values used before they
exist, inputs that an action does not take, schedules that never fire. Reports all of it at once.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from controller.core.concurrency import KEY, compile_key
from controller.core.definition import (
    Action,
    EventTrigger,
    ManualTrigger,
    Output,
    Parameter,
    ScheduledTrigger,
    Step,
    WebhookTrigger,
    Workflow,
)
from controller.core.expression import (
    ALWAYS_THERE,
    Scope,
    Template,
    compile_condition,
    compile_template,
    suggestion,
)
from controller.core.graph import Graph
from controller.core.inputs import check_inputs, fits
from controller.core.occasion import check_occasion
from controller.core.plan import Block, InputsPlan, OutputPlan, Plan, Signature, StepPlan
from controller.core.policy import Policy
from controller.core.problem import Path, Problem
from controller.core.retry import RetryPolicy
from controller.core.shelltext import compile_shell
from controller.core.timetable import compile_timetable
from controller.core.visible import Visible, produced

if TYPE_CHECKING:
    from controller.core.cel import Type

RESERVED = frozenset(ALWAYS_THERE)


def compile_plan(
    workflow: Workflow,
    actions: Mapping[str, Signature],
    subflows: Mapping[str, Signature],
    policy: Policy,
    digest: str,
) -> tuple[Plan, list[Problem]]:
    """Compile `workflow` against what it may call.

    Args:
        workflow: A valid definition.
        actions: Built-in and defined actions by name.
        subflows: The workflows it may start, by name.
        policy: Defaults for what the definition leaves open.
        digest: See `digest_of`.

    Returns:
        The plan, which may only be executed when no problem is an error.
    """
    compiler = _Compiler(workflow, actions, subflows, policy)
    return compiler.plan(digest), compiler.problems


class _Compiler:  # ruff: ignore[too-many-public-methods]  # one a kind of thing to compile
    """One workflow being compiled; collects problems as it goes."""

    def __init__(
        self,
        workflow: Workflow,
        actions: Mapping[str, Signature],
        workflows: Mapping[str, Signature],
        policy: Policy,
    ) -> None:
        self.workflow = workflow
        self.actions = actions
        self.workflows = workflows
        self.policy = policy
        self.problems: list[Problem] = []
        self.steps: dict[str, StepPlan] = {}
        self.names: set[str] = set()
        self.called: dict[str, None] = {}
        self.subflows: dict[str, None] = {}
        self.levels: dict[Path, Visible] = {}
        self.inputs: dict[str, Type] = {item.name: item.type for item in workflow.inputs}

    def plan(self, digest: str) -> Plan:
        """Compile everything."""
        workflow = self.workflow
        self.check_reserved()
        top = Visible(self.inputs, None)
        body = self.block(workflow.steps, ("steps",), top)
        after = self.levels["steps",].after()
        handler = None
        if workflow.error_handler is not None:
            visible = after.with_error()
            handler = self.block((workflow.error_handler,), ("error_handler",), visible)
        outputs = tuple(
            self.output(item, ("outputs", index), after)
            for index, item in enumerate(workflow.outputs)
        )
        self.check_workflow_expressions()
        return Plan(
            name=workflow.name,
            version=workflow.version,
            digest=digest,
            body=body,
            handler=handler,
            steps=self.steps,
            names=frozenset(self.names),
            outputs=outputs,
            timeout=self.policy.timeout if workflow.timeout is None else workflow.timeout,
            policy=self.policy,
            actions=tuple(self.called),
            subflows=tuple(self.subflows),
        )

    def report(self, code: str, message: str, path: Path, hint: str | None = None) -> None:
        """Add an error."""
        self.problems.append(Problem(code, message, path, hint))

    def check_reserved(self) -> None:
        """The roots that are always there cannot be hidden."""
        for index, item in enumerate(self.workflow.inputs):
            if item.name in RESERVED:
                message = f"`{item.name}` is always there and cannot be the name of an input"
                self.report("reserved-name", message, ("inputs", index, "name"))

    # -- lists ------------------------------------------------------------------------------

    def block(self, steps: tuple[Step, ...], path: Path, outer: Visible) -> Block:
        """Compile a list of steps, in an order in which each follows what it needs."""
        graph = Graph(steps)
        for problem in graph.problems(path):
            self.problems.append(problem)
        plans: dict[str, StepPlan] = {}
        visible = self.levels[path] = outer.inside(steps, graph, self.signature)
        for index, step in enumerate(steps):
            here = visible.at(index)
            plans[step.id] = self.step(step, index, (*path, index), here, graph)
        for step in steps:
            self.check_goto(step, plans, (*path, graph.index[step.id]))
        return Block(tuple(plans.values()), plans)

    def check_goto(self, step: Step, siblings: Mapping[str, Any], path: Path) -> None:
        """`goto` goes to a step of the same list."""
        if step.goto is not None and step.goto not in siblings:
            hint = suggestion(step.goto, siblings) or "name a step of the same list"
            message = f"step `{step.id}` goes to `{step.goto}`, which is not in the same list"
            self.report("unknown-step", message, (*path, "goto"), hint)

    # -- steps ------------------------------------------------------------------------------

    def step(self, step: Step, index: int, path: Path, visible: Visible, graph: Graph) -> StepPlan:
        """Compile one step."""
        on_error, retry = self.reaction(step)
        plan = StepPlan(
            id=step.id,
            name=step.name,
            type=step.type,
            index=index,
            needs=graph.needs[index],
            dependents=graph.dependents[index],
            on_error=on_error,
            goto=step.goto,
            retry=retry,
            timeout=step.timeout,
            idempotent=step.idempotent,
        )
        self.steps[step.id] = plan
        if step.when is not None:
            plan.when = self.condition(step.when, (*path, "when"), visible)
        self.binding(plan, step, path)
        _BY_TYPE[step.type](self, plan, step, path, visible)
        return plan

    def reaction(self, step: Step) -> tuple[Any, RetryPolicy | None]:
        """What to do when it fails: tries first, then fail, continue or goto."""
        retry, on_error = step.retry, step.on_error
        if retry is None and on_error != "retry":
            return on_error, None
        attempts = retry.attempts if retry and retry.attempts is not None else None
        delay = retry.delay if retry and retry.delay is not None else None
        policy = RetryPolicy(
            attempts=self.policy.retry_attempts if attempts is None else attempts,
            delay=self.policy.retry_delay if delay is None else delay,
            backoff=retry.backoff if retry else "exponential",
            max_delay=retry.max_delay if retry else None,
            jitter=retry.jitter if retry else 0.0,
            on=retry.on if retry else (),
            then=retry.then if retry else "fail",
        )
        return (policy.then if on_error == "retry" else on_error), policy

    def binding(self, plan: StepPlan, step: Step, path: Path) -> None:
        """Which variables the step makes."""
        for index, name in enumerate(step.outputs):
            if name in RESERVED:
                message = f"`{name}` is always there and cannot be the name of an output"
                self.report("reserved-name", message, (*path, "outputs", index))
        plan.explicit = bool(step.outputs)
        if plan.nested and plan.type != "loop":
            self.names.update(produced(step, self.signature))
            return
        made = produced(step, self.signature)
        plan.binds = step.outputs or tuple(made)
        self.names.update(made)

    def signature(self, step: Step) -> Signature | None:
        """What the step calls, where it is known."""
        if step.type == "action" and step.action is not None:
            return self.actions.get(step.action)
        if step.type == "subflow" and step.subflow is not None:
            return self.workflows.get(step.subflow)
        return None

    def action(self, plan: StepPlan, step: Step, path: Path, visible: Visible) -> None:
        """An action: known, with inputs it takes."""
        plan.action = step.action
        signature = self.signature(step)
        if signature is None:
            hint = suggestion(step.action or "", self.actions)
            hint = hint or "define it with `kind: action`, or check the spelling"
            message = f"step `{step.id}` calls the action `{step.action}`, which nobody defines"
            self.report("unknown-action", message, (*path, "action"), hint)
        else:
            self.called[signature.name] = None
            plan.definition = signature.definition
            plan.open_outputs = signature.open_inputs
        plan.inputs = self.call_inputs(step, signature, (*path, "inputs"), visible)

    def subflow(self, plan: StepPlan, step: Step, path: Path, visible: Visible) -> None:
        """Another workflow: known, active or not, with inputs it takes."""
        plan.subflow = step.subflow
        signature = self.signature(step)
        if signature is None:
            hint = suggestion(step.subflow or "", self.workflows)
            message = f"step `{step.id}` starts the workflow `{step.subflow}`, which does not exist"
            self.report("unknown-workflow", message, (*path, "subflow"), hint)
        else:
            self.subflows[signature.name] = None
        plan.inputs = self.call_inputs(step, signature, (*path, "inputs"), visible)

    def container_condition(self, plan: StepPlan, step: Step, path: Path, visible: Visible) -> None:
        """A condition and its two branches."""
        body = step.condition
        if body is None:
            return
        here = (*path, "condition")
        plan.expression = self.condition(body.expression, (*here, "expression"), visible)
        plan.blocks = (
            self.block(body.then_steps, (*here, "then_steps"), visible),
            self.block(body.else_steps, (*here, "else_steps"), visible),
        )

    def container_parallel(self, plan: StepPlan, step: Step, path: Path, visible: Visible) -> None:
        """Branches side by side."""
        body = step.parallel
        if body is None:
            return
        plan.blocks = tuple(
            self.block(branch, (*path, "parallel", "branches", index), visible)
            for index, branch in enumerate(body.branches)
        )
        plan.wait_all = body.wait_all
        plan.width = len(body.branches) if body.max_parallel is None else body.max_parallel

    def container_loop(self, plan: StepPlan, step: Step, path: Path, visible: Visible) -> None:
        """A list of steps over items, or while something holds."""
        body = step.loop
        if body is None:
            return
        here = (*path, "loop")
        if body.as_ in RESERVED:
            message = f"`{body.as_}` is always there and cannot be the loop's variable"
            self.report("reserved-name", message, (*here, "as"))
        plan.item = body.as_
        plan.max_iterations = body.max_iterations
        plan.width = body.parallel
        if body.over is not None:
            plan.over = self.template(body.over, (*here, "over"), visible)
            if plan.over.type not in {"array", "object", "any"}:
                message = f"a loop goes over a list or an object, and this is a {plan.over.type}"
                self.report("wrong-type", message, (*here, "over"))
        inner = visible.loop(body.as_, counted=body.over is not None)
        plan.blocks = (self.block(body.steps, (*here, "steps"), inner),)
        self.names.update((body.as_, f"{body.as_}_index"))
        if body.while_ is not None:
            after = self.levels[*here, "steps"].after()
            plan.until = self.condition(body.while_, (*here, "while"), after)

    # -- values -----------------------------------------------------------------------------

    def call_inputs(
        self, step: Step, signature: Signature | None, path: Path, visible: Visible
    ) -> InputsPlan:
        """The inputs of a call, checked against what is called."""
        given = dict(step.inputs)
        shell_key = signature.shell if signature else None
        shell_text = None
        if shell_key is not None and isinstance(given.get(shell_key), str):
            text = given.pop(shell_key)
            where = (*path, shell_key)
            shell_text, problems = compile_shell(text, visible.scope(), where)
            self.found(problems, shell_text.references, where, visible)
        else:
            shell_key = None
        literal = (
            {name: given.pop(name) for name in signature.literal & given.keys()}
            if signature
            else {}
        )
        template = self.template(given, path, visible, literal=literal, secrets=True)
        if signature is not None:
            self.check_call(step, signature, path)
            self.check_secrets(signature, template, path)
        return InputsPlan(template, shell_key, shell_text)

    def check_secrets(self, signature: Signature, template: Template, path: Path) -> None:
        """No secret is given to what records its inputs, by itself or by the action it calls."""
        definition = signature.definition
        called = signature if definition is None else self.actions.get(definition.run.kind)
        if called is None or not called.recorded:
            return
        if any(reference[0] == "secrets" for reference in template.references):
            message = f"what `{signature.name}` is given is recorded, and a secret never is"
            hint = "let the step that needs the secret name it itself"
            self.report("misplaced-secret", message, path, hint)

    def check_call(self, step: Step, signature: Signature, path: Path) -> None:
        """Names known, required ones given, constants of the right type."""
        if signature.open_inputs:
            return
        known = {parameter.name: parameter for parameter in signature.inputs}
        for name, value in step.inputs.items():
            parameter = known.get(name)
            if parameter is None:
                takes = ", ".join(f"`{one}`" for one in known) or "no inputs"
                hint = suggestion(name, known) or f"`{signature.name}` takes {takes}"
                message = f"`{signature.name}` has no input `{name}`"
                self.problems.append(
                    Problem("unknown-input", message, (*path, name), hint, at_key=True)
                )
            elif not _may_fit(value, parameter):
                message = f"input `{name}` of `{signature.name}` must be {parameter.type}"
                self.report("wrong-type", message, (*path, name))
        for name, parameter in known.items():
            if parameter.required and name not in step.inputs:
                message = (
                    f"step `{step.id}` does not give `{name}`, which `{signature.name}` requires"
                )
                where = path if step.inputs else path[:-1]
                self.report("missing-input", message, where, f"add `{name}` below `inputs:`")

    def template(
        self,
        value: Any,  # ruff: ignore[any-type]  # a JSON value of the document
        path: Path,
        visible: Visible,
        *,
        literal: Mapping[str, Any] | None = None,
        secrets: bool = False,
    ) -> Template:
        """Compile a value and account for every name in it."""
        template, problems = compile_template(value, visible.scope(), path, literal=literal)
        self.found(problems, template.references, path, visible, secrets=secrets)
        return template

    def condition(self, value: str | bool, path: Path, visible: Visible) -> Template:  # ruff: ignore[boolean-type-hint-positional-argument]  # a document's value
        """Compile a boolean and account for every name in it."""
        template, problems = compile_condition(value, visible.scope(), path)
        self.found(problems, template.references, path, visible, secrets=False)
        return template

    def found(
        self,
        problems: list[Problem],
        references: Iterable[tuple[str, ...]],
        path: Path,
        visible: Visible,
        *,
        secrets: bool = True,
    ) -> None:
        """Keep an expression's problems, and add those of names that come too late."""
        self.problems.extend(problems)
        for reference in references:
            if reference[0] == "secrets" and not secrets:
                message = "a secret may only be an input of a step, where it is resolved and masked"
                self.report("misplaced-secret", message, path)
            problem = visible.missing(reference, path)
            if problem is not None:
                self.problems.append(problem)

    def output(self, output: Output, path: Path, after: Visible) -> OutputPlan:
        """A workflow's output: a step, a path below one, an expression, or a variable."""
        source = output.source if output.source is not None else output.name
        where = (*path, "source") if output.source is not None else (*path, "name")
        if "${" in source:
            return OutputPlan(output.name, output.type, self.template(source, where, after))
        head, _, rest = source.partition(".")
        if head not in self.steps:
            if output.source is None and (head in self.names or head in self.inputs):
                template = self.template(f"${{{source}}}", where, after)
                return OutputPlan(output.name, output.type, template)
            hint = suggestion(head, self.steps) or "name a step, a path below one, or write ${…}"
            message = f"output `{output.name}` comes from `{head}`, and there is no such step"
            self.report("unknown-step", message, where, hint)
            return OutputPlan(output.name, output.type, self.template(None, where, after))
        text = f"${{steps.{head}.outputs{'.' + rest if rest else ''}}}"
        return OutputPlan(output.name, output.type, self.template(text, where, after), head)

    def check_workflow_expressions(self) -> None:
        """The concurrency key has names of its own; triggers give what the inputs are."""
        workflow = self.workflow
        template, problems = compile_key(workflow)
        secrets = [each for each in template.references if each[0] == "secrets"]
        self.found(problems, secrets, KEY, Visible(self.inputs, None), secrets=False)
        for index, trigger in enumerate(workflow.triggers):
            if not isinstance(trigger, ManualTrigger):
                given = trigger.config.inputs
                computed = {name for name, value in given.items() if _is_computed(value)}
                if isinstance(trigger, ScheduledTrigger):
                    computed.clear()  # what it says is what it gives
                self.check_given(given, computed, ("triggers", index, "config", "inputs"))

    def check_given(self, given: Mapping[str, Any], computed: set[str], path: Path) -> None:
        """What a trigger gives: names known, required ones given, constants of the right type."""
        computed &= self.inputs.keys()
        parameters = tuple(each for each in self.workflow.inputs if each.name not in computed)
        plain = {name: value for name, value in given.items() if name not in computed}
        _, problems = check_inputs(parameters, plain)
        for each in problems:
            where = path if given else path[:-1]
            self.problems.append(replace(each, path=(*where, *each.path)))


def check_triggers(workflow: Workflow, now: int) -> list[Problem]:
    """Wrong expressions, and schedules that are wrong or never fire after `now` (epoch ms)."""
    found: list[Problem] = []
    for index, trigger in enumerate(workflow.triggers):
        path: Path = ("triggers", index)
        if isinstance(trigger, ScheduledTrigger):
            config, place = trigger.config, (*path, "config")
            _, problems = compile_timetable(config, workflow=workflow.name, path=place, now=now)
            found.extend(problems)
        elif isinstance(trigger, EventTrigger | WebhookTrigger):
            found.extend(check_occasion(trigger, path))
    return found


def check_action(action: Action, built_in: Mapping[str, Signature]) -> list[Problem]:
    """What is wrong with a defined action that its document alone does not show."""
    types: dict[str, Type] = {item.name: item.type for item in action.inputs}
    scope = Scope(names={**types, "inputs": "object"}, members={"inputs": types})
    run, path = action.run, ("run", action.run.kind)
    if run.kind == "python":
        return []
    if run.kind == "shell":
        return compile_shell(run.script or "", scope, path)[1]
    signature = built_in.get(run.kind)
    if signature is None:
        hint = (
            suggestion(run.kind, built_in) or "`run` takes `python`, `shell` or a built-in action"
        )
        message = f"`{run.kind}` is not a built-in action"
        return [Problem("unknown-action", message, path, hint, at_key=True)]
    literal = {name: run.inputs[name] for name in signature.literal & run.inputs.keys()}
    given = {name: value for name, value in run.inputs.items() if name not in literal}
    return compile_template(given, scope, path, literal=literal)[1]


def _may_fit(value: Any, parameter: Parameter) -> bool:  # ruff: ignore[any-type]  # a JSON value
    """A constant must have the type; what is computed is checked when it is known."""
    if value is None or (isinstance(value, str) and "${" in value):
        return True
    return fits(value, parameter.type)


def _is_computed(value: Any) -> bool:  # ruff: ignore[any-type]  # a JSON value
    """Whether there is an expression in it."""
    if isinstance(value, str):
        return "${" in value
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(map(_is_computed, parts))


_BY_TYPE: Mapping[str, Any] = {
    "action": _Compiler.action,
    "subflow": _Compiler.subflow,
    "condition": _Compiler.container_condition,
    "parallel": _Compiler.container_parallel,
    "loop": _Compiler.container_loop,
}
