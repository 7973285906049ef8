"""A ModelArts job, started as by its training service, and the same job again."""

import subprocess
import sys
from pathlib import Path

from helpers import STAGES


def job(*arguments, env=None) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "mslab.modelarts", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


def test_a_job_trains_and_the_same_job_again_continues_its_run(inside, squares):
    options = f"--image_size=32 --batch_size=8 --epochs=1 --warmup_epochs=0 --device=cpu --stages={STAGES}".replace(
        ", ", ","
    )
    first = job("--data_url", squares / "three", "--train_url=out", *options.split())
    assert first.returncode == 0, first.stderr
    run = next(Path("out/runs").iterdir())
    assert run.name.startswith("modelarts-") and (run / "checkpoints" / "best.ckpt").is_file()
    manifest = run / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"status": "done"', '"status": "interrupted"'))
    again = job("--data_url", squares / "three", "--train_url=out", *options.split())
    assert again.returncode == 0, again.stderr
    assert f"continuing runs/{run.name}: unfinished, with the same settings" in again.stderr
    assert len(list(Path("out/runs").iterdir())) == 1
    wrong = job("--data_url", squares / "three", "--train_url=out", "--use_sync_bn=True")
    assert wrong.returncode == 1 and "'use_sync_bn' is ModelArts's name; here it is 'sync_bn'" in wrong.stderr
