"""``worldengine``: one word selects a module, whose functions become the command line. Nothing else is imported."""

from __future__ import annotations

import contextlib
import importlib
import signal
import sys
from collections.abc import Iterator

from worldengine_envs.errors import WorldEngineError

# word -> (module, function or table of functions, what it does)
COMMANDS = {
    "packs": ("worldengine_envs.cli.packs", "SUBCOMMANDS", "list packs, show, check or dress one, or build one from the city"),
    "import": ("worldengine_envs.cli.import_logs", "main", "turn recorded logs into a pack"),
    "view": ("worldengine_envs.cli.view", "main", "record a video of a scenario, driven by a baseline"),
    "camera-log": ("worldengine_envs.cli.camera_log", "main", "write what the cameras and the LiDAR of a car see in a scenario"),
    "reconstruct": ("worldengine_envs.cli.reconstruct", "main", "learn a Gaussian scene from the images of a camera log"),
    "bench": ("worldengine_envs.cli.bench", "main", "measure how fast many worlds are driven on this machine"),
    "anchors": ("worldengine_envs.cli.anchors", "main", "cluster logged trajectories into a vocabulary of actions"),
}
FAILED = 1


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
    with _stopping_cleanly() as stopped:
        try:
            if isinstance(target, dict):
                result = tyro.extras.subcommand_cli_from_dict(target, prog=f"worldengine {word}", args=args, description=text)
            else:
                result = tyro.cli(target, prog=f"worldengine {word}", args=args)
        except WorldEngineError as error:
            print(f"error: {error}", file=sys.stderr)
            return FAILED
        except SystemExit as stop:  # tyro's own, with its message printed
            return stop.code if isinstance(stop.code, int) else FAILED
        except BaseException:
            if not stopped:
                raise
            print("stopped; nothing half-written was left behind", file=sys.stderr)
            return 128 + stopped[0]
    return result if isinstance(result, int) else 0


@contextlib.contextmanager
def _stopping_cleanly() -> Iterator[list[int]]:
    """Turns SIGINT and SIGTERM into an exception, so that half-written folders are removed; gives the list of those that came.

    The list is needed because an exception that is raised inside a numba call arrives as a SystemError.
    """
    stopped: list[int] = []

    def stop(number: int, _frame) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    previous = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [f"  {word:<{width}}  {text}" for word, (_, _, text) in COMMANDS.items()]
    return "\n".join(["usage: worldengine COMMAND ...", "", *lines, "", "worldengine COMMAND --help tells more."])


if __name__ == "__main__":
    sys.exit(main())
