"""Alembic's entry: runs revisions on the connection it is handed, inside the caller's transaction."""

from alembic import context

from fleetward_server.store.tables import META

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=META,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
