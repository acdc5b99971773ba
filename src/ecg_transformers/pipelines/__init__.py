"""Inference objects: `pipeline("ecg-classification")`, `pipeline("ecg-feature-extraction")`, `pipeline("ecg-delineation")`."""


def register_pipelines() -> None:
    """Make the tasks known to `transformers.pipeline` (safe to call again)."""
    from transformers import AutoModel, AutoModelForSequenceClassification, AutoModelForTokenClassification
    from transformers.pipelines import PIPELINE_REGISTRY

    from ecg_transformers.pipelines.ecg_classification import ECGClassificationPipeline
    from ecg_transformers.pipelines.ecg_delineation import ECGDelineationPipeline
    from ecg_transformers.pipelines.ecg_feature_extraction import ECGFeatureExtractionPipeline

    tasks = {
        "ecg-classification": (ECGClassificationPipeline, AutoModelForSequenceClassification),
        "ecg-delineation": (ECGDelineationPipeline, AutoModelForTokenClassification),
        "ecg-feature-extraction": (ECGFeatureExtractionPipeline, AutoModel),
    }
    for task, (pipeline_class, model_class) in tasks.items():
        if task not in PIPELINE_REGISTRY.supported_tasks:
            PIPELINE_REGISTRY.register_pipeline(
                task, pipeline_class=pipeline_class, pt_model=model_class, type="multimodal"
            )
