"""Readers of recorded logs: one module a format, scenarios out."""
