"""The main job in about eight minutes: ST-MEM pre-trained on synthetic ECGs, then judged with few labels.

    python examples/demo.py --output_dir demo_output

Runs the commands that it prints: pre-trains a small ST-MEM, then compares on a tenth of the labels a frozen and a fine-tuned
encoder with the same network that was not pre-trained. Ends in one table, the picture of a reconstruction and that of a
prediction. What is complete is not repeated when it runs again. Not a medical device: these are synthetic signals.
"""

import argparse
import json
import os
import shlex
import sys
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before torch is loaded: waiting threads leave the cores to others

from ecg_transformers.cli import main as ecg_transformers
from ecg_transformers.words import did_you_mean

LABEL_FRACTION = 0.1
NOT_PRETRAINED = {"frozen encoder": "linear_random", "all weights trained": "scratch"}
PRETRAINED = {"frozen encoder": "linear", "all weights trained": "finetuned"}


def main() -> int:
    args, started = parse_arguments(), time.monotonic()
    folder = Path(args.output_dir)
    print(f"ECG demo: {args.num_records} synthetic records, {args.max_steps} updates; all goes to {folder}", flush=True)
    print("Loading torch and transformers takes some seconds", flush=True)
    keep_settings(args, folder)
    corpus = ["--dataset_options", f"num_records={args.num_records},seed={args.seed}"]
    pretrained, untrained = folder / "pretrained", folder / "untrained"
    run("1/5 pre-train without labels", pretrained, "pretrain", corpus, pretraining_options(args))
    save_untrained(pretrained, untrained, args.seed)
    ways = [("linear", pretrained, "linear"), ("linear_random", untrained, "linear")]
    ways += [("finetuned", pretrained, "finetune"), ("scratch", pretrained, "scratch")]
    for number, (name, source, mode) in enumerate(ways, start=2):
        options = ["--model_name_or_path", str(source), "--mode", mode, "--recipe", "tiny", "--seeds", str(args.seed)]
        options += ["--label_fraction", str(LABEL_FRACTION)]
        title = f"{number}/5 {mode}, {'from ' + source.name if mode != 'scratch' else 'not pre-trained'}"
        run(title, folder / name, "finetune", corpus, options)
    print("\nDrawing the pictures", flush=True)
    facts = draw(args, folder)
    report(folder, facts, time.monotonic() - started)
    return 0


def parse_arguments() -> argparse.Namespace:
    """What the demo may be told; nothing heavy is loaded yet, so that a typo is told at once."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0], allow_abbrev=False)
    parser.add_argument(
        "--output_dir", default="demo_output", help="folder of everything it makes (default: %(default)s)"
    )
    parser.add_argument("--num_records", type=int, default=2000, help="synthetic records (default: %(default)s)")
    parser.add_argument(
        "--max_steps", type=int, default=2000, help="updates of the pre-training (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of data and training (default: %(default)s)")
    args, rest = parser.parse_known_args()
    if rest:
        known = ["--output_dir", "--num_records", "--max_steps", "--seed"]
        parser.error(f"there is no option {rest[0]!r}{did_you_mean(rest[0], known)}")
    if args.num_records < 100 or args.max_steps < 1:
        parser.error("the demo takes at least 100 records and 1 update.")
    return args


def keep_settings(args: argparse.Namespace, folder: Path) -> None:
    """Complete steps are used again, so a folder belongs to one set of settings."""
    path, settings = folder / "settings.json", {key: value for key, value in vars(args).items() if key != "output_dir"}
    if path.is_file() and json.loads(path.read_text(encoding="utf-8")) != settings:
        raise SystemExit(f"error: {folder} holds a demo with other settings; name another --output_dir, or remove it.")
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(settings) + "\n", encoding="utf-8")


def pretraining_options(args: argparse.Namespace) -> list[str]:
    options = ["--method", "st_mem", "--recipe", "tiny", "--max_steps", str(args.max_steps), "--seed", str(args.seed)]
    # the signal itself as the target and a higher rate: the small network leaves the flat reconstruction sooner
    options += ["--config_overrides", "norm_pix_loss=false", "--recipe_overrides", "lr=0.0015"]
    return [*options, "--save_steps", "100"]


def run(title: str, folder: Path, verb: str, *options: list[str]) -> None:
    """A command of the package, unless its result is there; it goes on where an earlier call was stopped."""
    if (folder / "run.json").is_file() and (folder / "model.safetensors").is_file():
        print(f"\n{title}: done before", flush=True)
        return
    words = [verb, *(word for part in options for word in part), "--output_dir", str(folder)]
    words += ["--resume_from_checkpoint", "latest"] if any((folder / "checkpoints").glob("step-*")) else []
    print(f"\n{title}\n$ ecg-transformers {shlex.join(words)}", flush=True)
    code = ecg_transformers(words)
    if code:
        raise SystemExit(code)


def save_untrained(pretrained: Path, folder: Path, seed: int) -> None:
    """The same network as it was before training: the control that every probe needs."""
    import torch
    from transformers import AutoConfig, AutoFeatureExtractor, AutoModel

    from ecg_transformers.training.report.model_folder import quiet_loading

    torch.manual_seed(seed)
    with quiet_loading():
        AutoModel.from_config(AutoConfig.from_pretrained(pretrained)).save_pretrained(folder)
    AutoFeatureExtractor.from_pretrained(pretrained).save_pretrained(folder)


def draw(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """A reconstruction and a prediction of the first test record; what is to be said of them."""
    from transformers import pipeline

    import ecg_transformers as ecg
    from ecg_transformers.analysis import plot_ecg, save_figure
    from ecg_transformers.training.report.model_folder import quiet_loading

    rows = ecg.load_ecg_dataset("synthetic", split="test", num_records=args.num_records, seed=args.seed)
    record = ecg.ECGRecord.from_row(rows[0])
    with quiet_loading():
        figure, explained = reconstruct(folder / "pretrained", record, args.seed)
        answers = pipeline("ecg-classification", model=str(folder / "finetuned"))(record)
    save_figure(figure, folder / "reconstruction.png")
    truth = ", ".join(record.labels or [])
    page = plot_ecg(
        record,
        title=f"Record {record.record_id}, made as: {truth}",
        predictions={answer["label"]: answer["score"] for answer in answers},
    )
    save_figure(page, folder / "prediction.png")
    found = (
        ", ".join(f"{answer['label']} ({answer['score']:.2f})" for answer in answers if answer["positive"]) or "none"
    )
    quality = f"explains {explained:.0%} of what was masked" + (
        ", too little to see: it is nearly flat" if explained < 0.1 else ""
    )
    return {
        "reconstruction.png": f"the reconstruction {quality}",
        "prediction.png": f"record {record.record_id}: predicted {found}; made as {truth}",
    }


def reconstruct(model_folder: Path, record: Any, seed: int) -> tuple[Any, float]:
    """The picture of a masked record, and the share of the masked signal's variance that the model explains."""
    import torch
    from transformers import AutoFeatureExtractor, AutoModelForPreTraining

    from ecg_transformers.analysis import plot_reconstruction
    from ecg_transformers.analysis.plots import reconstruction_patches

    extractor = AutoFeatureExtractor.from_pretrained(model_folder)
    model = AutoModelForPreTraining.from_pretrained(model_folder).eval()
    x = extractor(record, return_tensors="pt")["input_values"]
    noise = model.draw_sample_noise(torch.Generator().manual_seed(seed))["noise"][None]
    with torch.no_grad():
        output = model(x, noise=noise)
    normalized = model.config.norm_pix_loss
    original, guess, mask = reconstruction_patches(x, output.reconstruction, output.mask, normalized_target=normalized)
    error, signal = (guess - original)[mask > 0.5], original[mask > 0.5]
    figure = plot_reconstruction(
        x,
        output.reconstruction,
        output.mask,
        normalized_target=normalized,
        sampling_rate=extractor.sampling_rate,
        lead_names=model.config.lead_names,
        leads=[0, 1, 6, 10],
        title="Masked patches of a test record, reconstructed",
    )
    return figure, 1 - float((error**2).mean() / signal.var())


