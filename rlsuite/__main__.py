"""`python -m rlsuite`."""

from rlsuite.cli.main import main

main()
