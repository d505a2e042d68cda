"""Renew release/ with the recorded model, its predictions, the page and the model card: `make release`.

These files are in Git, so a clone can read digits before it has run anything. No stage writes them, and DVC does not
track them, so experiments stay small.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import yaml

from lenet.data.dataset import TITLE
from lenet.model import NAME
from tools import checks, lock, record
from tools.errors import ToolError, run
from tools.git import git

FOLDER = Path("release")
CARD = Path("docs/model-card.md")
METRICS = {"accuracy": "accuracy", "loss": "cross-entropy in nats", "calibration_error": "expected calibration error"}


def front_matter(test: dict[str, float]) -> str:
    """Return what Hugging Face's hub reads at the top of a model card, with the scores on the test set."""
    scores = [{"type": key, "name": f"Test {name}", "value": test[key]} for key, name in METRICS.items()]
    data_set = {"type": TITLE.lower(), "name": TITLE, "split": "test"}
    result = {"task": {"type": "image-classification"}, "dataset": data_set, "metrics": scores}
    content: dict[str, Any] = {
        "license": "mit",
        "library_name": "pytorch",
        "pipeline_tag": "image-classification",
        "tags": ["lenet", TITLE.lower(), "dvc", "safetensors"],
        "metrics": ["accuracy"],
        "model-index": [{"name": f"{NAME} on {TITLE}", "results": [result]}],
    }
    return f"---\n{yaml.safe_dump(content, sort_keys=False, allow_unicode=True)}---\n"


def card(text: str, test: dict[str, float], commit: str) -> str:
    """Return the model card `text` of docs/ for release/, with the model's scores and the `commit` that it is of."""
    heading, _, body = text.partition("\n")
    scores = ", ".join(f"{name} {test[key]:.4g}" for key, name in METRICS.items())
    run = f"The model in this folder was trained by the code at commit {commit}. On the test set: {scores}."
    links = re.sub(r"\]\((?!\.\./|https?:|#)", "](../docs/", body)
    return f"{front_matter(test)}\n{heading}\n\n{run}\n{links}"


def main() -> None:
    """Write the files of release/."""
    if dirty := git("status", "--porcelain", "--", ".", f":!{FOLDER}"):
        paths = ", ".join(line[3:] for line in dirty.splitlines())
        raise ToolError(f"release/ names the commit that its model comes from: commit or stash {paths}")
    if problems := lock.problems(Path()):
        raise ToolError("\n".join([*problems, "so nothing was released: run dvc repro and commit what it writes"]))
    recorded = record.read(Path())
    files = [Path(path) for path in [*checks.released(recorded), checks.PAGE]]
    for path in files:
        if not path.is_file() or record.md5(path.read_bytes()) != recorded.paths()[str(path)]:
            raise ToolError(f"{path} is not the one that dvc.lock names: run dvc repro, or dvc checkout")
    FOLDER.mkdir(exist_ok=True)
    for path in files:
        shutil.copyfile(path, FOLDER / path.name)
    test = json.loads(Path("metrics/evaluate.json").read_text())["test"]
    text = card(CARD.read_text(), test, git("rev-parse", "--short=10", "HEAD").strip())
    (FOLDER / "README.md").write_text(text)
    print(*checks.of_release(Path()) or [f"wrote {FOLDER}: commit it"], sep="\n")


if __name__ == "__main__":
    run(main)
