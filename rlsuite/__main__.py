"""`python -m rlsuite`."""

from rlsuite.cli import main

main()
