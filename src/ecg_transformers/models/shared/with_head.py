"""What all models with a head share: their encoder, and whether loading found the head."""

from typing import Self

from ecg_transformers.models.base import ECGPreTrainedModel


class ECGModelWithHead(ECGPreTrainedModel):
    """A base model, named by its method's class as `base_class`, with `classifier` on it."""

    base_class: type[ECGPreTrainedModel]
    head_is_new = False  # loading found no head in the checkpoint: its answers would be noise

    def after_loading(self, missing_keys: set[str]) -> None:
        super().after_loading(missing_keys)
        self.head_is_new = any(key.startswith("classifier.") for key in missing_keys)

    def train(self, mode: bool = True) -> Self:
        if mode:  # a head that is being trained is no longer the random one that loading made
            self.head_is_new = False
        return super().train(mode)
