"""SQL by table, without HTTP and without business rules. Each function or statement names the owner of its rows.

Reads and writes of single objects of one user, whose result is a model, use SQLAlchemy's `select`, `insert`, `update`
and `delete` in a session. Everything else is a named `Statement` on a connection: turns, sessions, batches, locks,
maintenance and operations. An ORM query has its name too, as `.prefix_with("/* projects.get */")`.
"""
