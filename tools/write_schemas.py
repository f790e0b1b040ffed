"""Write the messages' JSON Schemas into docs/schemas; run by `make schemas`."""

from pathlib import Path

from coinstream.messages.schemas import json_schemas

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "schemas"

if __name__ == "__main__":
    for name, text in json_schemas().items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    print(f"docs/schemas: {len(json_schemas())} schemas")
