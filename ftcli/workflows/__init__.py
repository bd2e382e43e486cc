"""The verbs as plain functions, one file a verb: what the command line and notebooks call."""

from ftcli.workflows.evaluate import evaluate
from ftcli.workflows.inspect_batch import inspect_batch
from ftcli.workflows.predict import predict
from ftcli.workflows.train import train

__all__ = ["evaluate", "inspect_batch", "predict", "train"]
