"""`penchant ui` from its command line to an address that can be opened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from penchant.cli import ui_verb


def test_the_address_opens_and_ctrl_c_ends_it_and_torch_was_not_needed(tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "status.json").write_text("{}", encoding="utf-8")
    program = (
        # whoever starts the tests in the background may have had this signal ignored
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys, atexit; atexit.register(lambda: print('torch' in sys.modules, flush=True));"
        f"sys.argv = ['penchant', 'ui', {str(tmp_path)!r}, '--json'];"
        "from penchant.cli.main import main; main()"
    )
    server = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=os.environ)
    try:
        assert server.stdout is not None
        said = json.loads(server.stdout.readline())
        page = httpx2.get(said["address"], follow_redirects=False)
        with httpx2.Client(cookies=dict(page.cookies), base_url=said["address"].split("?", maxsplit=1)[0]) as tab:
            assert "first" in tab.get("/runs").text
    finally:
        server.send_signal(signal.SIGINT)
        rest, _ = server.communicate(timeout=30)
    assert said["sections"][0] == "Runs"
    assert server.returncode == 128 + signal.SIGINT
    assert rest.strip() == "False"


def test_a_folder_that_is_not_there_is_named_with_the_nearest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "runs").mkdir()
    with pytest.raises(SystemExit) as ended:
        ui_verb.ui(tmp_path / "rnus", port=0, as_json=False, debug=False)
    assert ended.value.code == 2
    assert 'Did you mean "runs"?' in capsys.readouterr().err
