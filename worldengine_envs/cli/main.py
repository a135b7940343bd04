"""``worldengine``: one word selects a module, whose functions become the command line. Nothing else is imported."""

from __future__ import annotations

import importlib
import signal
import sys

from worldengine_envs.errors import WorldEngineError

# word -> (module, function or table of functions, what it does)
COMMANDS = {
    "packs": ("worldengine_envs.cli.packs", "SUBCOMMANDS", "list packs, show one, or check one"),
    "import": ("worldengine_envs.cli.import_logs", "main", "turn recorded logs into a pack"),
    "anchors": ("worldengine_envs.cli.anchors", "main", "cluster logged trajectories into a vocabulary of actions"),
}
FAILED, INTERRUPTED, TERMINATED = 1, 130, 143


def main(args: list[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0 done, 1 failed with a message, 2 wrong usage, 130 or 143 stopped."""
    args = sys.argv[1:] if args is None else args
    if not args or args[0] in ("-h", "--help"):
        print(_overview())
        return 0 if args else 2
    if args[0] == "--version":
        from worldengine_envs import __version__

        print(__version__)
        return 0
    if args[0] not in COMMANDS:
        print(f"worldengine: unknown command {args[0]!r}\n\n{_overview()}", file=sys.stderr)
        return 2
    return _run(args[0], args[1:])


def _run(word: str, args: list[str]) -> int:
    import tyro

    module, name, text = COMMANDS[word]
    target = getattr(importlib.import_module(module), name)
    previous = signal.signal(signal.SIGTERM, _terminate)  # so that half-written folders are removed
    try:
        if isinstance(target, dict):
            result = tyro.extras.subcommand_cli_from_dict(target, prog=f"worldengine {word}", args=args, description=text)
        else:
            result = tyro.cli(target, prog=f"worldengine {word}", args=args)
    except WorldEngineError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("stopped; nothing half-written was left behind", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:  # tyro's own, with its message printed
        return stop.code if isinstance(stop.code, int) else 0
    finally:
        signal.signal(signal.SIGTERM, previous)
    return result if isinstance(result, int) else 0


def _terminate(*_) -> None:
    sys.exit(TERMINATED)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {word:<{width}}  {text}" for word, (_, _, text) in COMMANDS.items()]
    return "\n".join(["usage: worldengine COMMAND ...", "", *lines, "", "worldengine COMMAND --help tells more."])


if __name__ == "__main__":
    sys.exit(main())
