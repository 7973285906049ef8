"""Recorded results: what a file has, and docs/speed.md made from them. No speed is asserted."""

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from helpers import PROJECT, bench

from benchmarks import answer, loop, results, serve, speed
from mslab.config import load_settings
from mslab.errors import ConfigError, MslabError

ROW = {"ratio": 1.25, "images_per_s": 50.0, "least": 49.0, "most": 51.0, "startup_s": 3.0, "compile_s": 6.0}
ROW |= {"peak_mib": 1500.0, "weights": 7, "version": "2.8.0"}
SIDE = {"seconds": 8.0, "least": 7.0, "most": 9.0, "said": 6.0, "epochs": 3, "val_acc": 0.96, "reached": 5, "runs": 5}


def recorded(name, rows, monkeypatch, folder, **machine):
    monkeypatch.setattr(results, "FOLDER", folder)
    here = {"cpu": "EPYC 9", "units": ["AVX2", "AVX-512"], "cores": 2, "memory_gib": 23} | machine
    monkeypatch.setattr(results, "machine", lambda: here)
    monkeypatch.setattr("sys.argv", ["run.sh", "bench", "train", "--peers", "/home/me/peers/bin/python", "runs/x-1"])
    return results.record(name, rows, {"PyTorch": "2.14.1"})


def speed_row(contender, job, size, **more):
    return ROW | {"contender": contender, "job": job, "size": size, "batch": 32} | more


def test_the_tables_of_the_page_are_those_of_the_recorded_results():
    pages = [page.read_text(encoding="utf-8") for page in results.PAGES]
    assert pages == [results.fill(page, results.read_all()) for page in pages], "./run.sh bench table --write"
    assert set(re.findall(r"<!-- bench table (\w+) -->", "".join(pages))) == set(results.RENDERERS)
    for file in results.FOLDER.glob("*.json"):
        assert not re.search(r'": "[^"]*/(home|root|tmp|work)/', file.read_text(encoding="utf-8")), file


def test_a_record_has_the_machine_the_versions_and_the_command(tmp_path, monkeypatch):
    file = recorded("train-64", [speed_row("mslab, GRAPH", "train", 64)], monkeypatch, tmp_path)
    content = json.loads(file.read_text())
    assert file.name == "train-64-epyc-9-avx-512-2-cores.json"
    assert list(content) == ["name", "date", "command", "machine", "versions", "rows"]
    assert content["command"] == "./run.sh bench train --peers peers/bin/python runs/…"
    assert content["versions"]["PyTorch"] == "2.14.1" and {"mslab", "mindspore", "python"} <= set(content["versions"])
    assert results.read_all(tmp_path) == [content]


def test_this_machine_is_described_by_its_cpu_cores_and_memory():
    here = results.machine()
    assert here["cores"] >= 1 and here["memory_gib"] >= 1 and here["cpu"]
    assert results.bfloat16_unit() in ("", *here["units"])
    assert f"{here['cores']} cores of an {here['cpu']}" in results.described(here)


def test_each_machine_has_a_table_with_a_column_for_each_kind_and_size(tmp_path, monkeypatch):
    rows = [speed_row("mslab, GRAPH", "train", 64), speed_row("PyTorch, contiguous", "train", 64, ratio=1.0)]
    recorded("train-64", [*rows, speed_row("onnxruntime", "infer", 64)], monkeypatch, tmp_path)
    recorded("train-224", [speed_row("mslab, GRAPH", "train", 224, batch=8)], monkeypatch, tmp_path)
    recorded("train-64", rows, monkeypatch, tmp_path, cpu="Core 7")
    text = results.tables(results.read_all(tmp_path))["train"]
    assert (
        "| ratio to PyTorch (images/s) | training, 64 px, batch 32 | training, 224 px, batch 8 | inference, 64 px"
        in text
    )
    assert "| mslab, GRAPH | **1.25×** (50.0; 49.0–51.0) | **1.25×** (50.0; 49.0–51.0) |  |" in text
    assert "| PyTorch, contiguous | 1.00× (50.0; 49.0–51.0) |  |  |" in text
    assert "| onnxruntime |  |  | 1.25× (50.0; 49.0–51.0) |" in text and "3.0 / 6.0 / 1500" in text
    assert text.count("2 cores of an EPYC 9 with AVX2, AVX-512, 23 GiB") == text.count("2 cores of an Core 7") == 1
    assert results.tables([])["answer"] == "No result is recorded yet."


