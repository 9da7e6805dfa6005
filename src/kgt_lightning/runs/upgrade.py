"""The configuration of checkpoints of before degradation and head were objects of their own, in today's structure."""

from collections.abc import Mapping
from typing import Any

_RESIDUAL = {"_target_": "kgt_lightning.model.ResidualHead", "_partial_": True}
_SHUFFLE = {"_target_": "kgt_lightning.model.PixelShuffleHead", "_partial_": True}

_DEGRADATIONS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "DenoiseData": ("noise.GaussianNoise", ("sigma", "test_sigma")),
    "JPEGData": ("jpeg.JPEGCompression", ("quality", "test_quality")),
    "SRData": ("bicubic.BicubicDown", ("scale", "matlab_uint8")),
    "DemosaicData": ("bayer.BayerMosaic", ("pattern",)),
    "DeblurData": (
        "camera_shake.CameraShake",
        ("shake", "test_shake", "tremor", "pull", "jerks", "noise", "linear_light"),
    ),
    "WeatherData": ("weather.Weather", ("kinds", "rain", "snow", "drops")),
}
"""By the data class of a task that held them: the degradation and its parameters."""
_KEPT = ("SRData", "DeblurData", "WeatherData")
"""Data classes that are still there, for the layouts of their sets."""


def upgrade(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration in today's structure; one that has it already, or a task of the user's own, as it is."""
    model = config["model"]
    if isinstance(model, Mapping) and model.get("_target_") == "kgt_lightning.model.KGT":
        model = {"mixer": None, "ffn": "linear", **model}
        config = {**config, "model": model, "module": {**config["module"], "backbone": model}}
    task = str(config["data"].get("_target_", "")).rpartition(".")[2]
    if "degradation" in config or task not in _DEGRADATIONS:
        return config
    data, module = dict(config["data"]), dict(config["module"])
    name, parameters = _DEGRADATIONS[task]
    degradation = {
        "_target_": f"kgt_lightning.degradations.{name}",
        **{parameter: data.pop(parameter) for parameter in parameters},
    }
    if task == "DenoiseData":
        degradation["protocol"] = data["protocol"]
    if task == "WeatherData":
        degradation["strength"] = 1.0  # that of the three kinds was multiplied already
    if "usual_test" in data:
        data["default_test"] = data.pop("usual_test")
    if task not in _KEPT:
        data["_target_"] = "kgt_lightning.data.datamodule.RestorationData"
    data |= {"degradation": degradation, "test_gray": "luma" if task == "JPEGData" else "gray"}
    for key in ("scale", "pattern"):
        module.pop(key, None)
    module |= {
        "_target_": "kgt_lightning.training.module.RestorationModule",
        "degradation": degradation,
        "head": _SHUFFLE if task == "SRData" else _RESIDUAL,
    }
    return {**config, "degradation": degradation, "data": data, "module": module}
