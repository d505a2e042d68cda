"""Stage report: make one page of the run, in which the network reads what a visitor draws."""

from pathlib import Path

from lenet.compute import ComputeConfig
from lenet.data.folds import SplitConfig
from lenet.errors import not_a_script
from lenet.evaluation import EvaluateConfig, reliability
from lenet.report.page import ReportConfig, page
from lenet.training import TrainConfig
from stages.artifacts import files, history, mnist, model, predictions

PATH = Path("report.html")
METRICS = [
    Path("metrics/download.json"),
    Path("metrics/stats.json"),
    Path("metrics/train.json"),
    Path("metrics/evaluate.json"),
]


def main(
    split: SplitConfig, compute: ComputeConfig, train: TrainConfig, evaluate: EvaluateConfig, report: ReportConfig
) -> None:
    """Write report.html."""
    params = {"split": split, "compute": compute, "train": train, "evaluate": evaluate}
    predicted = predictions.read()
    correct = predicted["actual"] == predicted["predicted"]
    html = page(
        model.read(),
        {name: section.model_dump() for name, section in params.items()},
        {path.stem: files.read_json(path, f"run dvc repro {path.stem}") for path in METRICS},
        history.read(),
        predicted,
        mnist.read("t10k").images,
        reliability(predicted["confidence"].to_numpy(), correct.to_numpy(), evaluate),
        report,
    )
    files.write(PATH, html)
    print(f"{PATH}: open it in a browser")


if __name__ == "__main__":
    not_a_script(__file__)
