"""What is to be known of a published checkpoint: what input it takes, what it gives, its licence, and how to get it."""

from typing import Any

from ecg_transformers.hub.cards import step_lines
from ecg_transformers.hub.official.cache import converted_root, published_extractor
from ecg_transformers.hub.official.fetch import brought_file, official_root
from ecg_transformers.models.checkpoints import RESTING_ECG_SECONDS, Checkpoint, get_checkpoint, list_checkpoints
from ecg_transformers.models.registry import ECGMethod, get_method

CACHE = "the cache folder, which `ecg-transformers doctor` names"
STEPS = "- Preprocessing, in order:"
MISSING_LEADS = {
    "derive": "limb leads are derived from two others, any other missing lead is an error",
    "zero": "limb leads are derived where they can be, other missing leads are zeros",
    "drop": "limb leads are derived where they can be, other missing leads are left out",
    "error": "a missing lead is an error",
}
CROPS = {
    "start": "the first {0} of a record",
    "center": "the middle {0} of a record",
    "sliding": "windows of {0} over the whole record, their vectors averaged",
}


def checkpoint_sheet(name: str) -> dict[str, Any]:
    """Everything about one checkpoint, as plain data.

    Raises:
        ValueError: an unknown name, with the known ones.
    """
    row = get_checkpoint(name)
    method, place = _method(row), str(official_root() / row.name)
    return {
        "name": row.name,
        "title": row.title,
        "method": row.method,
        "paper": method.paper,
        "licence": row.licence,
        "access": row.access,
        "how_to_get": how_to_get(row, place),
        "place": place,
        "repository": row.source.repository,
        "file": row.source.file,
        "revision": row.source.revision,
        "page": row.source.page,
        "eats": _eats(row),
        "preprocessing": published_extractor(row).steps,
        "gives": {"embedding_size": row.embedding_size, "readout": row.readout, "labels": row.label_names},
        "overrides": dict(row.overrides),
        "notes": [*row.notes, *([method.notes] if method.notes else [])],
        **_here(row),
    }


def _method(row: Checkpoint) -> ECGMethod:
    method = get_method(row.method)
    variant = row.preprocessing.get("variant")
    return method if variant is None or method.current_variant else method.with_variant(variant)


def _eats(row: Checkpoint) -> dict[str, Any]:
    extractor = published_extractor(row)
    return {
        "lead_names": extractor.lead_names,
        "sampling_rate": extractor.sampling_rate,
        "samples": extractor.seq_len,
        "seconds": extractor.seq_len / extractor.sampling_rate,
        "crop": extractor.crop,
        "missing_leads": extractor.missing_leads,
        "units": "mV",
    }


def _here(row: Checkpoint) -> dict[str, Any]:
    """What of it lies on this machine."""
    brought = brought_file(row)
    folders = sorted(path.parent for path in (converted_root() / row.name).glob("*/config.json"))
    return {"brought_file": brought and str(brought), "converted": [str(folder) for folder in folders]}


def how_to_get(row: Checkpoint, place: str) -> str:
    """Sentences on how its file comes to a machine; `place` is where a file of the user's is looked for."""
    source = row.source
    what = f"the file `{source.file}`" if source.file else "its checkpoint file"
    if row.access == "bring":
        return f"To be brought: download {what} from {source.page} and put it into {place}."
    state = f"at revision {source.revision}" if source.revision else "in its current state"
    first = f"Accept the conditions on {source.page} and give your token (`HF_TOKEN`, or `hf auth login`); it is then "
    fetched = f"etched from the Hub when first asked for (repository {source.repository}, {what}, {state})"
    return f"{first + 'f' if source.gated else 'F'}{fetched}; without a network put {what} into {place}."


