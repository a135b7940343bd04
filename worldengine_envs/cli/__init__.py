"""The ``worldengine`` command."""
