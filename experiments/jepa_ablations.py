"""What matters in ECG-JEPA: short pre-trainings that differ in one thing, each read by frozen linear probes.

    python experiments/jepa_ablations.py --dataset ptb_xl --data_dir PTB_XL_FOLDER --task superclass --output_dir OUT
    python experiments/jepa_ablations.py … --cells reference,full_attention --seeds 0,1,2 --lead_sets "all;II;II,V1"

Cells: Cross-Pattern Attention on and off; latent or raw-signal target, without and under added noise; mask type and
mask ratio. A probe is fitted on the frozen encoder and on the same network before its first update, with the same
records and the same search, and the difference is given with its paired interval over patients. Finished
pre-trainings and finished cells are not repeated, an interrupted pre-training goes on where it stopped. `OUT` holds
`<cell>/seed-N/` (checkpoints), `<cell>/probes.json` and, over all finished cells, `table.md`.
"""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoFeatureExtractor, AutoModel, AutoModelForPreTraining

from ecg_transformers.evaluation.metrics import macro_auroc
from ecg_transformers.evaluation.probes import LinearProbe
from ecg_transformers.evaluation.readouts import encode_batch
from ecg_transformers.evaluation.statistics import bootstrap_seeds, cluster_index, compare_models
from ecg_transformers.evaluation.subsets import label_subset
from ecg_transformers.training.arguments import PretrainingArguments, parse_arguments
from ecg_transformers.training.checkpoints.saving import continued
from ecg_transformers.training.errors import UsageError, run_command
from ecg_transformers.training.plan.randomness import seed_global_generators
from ecg_transformers.training.pretraining import pretrain
from ecg_transformers.training.report.model_folder import is_finished
from ecg_transformers.training.samples.splits import load_split

NOISE = 'augmentation=white_noise,augmentation_options={"amplitude": 0.5}'  # in SDs of the standardised crop
CELLS: dict[str, tuple[str, str]] = {  # name: config overrides, recipe overrides
    "reference": ("", ""),  # multi-block masks, Cross-Pattern Attention, latent target
    "full_attention": ("cross_pattern=false", ""),
    "signal_target": ("target=signal", ""),
    "latent_target_noise": ("", NOISE),
    "signal_target_noise": ("target=signal", NOISE),
    "block_0.125_0.175": ("mask_ratio_range=[0.125,0.175]", ""),
    "block_0.225_0.275": ("mask_ratio_range=[0.225,0.275]", ""),
    "random_0.5_0.6": ("mask_type=random,mask_ratio_range=[0.5,0.6]", ""),
    "random_0.6_0.7": ("mask_type=random", ""),
    "random_0.7_0.8": ("mask_type=random,mask_ratio_range=[0.7,0.8]", ""),
}
MONITORED = ("loss", "content", "token_effective_rank", "mean_pairwise_cosine")
SCORES = "scores.npz"
NO_DIFFERENCE = "– | – | –"  # mean, low, high
BATCH = 32
LAST_STEPS = 20  # the monitor's figures are means over so many steps at the end of the log


@dataclass
class AblationArguments:
    """Which cells, on which records, read how."""

    output_dir: str = field(metadata={"help": "Folder for checkpoints, probes.json of each cell, and table.md."})
    dataset: str = field(default="synthetic", metadata={"help": "Corpus name of load_ecg_dataset."})
    data_dir: str | None = field(default=None, metadata={"help": "Folder of the corpus in its native layout."})
    dataset_options: str = field(default="", metadata={"help": "Further options of the corpus, key=value,…"})
    task: str | None = field(default=None, metadata={"help": "Task of the probes, e.g. superclass for ptb_xl."})
    cells: str = field(default="all", metadata={"help": f"'all', or some of: {', '.join(CELLS)}."})
    seeds: str = field(default="0", metadata={"help": "Seeds of pre-training and label subset."})
    recipe: str = field(default="tiny", metadata={"help": "Recipe of the pre-training."})
    max_steps: int | None = field(default=None, metadata={"help": "Updates (default: as the recipe says)."})
    config_overrides: str = field(default="", metadata={"help": "Fields of the model config for every cell."})
    fractions: str = field(default="1,0.1", metadata={"help": "Label fractions of the probes."})
    lead_sets: str = field(default="all", metadata={"help": 'Leads of the probes, e.g. "all;II;II,V1".'})
    num_crops: int = field(default=3, metadata={"help": "Crops of a record in the probes."})
    n_boot: int = field(default=2000, metadata={"help": "Resamples of the patient bootstrap."})

    def chosen_cells(self) -> list[str]:
        """The cells to run, in their order in the table."""
        names = list(CELLS) if self.cells == "all" else [part.strip() for part in self.cells.split(",")]
        unknown = [name for name in names if name not in CELLS]
        if unknown:
            raise UsageError(f"There is no cell {unknown[0]!r}; the cells are {', '.join(CELLS)}.")
        return names

    def probe_settings(self) -> dict[str, Any]:
        """What a finished cell must have been probed with to count as finished."""
        names = ("dataset", "dataset_options", "task", "seeds", "recipe", "max_steps", "config_overrides")
        return {name: getattr(self, name) for name in (*names, "fractions", "lead_sets", "num_crops", "n_boot")}


