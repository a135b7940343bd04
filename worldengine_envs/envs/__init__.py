"""Gymnasium environments over scenarios; import from the modules (this package stays light for registration)."""
