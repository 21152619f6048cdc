"""The command line: administer the database, start the daemon.

cli        Typer root; loads a noun's module when it is called
context    home, settings, database, master key: opened when first used
output     tables, JSON, quiet to stdout; notes, progress, questions to stderr
errors     one table: exception → code, exit code
parse      texts of the command line as values: durations, dates, key=value, secrets from a file or variable
commands/  one module per noun
"""
