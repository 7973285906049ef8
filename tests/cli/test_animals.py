"""mslab data animals: fetch the package with pip, or report why that fails."""

from helpers import OFFLINE, cli

from mslab.data.animals import PACKAGE


def test_without_a_network_the_message_has_pips_output_and_a_fix(tmp_path):
    done = cli("data", "animals", cwd=tmp_path, env=OFFLINE)
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    assert f"DatasetError: pip could not fetch {PACKAGE}." in done.stderr
    assert f"No matching distribution found for {PACKAGE}" in done.stderr
    assert "expected" in done.stderr and "mslab data animals --wheel FILE" in done.stderr
    assert not list(tmp_path.iterdir())
