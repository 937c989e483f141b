"""Checks on an answer, each a pure module with one function that returns a verdict; `composite` puts them together."""
