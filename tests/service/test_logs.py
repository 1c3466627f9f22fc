"""What an execution's log says, and from when on."""

from pathlib import Path

from tests.fake_clock import FakeClock
from tests.service.test_executions import step
from tests.service.test_retry import staged


async def test_who_sees_that_it_has_failed_sees_why(tmp_path: Path, clock: FakeClock) -> None:
    """The clock stands still: nothing that waits for a moment is in the log by then."""
    async with staged(tmp_path, clock) as stage:
        say = step("say", "shell", inputs={"command": "echo first; exit 3"}, on_error="continue")
        await stage.service.create_workflow({"name": "w", "steps": [say, step("b", "fail")]})
        record = await stage.service.execute_workflow("w")
        await stage.ended(record.id, "failed")
        lines = await stage.service.execution_logs(record.id)
        assert [(each.step_id, each.message.partition(":")[0]) for each in lines] == [
            ("say", "first"),
            ("say", "step say failed"),
            ("b", "step b failed"),
            (None, "the execution failed"),
        ]
