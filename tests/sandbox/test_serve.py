"""The process: starting, refusing to start, stopping."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from sandbox import Sandbox
from sandbox.serve import loopback

ROOT = Path(__file__).parents[2]
FREE_PORTS = ["--web-port", "0", "--token-port", "0", "--smtp-port", "0", "--smtps-port", "0"]


def start(home: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sandbox", "--directory", str(home), *arguments]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_until_told_to_stop(home: Path, number: signal.Signals) -> None:
    with start(home, *FREE_PORTS) as process:
        try:
            assert process.stdout is not None
            first = process.stdout.readline()
            url = re.search(r"http://\S+", first)
            assert url is not None, first
            told = requests.get(url[0], timeout=10).text
            smtp_port = int(re.findall(r"localhost:(\d+)", told)[-2])
            with socket.create_connection(("127.0.0.1", smtp_port), timeout=10) as silent:
                assert silent.recv(100).startswith(b"220 ")
                process.send_signal(number)
                # A client that says nothing does not keep it.
                _out, errors = process.communicate(timeout=10)
            assert (process.returncode, errors) == (0, "")
        finally:
            process.kill()


def test_it_says_which_port_is_taken(home: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with start(home, *FREE_PORTS, "--smtp-port", str(port)) as process:
            _out, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert f"Port {port} of 127.0.0.1 cannot be used" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.com", ""])
def test_it_never_listens_beyond_this_machine(home: Path, host: str) -> None:
    with pytest.raises(ValueError, match="loopback only"):
        Sandbox(home, host=host)
    assert not home.exists()


def test_loopback_has_more_than_one_name() -> None:
    assert [loopback(host) for host in ("localhost", "127.0.0.2", "::1")] == ["127.0.0.1", "127.0.0.2", "::1"]


def test_it_frees_its_ports_and_can_be_started_again(home: Path) -> None:
    with Sandbox(home) as sandbox:
        ports = (sandbox.web_port, sandbox.token_port, sandbox.smtp_port, sandbox.smtps_port)
        assert len(set(ports)) == 4
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)
    with Sandbox(home, web_port=ports[0], token_port=ports[1], smtp_port=ports[2], smtps_port=ports[3]) as again:
        assert requests.get(again.web_url, timeout=10).status_code == 200


def test_a_silent_client_does_not_hold_up_the_token_endpoint(sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.token_port), timeout=10):
        url = f"{sandbox.issuer}/.well-known/openid-configuration"
        assert requests.get(url, verify=str(sandbox.ca_file), timeout=5).status_code == 200


def test_the_usual_lifetime_of_access_tokens_can_be_chosen(home: Path) -> None:
    with Sandbox(home, access_lifetime_s=60) as sandbox:
        assert sandbox.state.lifetime_s() == 60


def test_certificates_can_be_made_beforehand(home: Path) -> None:
    with start(home, "--certificates-only") as process:
        out, _errors = process.communicate(timeout=20)
    authority = Path(json.loads(out)["ca_file"])
    before = authority.read_bytes()
    with Sandbox(home) as sandbox:
        assert sandbox.ca_file == authority
        assert sandbox.ca_file.read_bytes() == before
