"""`pipeline("ecg-feature-extraction")`: one vector per record."""

from typing import Any

import numpy as np
import torch
from transformers.utils import ModelOutput

from ecg_transformers.pipelines.base import ECGPipeline


class ECGFeatureExtractionPipeline(ECGPipeline):
    """The published downstream feature of records, the mean over their crops: `(D,)` float32 arrays.

    `return_crops=True` gives one row a crop instead: `(k, D)`.
    """

    own_parameters = ("return_crops",)

    def _sanitize_parameters(
        self, return_crops: bool | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        post = {} if return_crops is None else {"return_crops": return_crops}
        return self._signal_parameters(parameters), {}, post

    def keep(self, outputs: ModelOutput) -> dict[str, torch.Tensor]:
        return {"features": outputs.pooler_output}

    def postprocess(self, model_outputs: list[dict[str, Any]], return_crops: bool = False) -> np.ndarray:
        crops = self.numbers(model_outputs, "features").numpy()
        return crops if return_crops else crops.mean(axis=0)
