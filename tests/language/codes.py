"""For every code of reading a file, a file that has it."""

from controller.source.limits import Limits

TIGHT = Limits(file_bytes=8_000, nodes=2_000, depth=20, text=400)

STEP = "steps: [{id: a, type: action, action: log}]\n"
WORKFLOW = f"name: w\n{STEP}"


def _input(constraints: str) -> str:
    return f"{WORKFLOW}inputs: [{{name: x, {constraints}}}]\n"


FILES: dict[str, str | bytes] = {
    "bad-default": _input("type: integer, default: much"),
    "bad-key": f"{WORKFLOW}metadata: {{[a, b]: c}}\n",
    "bad-merge": f"{WORKFLOW}metadata: {{<<: text}}\n",
    "bad-name": f"name: a b\n{STEP}",
    "bad-number": f"{WORKFLOW}metadata: {{a: .nan}}\n",
    "bad-schedule": f"{WORKFLOW}triggers: [{{type: scheduled, config: {{}}}}]\n",
    "bad-value": f"{WORKFLOW}status: on\n",
    "control-character": b"name: a\0b\n",
    "duplicate-id": "name: w\nsteps: [{id: a, type: action, action: log}, "
    "{id: a, type: action, action: log}]\n",
    "duplicate-key": f"name: v\n{WORKFLOW}",
    "duplicate-name": f"{WORKFLOW}outputs: [{{name: x}}, {{name: x}}]\n",
    "file-too-large": f"# {'long ' * 2_000}\n{WORKFLOW}",
    "missing-field": STEP,
    "no-effect": _input("type: string, minimum: 3"),
    "not-utf-8": b"name: caf\xe9\n",
    "recursive-alias": f"{WORKFLOW}metadata: &a {{b: *a}}\n",
    "text-too-long": f"{WORKFLOW}description: {'a' * 401}\n",
    "too-deep": f"{WORKFLOW}metadata: {{a: {'[' * 21}{']' * 21}}}\n",
    "too-many-problems": WORKFLOW + "".join(f"x{number}: 1\n" for number in range(300)),
    "too-many-values": f"{WORKFLOW}metadata: {{a: [{'1,' * 2_000}]}}\n",
    "unknown-field": f"{WORKFLOW}inptus: []\n",
    "unknown-tag": f"{WORKFLOW}metadata: !!python/object:os.system {{}}\n",
    "wrong-type": f"{WORKFLOW}description: 5\n",
    "yaml-syntax": "name: ${a ? b : c}\n",
}
"""Code → a file with it, read with `TIGHT` limits."""

WITHOUT_A_FILE = {"missing-input", "unknown-input"}
"""Codes of the inputs given to an execution."""
