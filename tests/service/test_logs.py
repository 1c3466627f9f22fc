"""What an execution's log says, and from when on."""

from pathlib import Path

from controller.store import ledger
from controller.store.records import LogRecord
from tests.fake_clock import FakeClock
from tests.service.test_executions import opened, step
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


async def test_the_end_of_a_log_is_read_alone(tmp_path: Path) -> None:
    """The last lines of one execution, in their order, however many there are before."""
    async with opened(tmp_path) as app:
        for name in ("w", "other"):
            await app.service.create_workflow({"name": name, "steps": [step("a", "set")]})
        record, other = [await app.service.execute_workflow(each) for each in ("w", "other")]
        said = [LogRecord(record.id, "info", f"line {number}", 1) for number in range(3_000)]
        await app.store.write(ledger.add_logs, said)
        await app.store.write(ledger.add_logs, [LogRecord(other.id, "info", "x", 1)])
        lines = await app.lookup.last_logs(record.id, 3)
        assert [each.message for each in lines] == ["line 2997", "line 2998", "line 2999"]
        assert lines == (await app.lookup.execution_logs(record.id, limit=9_999))[-3:]