def report(folder: Path, pictures: dict[str, str], seconds: float) -> None:
    """The table, what it means, the pictures, and the lines that load the result."""
    rows = [("pre-trained", PRETRAINED), ("not pre-trained", NOT_PRETRAINED)]
    results = {
        name: json.loads((folder / name / "metrics.json").read_text()) for _, ways in rows for name in ways.values()
    }
    records = next(iter(results.values()))["test"]["n_records"]
    print(
        f"\nMacro AUROC on {records} test records with {LABEL_FRACTION:.0%} of the labels (95 % interval over patients)\n"
    )
    print(f"  {'':22}" + "".join(f"{title:26}" for title, _ in rows) + "gain by pre-training")
    comparison, verdicts = {}, []
    for way in PRETRAINED:
        gain = gain_by_pretraining(folder, PRETRAINED[way], NOT_PRETRAINED[way])
        figures = [results[ways[way]]["test"]["macro_auroc"] for _, ways in rows]
        comparison[way] = {"pre-trained": figures[0], "not pre-trained": figures[1], "gain": gain}
        cells = "".join(f"{interval(entry['mean'], entry['ci95'], ''):26}" for entry in figures)
        print(f"  {way:22}{cells}{interval(gain['difference'], gain['ci95'], '+')}")
        low, high = gain["ci95"]
        helps = "helps" if low > 0 else "harms in this run" if high < 0 else "does not visibly help at this size"
        verdicts.append(f"{way}: pre-training {helps}")
    (folder / "comparison.json").write_text(json.dumps(comparison, indent=2) + "\n", encoding="utf-8")
    verdict = "; ".join(verdicts)
    print(f"\n{verdict[0].upper()}{verdict[1:]}.\n")
    for name, text in pictures.items():
        print(f"{folder / name}: {text}")
    print(f"\nDone in {seconds / 60:.1f} minutes. Load the classifier:\n")
    print("  import ecg_transformers")
    print("  from transformers import pipeline")
    print(f'  classify = pipeline("ecg-classification", model="{folder / "finetuned"}")')
    print("\nNot a medical device: the model has only seen synthetic signals.")


def gain_by_pretraining(folder: Path, ours: str, control: str) -> dict[str, Any]:
    """The difference of two classifiers on the same test records, with its paired interval over patients."""
    import pandas as pd

    from ecg_transformers.evaluation.statistics import paired_bootstrap

    first, second = (pd.read_parquet(folder / name / "predictions.parquet") for name in (ours, control))
    truth = first.filter(like="y_true_").to_numpy()
    scores = [table.filter(like="y_score_").to_numpy() for table in (first, second)]
    return paired_bootstrap(truth, *scores, first["patient_id"].tolist())


def interval(value: float, bounds: list[float], sign: str) -> str:
    return f"{value:{sign}.3f} ({bounds[0]:{sign}.3f} to {bounds[1]:{sign}.3f})"


if __name__ == "__main__":
    sys.exit(main())