def test_a_block_that_no_benchmark_fills_is_named():
    page = "before\n<!-- bench table train -->\nold\n<!-- end -->\nafter\n"
    assert results.fill(page, []) == page.replace("old", "\nNo result is recorded yet.\n")
    with pytest.raises(MslabError, match=r"'bench table tarin'(.|\n)*expected .*train, loop, answer(.|\n)*fix"):
        results.fill(page.replace("train", "tarin"), [])


class Answers(BaseHTTPRequestHandler):
    """Answers an image, one byte, with its own probability; of number 1 with another's, and of number 2 in part."""

    def do_POST(self):
        number = self.rfile.read(int(self.headers["Content-Length"]))[0]
        status = 503 if number == 2 and not getattr(self.server, "refused", False) else 200
        self.server.refused = status == 503 or getattr(self.server, "refused", False)
        body = json.dumps({"images": [{"error": "", "probabilities": {"a": 0.0 if number == 1 else number / 10}}]})
        self.send_response(status)
        self.send_header("Retry-After", "0")
        self.end_headers()
        self.wfile.write(b"" if number == 3 else body.encode())

    def log_message(self, *words):
        pass


def test_under_load_each_client_counts_what_was_refused_lost_or_meant_for_another():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        expected = [{"a": number / 10} for number in range(4)]
        rows = [serve.load(httpd.server_port, [bytes([n])], [expected[n]], 0.1) for n in range(4)]
        httpd.shutdown()
    own, other, refused, lost = rows
    assert own["answered"] > 0 and (own["refused"], own["lost"], own["mixed_up"]) == (0, 0, 0)
    assert other["mixed_up"] == other["answered"] > 0 and refused["refused"] == 1 and refused["mixed_up"] == 0
    assert lost["lost"] > 0 and lost["answered"] == 0
    facts = {"size": 64, "engine": "onnxruntime 1.32.0", "clients": 1}
    assert f"| 64, 1 | {own['images_per_s']:.1f} |" in results.serve_table([content("serve-64", [facts | own])])
    assert "onnxruntime 1.32.0" in serve.table([facts | own])


def test_bench_table_prints_what_it_writes(tmp_path, monkeypatch):
    recorded("train-64", [speed_row("mslab, GRAPH", "train", 64)], monkeypatch, tmp_path)
    page = tmp_path / "page.md"
    page.write_text("# Speed\n<!-- bench table train -->\n<!-- end -->\n")
    monkeypatch.setattr(results, "PAGES", [page])
    monkeypatch.setattr(results.read_all, "__defaults__", (tmp_path,))
    done = bench("table")
    assert done.returncode == 0 and "EPYC 9" in done.stdout and "EPYC" not in page.read_text()
    assert bench("table", "--write").returncode == 0
    assert results.tables(results.read_all())["train"] in page.read_text()


def test_only_one_kind_of_step_is_named():
    done = bench("train", "--only", "both")
    assert done.returncode == 2 and "it is train or infer" in done.stderr


# --- bench loop ------------------------------------------------------------------------------------------------------


