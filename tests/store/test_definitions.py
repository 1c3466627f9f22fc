"""Workflows, versions, sources, files, logs and the audit log."""

from dataclasses import replace

from controller.store.ledger_definitions import (
    archive,
    catalog,
    head,
    heads,
    put_version,
    put_workflow,
    retention_rules,
    set_status,
    waiting_for_events,
    workflow,
    workflows,
)
from controller.store.ledger_definitions import version as find_version
from controller.store.ledger_logs import add_logs, audit, audits, logs
from controller.store.ledger_schedules import add_schedule, schedules
from controller.store.ledger_sources import (
    file_of,
    put_files,
    put_source,
    source,
    source_files,
    sources,
    stored_file,
    taken,
)
from controller.store.records import (
    AuditRecord,
    FileRecord,
    LogRecord,
    SourceRecord,
    WorkflowHead,
)
from controller.store.tables import Transaction
from tests.store.sample import NOW, put_workflows, schedule, version
from tests.store.sample import workflow as defined

SOURCE = SourceRecord("here", "directory", "definitions", None, "ready", None, None, NOW, None)
FILE = FileRecord("a.yaml", "00ff", 12, NOW * 1_000_000, 2**64 - 1, "valid", [], [{"name": "w"}])


def test_a_workflow_is_replaced_and_keeps_its_birthday(tx: Transaction) -> None:
    """Everything but `created_at` is as the newer record says."""
    put_workflow(tx, defined(labels={"team": "ü"}, error_handler={"id": "h"}), version())
    assert workflow(tx, "w") == defined(labels={"team": "ü"}, error_handler={"id": "h"})
    newer = defined(digest="d2", description="new", created_at=NOW + 9, updated_at=NOW + 9)
    put_workflow(tx, newer, version("d2"))
    assert workflow(tx, "w") == replace(newer, created_at=NOW)
    assert catalog(tx) == {"w": WorkflowHead("w", "d2", "here", "active", "w.yaml")}
    assert workflow(tx, "other") is None


def test_many_workflows_are_put_at_once(tx: Transaction) -> None:
    """As one after another: definitions stay, birthdays stay, two may share a definition."""
    put_workflow(tx, defined("a"), version(content={"first": True}))
    later = {"created_at": NOW + 9, "description": "later"}
    put_workflows(tx, [(defined("a", **later), version()), (defined("b", **later), version())])
    put_workflows(tx, [])
    assert heads(tx, ["b", "a", "x"]) == catalog(tx)
    assert head(tx, "a") == catalog(tx)["a"]
    assert head(tx, "x") is None
    found = {each.name: each for each in workflows(tx)}
    assert found == {"a": defined("a", **later | {"created_at": NOW}), "b": defined("b", **later)}
    kept = find_version(tx, "d")
    assert kept is not None
    assert kept.content == {"name": "w"}, "the fixture's, which was first"


def test_what_workflows_wait_for_and_how_long_they_keep(tx: Transaction) -> None:
    """Active ones with a trigger of type event; the retention in their current definition."""
    event = {"triggers": [{"type": "event", "config": {"event": "x"}}]}
    content = {"workflow": {"name": "a", "retention": {"days": 3, "keep_last": None}}}
    put_workflow(tx, defined("a", digest="r", **event), version("r", content=content))
    put_workflow(tx, defined("b", status="inactive", **event), version())
    put_workflow(tx, defined("c", description="event"), version())
    assert waiting_for_events(tx) == ["a"]
    assert retention_rules(tx) == {"a": {"days": 3, "keep_last": None}}


def test_a_definition_is_never_edited(tx: Transaction) -> None:
    """The first content of a digest stays."""
    assert put_version(tx, version("x", content={"a": [1]}, revision="abc"))
    assert not put_version(tx, version("x", content={"a": [2]}))
    assert find_version(tx, "x") == version("x", content={"a": [1]}, revision="abc")
    assert find_version(tx, "y") is None


def test_workflows_are_found(tx: Transaction) -> None:
    """By status and by a text in name, description or labels, without regard to case."""
    put_workflow(tx, defined("alpha", description="Nightly REPORT"), version())
    put_workflow(tx, defined("beta", status="inactive", labels={"team": "reporting"}), version())
    put_workflow(tx, defined("gamma_report", status="archived"), version())

    def names(status: str | None = None, text: str | None = None) -> list[str]:
        return [each.name for each in workflows(tx, status, text)]

    assert names() == ["alpha", "beta"]
    assert names("archived") == ["gamma_report"]
    assert names(text="report") == ["alpha", "beta"]
    assert names("inactive", "report") == ["beta"]
    assert names(text="%") == names(text="a_m") == [], "they are characters, not patterns"
    assert [each.name for each in workflows(tx, limit=1)] == ["alpha"]


