"""Packs that ship with the package."""