def test_the_loops_step_has_the_epochs_start_divided_by_its_steps():
    config = load_settings({"train_data": "a", "val_data": "b", "class_num": 2, "batch_size": 10, "optimizer": "adam"})
    parts = dict.fromkeys(loop.PARTS, 0.0) | {"data": 0.1, "step": 0.8}
    blocks = {"loop": [{"seconds": [0.9, 0.9], "parts": parts, "epoch": 1.0}], "bare": [{"seconds": [0.8, 0.8]}]}
    row = loop.summarise(config, blocks, steps=10)
    assert row["loop"]["images_per_s"] == pytest.approx(10) and row["bare"]["images_per_s"] == pytest.approx(12.5)
    assert row["ratio"] == pytest.approx(0.8) and row["bare_ms"] == pytest.approx(800)
    assert sum(row["parts_ms"].values()) == pytest.approx(1000)
    assert row["parts_ms"]["start of an epoch, per step"] == pytest.approx(100)
    text = loop.table([row])
    assert "0.80x" in text and "waiting for images" in text and "adam, 10" in text
    assert "| 64, 10, adam | **0.80×** | 10.0 (10.0–10.0) | 12.5 (12.5–12.5) | 800.0 | 100.00 | 100.00 |" in (
        results.loop_table([content("loop-64", [row])])
    )


def content(name, rows):
    machine = {"cpu": "EPYC 9", "units": ["AVX2"], "cores": 2, "memory_gib": 23}
    return {"name": name, "date": "2026-01-01", "command": "./run.sh bench", "machine": machine} | {
        "versions": {"mslab": "1"},
        "rows": rows,
    }


# --- bench answer ----------------------------------------------------------------------------------------------------


def test_a_ratio_of_answers_needs_all_runs_to_reach_the_target():
    def run(seconds, accuracy):
        return {"seconds": seconds, "said": seconds, "epochs": 3, "val_acc": accuracy, "versions": {"PyTorch": "2"}}

    row = answer.summarise("x", {"mslab": [run(4.0, 0.95), run(6.0, 0.97)], "PyTorch": [run(8.0, 0.95)] * 2}, 0.95)
    assert row["ratio"] == 8 / 5 and row["mslab"]["reached"] == row["mslab"]["runs"] == 2
    assert (row["mslab"]["least"], row["mslab"]["most"]) == (4, 6) and row["versions"] == {"PyTorch": "2"}
    less = answer.summarise("y", {"mslab": [run(4.0, 0.95)], "PyTorch": [run(8.0, 0.94)]}, 0.95)
    assert less["ratio"] is None and less["PyTorch"]["reached"] == 0
    text = answer.table([row, less])
    assert "1.60x" in text and "1 of 1 / 0 of 1" in text and "–" in text
    page = results.answer_table([content("answer", [row, less])])
    assert (
        "| x | 5.0 (4.0–6.0) | 8.0 (8.0–8.0) | **1.60×** |" in page
        and "| y | 4.0 (4.0–4.0) | 8.0 (8.0–8.0) | – |" in page
    )


def test_settings_that_the_script_lacks_stop_the_bench():
    usual = {
        "train_data": "a",
        "val_data": "b",
        "class_num": 2,
        "optimizer": "adam",
        "lr_max": 0.001,
        "lr_init": 0.0001,
    }
    answer.refuse_unknown(load_settings(usual | {"crop_scale": 0.8, "color_jitter": 0.1, "epochs": 3}))
    with pytest.raises(
        ConfigError,
        match=r"has not all of these settings(.|\n)*mixup_alpha +0.2(.|\n)*expected(.|\n)*fix +mixup_alpha=null",
    ):
        answer.refuse_unknown(load_settings(usual | {"mixup_alpha": 0.2}))
    with pytest.raises(ConfigError, match=r"optimizer +lamb(.|\n)*fix +optimizer=adam"):
        answer.refuse_unknown(load_settings(usual | {"optimizer": "lamb"}))


def test_the_script_imports_nothing_of_mslab():
    text = (PROJECT / "benchmarks" / "answer_torch.py").read_text(encoding="utf-8")
    imported = set(re.findall(r"^(?:from|import) (\w+)", text, re.MULTILINE))
    assert imported == {"json", "sys", "collections", "concurrent", "pathlib", "typing", "torch", "torchvision", "PIL"}
    assert speed.FIXES["pytorch"] == speed.PEERS