def main() -> None:
    args = parse_arguments(AblationArguments, "Ablations of ECG-JEPA with frozen probes.")
    folder = Path(args.output_dir)
    for cell in args.chosen_cells():
        run_cell(args, cell, folder / cell)
    print(write_table(folder))


def run_cell(args: AblationArguments, cell: str, folder: Path) -> dict[str, Any]:
    """Pre-train and probe a cell, or read what an earlier call wrote."""
    path = folder / "probes.json"
    if path.is_file():
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if found["settings"] == args.probe_settings():
            return found
    seeds = [int(part) for part in args.seeds.split(",")]
    sources = [pretrain_once(args, cell, seed, folder / f"seed-{seed}") for seed in seeds]
    rows, arrays = probe(args, sources, seeds)
    np.savez_compressed(folder / SCORES, **arrays)
    result = {
        "cell": cell,
        "settings": args.probe_settings(),
        "config_overrides": CELLS[cell][0],
        "recipe_overrides": CELLS[cell][1],
        "monitor": [last_figures(source) for source in sources],
        "probes": rows,
    }
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def pretrain_once(args: AblationArguments, cell: str, seed: int, folder: Path) -> Path:
    """The pre-trained model of a cell and seed."""
    settings = PretrainingArguments(
        method="ecg_jepa",
        recipe=args.recipe,
        dataset=args.dataset,
        data_dir=args.data_dir,
        dataset_options=args.dataset_options,
        config_overrides=",".join(part for part in (args.config_overrides, CELLS[cell][0]) if part),
        recipe_overrides=CELLS[cell][1],
        output_dir=str(folder),
        max_steps=args.max_steps,
        seed=seed,
    )
    if is_finished(folder):
        check_same_run(folder, settings)
        return folder
    print(f"Pre-training cell {cell}, seed {seed}", flush=True)
    pretrain(continued(settings))
    return folder


def check_same_run(folder: Path, settings: PretrainingArguments) -> None:
    """Raise `UsageError` when the finished run in the folder was another one."""
    ran = json.loads((folder / "run.json").read_text(encoding="utf-8"))["arguments"]
    for name in ("method", "recipe", "dataset", "dataset_options", "config_overrides", "recipe_overrides", "max_steps"):
        if ran[name] != getattr(settings, name):
            raise UsageError(
                f"{folder} holds a run with {name} {ran[name]!r}, not {getattr(settings, name)!r}: take another folder."
            )


def last_figures(source: Path) -> dict[str, float]:
    """Loss and collapse monitor at the end of a pre-training."""
    lines = (source / "train_log.jsonl").read_text(encoding="utf-8").splitlines()[-LAST_STEPS:]
    rows = [json.loads(line) for line in lines]
    return {name: float(np.mean([row[name] for row in rows if name in row])) for name in MONITORED}


