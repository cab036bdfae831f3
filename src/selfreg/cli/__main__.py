"""`python -m selfreg.cli`: for processes started by this program."""

from selfreg.cli import main

main()
