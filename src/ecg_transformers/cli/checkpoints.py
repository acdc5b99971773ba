"""The verb `checkpoints`: the published weights that can be loaded by name."""

import argparse

from ecg_transformers.cli.output import Verbs, add_json, add_verb, for_people, print_json, print_table


def add_verbs(verbs: Verbs) -> None:
    text = "List the published checkpoints, or say of one what input it takes, what it gives, its licence and how to get it."
    checkpoints = add_verb(verbs, "checkpoints", text, "checkpoints ecgfounder")
    checkpoints.add_argument("name", nargs="?", help="checkpoint (none: a table of all)")
    checkpoints.add_argument("--page", action="store_true", help="as the page docs/checkpoints.md")
    add_json(checkpoints)
    checkpoints.set_defaults(run=_checkpoints)


def _checkpoints(options: argparse.Namespace) -> int:
    if options.page:
        from ecg_transformers.hub.sheets import checkpoints_page

        print(checkpoints_page(), end="")
    elif options.name is None:
        _list(options)
    else:
        _describe(options)
    return 0


def _list(options: argparse.Namespace) -> None:
    from ecg_transformers.models.checkpoints import CHECKPOINTS

    rows = [
        {
            "name": row.name,
            "title": row.title,
            "method": row.method,
            "embedding": row.embedding_size,
            "classifier": row.labels is not None,
            "file": row.access,
            "licence": row.licence,
        }
        for row in CHECKPOINTS.values()
    ]
    if for_people(options):
        print_table(rows)
        print("\nHow to get one, and what input it takes: ecg-transformers checkpoints NAME")
    else:
        print_json(rows)


def _describe(options: argparse.Namespace) -> None:
    from ecg_transformers.models.checkpoints import get_checkpoint

    row = get_checkpoint(options.name)  # an unknown name is told at once
    from ecg_transformers.hub.sheets import checkpoint_sheet, sheet_lines

    sheet = checkpoint_sheet(row.name)
    if not for_people(options):
        print_json([sheet])
        return
    print(f"{row.title} ({row.name})\n")
    print("\n".join(sheet_lines(row, sheet["place"])).replace("`", ""))
    if sheet["brought_file"]:
        print(f"- Its file on this machine: {sheet['brought_file']}")
    for folder in sheet["converted"]:
        print(f"- Converted, in {folder}")
