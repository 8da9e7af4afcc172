"""Docstrings as pages: what is public, module by module, and the laws."""

import importlib
import inspect
import re
import types

import jaxem
from jaxem import model

PARAGRAPH = re.compile(r"\n\s*\n")
MODULES = ("families", "constraints", "components", "starts", "seeds", "plots", "sklearn", "testing", "datasets")
RECORDS = ("Model", "Family")


def public(module):
    """Return the functions and classes that a module gives, by name."""
    names = getattr(module, "__all__", [name for name in vars(module) if not name.startswith("_")])
    found = {name: getattr(module, name) for name in names}
    own = {name: value for name, value in found.items() if callable(value) and not isinstance(value, types.ModuleType)}
    inner = hasattr(module, "__path__")  # a package names what stands in its files
    return {name: value for name, value in own.items() if inner or getattr(value, "__module__", "") == module.__name__}


def escaped(text):
    """Return text in which Markdown finds no emphasis and no tags, what stands in backticks as it is."""
    parts = text.split("`")
    return "`".join(part if i % 2 else re.sub(r"([*<\\])", r"\\\1", part) for i, part in enumerate(parts))


def paragraph(text):
    """Return a paragraph of a docstring as Markdown: examples and what is aligned in columns stay as they are."""
    if text.startswith(">>>"):
        return f"```pycon\n{text}\n```"
    if re.match(r"\d+\. ", text):
        return escaped(text)
    if re.search(r"^ |\S {2,}\S", text, re.MULTILINE):
        return f"```text\n{text}\n```"
    return escaped(text)


def markdown(value):
    return "\n\n".join(paragraph(part.rstrip()) for part in PARAGRAPH.split(inspect.getdoc(value) or "") if part.strip())


def call(name, value):
    """Return how something is called: names of arguments and what they are where they are not given."""
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return name
    kinds = {parameter.kind for parameter in parameters}
    shown, starred = [], inspect.Parameter.VAR_POSITIONAL in kinds
    for parameter in parameters:
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            shown.append("*")
            starred = True
        prefix = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        default = "" if parameter.default is parameter.empty else f"={default_of(parameter.default)}"
        shown.append(f"{prefix}{parameter.name}{default}")
    return f"{name}({', '.join(shown)})"


def default_of(value):
    return "…" if "<" in repr(value) or len(repr(value)) > 40 else repr(value)


def entry(place, name, value):
    return f"## {name}\n\n```python\n{call(f'{place}.{name}', value)}\n```\n\n{markdown(value)}\n"


def page(module, place):
    """Return the page of a module."""
    entries = [entry(place, name, value) for name, value in sorted(public(module).items(), key=by_name)]
    return f"# {place}\n\n{markdown(module)}\n\n" + "\n".join(entries)


def by_name(item):
    """Put a function before the record of its parameters, whose name may differ by a capital alone."""
    name, _ = item
    return name.lower(), name[0].isupper()


def pages():
    """Return all pages of the reference, by path."""
    places = {"jaxem": jaxem} | {f"jaxem.{name}": importlib.import_module(f"jaxem.{name}") for name in MODULES}
    return {f"reference/{place.rpartition('.')[2]}.md": page(module, called(place)) for place, module in places.items()}


def called(place):
    """Return the name that users type."""
    return {"jaxem.starts": "jaxem.initialize"}.get(place, place)


def laws():
    """Return the page on the two records and the laws, from the head of the module and the protocols of their functions."""
    protocols = {name: value for name, value in vars(model).items() if getattr(value, "_is_protocol", False)}
    functions = [
        f"### {name}\n\n```python\n{call('__call__', value.__call__).replace('self, ', '')}\n```\n\n{markdown(value)}\n"
        for name, value in protocols.items()
        if name != "Protocol"
    ]
    records = [entry("jaxem", name, getattr(jaxem, name)) for name in RECORDS]
    return "\n".join(["# The records and the laws\n", markdown(model), "", *records, "## Their functions\n", *functions])