def probe(
    args: AblationArguments, sources: list[Path], seeds: list[int]
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Frozen probes of all seeds against the untrained network: one row a lead set, readout and label fraction.

    Returns:
        the rows, and the test records' labels, patients and probabilities, from which cells can be compared.
    """
    splits = [load_split(_data(args), name, task=args.task, labelled=True) for name in ("train", "validation", "test")]
    test = splits[-1]
    truth = (test.multi_hot(), cluster_index(test.patient_ids, len(test))[0].tolist())
    rows, arrays = [], {"labels": truth[0], "patients": np.array(truth[1])}
    for leads in args.lead_sets.split(";"):
        features = encode(args, sources, seeds, leads, splits)
        for readout in ("per_lead", "mean"):
            for fraction in (float(part) for part in args.fractions.split(",")):
                scores = [
                    [probe_scores(each[name][readout], splits, fraction, seed) for each, seed in zip(features, seeds)]
                    for name in ("pretrained", "untrained")
                ]
                arrays |= {f"{leads}/{readout}/{fraction}/{seed}": score for seed, score in zip(seeds, scores[0])}
                interval = bootstrap_seeds(truth[0], scores[0], truth[1], n_boot=args.n_boot)
                row = {
                    "leads": leads,
                    "readout": readout,
                    "fraction": fraction,
                    "pretrained": [macro_auroc(truth[0], score)["value"] for score in scores[0]],
                    "untrained": [macro_auroc(truth[0], score)["value"] for score in scores[1]],
                    "ci95": interval["ci95"],
                    "gain": compare_models(truth[0], scores[0], scores[1], truth[1], n_boot=args.n_boot),
                }
                rows.append(row)
    return rows, arrays


def _data(args: AblationArguments) -> PretrainingArguments:
    return PretrainingArguments(
        dataset=args.dataset, data_dir=args.data_dir, dataset_options=args.dataset_options, output_dir=args.output_dir
    )


def encode(
    args: AblationArguments, sources: list[Path], seeds: list[int], leads: str, splits: list[Any]
) -> list[dict[str, dict[str, list[np.ndarray]]]]:
    """For each seed the features of each split, by network ("pretrained", "untrained") and readout."""
    changes = {} if leads == "all" else {"lead_names": leads.split(",")}
    extractor = AutoFeatureExtractor.from_pretrained(sources[0], **changes)
    networks = []
    for source, seed in zip(sources, seeds):
        pretrained = AutoModel.from_pretrained(source)
        seed_global_generators(seed, "initial weights")  # as pre-training drew it
        untrained = AutoModelForPreTraining.from_config(pretrained.config).base_model
        networks.append({"pretrained": pretrained, "untrained": untrained})
    result: list[dict[str, dict[str, list[np.ndarray]]]] = [
        {name: {"per_lead": [], "mean": []} for name in each} for each in networks
    ]
    for split in splits:
        blocks: list[dict[str, list[np.ndarray]]] = [{name: [] for name in each} for each in networks]
        for start in range(0, len(split), BATCH):
            rows = [split.records[index] for index in range(start, min(start + BATCH, len(split)))]
            batch = extractor(rows, num_crops=args.num_crops, return_tensors="pt")
            for each, block in zip(networks, blocks):
                for name, network in each.items():
                    block[name].append(encode_batch(network, batch, "per_lead").numpy())
        for each, block in zip(result, blocks):
            for name, parts in block.items():
                per_lead = np.concatenate(parts)  # (N, L · D)
                width = networks[0][name].config.hidden_size
                each[name]["per_lead"].append(per_lead)
                each[name]["mean"].append(per_lead.reshape(len(per_lead), -1, width).mean(axis=1))
    return result


def probe_scores(features: list[np.ndarray], splits: list[Any], fraction: float, seed: int) -> np.ndarray:
    """Probabilities of the test records `(N, C)` from a probe on a share of the training patients' labels."""
    train, validation, _ = splits
    x, x_val, x_test = features
    labels = train.multi_hot()
    chosen = label_subset(labels, fraction, seed, train.patient_ids, train.record_ids).indices
    kind = train.task_kind
    targets = (labels[chosen], validation.multi_hot()) if kind == "multilabel" else _classes(train, validation, chosen)
    fitted = LinearProbe(kind).fit(x[chosen], targets[0], x_val, targets[1], num_classes=labels.shape[1])
    return fitted.predict_proba(x_test)


def _classes(train: Any, validation: Any, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return train.labels[chosen], validation.labels


def write_table(folder: Path) -> str:
    """A Markdown table of all finished cells in `folder`, written to `table.md`."""
    lines = [
        "| cell | leads | readout | labels | probe | untrained | difference | low | high | seeds above 0 | seeds "
        "| against reference, same seeds | against it, low | against it, high | loss | content | token rank |",
        "|---" * 17 + "|",
    ]
    for cell in CELLS:
        path = folder / cell / "probes.json"
        if not path.is_file():
            continue
        result = json.loads(path.read_text(encoding="utf-8"))
        loss, content, rank = (_mean([entry[name] for entry in result["monitor"]]) for name in MONITORED[:3])
        for row in result["probes"]:
            gain = row["gain"]
            positive = sum(value > 0 for value in gain["per_seed"])
            lines.append(
                f"| {cell} | {row['leads']} | {row['readout']} | {row['fraction']:.0%} "
                f"| {_mean(row['pretrained']):.3f} | {_mean(row['untrained']):.3f} | {_difference(gain)} "
                f"| {positive} | {len(gain['per_seed'])} | {against_reference(folder, cell, row)} "
                f"| {loss:.3f} | {content:.3f} | {rank:.1f} |"
            )
    text = "\n".join(lines) + "\n"
    (folder / "table.md").write_text(text, encoding="utf-8")
    return text


def against_reference(folder: Path, cell: str, row: dict[str, Any]) -> str:
    """Paired difference of a cell's probe to that of the reference cell, over the seeds that both have, and its interval."""
    paths = [folder / name / SCORES for name in (cell, "reference")]
    if cell == "reference" or not paths[1].is_file():
        return NO_DIFFERENCE
    own, reference = (dict(np.load(path)) for path in paths)
    prefix = f"{row['leads']}/{row['readout']}/{row['fraction']}/"
    keys = [key for key in own if key.startswith(prefix) and key in reference]
    if not keys or not np.array_equal(own["labels"], reference["labels"]):
        return NO_DIFFERENCE
    scores = [[part[key] for key in keys] for part in (own, reference)]
    return _difference(compare_models(own["labels"], scores[0], scores[1], own["patients"].tolist()))


def _difference(figures: dict[str, Any]) -> str:
    low, high = figures["ci95"]
    return f"{figures['difference']:+.3f} | {low:+.3f} | {high:+.3f}"


def _mean(values: list[float]) -> float:
    return float(np.mean(values))


if __name__ == "__main__":
    sys.exit(run_command(main))
