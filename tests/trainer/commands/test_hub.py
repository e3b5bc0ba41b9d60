"""What leaves the machine: uploads to the hub, against a small server that speaks its protocol, and `--report_to`."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import transformers.utils.hub
from huggingface_hub import HfApi
from triptych_trainer.commands.train import main
from triptych_trainer.options.arguments import parse_run


class Hub(BaseHTTPRequestHandler):
    """Takes repositories and commits of small files; `commits` has (first line, files) of each."""

    commits: list[tuple[str, dict[str, bytes]]]

    def do_POST(self):
        assert self.headers["Authorization"] == "Bearer hf_secret" or "validate" in self.path
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = f"http://{self.headers['Host']}"
        if self.path == "/api/repos/create":
            answer = {"url": f"{url}/{json.loads(body)['organization']}/{json.loads(body)['name']}"}
        elif "/preupload/" in self.path:
            files = [{"path": file["path"], "uploadMode": "regular"} for file in json.loads(body)["files"]]
            answer = {"files": [{**file, "shouldIgnore": False} for file in files]}
        elif "/commit/" in self.path:
            lines = [json.loads(line) for line in body.splitlines()]
            files = [line["value"] for line in lines if line["key"] == "file"]
            self.commits.append(
                (lines[0]["value"]["summary"], {file["path"]: base64.b64decode(file["content"]) for file in files})
            )
            answer = {"commitOid": "0" * 40, "commitUrl": f"{url}/me/tiny/commit/{'0' * 40}", "success": True}
        else:
            answer = {"errors": [], "warnings": []}  # of the model card
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args):
        pass


@pytest.fixture
def hub(monkeypatch):
    """Start the server and let transformers upload to it; gives its commits."""
    handler = type("OwnHub", (Hub,), {"commits": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_TOKEN", "hf_other")  # restored afterwards
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # this hub is a process of this machine
    monkeypatch.setattr(transformers.utils.hub, "_hf_api", HfApi(endpoint=f"http://127.0.0.1:{server.server_port}"))
    yield handler.commits
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def command(model_dir, write_rows, tmp_path):
    return [
        *("--model_name_or_path", str(model_dir), "--output_dir", str(tmp_path / "out"), "--max_steps", "2"),
        *("--per_device_train_batch_size", "4", "--num_generations", "2", "--max_completion_length", "4"),
        *("--data", str(write_rows([1, 2])), "--reward", "format", "--memory_forecast", "false"),
    ]


@pytest.mark.slow
def test_checkpoints_and_the_model_are_uploaded_whole(hub, command, tmp_path, capsys):
    push = ["--push_to_hub", "true", "--hub_model_id", "me/tiny", "--hub_token", "hf_secret"]
    push += ["--hub_strategy", "all_checkpoints", "--hub_always_push", "true", "--save_steps", "1"]
    assert main([*command, *push]) == 0, capsys.readouterr().err
    out = tmp_path / "out"
    uploads = dict(hub)
    for step in (1, 2):
        folder = out / f"checkpoint-{step}"
        files = uploads[f"Training in progress, step {step}, checkpoint"]
        expected = {f"{folder.name}/{path.name}": path.read_bytes() for path in folder.iterdir()}
        assert files == expected
    final = uploads["Model save"]
    assert final["model.safetensors"] == (out / "model.safetensors").read_bytes()
    assert {"README.md", "config.json", "processor_config.json", "tokenizer.json"} <= set(final)
    hidden = ("unfinished", "_run.lock", "_earlier-runs")
    assert not [path for _, files in hub for path in files if any(name in path for name in hidden)]
    assert not [path for _, files in hub for path, content in files.items() if b"hf_secret" in content]


def test_report_to_reaches_the_trainer(command, tmp_path, capsys):
    assert parse_run(command).grpo.report_to == []
    assert parse_run([*command, "--report_to", "wandb"]).grpo.report_to == ["wandb"]
    (tmp_path / "both.yaml").write_text("report_to: [wandb, tensorboard]\n")
    assert parse_run(["--config", str(tmp_path / "both.yaml")]).grpo.report_to == ["wandb", "tensorboard"]
    assert main([*command, "--report_to", "swanlab"]) == 2
    assert "--report_to swanlab: swanlab is not installed" in capsys.readouterr().err
