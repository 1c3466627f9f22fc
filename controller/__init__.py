"""Windlass: commit a YAML file, and the workflow runs.

The map, in the order in which things flow (a test keeps it true):

    source/          the definitions there are: snapshots of a directory or a repository, read
    reconcile/       makes the database equal to its sources: one revision, one transaction
    store/           the database: tables, verbs, and the journal (group commit)
    schedule.py      whatever happens because time passed: fires, timers, deadlines, leases
    execute/         claims executions, decides, records, then performs: processes, sandbox, actions
    observe/         metrics, audit, health, traces: folds over the events published after a commit

    planning.py      what a directory or a commit would change, for pull requests
    authoring.py     definitions that people bring, checked against what is recorded
    backfill.py      fires made up by hand, for a range of due times
    doctor/          what is wrong with a database, and how it is mended
    fires.py         a schedule's fires: how one becomes an execution, and which are to come
    pruning.py       what is not kept any longer goes
    admission.py     the one place where an execution is created, or refused, with the reason
    catalog.py       recorded definitions by digest, compiled once
    recording.py     definitions as rows, whoever records them
    history.py       an execution's checkpoints read back: events, steps, its row
    again.py         what a retry begins with: the checkpoints of what needs no repeating
    tenure.py        what only one controller does at a time, where there may be several
    judgement.py     whether a revision may be applied, and what the status says of it
    views.py         what is shown of definitions: validations, plans of a sync, sources
    lookup.py        what is shown as it is recorded: workflows, executions, logs, schedules
    interpreter.py   what Python itself does otherwise for a while
    facts.py         what happened, told after the commit to whoever listens
    logs.py          the daemon's own log

    sources.py       what a person or a program may ask of sources: look, hold, roll back
    service.py       what a person or a program may ask for: authorise, decide, record
    web/             HTTP: the API, the live stream, the page
    cli/             the commands
    __main__.py      where the commands start

    daemon.py        the controller: starts its loops in order, stops them in reverse
    app.py           wires the parts from the settings
    settings.py      every knob: its default, its bounds, its name in the environment
    given.py         what the environment, the file and the command line give
    location.py      where everything is kept, found and opened
    clock.py         the only module that reads the time
    core/            pure: definitions, expressions, plans, the state machine, timetables

Imports go down only: `__main__ > cli > daemon > app > settings > web > service | sources |
reconcile | schedule | execute | observe > authoring | planning | backfill | doctor > judgement
| fires | pruning | again > admission | views | lookup | history | tenure > catalog | recording |
location > given > source | store | clock | facts | interpreter > logs > core`. The stages side by
side never import each other; they meet in the store.
"""

__version__ = "0.1.0"
