"""Run the command line as `python -m fusecli`."""

from fusecli.cli import main

main()