def sheet_lines(row: Checkpoint, place: str) -> list[str]:
    """A checkpoint in Markdown, which people read on a terminal too."""
    eats, method = _eats(row), _method(row)
    length = f"{eats['seconds']:g} s ({eats['samples']:,} samples at {eats['sampling_rate']:g} Hz)"
    fed = CROPS[eats["crop"]].format(length)
    longer = f"; a record over {RESTING_ECG_SECONDS:g} s is cut into such windows, which are averaged"
    size = (
        f"an embedding of {row.embedding_size:,} numbers"
        if row.embedding_size
        else "an embedding, its width not known,"
    )
    lines = [
        f"- Network: {method.title}, method {_called(row)}. Paper: {method.paper}.",
        f"- Licence of the weights: {row.licence}.",
        f"- How to get it: {how_to_get(row, place)}",
        f"- It eats: {', '.join(eats['lead_names'])} in millivolts; {fed}{'' if eats['crop'] == 'sliding' else longer}.",
        f"- Leads that are not there: {MISSING_LEADS[eats['missing_leads']]}.",
        f"- It gives: {size} for a record ({_readout(row)}).",
    ]
    if row.label_names:
        some = ", ".join(row.label_names[:5])
        lines.append(f"- Its classifier has {len(row.label_names)} labels: {some}, …")
    lines += [f"- {note}" for note in (*row.notes, *([method.notes] if method.notes else []))]
    lines += [STEPS, *(f"  {line}" for line in step_lines(published_extractor(row).steps))]
    return lines


def _called(row: Checkpoint) -> str:
    """The method by its name, and by that of the published model where it is a form of another's network."""
    own = get_method(row.method).name
    return f"`{own}`" if own == row.method else f"`{row.method}`, a form of `{own}`"


def _readout(row: Checkpoint) -> str:
    if row.readout == "pooler":
        return "the feature that the authors take"
    return f"the {row.readout} over the tokens"


def checkpoints_page() -> str:
    """The page `docs/checkpoints.md`: a section for each checkpoint."""
    parts = [
        "# Published checkpoints",
        "",
        "Generated by `ecg-transformers checkpoints --page`. Each name works in `ecg.embed(records, NAME)`,",
        '`ecg.load_checkpoint(NAME)`, `pipeline("ecg-feature-extraction", model=NAME)`, with labels also',
        '`pipeline("ecg-classification", model=NAME)`, after `import ecg_transformers`; and in',
        "`ecg-transformers embed … --model NAME`, `predict … --model NAME` and `finetune --model_name_or_path NAME`.",
        "A file is read without executing anything in it, converted once, and kept as safetensors in the cache.",
        "The weights belong to their authors; none are shipped here. None is a medical device.",
        "",
        "An embedding is a vector that stands for a record. What would stand in two sections stands in the first.",
        "",
        "| name | what it is | method | numbers | labels |",
        "|---|---|---|---|---|",
        *map(_table_row, map(get_checkpoint, list_checkpoints())),
    ]
    said: dict[str, str] = {}
    for name in list_checkpoints():
        row = get_checkpoint(name)
        lines = sheet_lines(row, f"`official/{name}` in {CACHE}")
        parts += ["", f"## {row.title} (`{name}`)", "", *_said_once(name, lines, said)]
    return "\n".join(parts) + "\n"


def _table_row(row: Checkpoint) -> str:
    size = f"{row.embedding_size:,}" if row.embedding_size else "–"
    return f"| `{row.name}` | {row.title} | `{get_method(row.method).name}` | {size} | {len(row.label_names) or '–'} |"


def _said_once(name: str, lines: list[str], said: dict[str, str]) -> list[str]:
    """Long notes and preprocessing that stand in an earlier section give way to its name; `said` keeps where."""
    kept, steps = lines[:1], lines.index(STEPS)
    for line in lines[1:steps]:
        first = said.setdefault(line, name) if len(line) > 200 else name
        start = " ".join(line.split()[1:6])
        kept.append(line if first == name else f'- The note "{start} …" of `{first}` holds here, too.')
    first = said.setdefault("\n".join(lines[steps:]), name)
    return [*kept, *lines[steps:]] if first == name else [*kept, f"- Preprocessing: that of `{first}`."]
