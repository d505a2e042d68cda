"""Stage report: write an HTML report on the run, in which you can draw a digit for the network."""

from pathlib import Path
from typing import Any

from lenet.evaluation import EvaluateConfig, reliability
from lenet.report.page import ReportConfig, page
from stages.artifacts import files, history, mnist, model, predictions
from stages.launch.errors import not_a_script

PATH = Path("report.html")
METRICS = [
    Path("metrics/download.json"),
    Path("metrics/stats.json"),
    Path("metrics/train.json"),
    Path("metrics/evaluate.json"),
]


def main(
    split: dict[str, Any],
    compute: dict[str, Any],
    train: dict[str, Any],
    evaluate: EvaluateConfig,
    report: ReportConfig,
) -> None:
    """Write report.html."""
    predicted = predictions.read()
    correct = predicted["actual"] == predicted["predicted"]
    html = page(
        model.read(),
        {"split": split, "compute": compute, "train": train, "evaluate": evaluate.model_dump()},
        {path.stem: files.read_json(path, f"run dvc repro {path.stem}") for path in METRICS},
        history.read(),
        predicted,
        mnist.read("t10k").images,
        reliability(predicted["confidence"].to_numpy(), correct.to_numpy(), evaluate),
        report,
    )
    files.write(PATH, html)
    print(f"wrote {PATH}; open it in a browser")


if __name__ == "__main__":
    not_a_script(__file__)
