"""The loggers that `training.loggers` names, through Lightning."""

import os
from importlib.util import find_spec
from typing import Any

from lightning.pytorch.loggers import CSVLogger, Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from selfreg.config import Config
from selfreg.run import Run


def make_loggers(config: Config, run: Run) -> list[Logger]:
    """The loggers of one attempt of a run; all of them write below the folder of the run.

    The CSV files are always written, since pages and tables are made from them. Weights & Biases stays offline unless
    the environment variable WANDB_MODE says otherwise, and MLflow writes to a database in the folder unless
    MLFLOW_TRACKING_URI names a server.

    Raises:
        ValueError: The package of a logger is not installed.
    """
    # a resumed run logs beside the interrupted one, which the CSV logger would otherwise delete
    attempt = run.next_attempt
    folder = str(run.log_folder)
    names = dict.fromkeys(["csv", *config.training.loggers])
    for name in names:
        if name in ("wandb", "mlflow") and find_spec(name) is None:
            raise ValueError(f"training.loggers: {name} needs a package of its own: pip install 'selfreg[{name}]'")
    if "mlflow" in names and "MLFLOW_TRACKING_URI" not in os.environ and find_spec("sqlalchemy") is None:
        raise ValueError(
            "training.loggers: mlflow keeps its records in a database, which the package mlflow-skinny cannot: "
            "pip install 'selfreg[mlflow]', or name a server in MLFLOW_TRACKING_URI"
        )
    made: dict[str, Any] = {
        "csv": lambda: CSVLogger(folder, name="", version=attempt),
        "tensorboard": lambda: TensorBoardLogger(folder, name="", version=attempt),
        "wandb": lambda: _wandb(run, attempt),
        "mlflow": lambda: _mlflow(run, attempt),
    }
    return [made[name]() for name in names]


def _wandb(run: Run, attempt: str) -> Logger:
    offline = os.environ.get("WANDB_MODE", "offline") != "online"
    return WandbLogger(name=f"{run.name}-{attempt}", save_dir=run.log_folder, project="selfreg", offline=offline)


def _mlflow(run: Run, attempt: str) -> Logger:
    folder, own = run.log_folder.resolve(), "MLFLOW_TRACKING_URI" not in os.environ
    return MLFlowLogger(
        experiment_name="selfreg",
        run_name=f"{run.name}-{attempt}",
        tracking_uri=f"sqlite:///{folder}/mlflow.db" if own else os.environ["MLFLOW_TRACKING_URI"],
        artifact_location=(folder / "mlflow").as_uri() if own else None,
    )
