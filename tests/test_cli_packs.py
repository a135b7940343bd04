"""The ``worldengine`` command: packs, exit codes, and what it loads."""

import os
import signal
import subprocess
import sys

import pytest
from pack_helpers import sample, small_pack

from worldengine_envs.cli.main import COMMANDS, main


@pytest.fixture
def pack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("WORLDENGINE_PACKS", str(tmp_path / "packs"))
    return small_pack(tmp_path / "packs" / "small")


def test_list(pack, capsys):
    assert main(["packs", "list"]) == 0
    out = capsys.readouterr().out
    assert "small" in out and "train 2, test 1" in out and str(pack) in out
    (pack.parent / "broken").mkdir()
    (pack.parent / "broken" / "pack.json").write_text("{}")
    assert main(["packs", "list"]) == 1
    captured = capsys.readouterr()
    assert "small" in captured.out and "broken/pack.json, field format_version" in captured.err


def test_info(pack, capsys):
    assert main(["packs", "info", "small"]) == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines() if len(line.split()) > 1)
    assert lines["name"].strip() == "small 1.0" and lines["licence"].strip() == "CC0-1.0"
    assert lines["scenarios"].strip() == "3, 2 recordings, 1 maps"
    assert lines["datasets"].strip() == "handmade 3" and lines["derived"].strip() == "velocity"
    assert lines["horizons"].strip() == "4 s 3, 8 s 2, 15 s 0" and lines["references"].strip() == "log 3"
    assert lines["agents"].strip() == "4 to 4, median 4"


def test_verify(pack, capsys):
    assert main(["packs", "verify", "small"]) == 0
    assert "3 scenarios and 3 files are good" in capsys.readouterr().out
    (pack / "maps" / "leftover.pkl").write_bytes(b"")
    small_pack(pack.parent / "bad", name="bad", scenarios=[sample(reference=None)])
    for name, count, word in (("small", 1, "leftover.pkl"), (str(pack.parent / "bad"), 1, "no reference motion")):
        assert main(["packs", "verify", name]) == 1
        out = capsys.readouterr().out
        assert word in out and f"{count} problem\n" in out


@pytest.mark.parametrize(
    ("args", "code", "word"),
    [
        ([], 2, "usage: worldengine COMMAND"),
        (["--help"], 0, "packs"),
        (["nonsense"], 2, "unknown command 'nonsense'"),
        (["packs"], 2, "list"),
        (["packs", "info"], 2, "PACK"),
        (["packs", "info", "nope"], 1, "error: no pack 'nope'"),
        (["packs", "verify", "nope/nope"], 1, "no such file"),
        (["packs", "verify", "--help"], 0, "exit code is 1"),
    ],
)
def test_exit_codes(pack, args, code, word, capsys):
    assert main(args) == code
    captured = capsys.readouterr()
    assert word in captured.out + captured.err and "Traceback" not in captured.err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("wrapped", [False, True])
def test_a_signal_is_no_traceback(monkeypatch, capsys, number, code, wrapped):
    def stopped() -> None:
        try:
            os.kill(os.getpid(), number)
        except KeyboardInterrupt as error:
            raise SystemError if wrapped else error from error  # as it comes out of compiled code

    module = type(sys)("stopped")
    module.main = stopped
    monkeypatch.setitem(sys.modules, "stopped", module)
    monkeypatch.setitem(COMMANDS, "stop", ("stopped", "main", ""))
    assert main(["stop"]) == code
    assert "nothing half-written" in capsys.readouterr().err


def test_packs_need_neither_torch_nor_numba(pack):
    code = (
        "import sys; from worldengine_envs.cli.main import main; main(['packs', 'verify', 'small'])\n"
        "print([m for m in ('torch', 'numba', 'gsplat', 'shapely', 'pyarrow') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.endswith("good\n[]\n"), result.stderr
