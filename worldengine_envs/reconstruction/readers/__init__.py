"""Readers of camera logs, one module a format."""