def test_a_name_is_taken_while_its_workflow_stands(tx: Transaction) -> None:
    """By another origin than the one that asks; an archived one belongs to nobody."""
    for name, origin in (("a", "here"), ("b", "there"), ("c", "api"), ("d", "there")):
        put_workflow(tx, defined(name, origin=origin), version())
    archive(tx, ["d"], NOW)
    assert taken(tx, "here", ["d", "c", "b", "a", "nowhere"]) == ["b", "c"]
    assert taken(tx, "there", ["b"]) == taken(tx, "here", []) == []


def test_archiving_stops_the_schedules(tx: Transaction) -> None:
    """Of those workflows; the rows stay, and doing it again changes nothing."""
    for name in ("a", "b"):
        put_workflow(tx, defined(name), version())
        add_schedule(tx, schedule(f"s-{name}", workflow_id=name))
    assert archive(tx, ["a", "nowhere"], NOW + 1) == 1
    assert archive(tx, ["a"], NOW + 2) == 0
    heads = catalog(tx)
    assert (heads["a"].status, heads["b"].status) == ("archived", "active")
    assert [each.id for each in schedules(tx)] == ["s-b"]
    stopped = schedules(tx, "a", active=False)[0]
    assert (stopped.next_run_at, stopped.reason) == (None, "archived")


def test_a_status_is_set(tx: Transaction) -> None:
    """Of a workflow that is there."""
    put_workflow(tx, defined(), version())
    assert set_status(tx, "w", "inactive", NOW + 3)
    assert not set_status(tx, "other", "inactive", NOW)
    record = workflow(tx, "w")
    assert record is not None
    assert (record.status, record.updated_at) == ("inactive", NOW + 3)


def test_sources_and_their_files(tx: Transaction) -> None:
    """Put, replaced, forgotten; each source has its own; an inode may be any 64 bits."""
    put_source(tx, SOURCE)
    put_source(tx, replace(SOURCE, revision="r2", phase="degraded", applied_at=NOW))
    assert sources(tx) == [replace(SOURCE, revision="r2", phase="degraded", applied_at=NOW)]
    assert source(tx, "here") == sources(tx)[0]
    assert source(tx, "there") is None

    broken = replace(FILE, path="b.yaml", status="invalid", problems=[{"code": "syntax"}])
    put_files(tx, "here", [stored_file(FILE), stored_file(broken)], [])
    put_files(tx, "there", [stored_file(replace(FILE, digest="other"))], [])
    assert source_files(tx, "here") == {"a.yaml": FILE, "b.yaml": broken}
    put_files(tx, "here", [stored_file(replace(FILE, size=13))], ["b.yaml", "c.yaml"])
    assert source_files(tx, "here") == {"a.yaml": replace(FILE, size=13)}
    assert file_of(tx, "there", "a.yaml") == replace(FILE, digest="other")
    assert file_of(tx, "there", "b.yaml") is None
    put_files(tx, "here", [], [])


def test_log_lines_keep_their_order(tx: Transaction) -> None:
    """By execution, from any line on, of one step; what no database stores is replaced."""
    lines = [
        LogRecord("e", "info", f"line {number}", NOW, step_id="ab"[number % 2], attempt=1)
        for number in range(6)
    ]
    add_logs(tx, lines)
    add_logs(tx, [LogRecord("f", "error", "nul \0 surrogate \udc80 ü", NOW, context={"x": 1})])
    add_logs(tx, [])
    found = logs(tx, "e")
    assert [replace(each, id=0) for each in found] == lines
    assert logs(tx, "e", found[3].id) == found[4:]
    assert logs(tx, "e", step="b") == found[1::2]
    assert logs(tx, "e", limit=2) == found[:2]
    other = logs(tx, "f")[0]
    assert (other.message, other.context) == ("nul \ufffd surrogate ? ü", {"x": 1})


def test_the_audit_log_is_read_from_its_end(tx: Transaction) -> None:
    """Newest first, page by page."""
    for number in range(5):
        audit(tx, AuditRecord(NOW, "cli:me", "cancel", f"e{number}", {"force": True}))
    newest = audits(tx, 2)
    assert [each.target for each in newest] == ["e4", "e3"]
    assert [each.target for each in audits(tx, before=newest[-1].id)] == ["e2", "e1", "e0"]
    assert newest[0].detail == {"force": True}
