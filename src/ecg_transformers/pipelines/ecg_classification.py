"""`pipeline("ecg-classification")`: label names and probabilities of records. Not a medical device."""

from typing import Any

import torch

from ecg_transformers.pipelines.base import ECGPipeline


class ECGClassificationPipeline(ECGPipeline):
    """Class probabilities of records, over their crops as the model combines them (the mean), best first.

    Not a medical device: the scores are for research.

    Example:
        >>> classify = pipeline("ecg-classification", model="path/to/checkpoint")  # doctest: +SKIP
        >>> classify("records/00001_lr.hea", top_k=2)  # doctest: +SKIP
        [{'label': 'NORM', 'score': 0.91}, {'label': 'STTC', 'score': 0.07}]
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.model, "head_is_new", False):
            raise ValueError(
                f"The checkpoint {self.model.name_or_path or type(self.model).__name__} holds no classifier, so its "
                "predictions would be noise: fine-tune it first, or name a fine-tuned model."
            )

    def _sanitize_parameters(
        self, top_k: int | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if top_k is not None and top_k < 1:
            raise ValueError(f"top_k must be at least 1, got {top_k}.")
        return self._signal_parameters(parameters), {}, {} if top_k is None else {"top_k": top_k}

    def keep(self, outputs: Any) -> dict[str, torch.Tensor]:
        return {"probabilities": outputs.probabilities}

    def postprocess(self, model_outputs: list[dict[str, Any]], top_k: int | None = None) -> list[dict[str, Any]]:
        """`[{"label": name, "score": probability}, …]`, the `top_k` best."""
        crops = torch.cat([chunk["probabilities"].float() for chunk in model_outputs])
        scores = self.model.combine_crops(crops[None])[0]
        order = scores.argsort(descending=True).tolist()
        names = self.model.config.id2label
        return [{"label": names[index], "score": float(scores[index])} for index in order[:top_k]]
