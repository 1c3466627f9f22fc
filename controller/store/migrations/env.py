"""Alembic's environment: migrations run in the transaction that `store/opening.py` began."""

from alembic import context

from controller.store.tables import metadata

_given = context.config.attributes

context.configure(
    connection=_given["connection"],
    version_table=_given["version_table"],
    target_metadata=metadata,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
