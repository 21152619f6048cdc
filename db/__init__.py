"""What is stored, and every rule of money.

engine      open_database(url): the only module that knows which backend it is
models/     Peewee tables only; they do not leave this package
migrate     numbered schema changes in migrations/, applied by playhouse.migrations
holds       place, deliver, settle, release, recover: one transaction each
ledger      append-only entries, the only writer of balances beside holds
users keys groups providers credentials catalog prices usage settings audit processes    one module per noun
money clock secrets errors                                                              pure helpers

Functions are ordinary synchronous functions, one transaction each; they return frozen dataclasses or plain values.
"""

__version__ = "0.1.0"
