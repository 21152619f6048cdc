"""The command line: administer the database, start the daemon.

cli        Typer root; loads a noun's module when it is called
context    home, settings, database, master key: opened when first used
output     tables, JSON, quiet to stdout; notes, progress, questions to stderr
errors     one table: exception → code, exit code
parse      texts of the command line as values: durations, dates, key=value, secrets from a file or variable
plots      bars and column charts as plain text; usage_rows and export: usage as rows, JSON, csv, parquet
findings   results of doctor and db check; explanation: the dry run of `explain`
docs       docs/cli.md, made from the commands
commands/  one module per noun
"""
