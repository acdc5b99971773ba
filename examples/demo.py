"""The main job in ten minutes: ST-MEM pre-trained on synthetic ECGs, then judged with few labels against its controls.

    python examples/demo.py --output_dir demo_output

Pre-trains a small ST-MEM, then compares on 10 % of the labels: fine-tuned, trained from scratch, a linear probe on the
frozen encoder, and the same probe on a randomly initialised encoder. Writes figures and the three lines that load the
result. Steps that are complete are not repeated when the command runs again; an interrupted pre-training goes on where it
stopped. Not a medical device: these are synthetic signals.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

import ecg_transformers as ecg
from ecg_transformers.analysis.ecg_paper import plot_ecg
from ecg_transformers.analysis.plots import plot_loss_curve, plot_reconstruction, plot_roc_curves, save_figure
from ecg_transformers.hub.cards import write_card
from ecg_transformers.training.arguments import FinetuningArguments, PretrainingArguments, option, parse_arguments
from ecg_transformers.training.checkpoints.saving import continued
from ecg_transformers.training.errors import run_command
from ecg_transformers.training.finetuning import finetune
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.report.model_folder import is_finished

LABEL_FRACTION = 0.1


@dataclass
class DemoArguments:
    """What the demo may be told."""

    output_dir: str = option("demo_output", "Folder for checkpoints, figures and comparison.json.")
    num_records: int = option(2000, "Synthetic records.")
    max_steps: int = option(2000, "Updates of the pre-training.")
    seed: int = option(0, "Seed of data and training.")


def main() -> None:
    args = parse_arguments(DemoArguments, "Demo of ecg_transformers.")
    folder = Path(args.output_dir)
    pretrained = pretrain_once(args, folder / "pretrained")
    untrained = save_untrained(pretrained, folder / "untrained", args.seed)
    runs = {
        "fine-tuned": classify_once(args, pretrained, folder / "finetuned", "finetune"),
        "from scratch": classify_once(args, pretrained, folder / "scratch", "scratch"),
        "linear probe": classify_once(args, pretrained, folder / "linear", "linear"),
        "linear probe, random encoder": classify_once(args, untrained, folder / "linear_random", "linear"),
    }
    figures = draw(args, folder, pretrained)
    report(folder, runs, figures)


def pretrain_once(args: DemoArguments, folder: Path) -> Path:
    """The small ST-MEM, pre-trained on the records without their labels."""
    if not is_finished(folder):
        print(f"Pre-training ST-MEM on {args.num_records} synthetic records, {args.max_steps} updates", flush=True)
        settings = PretrainingArguments(
            method="st_mem",
            recipe="tiny",
            dataset_options=f"num_records={args.num_records},seed={args.seed}",
            output_dir=str(folder),
            max_steps=args.max_steps,
            save_steps=100,
            seed=args.seed,
        )
        pretrain(continued(settings))
        write_card(folder)
    return folder


def save_untrained(pretrained: Path, folder: Path, seed: int) -> Path:
    """The same network as it was before training: the control that every probe needs."""
    config = ecg.STMEMConfig.from_pretrained(pretrained)
    torch.manual_seed(seed)
    AutoModel.from_config(config).save_pretrained(folder)
    AutoFeatureExtractor.from_pretrained(pretrained).save_pretrained(folder)
    return folder


def classify_once(args: DemoArguments, checkpoint: Path, folder: Path, mode: str) -> dict[str, Any]:
    """One way to a classifier with few labels, and its metrics on the test records."""
    if not is_finished(folder):
        print(f"{mode} from {checkpoint.name} with {LABEL_FRACTION:.0%} of the labels", flush=True)
        settings = FinetuningArguments(
            model_name_or_path=str(checkpoint),
            recipe="tiny",
            dataset_options=f"num_records={args.num_records},seed={args.seed}",
            output_dir=str(folder),
            mode=mode,
            label_fraction=LABEL_FRACTION,
            seeds=str(args.seed),
        )
        finetune(continued(settings))
        write_card(folder)
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return metrics


def draw(args: DemoArguments, folder: Path, pretrained: Path) -> list[Path]:
    """ECG paper, reconstruction, loss and ROC."""
    rows = ecg.load_ecg_dataset("synthetic", split="test", num_records=args.num_records, seed=args.seed)
    record = ecg.ECGRecord.from_row(rows[0])
    extractor = AutoFeatureExtractor.from_pretrained(pretrained)
    model = AutoModelForPreTraining.from_pretrained(pretrained).eval()
    x = extractor(record, return_tensors="pt")["input_values"]
    noise = model.draw_sample_noise(torch.Generator().manual_seed(args.seed))["noise"][None]
    with torch.no_grad():
        output = model(x, noise=noise)
    reconstruction = plot_reconstruction(
        x,
        output.reconstruction,
        output.mask,
        normalized_target=model.config.norm_pix_loss,
        sampling_rate=extractor.sampling_rate,
        lead_names=model.config.lead_names,
        leads=[0, 1, 6, 10],
        title="Masked patches of a test record, reconstructed",
    )
    table = pd.read_parquet(folder / "finetuned" / "predictions.parquet")
    names = [name.removeprefix("y_true_") for name in table.columns if name.startswith("y_true_")]
    truth, score = (table[[f"{kind}_{name}" for name in names]].to_numpy() for kind in ("y_true", "y_score"))
    figures = {
        "ecg_paper.png": plot_ecg(record, title=f"Synthetic record, labels: {', '.join(record.labels or [])}"),
        "reconstruction.png": reconstruction,
        "loss.png": plot_loss_curve(pretrained / "train_log.jsonl"),
        "roc.png": plot_roc_curves(truth, score, names, title="Fine-tuned, synthetic test records"),
    }
    return [save_figure(figure, folder / name) for name, figure in figures.items()]


def report(folder: Path, runs: dict[str, dict[str, Any]], figures: list[Path]) -> None:
    """The comparison, the figures, and the three lines that load the result."""
    comparison = {name: run["test"]["macro_auroc"] for name, run in runs.items()}
    (folder / "comparison.json").write_text(json.dumps(comparison, indent=2) + "\n", encoding="utf-8")
    print(
        f"\nMacro AUROC on the synthetic test records, {LABEL_FRACTION:.0%} of the labels (95 % interval over patients):"
    )
    for name, entry in comparison.items():
        low, high = entry["ci95"]
        print(f"  {name:30} {entry['mean']:.3f}  [{low:.3f}, {high:.3f}]")
    print("\nFigures: " + ", ".join(str(path) for path in figures))
    print("\nLoad the result:\n")
    print("  import ecg_transformers")
    print("  from transformers import pipeline")
    print(f'  classify = pipeline("ecg-classification", model="{folder / "finetuned"}")')
    print("\nNot a medical device: the model has only seen synthetic signals.")


if __name__ == "__main__":
    sys.exit(run_command(main))
