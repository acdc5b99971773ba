"""The methods of this package in Markdown: the table of the README and the page of the documentation."""

import re

from ecg_transformers.models.registry import METHOD_NAMES, get_method


def method_table() -> str:
    """The methods of this package as a Markdown table: what the README shows."""
    lines = ["| method | name | idea | weights | paper |", "|---|---|---|---|---|"]
    for method in map(get_method, METHOD_NAMES):
        weights = "yes" if method.has_official_weights else "no"
        lines.append(f"| {method.title} | `{method.name}` | {method.idea} | {weights} | {_link(method.paper)} |")
    return "\n".join(lines)


def method_page() -> str:
    """What is known of each method of this package, a section each, in Markdown."""
    parts = ["# Methods\n"]
    for method in map(get_method, METHOD_NAMES):
        parts.append(f"## {method.title} (`{method.name}`)\n\n{method.summary}\n\n- Paper: {method.paper}.")
        parts.append(f"- Licence: {method.licence}.\n- Recipes:")
        parts += [f"  - `{name}`: {recipe.description}" for name, recipe in method.recipes.items()]
        parts.append(f"- {method.notes}\n" if method.notes else "")
    return "\n".join(parts)


def _link(paper: str) -> str:
    """The first arXiv number or DOI of a citation as a link; without one the citation itself."""
    for pattern, address in (
        (r"arXiv:(\d+\.\d+)", "https://arxiv.org/abs/"),
        (r"doi:(10\.\S+[^\s.,])", "https://doi.org/"),
    ):
        if found := re.search(pattern, paper):
            return f"[{found[0]}]({address}{found[1]})"
    return paper
