"""Inference: a network as one file, an ONNX graph with its model card inside, and an engine to run it."""

from .card import ModelCard
from .model import Model, bundled_model_path, default_model_path
from .predictor import ClickCache, Predictor, predict

__all__ = ["ClickCache", "Model", "ModelCard", "Predictor", "bundled_model_path", "default_model_path", "predict"]
