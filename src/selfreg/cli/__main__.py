"""`python -m selfreg.cli`: for processes that this program starts."""

from selfreg.cli import main

main()
