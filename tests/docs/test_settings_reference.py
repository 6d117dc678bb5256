"""docs/reference/settings.md says what the settings' models say.

To write it anew: ``python tests/docs/test_settings_reference.py > docs/reference/settings.md``
"""

from __future__ import annotations

import sys
from pathlib import Path

from rdahub.config import COMMANDS, CommonSettings, default_text, placeholder

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"

HEAD = """\
# Settings

Every setting is a flag, a variable and a key of a TOML file.
A flag goes before a variable, a variable before the file.

```toml
# rdahub serve --config hub.toml
recorder = "192.168.1.20"
history = "10min"
name = "lab-1"
```

One file may hold the settings of several commands; a key that no command knows is an error.
Names are shared: `RDAHUB_NAME` is `--name` of every command that has one.

| written | means |
|---|---|
| a duration | `500ms`, `10s`, `10min`, `1.5h`, or a number of seconds |
| a size | `1GiB`, `500MB`, or a number of bytes |
| a switch | `--loop`; `RDAHUB_LOOP=true`; `loop = true` |

A wrong setting is one line on stderr that names it, and exit code 2.
"""


def page() -> str:
    """The whole page, from the models."""
    parts = [HEAD, *(section(f"rdahub {name}", model) for name, model in COMMANDS.items())]
    return "\n".join([*parts, section("All commands", CommonSettings)])


def section(title: str, model: type[CommonSettings]) -> str:
    """One command's table."""
    common = () if model is CommonSettings else CommonSettings.model_fields
    lines = [
        f"## {title}",
        "",
        (model.__doc__ or "").splitlines()[0],
        "",
        "| setting | flag | variable | TOML key | default | meaning |",
        "|---|---|---|---|---|---|",
    ]
    for name, field in model.model_fields.items():
        if name in common:
            continue
        value = placeholder(name, field)
        positional = any("Positional" in str(each) for each in field.metadata)
        flag = value if positional else f"--{name.replace('_', '-')} {value}".strip()
        variable = "" if name == "folder" else f"`RDAHUB_{name.upper()}`"  # always to be said
        key = "" if name in {"config", "folder"} else f"`{name}`"
        default = default_text(name, field)
        shown = default if default in {"", "required"} else f"`{default}`"
        cells = [name.replace("_", " "), f"`{flag}`", variable, key, shown]
        text = (field.description or "").replace("|", "\\|")
        lines.append("| " + " | ".join([*cells, text]) + " |")
    return "\n".join([*lines, ""])


def test_the_page_says_what_the_models_say() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), f"write it anew: python {__file__} > {PAGE}"


if __name__ == "__main__":
    sys.stdout.write(page())
