"""`pipeline("ecg-classification")`: label names and probabilities of records. Not a medical device."""

import logging
from numbers import Integral
from typing import Any

import torch
from transformers.utils import ModelOutput

from ecg_transformers.hub.cards import FEW_RECORDS
from ecg_transformers.pipelines.base import ECGPipeline

logger = logging.getLogger(__name__)


class ECGClassificationPipeline(ECGPipeline):
    """Class probabilities of records, over their crops as the model combines them (the mean), best first.

    Not a medical device: the scores are for research.

    Example:
        >>> classify = pipeline("ecg-classification", model="path/to/checkpoint")  # doctest: +SKIP
        >>> classify("records/00001_lr.hea", top_k=2)  # doctest: +SKIP
        [{'label': 'NORM', 'score': 0.91, 'positive': True}, {'label': 'STTC', 'score': 0.07, 'positive': False}]

    `positive` is the thresholded answer: for one class of many the most probable one; for classes that may stand
    together those that reach the threshold of the validation split (`config.decision_thresholds`), or one half.
    """

    own_parameters = ("top_k",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if getattr(self.model, "head_is_new", False):
            raise ValueError(
                f"The checkpoint {self.model.name_or_path or type(self.model).__name__} holds no classifier, so its "
                "predictions would be noise: fine-tune it first, or name a fine-tuned model."
            )
        chosen_on = self.model.config.evaluation_records
        if chosen_on is not None and chosen_on < FEW_RECORDS:
            logger.warning(
                "This model and its thresholds were chosen on %d validation record%s: too few to trust its answers.",
                chosen_on,
                "s" if chosen_on > 1 else "",
            )

    def _sanitize_parameters(
        self, top_k: int | None = None, **parameters: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if top_k is not None and (not isinstance(top_k, Integral) or top_k < 1):
            raise ValueError(f"top_k must be a whole number of at least 1, got {top_k!r}.")
        return self._signal_parameters(parameters), {}, {} if top_k is None else {"top_k": top_k}

    def keep(self, outputs: ModelOutput) -> dict[str, torch.Tensor]:
        return {"probabilities": outputs.probabilities}

    def postprocess(self, model_outputs: list[dict[str, Any]], top_k: int | None = None) -> list[dict[str, Any]]:
        """`[{"label": name, "score": probability, "positive": bool}, …]`, the `top_k` best."""
        crops = self.numbers(model_outputs, "probabilities")
        scores = self.model.combine_crops(crops[None])[0]
        order = scores.argsort(descending=True).tolist()
        names, positive = self.model.config.id2label, self._positive(scores)
        items = [{"label": names[index], "score": float(scores[index])} for index in order[:top_k]]
        if positive is not None:
            for item, index in zip(items, order, strict=False):
                item["positive"] = bool(positive[index])
        return items

    def _positive(self, scores: torch.Tensor) -> torch.Tensor | None:
        """Which classes the answer holds `(C,)`; None in regression."""
        problem = self.model.config.problem_type
        if problem == "multi_label_classification":
            thresholds = self.model.config.decision_thresholds
            return scores >= (0.5 if thresholds is None else torch.tensor(thresholds))
        if problem == "regression" or len(scores) == 1:
            return None
        return torch.arange(len(scores)) == scores.argmax()
